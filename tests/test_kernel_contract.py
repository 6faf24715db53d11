"""The contract of ``gdl.kernels``: the reference's docstrings, read and executed on every kernel set.

For each kernel, set and dtype: every argument is documented, in order, with a true shape; sets agree;
outputs are overwritten whole and may be what the docstring says they may be; inputs are only read.
"""

import inspect
import itertools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from problems import OUTPUT_ACTIVATIONS, make_rule, make_state, make_targets

from gdl.kernels import DEVICES, layout, load, reference

# No two sizes have a common factor, so that no array can pass for another, nor for one turned around.
SIZES = {"n_samples": 17, "n_in": 11, "n_out": 5, "n_units": 13, "n_parameters": 141, "n_rows": 19, "n_steps": 4}
SIZES |= {"n_features": 23, "n_clusters": 29, "n_candidates": 7}
N_HIDDEN = SIZES["n_units"] - SIZES["n_out"]
SCALARS = {
    "activation": layout.ACTIVATIONS["tanh"],
    "batch_size": 5,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "bit": 6,
    "decay": 0.01,
    "delta": 0.3,
    "epsilon": 1e-3,
    "error": 0.3,
    "learning_rate": 0.1,
    "level": 0.3,
    "momentum": 0.9,
    "number": 2,
    "rate": 0.4,
    "scale": 0.05,
    "scatter": 3.0,
    "seed": 42,
    "potential": 500.0,
    "step": 3,
    "step_size": 0.1,
    "stream": 5,
}
POSITIVE = {"P", "counts", "limits", "lower", "moves", "sample_weight", "square", "weights"}
# Where sets may be looser than the reference: bounds that are the distances themselves there.
TOLERANCES = {"upper": {"rtol": 1e-2}, "lower": {"rtol": 1e-2}}
# Samples that are near a seed, and samples that are far from all.
RANGES = {"closest": (1, 30)}
# An array's type, its axes, and the size that bounds its values; the bound of integers that have none.
ARRAY = r"(float|float64|int32|int64|uint8|uint16) array of shape \((.*?),?\)(?:, values below (\w+))?$"
BELOW = {"int32": "n_clusters", "int64": "n_samples", "uint16": "n_bit_patterns"}
# Elements beside an array that nobody may touch: more than the widest tile has.
MARGIN = 64
# Arguments from the end that are written, where it is not one.
N_OUTPUTS = dict.fromkeys(layout.LOSSES, 2) | {
    "momentum_step": 2,
    "nesterov_step": 2,
    "adam_step": 3,
    "adamw_step": 3,
    "rmsprop_step": 2,
    "train_step": 2,
    "train_epoch": 2,
    "compare_batch": 2,
    "loss_and_gradient": 2,
    "column_moments": 2,
    "lloyd_step": 4,
    "bounded_step": 7,
    "mini_batch_update": 2,
    "candidate_potentials": 2,
    "quantize_samples": 3,
    "add_seed": 3,
}
# Each loss once, each solver once, activations that keep their input and that do not, all options.
TRAININGS = [
    {"loss": "log_loss", "hidden": "tanh", "solver": "sgd"},
    {"loss": "binary_log_loss", "hidden": "gelu", "solver": "momentum", "alpha": 0.1},
    {"loss": "squared_error", "hidden": "relu", "solver": "nesterov", "dropout": 0.3},
    {"loss": "poisson", "hidden": "silu", "solver": "adam", "alpha": 0.1, "dropout": 0.3},
    {"loss": "absolute_error", "hidden": "elu", "solver": "adamw", "alpha": 0.1, "max_grad_norm": 0.01},
    {"loss": "huber", "hidden": "softplus", "solver": "rmsprop", "max_grad_norm": 0.01},
    {"loss": "quantile", "hidden": "leaky_relu", "solver": "adam", "alpha": 0.1},
]


@pytest.fixture(params=["reference", *DEVICES])
def kernels(request):
    return load(request.param)


def parameters(kernel):
    return list(inspect.signature(getattr(kernel, "py_func", kernel)).parameters)


def documented(name):
    """The documented arguments of a kernel, in their order: name -> type and description."""
    text = inspect.getdoc(getattr(reference, name)).partition("Parameters\n----------\n")[2]
    arguments = {}
    names_and_texts = re.split(r"^(\w+(?:, \w+)*) : ", text, flags=re.MULTILINE)[1:]
    for names, description in zip(names_and_texts[::2], names_and_texts[1::2], strict=True):
        other = re.match(r"as in ``(\w+)``", description)
        for argument in names.split(", "):
            arguments[argument] = documented(other[1])[argument] if other else description
    return arguments


