"""A network in training as compiled code sees it: one address, behind which all arrays are found.

A tuple of its fifteen arrays is 105 arguments at every call, and each array read from it is counted: with
the tuple a training step took 10.3 s to compile, with the address 7.7 s. The rule lies there, too: as an
argument it took 1.7 us a call. So do samples and order of an epoch: a step that is called by itself takes its arguments
in 0.5 us, and took 1.5 with each array as one.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model
from numpy.typing import NDArray

from gdl.kernels._jit import inner
from gdl.kernels.cpu._arrays import address, contiguous, scratch, scratch_place
from gdl.kernels.cpu._simd import TILE_ROWS
from gdl.kernels.cpu._team import n_threads
from gdl.kernels.cpu.dense import MAX_STRIP_ITEMS, packed_size, panel_size
from gdl.kernels.cpu.prediction import n_operations
from gdl.kernels.layout import DELTAS, INPUTS, MASKS, N_IN, N_OUT, OUTPUTS, UNIT_START, Rule, State, n_units

# Arrays of the data's dtype, all flat.
FLOATS = (
    "parameters",
    "gradients",
    "mean",  # the optimizer's first moment, if it has one
    "square",  # its second
    "outputs",
    "deltas",
    "inputs",
    "masks",
    "panel",  # room for one packed panel a thread
    "panels",  # room for the packed deltas of all layers
    "strips",  # room for the gradient of one strip a thread
)
DOUBLES = (
    "losses",  # (capacity,)
    "partial",  # by task: sums of squares
)
INTEGERS = (
    "layers",  # (n_layers, 6)
    "offsets",  # ((n_layers + 1) * capacity,): where each row of X and of each layer's output starts
    "progress",  # (1,): steps taken when the latest call ended, -1 before any has
)
# What an epoch is given, by dtype as above; flat, too.
GIVEN_FLOATS = ("X", "Y", "sample_weight")
GIVEN_DOUBLES = ("learning_rates", "step_losses")
GIVEN = (*GIVEN_FLOATS, "order", *GIVEN_DOUBLES)
ARRAYS = FLOATS + DOUBLES + INTEGERS + GIVEN
NUMBERS = ("capacity", "n_targets", "batch_size")
# Where the rule starts, behind the numbers and two words an array.
PLACES = {name: len(NUMBERS) + 2 * k for k, name in enumerate(ARRAYS)}
RULE_START = len(NUMBERS) + 2 * len(ARRAYS)
_RULE_KINDS = [types.int64 if kind in (int, "int") else types.float64 for kind in Rule.__annotations__.values()]
RULE_TYPE = types.NamedTuple(_RULE_KINDS, Rule)
RULE_FORMAT = "=" + "".join("q" if kind is types.int64 else "d" for kind in _RULE_KINDS)


class Net:
    """The arrays of a step, and the rule by which it learns.

    ``capacity`` is the number of rows that the workspace has room for, ``work`` the operations a row takes.
    """

    def __init__(self, layers: NDArray[np.int64], rule: Rule, state: State) -> None:
        self.layers, self.rule = layers, rule
        self.capacity, self.work = state.workspace.shape[1] // n_units(layers), n_operations(layers, 1)
        self.threads, self.place = n_threads(), scratch_place()
        self.n_targets, self.batch_size, self.step_work = 0, 0, 0.0
        self.given: list[Any] = [None] * len(GIVEN)
        self.arrays: dict[str, Any] = {}  # kept, as compiled code has no more than their addresses
        words = np.zeros(RULE_START + len(rule), np.int64)
        self.words = words.data  # written word by word, which takes the array itself ten times as long
        self.words[0] = self.capacity
        struct.pack_into(RULE_FORMAT, self.words, 8 * RULE_START, *rule)
        for name, array in _arrays(layers, self.capacity, state).items():
            self._take(name, array)
        # What compiled functions are called with: an array, as Numba's dispatcher knows no other type as quickly (a
        # class of our own takes 0.6 us a call), of the data's dtype, so that it knows that, too.
        self.code: Any = self if config.DISABLE_JIT else words.view(state.parameters.dtype)

    def give(self, X: Any, Y: Any, sample_weight: Any, order: Any, batch_size: int, rates: Any, losses: Any) -> None:
        """Take the arrays of an epoch; one that the latest call brought as well is not looked at again."""
        for k, array in enumerate((X, Y, sample_weight, order, rates, losses)):
            if array is not self.given[k]:
                self._take(GIVEN[k], contiguous(array))
                # What had to be copied may have changed by the next call.
                self.given[k] = array if array.flags.c_contiguous else None
        self.n_targets, self.batch_size = Y.shape[1], batch_size
        self.step_work = self.work * min(batch_size, len(order))
        self.words[1], self.words[2] = self.n_targets, batch_size

    def _take(self, name: str, array: Any) -> None:
        self.arrays[name] = array
        if config.DISABLE_JIT:
            setattr(self, name, array if name == "layers" else array.reshape(-1))
        at = PLACES[name]
        self.words[at], self.words[at + 1] = address(array), len(array) if name == "layers" else array.size


def _arrays(layers: NDArray[np.int64], capacity: int, state: State) -> dict[str, Any]:
    table, dtype = layers.tolist(), state.parameters.dtype  # a list, as small sums take NumPy 5 us each
    threads = n_threads()
    width, n_panel_columns = max(row[N_OUT] for row in table), sum(row[N_OUT] + 16 for row in table)
    n_strips_at_most = sum(row[N_IN] // TILE_ROWS + 2 for row in table)
    rows = list(state.workspace)
    moments = [*state.moments, state.gradients, state.gradients]  # stand-ins for what the optimizer has not
    # Row i of what layer l puts out, which is the input of layer l + 1; the first rows are the batch's.
    offsets, row_numbers = np.empty((len(table) + 1, capacity), np.int64), np.arange(capacity)
    for layer, row in enumerate(table):
        np.multiply(row_numbers, row[N_OUT], out=offsets[layer + 1])
        offsets[layer + 1] += row[UNIT_START] * capacity
    return {
        "layers": layers,
        "parameters": state.parameters,
        "gradients": state.gradients,
        "mean": moments[0],
        "square": moments[1],
        "outputs": rows[OUTPUTS],
        "deltas": rows[DELTAS],
        "inputs": rows[INPUTS] if len(rows) > INPUTS else rows[OUTPUTS],
        "masks": rows[MASKS] if len(rows) > MASKS else rows[OUTPUTS],
        "panel": scratch("panel", panel_size(threads, dtype), dtype),
        "panels": scratch("panels", packed_size(capacity + 16, n_panel_columns), dtype),
        "strips": scratch("strips", threads * (MAX_STRIP_ITEMS + TILE_ROWS * width + 64), dtype),
        "offsets": offsets,
        "progress": np.full(1, -1),
        "losses": scratch("losses", capacity, np.float64),
        "partial": scratch("partial", n_strips_at_most, np.float64),
    }


def prepared(layers: NDArray[np.int64], rule: Rule, state: State) -> Net:
    """The net of a state, which keeps it: making it takes 40 us, as long as twenty steps of a small network."""
    net: Net | None = state.prepared
    if (
        net is None
        or net.layers is not layers
        or net.rule != rule
        or net.place is not scratch_place()
        or net.threads != n_threads()
    ):
        net = state.prepared = Net(layers, rule, state)
    return net


class NetType(types.Type):
    """Numba's type of a Net, by the dtype of its floating arrays."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Net({dtype})")


