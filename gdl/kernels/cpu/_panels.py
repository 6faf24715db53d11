"""Register tiles of the matrix product: panels of C, tile below tile.

Each function is an intrinsic that writes LLVM instructions, and has a plain stand-in that runs when Numba's compiler is
switched off. Arrays are flat; positions and strides count elements.

Every element of a product is one chain of fused multiply-adds in the order of k, wherever it lies in a
tile. So its bits depend neither on the tile's shape nor on the number of rows or threads.
"""

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from gdl.kernels.cpu._simd import TILE_ROWS, VECTOR_BYTES, _Builder, _call, lanes

# What a tile starts from, and what is done to it before it is stored.
FROM_ZERO, FROM_BIAS, FROM_OUT = range(3)
STORE, STORE_RELU, STORE_GATED = range(3)

HALF_ROWS = TILE_ROWS // 2
# Whether half a vector can take less time than a whole one: Zen 4 computes vectors of 64 bytes by halves. Not measured
# on others: where it saves nothing, a number of A is still loaded twice.
HALVES = VECTOR_BYTES == 64
# A tile of fewer sums than this waits for its own additions; a narrow one has more rows instead.
MIN_SUMS = 12


def _write_panel(v, by_column, n_vectors, narrow, half, arguments):
    """Write the code for a panel of C that is ``n_vectors`` wide: tiles of rows, one below the other.

    ``C[i, j] = start + sum_p A(i, p) B[p, j]`` for rows m0 to m1. By rows, ``A(i, p)`` is the p-th element after
    ``offsets[i]``, the start of a row that may lie anywhere; by columns it is the i-th after ``offsets[p]``, which
    reads A transposed.

    There are no masks, which cost 2 to 5% where they are loads in the inner loop, and a dozen cycles each
    where they are stores on AMD's AVX2: the last vector ends with the last column and so overlaps the one before,
    and both compute the same. In B it starts ``b_last`` after the row. If ``half``, only the second half of it is
    computed: 100 columns are 6.5 vectors and not 7. Only a ``narrow`` panel, of fewer columns than a vector has lanes,
    is masked.
    """
    A, offsets, B, C, bias, G, m0, m1, b_stride, b_last, n, c_stride, n_columns, start, finish = arguments
    builder, columns = v.builder, range(n_vectors)
    builders = [v] * n_vectors
    mask = v.first(n_columns) if narrow else None
    step, B_step = ([v.constant(j * v.lanes) for j in columns] for _ in range(2))
    if half:
        builders[-1] = v.halved()
        b_last = builder.add(b_last, v.constant(v.lanes // 2))
    if not narrow:
        step[-1], B_step[-1] = builder.sub(n_columns, v.constant(builders[-1].lanes)), b_last
    zeros = cgutils.global_constant(
        builder.module, "gdl_zeros", ir.Constant(ir.ArrayType(v.scalar, 3 * v.lanes), [0.0] * (3 * v.lanes))
    )
    zeros = builder.bitcast(zeros, bias.type)
    from_out = builder.icmp_signed("==", start, v.constant(FROM_OUT))
    from_bias = builder.icmp_signed("==", start, v.constant(FROM_BIAS))

    def tile(n_rows, row):
        rows = range(n_rows)
        at = builder.mul(c_stride, row)
        C_rows = [v.at(C, builder.add(at, builder.mul(c_stride, v.constant(i)))) for i in rows]
        sums = [[cgutils.alloca_once(builder, u.vector) for u in builders] for _ in rows]

        # One set of loads for the three starts: the bias and zeros are rows that repeat.
        first = zeros if by_column else builder.select(from_bias, bias, zeros)
        first = builder.select(from_out, C_rows[0], first)
        stride = builder.select(from_out, c_stride, v.constant(0))
        for i in rows:
            pointer = v.at(first, builder.mul(stride, v.constant(i)))
            for j, u in enumerate(builders):
                builder.store(u.load(v.at(pointer, step[j]), mask), sums[i][j])

        if not by_column:
            starts = [builder.load(v.at(offsets, builder.add(row, v.constant(i)))) for i in rows]
            A_rows = [v.at(A, at) for at in starts]
        with cgutils.for_range(builder, n) as loop:
            B_row = v.at(B, builder.mul(loop.index, b_stride))
            B_vectors = [u.load(v.at(B_row, B_step[j]), mask) for j, u in enumerate(builders)]
            if by_column:
                A_column = v.at(A, builder.load(v.at(offsets, loop.index)), row)
            # By rows, A is loaded once for whole vectors and once for the half: LLVM runs out of registers if it takes
            # half of a register that it also needs whole (75 GFLOP/s instead of 104).
            again = v.unknown(loop.index) if half and not by_column else loop.index
            for i in rows:
                if by_column:
                    values = [builder.load(v.at(A_column, v.constant(i)))] * 2
                else:
                    values = [builder.load(v.at(A_rows[i], k)) for k in (loop.index, again)]
                for j, u in enumerate(builders):
                    factor = u.splat(values[0 if u is v else 1])
                    builder.store(u.fma(factor, B_vectors[j], builder.load(sums[i][j])), sums[i][j])

        def end(value):
            for i in rows:
                for j, u in enumerate(builders):
                    builder.store(value(i, j, u, builder.load(sums[i][j])), sums[i][j])

        def relu(i, j, u, total):
            # Written so that NaN passes: a maximum would turn it into 0.
            return builder.select(builder.fcmp_ordered("<", total, u.zero), u.zero, total)

        def gated(i, j, u, total):
            gate = u.load(v.at(G, at, builder.mul(c_stride, v.constant(i)), step[j]), mask)
            return builder.select(builder.fcmp_ordered(">", gate, u.zero), total, u.zero)

        if not by_column:
            with builder.if_then(builder.icmp_signed("==", finish, v.constant(STORE_RELU))):
                end(relu)
            with builder.if_then(builder.icmp_signed("==", finish, v.constant(STORE_GATED))):
                end(gated)
        for i in rows:
            for j, u in enumerate(builders):
                u.store(builder.load(sums[i][j]), v.at(C_rows[i], step[j]), mask)

    done = cgutils.alloca_once_value(builder, m0)
    for n_rows in (max(TILE_ROWS, MIN_SUMS // n_vectors), HALF_ROWS, 1):
        stop = builder.sub(m1, v.constant(n_rows - 1))
        with cgutils.for_range_slice(builder, builder.load(done), stop, v.constant(n_rows)) as (row, _):
            tile(n_rows, row)
            builder.store(builder.add(row, v.constant(n_rows)), done)


def _panel(by_column, n_vectors, narrow=False, half=False):
    """Make the intrinsic for a panel; ``_write_panel`` says what it computes, of arrays from ``a``, ``o`` and so on."""
    size = "narrow" if narrow else n_vectors - 0.5 if half else n_vectors
    name = f"gdl_{'column' if by_column else 'row'}_panel_{size}"

    def implementation(context, builder, signature, arguments):
        (
            A, offsets, o, a, m0, m1, B, b, b_stride, b_last, n, C, c, c_stride, n_columns, start, bias, bias_at,
            finish, G, g,
        ) = arguments  # fmt: skip
        kinds = signature.args
        v = _Builder(context, builder, kinds[0].dtype)
        starts = ((0, A, a), (1, offsets, o), (6, B, b), (11, C, c), (16, bias, bias_at), (19, G, g))
        pointers = [v.at(v.data(kinds[k], array), at) for k, array, at in starts]
        numbers = [m0, m1, b_stride, b_last, n, c_stride, n_columns, start, finish]

        def write(inside, values):
            _write_panel(_Builder(context, inside, kinds[0].dtype), by_column, n_vectors, narrow, half, values)

        _call(builder, f"{name}_{v.suffix}", write, pointers + numbers)
        return context.get_dummy_value()

    def panel(
        typing_context,
        A,
        offsets,
        o,
        a,
        m0,
        m1,
        B,
        b,
        b_stride,
        b_last,
        n,
        C,
        c,
        c_stride,
        n_columns,
        start,
        bias,
        bias_at,
        finish,
        G,
        g,
    ):
        i = types.int64
        return (
            types.void(A, offsets, i, i, i, i, B, i, i, i, i, C, i, i, i, i, bias, i, i, G, i),
            implementation,
        )

    return intrinsic(panel)


def _plain_panel(by_column):
    def panel(
        A, offsets, o, a, m0, m1, B, b, b_stride, b_last, n, C, c, c_stride, n_columns, start, bias, bias_at, finish,
        G, g,
    ):  # fmt: skip
        columns, rows = np.arange(n_columns), np.arange(m0, m1)
        at = c + c_stride * rows[:, None] + columns
        in_last = columns + lanes(B) >= max(n_columns, lanes(B))
        B_columns = np.where(in_last, b_last + columns - max(n_columns - lanes(B), 0), columns)
        sums = np.zeros((m1 - m0, n_columns), C.dtype)
        if start == FROM_OUT:
            sums[:] = C[at]
        elif start == FROM_BIAS:
            sums[:] = bias[bias_at + columns]
        for p in range(n):
            values = A[a + offsets[o + p] + rows] if by_column else A[a + offsets[o + m0 : o + m1] + p]
            sums += values[:, None] * B[b + p * b_stride + B_columns]
        if finish == STORE_RELU:
            sums[sums < 0] = 0
        elif finish == STORE_GATED:
            sums[~(G[g + at - c] > 0)] = 0
        C[at] = sums

    return panel


def _panels(by_column):
    if config.DISABLE_JIT:
        return [_plain_panel(by_column)] * 6
    whole, halves = [_panel(by_column, n) for n in (3, 2, 1)], [_panel(by_column, n, half=True) for n in (3, 2)]
    return *whole, _panel(by_column, 1, narrow=True), *halves


row_panel_3, row_panel_2, row_panel_1, narrow_row_panel, half_row_panel_3, half_row_panel_2 = _panels(by_column=False)
column_panel_3, column_panel_2, column_panel_1, narrow_column_panel, half_column_panel_3, half_column_panel_2 = _panels(
    by_column=True
)