def variants(name):
    """What to vary beside arrays: the rule and hidden activation of a network, or an activation."""
    if "layers" in documented(name):
        return TRAININGS
    if name == "activation_gradient":
        return [{"activation": code} for key, code in layout.ACTIVATIONS.items() if key not in ("softmax", "exp")]
    if "activation" in documented(name):
        return [{"activation": code} for code in layout.ACTIVATIONS.values()]
    if "Or of shape (0,)" in documented(name).get("sample_weight", ""):
        return [{"weights": "weighted"}, {"weights": "unweighted"}]
    return [{}]


KERNELS = [name for name in reference.__all__ if inspect.isfunction(getattr(reference, name))]
CALLS = [
    pytest.param(name, variant, id="-".join([name, *map(str, variant.values())]))
    for name in KERNELS
    for variant in variants(name)
]


def build(name, variant, dtype):
    """Arguments of a kernel as its docstring describes them; outputs hold NaN unless updated in place."""
    rng = np.random.default_rng(0)
    loss = variant.get("loss", name)
    sizes = SIZES | {"n_targets": 1 if loss == "log_loss" else SIZES["n_out"], "n_bit_patterns": 2**16}
    sizes |= {"n_bytes": 256, "n_codes": 127}
    options = {key: value for key, value in variant.items() if key not in ("hidden", "activation", "weights")}
    network = [variant.get("hidden", "tanh"), OUTPUT_ACTIVATIONS.get(loss, "identity")]
    layers = layout.layer_table([sizes["n_in"], N_HIDDEN, sizes["n_out"]], network)
    first_output = len(documented(name)) - N_OUTPUTS.get(name, 1)
    arguments = {}
    for position, (argument, text) in enumerate(documented(name).items()):
        array = re.match(ARRAY, text, re.MULTILINE)
        if argument == "layers":
            value = layers
        elif argument == "rule":
            value = make_rule(**options)
        elif argument == "state":
            vector = rng.uniform(-1, 1, sizes["n_parameters"]).astype(dtype)
            value = make_state(layers, vector, sizes["n_rows"], variant["solver"], options.get("dropout", 0.0))
        elif array is None:
            value = variant.get(argument, SCALARS[argument])
            assert text.startswith(type(value).__name__)
        else:
            kind = dtype if array[1] == "float" else array[1]
            shape = tuple(eval(axis, {}, sizes) for axis in array[2].split(", "))
            if position >= first_output and "Updated in place" not in text:
                value = np.full(shape, np.nan if "float" in np.dtype(kind).name else np.iinfo(kind).max, kind)
            elif argument == "sample_weight" and variant.get("weights") == "unweighted":
                value = np.empty(0, kind)
            elif argument == "Y":
                value = make_targets(rng, loss, shape[0], sizes["n_out"], kind)
                assert value.shape == shape
            elif "int" in np.dtype(kind).name:
                value = rng.integers(sizes[array[3] or BELOW[kind]], size=shape, dtype=kind)
            else:
                value = rng.uniform(*RANGES.get(argument, (0.1 if argument in POSITIVE else -1, 1)), shape).astype(kind)
        arguments[argument] = value
    return consistent(name, arguments)


def consistent(name, arguments):
    """Bring in line what the docstring says that another array must be to it."""
    if name == "compare_batch":
        compared = {key: arguments[key] for key in ("X", "rows", "layers", "rule")}
        reference.predict_batch(*compared.values(), SCALARS["step"], arguments["state"])
    if name == "learn_batch":
        arguments["state"].gradients[:] = np.linspace(-1, 1, SIZES["n_parameters"])
    if "upper" in arguments:  # nothing is known, so that every set has to compare all samples
        arguments["upper"][:] = np.inf
    if name == "draw_samples":
        masses = arguments["closest"].astype(np.float64)
        if arguments["sample_weight"].size:
            masses *= arguments["sample_weight"]
        arguments["block_sums"][:] = masses.sum()
        arguments["targets"][:] = np.linspace(0.01, 0.99, len(arguments["targets"])) * masses.sum()
    return arguments


def written(name, arguments):
    """Every number that a kernel has to write, by name."""
    results = dict(list(arguments.items())[-N_OUTPUTS.get(name, 1) :])
    state = results.pop("state", None)
    if state is None:
        return results
    if name != "predict_batch":
        results |= {"gradients": state.gradients}
    if name in ("learn_batch", "train_step", "train_epoch"):
        results |= {"parameters": state.parameters, "moments": state.moments}
    if name == "train_step" or name.endswith("_batch"):
        results |= intermediates(name, arguments)
    return results


