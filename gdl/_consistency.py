"""What a saved model must be: compiled code checks nothing, and would read numbers that are not there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdl.kernels import DEVICES, layout
from gdl.lloyd import Progress
from gdl.mini_batch import StreamProgress
from gdl.training import Training


class DamagedError(ValueError):
    """What a model or a file says cannot be."""


def require(condition: Any, what: str) -> None:
    """Refuse a model in which something cannot be."""
    if not condition:
        raise DamagedError(what)


def check_consistent(state: dict[str, Any]) -> None:
    """Refuse the attributes of a fitted model whose arrays do not belong together."""
    if "_parameters" in state:
        check_network(state)
    elif "cluster_centers_" in state:
        check_clusters(state)


def check_device(state: dict[str, Any]) -> None:
    """Refuse kernels that there are not."""
    require(state["_device"] in DEVICES, f"it was computed on {state['_device']!r}")


def is_vector(values: Any, length: int, dtype: Any) -> bool:
    """Tell whether these are so many numbers of a type, one after the other."""
    shape_is_right = isinstance(values, np.ndarray) and values.shape == (length,) and values.dtype == dtype
    return shape_is_right and values.flags.c_contiguous


def check_network(state: dict[str, Any]) -> None:
    """Refuse layers, parameters and training that do not belong together."""
    check_device(state)
    layers, parameters, target, training = (
        state[f"_{name}"] for name in ("layers", "parameters", "target", "training")
    )
    require(layers.ndim == 2 and len(layers) and layers.shape[1] == 6 and layers.dtype == np.int64, "it has no layers")
    names = {code: name for name, code in layout.ACTIVATIONS.items()}
    widths = [int(layers[0, layout.N_IN]), *layers[:, layout.N_OUT].tolist()]
    require(min(widths) > 0 and max(widths) < 2**31, f"its layers have widths {widths}")
    activations = [names[code] for code in layers[:, layout.ACTIVATION].tolist()]
    table = layout.layer_table(widths, activations, bool(layers[0, layout.B_START] >= 0))
    require(np.array_equal(table, layers), "its layers do not fit together")
    dtype, n_parameters = parameters.dtype, layout.n_parameters(layers)
    require(dtype in (np.float32, np.float64), f"its parameters are {dtype}")
    require(is_vector(parameters, n_parameters, dtype), f"its parameters have shape {parameters.shape}")
    require(state["n_features_in_"] == widths[0] and target.n_outputs == widths[-1], "its ends do not fit its layers")
    check_training(training, n_parameters, dtype)


def check_training(training: Training, n_parameters: int, dtype: np.dtype[Any]) -> None:
    """Refuse a training that could not go on."""
    rows = [part for part in (training.order, training.validation_rows) if part is not None]
    n_rows = sum(map(len, rows))
    present = np.zeros(n_rows, bool)
    for part in rows:
        require(
            is_vector(part, len(part), np.int64) and (part >= 0).all() and (part < n_rows).all(), "rows are missing"
        )
        present[part] = True
    require(present.all(), "rows are missing")
    moments = training.moments
    n_moments = layout.N_MOMENTS.get(training.solver, len(moments))
    expected = (n_moments, n_parameters) if training.solver in layout.N_MOMENTS else moments.shape
    require(moments.shape == expected and (moments.size == 0 or moments.dtype == dtype), "its moments do not fit")
    for best in (training.best_parameters, training.last_parameters):
        require(best is None or is_vector(best, n_parameters, dtype), "its best parameters do not fit")
    for pair in training.curvature:
        require(all(is_vector(part, n_parameters, np.float64) for part in pair), "its curvature does not fit")
    losses = training.step_losses
    require(is_vector(losses, len(losses), np.float64), "its losses are no numbers")
    require(0 <= training.position <= len(losses), f"it is at step {training.position} of {len(losses)}")


def check_clusters(state: dict[str, Any]) -> None:
    """Refuse centers that kernels could not compare."""
    check_device(state)
    centers = state["cluster_centers_"]
    require(isinstance(centers, np.ndarray) and centers.ndim == 2 and centers.size, "it has no centers")
    dtype, (n_clusters, n_features) = centers.dtype, centers.shape
    require(dtype in (np.float32, np.float64), f"its centers are {dtype}")
    require(state["n_features_in_"] == n_features, "its centers do not fit its features")
    require(is_vector(state["_shift"], n_features, dtype), "its shift does not fit its centers")
    if (stream := state.get("_stream")) is not None:
        require(stream.centers.shape == centers.shape and stream.centers.dtype == dtype, "its centers do not fit")
        require(is_vector(stream.counts, n_clusters, np.float64), "its counts do not fit its centers")
        require(is_vector(stream.shift, n_features, dtype), "its shift does not fit its centers")
        curves = stream.inertia_curve, stream.n_reassigned
        require(all(len(curve) >= stream.n_steps for curve in curves), "its curves are too short")
    if (progress := state.get("_progress")) is not None:
        require(isinstance(progress, (Progress, StreamProgress)), "what it is to go on from is something else")
        if isinstance(progress, StreamProgress):
            require(progress.stream is state.get("_stream"), "it is to go on from another stream")
            require(progress.rows is None or is_vector(progress.rows, len(progress.rows), np.int64), "rows are missing")
        else:
            check_runs(progress, centers)


def check_runs(progress: Progress, centers: NDArray[Any]) -> None:
    """Refuse runs that could not go on to centers like these."""
    require(progress.run is not None or progress.best is not None, "it has nothing to go on from")
    require(progress.best is not None or not progress.is_best_shown, "its best run is missing")
    for run in (progress.run, progress.best):
        if run is None:
            continue
        for array in (run.centers, centers if run.learned is None else run.learned):
            require(array.shape == centers.shape and array.dtype == centers.dtype, "the centers of a run do not fit")
            require(array.flags.c_contiguous, "the centers of a run do not fit")
        labels = run.labels
        require(is_vector(labels, len(labels), np.int32) and len(labels), "the labels of a run are no labels")
        require(labels.min() >= -1 and labels.max() < len(centers), "the labels of a run have no centers")
