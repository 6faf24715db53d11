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

from gdl.kernels.layout import Rule

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

    def __init__(self, capacity: int, work: float, rule: Rule, **arrays: Any) -> None:
        self.capacity, self.work, self.rule = capacity, work, rule
        self.dtype = arrays["parameters"].dtype
        if config.DISABLE_JIT:  # else the addresses are enough, and nobody's memory is kept
            self.__dict__.update(arrays)
        words = [capacity]
        for name in ARRAYS:
            words += [arrays[name].ctypes.data, len(arrays[name])]
        bits = (np.array(value, kind.name).view(np.int64) for value, kind in zip(rule, RULE_TYPE, strict=True))
        self.words = np.array([*words, *bits], np.int64)
        self.address = self.words.ctypes.data
        # Where Numba's dispatcher looks first: asking a function written in Python takes 6 us a call.
        self._numba_type_ = NetType(types.float32 if self.dtype == np.float32 else types.float64)


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