def intermediates(name, arguments):
    if name == "learn_batch":
        return {}
    layers, rule, state = arguments["layers"], arguments["rule"], arguments["state"]
    views = [layout.unit_views(row, layers, len(arguments["rows"])) for row in state.workspace]
    results = {"A0": views[layout.OUTPUTS][0], "A1": views[layout.OUTPUTS][1]}
    if name != "predict_batch":
        results |= {"dZ0": views[layout.DELTAS][0], "dZ1": views[layout.DELTAS][1]}
    if layers[0, layout.ACTIVATION] in layout.KEEPS_INPUT:
        results["Z0"] = views[layout.INPUTS][0]
    if rule.dropout > 0:
        results["mask"] = views[layout.MASKS][0]
    return results


def assert_same(actual, expected, tolerance):
    for key in expected:
        assert np.isfinite(actual[key]).all(), key
        if actual[key].dtype.kind == "f":
            np.testing.assert_allclose(actual[key], expected[key], **TOLERANCES.get(key, tolerance), err_msg=key)
        else:
            np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)


def check_call(kernels, name, variant, dtype, tolerance):
    """Call a kernel and its reference as documented, and compare."""
    expected = build(name, variant, dtype)
    getattr(reference, name)(*expected.values())
    actual = build(name, variant, dtype)
    assert getattr(kernels, name)(*actual.values()) is None
    assert_same(written(name, actual), written(name, expected), tolerance)
    untouched = build(name, variant, dtype)
    for argument in list(actual)[: -N_OUTPUTS.get(name, 1)]:
        np.testing.assert_array_equal(actual[argument], untouched[argument], err_msg=argument)


def check_names(kernels):
    """Same names, in the same files, with the same parameters as the reference."""
    actual, expected = (
        {name: (getattr(k, name).__module__.split(".")[3], parameters(getattr(k, name))) for name in k.__all__}
        for k in (kernels, reference)
    )
    assert actual == expected


def test_sizes_have_no_common_factor():
    assert all(math.gcd(a, b) == 1 for a, b in itertools.combinations(SIZES.values(), 2))


def test_all_lists_every_kernel():
    modules = [vars(module) for module in vars(reference).values() if inspect.ismodule(module)]
    public = {
        name
        for module in modules
        for name, value in module.items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__.startswith(reference.__name__)
        and name[0] != "_"
    }
    assert set(reference.__all__) == public


def test_same_names_files_and_parameters(kernels):
    check_names(kernels)


@pytest.mark.parametrize("name", KERNELS)
def test_every_argument_is_documented_in_order(name):
    assert list(documented(name)) == parameters(getattr(reference, name))


@pytest.mark.parametrize(("name", "variant"), CALLS)
def test_documented_call(kernels, name, variant, dtype, tolerance):
    check_call(kernels, name, variant, dtype, tolerance)


@pytest.mark.parametrize(("name", "variant"), [call for call in CALLS if "itself" in str(documented(call.values[0]))])
def test_output_may_be_the_input_it_is_documented_to_be(kernels, name, variant, dtype):
    apart, shared = build(name, variant, dtype), build(name, variant, dtype)
    for argument, text in documented(name).items():
        if same := re.search(r"May be (\w+) itself", text):
            shared[argument] = shared[same[1]]
    for arguments in (apart, shared):
        getattr(kernels, name)(*arguments.values())
    for argument in list(apart)[-N_OUTPUTS.get(name, 1) :]:
        np.testing.assert_array_equal(shared[argument], apart[argument])


@pytest.mark.parametrize(("name", "variant"), CALLS)
def test_nothing_is_written_beside_the_arrays(kernels, name, variant, dtype):
    """Vectors and tiles end somewhere else than arrays do."""
    arguments, rooms = build(name, variant, dtype), {}
    for argument, value in arguments.items():
        if isinstance(value, np.ndarray) and argument != "layers":
            rooms[argument] = np.full(value.size + 2 * MARGIN, 77, value.dtype)
            inside = rooms[argument][MARGIN : MARGIN + value.size].reshape(value.shape)
            inside[...] = value
            arguments[argument] = inside
    getattr(kernels, name)(*arguments.values())
    for argument, room in rooms.items():
        assert (room[:MARGIN] == 77).all(), argument
        assert (room[-MARGIN:] == 77).all(), argument


