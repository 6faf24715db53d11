"""Optimizers: one step each, one loop over a range of the parameter vector that LLVM vectorises.

A new value that is not finite is not stored: ``x - x == x - x`` holds for finite x only. The choice is between
a change and none: between a new value and the old, LLVM makes it a masked store, which takes AMD's AVX2 a
dozen cycles (8% of a wide network's step, 16% of a small one's).
"""

import math

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._simd import choose, part
from gdl.kernels.layout import SOLVERS

SGD, MOMENTUM, NESTEROV = SOLVERS["sgd"], SOLVERS["momentum"], SOLVERS["nesterov"]
ADAM, ADAMW, RMSPROP = SOLVERS["adam"], SOLVERS["adamw"], SOLVERS["rmsprop"]


@inner
def moved(old, change, zero):
    """``old - change``, or ``old`` if that is NaN or infinite."""
    new = old - change
    return old - choose(new - new == new - new, change, zero)


@inner
def sgd_range(g, h, learning_rate, w, start, n):
    """Gradient descent over a range."""
    g, w = part(g, h, n), part(w, start, n)
    rate, zero = w.dtype.type(learning_rate), w.dtype.type(0)
    for i in range(n):
        w[i] = moved(w[i], rate * g[i], zero)


@inner
def momentum_range(g, h, learning_rate, momentum, w, v, start, n):
    """Gradient descent with momentum over a range."""
    g, w, v = part(g, h, n), part(w, start, n), part(v, start, n)
    rate, keep, zero = w.dtype.type(learning_rate), w.dtype.type(momentum), w.dtype.type(0)
    for i in range(n):
        v[i] = keep * v[i] - rate * g[i]
        w[i] = moved(w[i], -v[i], zero)


@inner
def nesterov_range(g, h, learning_rate, momentum, w, v, start, n):
    """Nesterov's momentum over a range."""
    g, w, v = part(g, h, n), part(w, start, n), part(v, start, n)
    rate, keep, zero = w.dtype.type(learning_rate), w.dtype.type(momentum), w.dtype.type(0)
    for i in range(n):
        v[i] = keep * v[i] - rate * g[i]
        w[i] = moved(w[i], rate * g[i] - keep * v[i], zero)


@inner
def adam_range(g, h, step_size, decay, beta_1, beta_2, epsilon, w, m, v, start, n):
    """Adam over a range, with decoupled decay (0 for plain Adam)."""
    g, w, m, v = part(g, h, n), part(w, start, n), part(m, start, n), part(v, start, n)
    size, shrink, tiny = w.dtype.type(step_size), w.dtype.type(decay), w.dtype.type(epsilon)
    keep_1, keep_2 = w.dtype.type(beta_1), w.dtype.type(beta_2)
    take_1, take_2, zero = w.dtype.type(1 - beta_1), w.dtype.type(1 - beta_2), w.dtype.type(0)
    for i in range(n):
        m[i] = keep_1 * m[i] + take_1 * g[i]
        v[i] = keep_2 * v[i] + take_2 * g[i] * g[i]
        w[i] = moved(w[i], shrink * w[i] + size * m[i] / (math.sqrt(v[i]) + tiny), zero)


@inner
def rmsprop_range(g, h, learning_rate, beta_2, epsilon, w, v, start, n):
    """RMSprop over a range."""
    g, w, v = part(g, h, n), part(w, start, n), part(v, start, n)
    rate, tiny = w.dtype.type(learning_rate), w.dtype.type(epsilon)
    keep, take, zero = w.dtype.type(beta_2), w.dtype.type(1 - beta_2), w.dtype.type(0)
    for i in range(n):
        v[i] = keep * v[i] + take * g[i] * g[i]
        w[i] = moved(w[i], rate * g[i] / (math.sqrt(v[i]) + tiny), zero)


@inner
def update_range(rule, learning_rate, step, decay, g, h, w, m, v, start, n):
    """One step of the rule's optimizer over n parameters from ``start`` on.

    Their gradients start at ``h`` in g; ``decay`` is adamw's.
    """
    if rule.solver == SGD:
        sgd_range(g, h, learning_rate, w, start, n)
    elif rule.solver == MOMENTUM:
        momentum_range(g, h, learning_rate, rule.momentum, w, m, start, n)
    elif rule.solver == NESTEROV:
        nesterov_range(g, h, learning_rate, rule.momentum, w, m, start, n)
    elif rule.solver == RMSPROP:
        rmsprop_range(g, h, learning_rate, rule.beta_2, rule.epsilon, w, m, start, n)
    else:
        t = step + 1
        size = learning_rate * math.sqrt(1 - rule.beta_2**t) / (1 - rule.beta_1**t)
        adam_range(g, h, size, decay, rule.beta_1, rule.beta_2, rule.epsilon, w, m, v, start, n)


@njit
def sgd_step(gradients, learning_rate, parameters):
    """Gradient descent."""
    sgd_range(gradients, 0, learning_rate, parameters, 0, parameters.size)


@njit
def momentum_step(gradients, learning_rate, momentum, parameters, velocity):
    """Gradient descent with momentum."""
    momentum_range(gradients, 0, learning_rate, momentum, parameters, velocity, 0, parameters.size)


@njit
def nesterov_step(gradients, learning_rate, momentum, parameters, velocity):
    """Nesterov's momentum."""
    nesterov_range(gradients, 0, learning_rate, momentum, parameters, velocity, 0, parameters.size)


@njit
def adam_step(gradients, step_size, beta_1, beta_2, epsilon, parameters, mean, square):
    """Adam."""
    adam_range(gradients, 0, step_size, 0.0, beta_1, beta_2, epsilon, parameters, mean, square, 0, parameters.size)


@njit
def adamw_step(gradients, step_size, decay, beta_1, beta_2, epsilon, parameters, mean, square):
    """Adam with decoupled weight decay."""
    adam_range(gradients, 0, step_size, decay, beta_1, beta_2, epsilon, parameters, mean, square, 0, parameters.size)


@njit
def rmsprop_step(gradients, learning_rate, beta_2, epsilon, parameters, square):
    """RMSprop."""
    rmsprop_range(gradients, 0, learning_rate, beta_2, epsilon, parameters, square, 0, parameters.size)
