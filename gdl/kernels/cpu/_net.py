"""A network in training as compiled code sees it: one address, behind which all arrays are found.

A tuple of its fifteen arrays is 105 arguments at every call, and each array read from it is counted: with
the tuple a training step took 10.3 s to compile, with the address 7.7 s. The rule lies there, too: as an
argument it took 1.7 us a call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    unbox,
)
from numpy.typing import NDArray

from gdl.kernels.cpu._arrays import scratch, scratch_place
from gdl.kernels.cpu._simd import TILE_ROWS
from gdl.kernels.cpu._team import n_threads
from gdl.kernels.cpu.dense import MAX_STRIP_ITEMS, packed_room, panel_room
from gdl.kernels.cpu.prediction import n_operations
from gdl.kernels.layout import DELTAS, INPUTS, MASKS, N_IN, N_OUT, OUTPUTS, UNIT_START, Rule, State

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
)
ARRAYS = FLOATS + DOUBLES + INTEGERS
# Where the rule starts, behind the capacity and two words an array.
RULE_START = 1 + 2 * len(ARRAYS)
RULE_TYPE = types.NamedTuple(
    [types.int64 if kind in (int, "int") else types.float64 for kind in Rule.__annotations__.values()], Rule
)


class Net:
    """The arrays of a step, and the rule by which it learns.

    ``capacity`` is the number of rows that the workspace has room for, ``work`` the operations a row takes.
    """

    def __init__(self, layers: NDArray[np.int64], rule: Rule, state: State) -> None:
        arrays = _arrays(layers, state)
        self.layers, self.rule = layers, rule
        self.capacity, self.work = _capacity(layers, state), n_operations(layers, 1)
        self.threads, self.place = n_threads(), scratch_place()
        self.dtype = state.parameters.dtype
        self.arrays = arrays  # kept, as compiled code has no more than their addresses
        if config.DISABLE_JIT:
            self.__dict__.update(arrays)
        words = [self.capacity]
        for name in ARRAYS:
            words += [arrays[name].ctypes.data, len(arrays[name])]
        bits = (np.array(value, kind.name).view(np.int64) for value, kind in zip(rule, RULE_TYPE, strict=True))
        self.words = np.array([*words, *bits], np.int64)
        self.address = self.words.ctypes.data
        # Where Numba's dispatcher looks first: asking a function written in Python takes 6 us a call.
        self._numba_type_ = NetType(types.float32 if self.dtype == np.float32 else types.float64)


def _capacity(layers: NDArray[np.int64], state: State) -> int:
    return int(state.workspace.shape[1] // layers[:, N_OUT].sum())


def _arrays(layers: NDArray[np.int64], state: State) -> dict[str, Any]:
    widths, threads, dtype = layers[:, N_OUT], n_threads(), state.parameters.dtype
    capacity, width = _capacity(layers, state), int(widths.max())
    rows = list(state.workspace)
    moments = [*state.moments, state.gradients, state.gradients]  # stand-ins for what the optimizer has not
    offsets = np.empty((len(layers) + 1) * capacity, np.int64)
    # Row i of what layer l puts out, which is the input of layer l + 1; the first rows are the batch's.
    starts = layers[:, UNIT_START, None] * capacity + widths[:, None] * np.arange(capacity)
    offsets[capacity:] = starts.reshape(-1)
    n_strips_at_most = int((layers[:, N_IN] // TILE_ROWS + 2).sum())
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
        "panel": panel_room(state.parameters),
        "panels": packed_room(capacity + 16, int(widths.sum()) + 16 * len(layers), dtype),
        "strips": scratch("strips", threads * (MAX_STRIP_ITEMS + TILE_ROWS * width + 64), dtype),
        "offsets": offsets,
        "losses": scratch("losses", capacity, np.float64),
        "partial": scratch("partial", n_strips_at_most, np.float64),
    }


def prepared(layers: NDArray[np.int64], rule: Rule, state: State) -> Net:
    """The net of a state, which keeps it: making it takes 40 us, as long as twenty steps of a small network.

    Few objects are looked at: between two steps of a large network nothing of Python is left in the core's cache.
    """
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


@unbox(NetType)
def _unbox_net(net_type, value, context):
    address = context.pyapi.object_getattr_string(value, "address")
    native = context.pyapi.long_as_longlong(address)
    context.pyapi.decref(address)
    return NativeValue(native, is_error=cgutils.is_not_null(context.builder, context.pyapi.err_occurred()))


def _array_type(net_type, name):
    if name == "layers":
        return types.Array(types.int64, 2, "C")
    dtype = net_type.dtype if name in FLOATS else types.float64 if name in DOUBLES else types.int64
    return types.Array(dtype, 1, "C")


@infer_getattr
class _NetAttributes(AttributeTemplate):
    key = NetType

    def generic_resolve(self, net_type, name):
        if name == "capacity":
            return types.int64
        if name == "rule":
            return RULE_TYPE
        return _array_type(net_type, name) if name in ARRAYS else None


@lower_getattr_generic(NetType)
def _lower_net_attribute(context, builder, net_type, value, name):
    word = ir.IntType(64)
    words = builder.inttoptr(value, word.as_pointer())
    if name == "capacity":
        return builder.load(words)
    if name == "rule":
        return _load_rule(context, builder, words)
    at = 1 + 2 * ARRAYS.index(name)
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
