"""Sums of samples by label, in float64.

A label's sum is a row of ``sum_width`` numbers: one for each feature, then the weight, then what fills up the vector.
"""

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from gdl.kernels._jit import inner
from gdl.kernels.cpu._comparison import uses_lanes
from gdl.kernels.cpu._simd import VECTOR_BYTES, _Builder, part

DOUBLES = VECTOR_BYTES // 8
_I32 = ir.IntType(32)


def _add_narrow_rows(weighted):
    """Make the intrinsic that adds m rows of few features, one after the other from ``a`` on, to their labels' sums.

    Feature by feature, 1,000,000 rows of 2 took 5.7 ms with ten labels and now 1.7; of 3, 3.6 and 1.5 (one core,
    Zen 3). Rows are read as whole vectors, with what follows, which masked loads would leave out: they took 2.7 ms.
    Only the last rows of A are masked.
    """

    def implementation(context, builder, signature, arguments):
        A, a, m, n, labels, first_label, weights, w, sums, s, width = arguments
        v, wide = (_Builder(context, builder, dtype) for dtype in (signature.args[0].dtype, types.float64))
        n_elements = context.make_array(signature.args[0])(context, builder, A).nitems
        A, labels, weights, sums = (v.data(signature.args[k], arguments[k]) for k in (0, 4, 6, 8))
        some = ir.VectorType(v.scalar, DOUBLES)
        kind = ir.FunctionType(some, [some.as_pointer(), _I32, wide.mask_type, some])
        masked_load = v.intrinsic(kind, f"llvm.masked.load.v{DOUBLES}{v.suffix}.p0")
        zeros, ones = (ir.Constant(some, [number] * DOUBLES) for number in (0.0, 1.0))

        def as_doubles(x):
            return x if v.scalar == wide.scalar else builder.fpext(x, wide.vector)

        # Rows from whose start as many elements can be read as a row of sums has.
        room = builder.sub(builder.sub(n_elements, a), width)
        n_whole = builder.add(builder.sdiv(room, n), v.constant(1))
        n_whole = builder.select(builder.icmp_signed("<", room, v.constant(0)), v.constant(0), n_whole)
        n_whole = builder.select(builder.icmp_signed("<", n_whole, m), n_whole, m)
        with cgutils.for_range_slice(builder, v.constant(0), width, v.constant(DOUBLES)) as (first, _):
            n_left = builder.sub(n, first)
            features = wide.first(n_left)
            rest = builder.select(wide.first(builder.add(n_left, v.constant(1))), ones, zeros)  # 1 for the weight
            for start, stop, masked in ((v.constant(0), n_whole, False), (n_whole, m, True)):
                with cgutils.for_range_slice(builder, start, stop, v.constant(1)) as (i, _):
                    at = builder.bitcast(v.at(A, a, builder.mul(i, n), first), some.as_pointer())
                    if masked:
                        row = builder.call(masked_load, [at, _I32(v.item), features, rest])
                    else:
                        row = builder.load(at)
                        row.align = v.item
                        row = builder.select(features, row, rest)
                    row = as_doubles(row)
                    if weighted:
                        row = builder.fmul(row, as_doubles(wide.splat(builder.load(v.at(weights, w, i)))))
                    label = builder.sext(builder.load(v.at(labels, first_label, i)), s.type)
                    total = v.at(sums, s, builder.mul(label, width), first)
                    wide.store(builder.fadd(wide.load(total), row), total)
        return context.get_dummy_value()

    @intrinsic
    def add_narrow_rows(typing_context, A, a, m, n, labels, first_label, weights, w, sums, s, width):
        i = types.int64
        return types.void(A, i, i, i, labels, i, weights, i, sums, i, i), implementation

    return add_narrow_rows


def _plain_add_narrow_rows(weighted):
    def add_narrow_rows(A, a, m, n, labels, first_label, weights, w, sums, s, width):
        for i in range(m):
            weight = np.float64(weights[w + i]) if weighted else 1.0
            at = s + int(labels[first_label + i]) * width
            sums[at : at + n] += weight * A[a + i * n : a + (i + 1) * n].astype(np.float64)
            sums[at + n] += weight

    return add_narrow_rows


