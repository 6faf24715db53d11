"""What each kernel means, in NumPy: the executable specification of the other sets."""

from gdl.kernels.reference.activations import activate, activation_gradient, softmax
from gdl.kernels.reference.clustering import (
    assign_labels,
    average_centers,
    bounded_step,
    center_distances,
    center_moves,
    column_moments,
    label_distances,
    label_inertia,
    lloyd_step,
    mini_batch_update,
    normalize_rows,
)
from gdl.kernels.reference.dense import (
    dense_bias_gradient,
    dense_forward,
    dense_input_gradient,
    dense_weight_gradient,
)
from gdl.kernels.reference.losses import (
    absolute_error,
    binary_log_loss,
    huber,
    log_loss,
    poisson,
    quantile,
    squared_error,
)
from gdl.kernels.reference.optimizers import (
    adam_step,
    adamw_step,
    momentum_step,
    nesterov_step,
    rmsprop_step,
    sgd_step,
)
from gdl.kernels.reference.prediction import all_finite, forward, predict
from gdl.kernels.reference.random import dropout_mask
from gdl.kernels.reference.screening import quantize_samples, screen_samples
from gdl.kernels.reference.seeding import add_seed, candidate_potentials, draw_samples, seed_limits
from gdl.kernels.reference.training import (
    PreparedEpoch,
    compare_batch,
    learn_batch,
    loss_and_gradient,
    predict_batch,
    train_epoch,
    train_step,
)

__all__ = [
    "PreparedEpoch",
    "absolute_error",
    "activate",
    "activation_gradient",
    "adam_step",
    "adamw_step",
    "add_seed",
    "all_finite",
    "assign_labels",
    "average_centers",
    "binary_log_loss",
    "bounded_step",
    "candidate_potentials",
    "center_distances",
    "center_moves",
    "column_moments",
    "compare_batch",
    "dense_bias_gradient",
    "dense_forward",
    "dense_input_gradient",
    "dense_weight_gradient",
    "draw_samples",
    "dropout_mask",
    "forward",
    "huber",
    "label_distances",
    "label_inertia",
    "learn_batch",
    "lloyd_step",
    "log_loss",
    "loss_and_gradient",
    "mini_batch_update",
    "momentum_step",
    "nesterov_step",
    "normalize_rows",
    "poisson",
    "predict",
    "predict_batch",
    "quantile",
    "quantize_samples",
    "rmsprop_step",
    "screen_samples",
    "seed_limits",
    "sgd_step",
    "softmax",
    "squared_error",
    "train_epoch",
    "train_step",
]