@register_model(NetType)
class _NetModel(models.PrimitiveModel):
    def __init__(self, manager, net_type):
        super().__init__(manager, net_type, ir.IntType(64))


@intrinsic
def _net_behind(typing_context, words):
    def generate(context, builder, signature, arguments):
        array = context.make_array(words)(context, builder, arguments[0])
        return builder.ptrtoint(array.data, ir.IntType(64))

    return NetType(words.dtype)(words), generate


if config.DISABLE_JIT:

    def net_behind(code):
        """Return the net itself, as there is no compiled code."""
        return code
else:

    @inner
    def net_behind(code):
        """The net whose words an array is."""
        return _net_behind(code)


def _array_type(net_type, name):
    if name == "layers":
        return types.Array(types.int64, 2, "C")
    doubles = DOUBLES + GIVEN_DOUBLES
    dtype = net_type.dtype if name in FLOATS + GIVEN_FLOATS else types.float64 if name in doubles else types.int64
    return types.Array(dtype, 1, "C")


@infer_getattr
class _NetAttributes(AttributeTemplate):
    key = NetType

    def generic_resolve(self, net_type, name):
        if name in NUMBERS:
            return types.int64
        if name == "rule":
            return RULE_TYPE
        return _array_type(net_type, name) if name in ARRAYS else None


@lower_getattr_generic(NetType)
def _lower_net_attribute(context, builder, net_type, value, name):
    word = ir.IntType(64)
    words = builder.inttoptr(value, word.as_pointer())
    if name in NUMBERS:
        return builder.load(builder.gep(words, [ir.Constant(word, NUMBERS.index(name))]))
    if name == "rule":
        return _load_rule(context, builder, words)
    at = PLACES[name]
    address, length = (builder.load(builder.gep(words, [ir.Constant(word, k)])) for k in (at, at + 1))
    array_type = _array_type(net_type, name)
    array = context.make_array(array_type)(context, builder)
    item = array_type.dtype.bitwidth // 8
    sizes = [length] if array_type.ndim == 1 else [length, ir.Constant(word, 6)]
    steps = [item] if array_type.ndim == 1 else [6 * item, item]
    array.data = builder.inttoptr(address, array.data.type)
    array.nitems = length if array_type.ndim == 1 else builder.mul(length, sizes[1])
    array.itemsize = ir.Constant(word, item)
    array.shape = cgutils.pack_array(builder, sizes)
    array.strides = cgutils.pack_array(builder, [ir.Constant(word, step) for step in steps])
    array.meminfo = ir.Constant(array.meminfo.type, None)  # the caller of the kernel holds the memory
    array.parent = ir.Constant(array.parent.type, None)
    return array._getvalue()


def _load_rule(context, builder, words):
    values = []
    for k, kind in enumerate(RULE_TYPE):
        pointer = builder.gep(words, [ir.Constant(ir.IntType(64), RULE_START + k)])
        values.append(builder.load(builder.bitcast(pointer, context.get_value_type(kind).as_pointer())))
    return context.make_tuple(builder, RULE_TYPE, values)