add_narrow_rows, add_weighted_narrow_rows = map(
    _plain_add_narrow_rows if config.DISABLE_JIT else _add_narrow_rows, (False, True)
)


def sum_width(n_features):
    """Numbers that the sum of a label takes."""
    return (n_features + DOUBLES) // DOUBLES * DOUBLES


inner_sum_width = inner(sum_width)  # Python cannot call it


@inner
def add_rows(A, a, m, n, sample_weight, labels, start, k, sums, s, order, ends):
    """Add m rows, one after the other from ``a`` on, to the sums of the labels from ``start`` on, weighted.

    ``order`` and ``ends`` have room for m numbers each.
    """
    width = inner_sum_width(n)
    if uses_lanes(n):
        if sample_weight.size == 0:
            add_narrow_rows(A, a, m, n, labels, start, A, 0, sums, s, width)
        else:
            add_weighted_narrow_rows(A, a, m, n, labels, start, sample_weight, start, sums, s, width)
        return
    labels = part(labels, start, m)
    for i in range(m):
        sums[np.uintp(s + labels[i] * width + n)] += weight_of(sample_weight, start + i)
    if 2 * k > m:  # hardly two rows of the same label
        for i in range(m):
            add_row(A, a + i * n, n, weight_of(sample_weight, start + i), sums, s + labels[i] * width)
        return
    sort_by_label(labels, m, k, sample_weight, start, order, ends)
    i = 0
    for label in range(k):
        while ends[label] - i >= 4:
            add_four_rows(A, a, order, i, n, sample_weight, start, sums, s + label * width)
            i += 4
        while i < ends[label]:
            row = order[i]
            add_row(A, a + row * n, n, weight_of(sample_weight, start + row), sums, s + label * width)
            i += 1


@inner
def weight_of(sample_weight, i):
    """Weight of a sample in float64."""
    return 1.0 if sample_weight.size == 0 else np.float64(sample_weight[i])


@inner
def add_row(A, a, n, weight, sums, s):
    """Add a weighted row."""
    row, total = part(A, a, n), part(sums, s, n)
    for j in range(n):
        total[j] += weight * np.float64(row[j])


@inner
def add_four_rows(A, a, order, i, n, sample_weight, start, sums, s):
    """Add four rows of one label at once: the sums of ten labels of 784 features do not fit the nearest cache."""
    first, second, third, fourth = order[i], order[i + 1], order[i + 2], order[i + 3]
    row_1, row_2 = part(A, a + first * n, n), part(A, a + second * n, n)
    row_3, row_4 = part(A, a + third * n, n), part(A, a + fourth * n, n)
    weight_1, weight_2 = weight_of(sample_weight, start + first), weight_of(sample_weight, start + second)
    weight_3, weight_4 = weight_of(sample_weight, start + third), weight_of(sample_weight, start + fourth)
    total = part(sums, s, n)
    for j in range(n):
        more = weight_1 * np.float64(row_1[j]) + weight_2 * np.float64(row_2[j])
        rest = weight_3 * np.float64(row_3[j]) + weight_4 * np.float64(row_4[j])
        total[j] += more + rest


@inner
def sort_by_label(labels, m, k, sample_weight, start, order, ends):
    """Leave the rows of each label, in turn, in ``order``, and where each label's rows end in ``ends``.

    Rows of weight 0 are left out: where they go must not change how the others are rounded.
    """
    ends[:k] = 0
    for i in range(m):
        if weight_of(sample_weight, start + i) > 0:
            ends[labels[i]] += 1
    total = 0
    for label in range(k):
        total += ends[label]
        ends[label] = total - ends[label]
    for i in range(m):
        if weight_of(sample_weight, start + i) > 0:
            order[ends[labels[i]]] = i
            ends[labels[i]] += 1
