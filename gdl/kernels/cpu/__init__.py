"""Kernels on the CPU: Numba, register tiles and a team of threads."""

from gdl.kernels.cpu.activations import activate, activation_gradient, softmax
from gdl.kernels.cpu.dense import (
    dense_bias_gradient,
    dense_forward,
    dense_input_gradient,
    dense_weight_gradient,
)
from gdl.kernels.cpu.losses import (
    absolute_error,
    binary_log_loss,
    huber,
    log_loss,
    poisson,
    quantile,
    squared_error,
)
from gdl.kernels.cpu.optimizers import (
    adam_step,
    adamw_step,
    momentum_step,
    nesterov_step,
    rmsprop_step,
    sgd_step,
)
from gdl.kernels.cpu.random import dropout_mask
from gdl.kernels.cpu.training import (
    all_finite,
    forward,
    loss_and_gradient,
    predict,
    train_epoch,
    train_step,
)

__all__ = [
    "absolute_error",
    "activate",
    "activation_gradient",
    "adam_step",
    "adamw_step",
    "all_finite",
    "binary_log_loss",
    "dense_bias_gradient",
    "dense_forward",
    "dense_input_gradient",
    "dense_weight_gradient",
    "dropout_mask",
    "forward",
    "huber",
    "log_loss",
    "loss_and_gradient",
    "momentum_step",
    "nesterov_step",
    "poisson",
    "predict",
    "quantile",
    "rmsprop_step",
    "sgd_step",
    "softmax",
    "squared_error",
    "train_epoch",
    "train_step",
]