@pytest.mark.parametrize("variant", TRAININGS, ids=lambda variant: variant["loss"])
def test_a_prepared_epoch_takes_any_of_its_steps(kernels, variant, dtype):
    """One by one or many at once, they are ``train_epoch``'s to the bit, and nothing else is written."""
    at_once, in_parts = build("train_epoch", variant, dtype), build("train_epoch", variant, dtype)
    kernels.train_epoch(*at_once.values())
    step = in_parts.pop("step")
    losses = in_parts["step_losses"]
    epoch = kernels.PreparedEpoch(*in_parts.values())
    assert epoch.step == -1
    for start, stop in ((0, 1), (1, 3), (3, 4)):
        assert epoch.train_steps(start, stop, step + start) == losses[stop - 1]
        assert epoch.step == step + stop
        np.testing.assert_array_equal(losses[:stop], at_once["step_losses"][:stop])
        assert np.isnan(losses[stop:]).all()
    for key in ("parameters", "moments"):
        np.testing.assert_array_equal(getattr(in_parts["state"], key), getattr(at_once["state"], key), err_msg=key)


@pytest.fixture
def check_planted(dtype, tolerance):
    """``check_call`` of a kernel planted among those of the reference."""

    def check(kernel):
        check_call(planted(kernel), kernel.__name__, {}, dtype, tolerance)

    return check


def planted(kernel):
    """The reference with one kernel replaced, in its place."""
    file = getattr(reference, kernel.__name__).__module__.split(".")[3]
    kernel.__module__ = f"gdl.kernels.planted.{file}"
    kernels = {name: getattr(reference, name) for name in reference.__all__} | {kernel.__name__: kernel}
    return SimpleNamespace(__all__=reference.__all__, **kernels)


class TestPlantedFaults:
    """What the checks above must not let through."""

    def test_swapped_parameters(self):
        def sgd_step(learning_rate, gradients, parameters):
            reference.sgd_step(gradients, learning_rate, parameters)

        with pytest.raises(AssertionError, match="sgd_step"):
            check_names(planted(sgd_step))

    def test_missing_name(self):
        names = [name for name in reference.__all__ if name != "huber"]
        with pytest.raises(AssertionError, match="huber"):
            check_names(SimpleNamespace(**{name: getattr(reference, name) for name in names}, __all__=names))

    def test_accumulated_output(self, check_planted):
        def dense_weight_gradient(X, dZ, dW):
            dW += X.T @ dZ

        with pytest.raises(AssertionError, match="dW"):
            check_planted(dense_weight_gradient)

    def test_output_written_in_part(self, check_planted):
        def dense_bias_gradient(dZ, db):
            db[:-1] = dZ.sum(axis=0)[:-1]

        with pytest.raises(AssertionError, match="db"):
            check_planted(dense_bias_gradient)

    def test_labels_written_in_part(self, check_planted):
        def assign_labels(X, shift, centers, labels):
            before = labels[-1]
            reference.assign_labels(X, shift, centers, labels)
            labels[-1] = before

        with pytest.raises(AssertionError, match="labels"):
            check_planted(assign_labels)

    def test_modified_input(self, check_planted):
        def squared_error(P, Y, losses, dZ):
            reference.squared_error(P, Y, losses, dZ)
            P[-1, -1] = 0

        with pytest.raises(AssertionError, match="P"):
            check_planted(squared_error)

    def test_other_result(self, check_planted):
        def nesterov_step(gradients, learning_rate, momentum, parameters, velocity):
            reference.momentum_step(gradients, learning_rate, momentum, parameters, velocity)

        with pytest.raises(AssertionError, match="parameters"):
            check_planted(nesterov_step)

    def test_returned_result(self, check_planted):
        def sgd_step(gradients, learning_rate, parameters):
            reference.sgd_step(gradients, learning_rate, parameters)
            return parameters

        with pytest.raises(AssertionError):
            check_planted(sgd_step)

    @pytest.mark.parametrize(("right", "wrong"), [("(n_out,)", "(n_in,)"), ("(n_in, n_out)", "(n_out, n_in)")])
    def test_wrong_documented_shape(self, monkeypatch, dtype, tolerance, right, wrong):
        kernel = reference.dense_forward
        monkeypatch.setattr(kernel, "__doc__", kernel.__doc__.replace(right, wrong))
        with pytest.raises(ValueError, match=r"mismatch|could not be broadcast"):
            check_call(reference, "dense_forward", {"activation": 0}, dtype, tolerance)

    def test_undocumented_argument(self, monkeypatch):
        kernel = reference.sgd_step
        monkeypatch.setattr(kernel, "__doc__", kernel.__doc__.replace("learning_rate : float", "rate : float"))
        with pytest.raises(AssertionError):
            test_every_argument_is_documented_in_order("sgd_step")
