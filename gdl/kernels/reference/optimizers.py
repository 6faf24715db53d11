"""Optimizers: one step each, one loop over a vector of parameters, whatever the network.

A parameter whose new value would not be finite keeps its old one: nothing that training does can put
NaN or infinity among the parameters.
"""

import numpy as np


def _move(parameters, update):
    moved = parameters + update
    parameters[:] = np.where(np.isfinite(moved), moved, parameters)


def sgd_step(gradients, learning_rate, parameters):
    """Gradient descent, ``w -= learning_rate g``.

    Parameters
    ----------
    gradients : float array of shape (n_parameters,)
    learning_rate : float
    parameters : float array of shape (n_parameters,)
        Updated in place.
    """
    _move(parameters, -learning_rate * gradients)


def momentum_step(gradients, learning_rate, momentum, parameters, velocity):
    """Gradient descent with momentum, ``v = momentum v - learning_rate g``, ``w += v`` (Polyak 1964).

    Parameters
    ----------
    gradients : float array of shape (n_parameters,)
    learning_rate : float
    momentum : float
    parameters : float array of shape (n_parameters,)
        Updated in place.
    velocity : float array of shape (n_parameters,)
        Updated in place.
    """
    velocity[:] = momentum * velocity - learning_rate * gradients
    _move(parameters, velocity)


def nesterov_step(gradients, learning_rate, momentum, parameters, velocity):
    """Nesterov's momentum, ``v = momentum v - learning_rate g``, ``w += momentum v - learning_rate g``.

    The form of Sutskever et al. 2013, shifted to the point where the gradient is taken.

    Parameters
    ----------
    gradients : float array of shape (n_parameters,)
    learning_rate : float
    momentum : float
    parameters : float array of shape (n_parameters,)
        Updated in place.
    velocity : float array of shape (n_parameters,)
        Updated in place.
    """
    velocity[:] = momentum * velocity - learning_rate * gradients
    _move(parameters, momentum * velocity - learning_rate * gradients)


def adam_step(gradients, step_size, beta_1, beta_2, epsilon, parameters, mean, square):
    """Adam, in the form at the end of section 2 of Kingma & Ba 2015.

    ``m = beta_1 m + (1 - beta_1) g``, ``v = beta_2 v + (1 - beta_2) g^2``,
    ``w -= step_size m / (sqrt(v) + epsilon)``; the correction of both means for their start at 0 is in
    ``step_size = learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t)`` at step t = 1, 2, ...

    Parameters
    ----------
    gradients : float array of shape (n_parameters,)
    step_size : float
    beta_1 : float
    beta_2 : float
    epsilon : float
    parameters : float array of shape (n_parameters,)
        Updated in place.
    mean : float array of shape (n_parameters,)
        Updated in place.
    square : float array of shape (n_parameters,)
        Updated in place.
    """
    mean[:] = beta_1 * mean + (1 - beta_1) * gradients
    square[:] = beta_2 * square + (1 - beta_2) * gradients * gradients
    _move(parameters, -step_size * mean / (np.sqrt(square) + epsilon))


def adamw_step(gradients, step_size, decay, beta_1, beta_2, epsilon, parameters, mean, square):
    """Adam with decoupled weight decay, ``w -= decay w`` beside Adam's step (Loshchilov & Hutter 2019).

    Parameters
    ----------
    gradients : float array of shape (n_parameters,)
    step_size : float
    decay : float
        The learning rate times the weight of the decay.
    beta_1 : float
    beta_2 : float
    epsilon : float
    parameters : float array of shape (n_parameters,)
        Updated in place.
    mean : float array of shape (n_parameters,)
        Updated in place.
    square : float array of shape (n_parameters,)
        Updated in place.
    """
    mean[:] = beta_1 * mean + (1 - beta_1) * gradients
    square[:] = beta_2 * square + (1 - beta_2) * gradients * gradients
    _move(parameters, -decay * parameters - step_size * mean / (np.sqrt(square) + epsilon))


def rmsprop_step(gradients, learning_rate, beta_2, epsilon, parameters, square):
    """RMSprop, ``v = beta_2 v + (1 - beta_2) g^2``, ``w -= learning_rate g / (sqrt(v) + epsilon)``.

    Tieleman & Hinton 2012, lecture 6.5.

    Parameters
    ----------
    gradients : float array of shape (n_parameters,)
    learning_rate : float
    beta_2 : float
    epsilon : float
    parameters : float array of shape (n_parameters,)
        Updated in place.
    square : float array of shape (n_parameters,)
        Updated in place.
    """
    square[:] = beta_2 * square + (1 - beta_2) * gradients * gradients
    _move(parameters, -learning_rate * gradients / (np.sqrt(square) + epsilon))
