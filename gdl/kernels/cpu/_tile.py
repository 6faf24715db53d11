"""Matrix products from register tiles: one task is a range of rows times one panel of columns.

Whole-number constants that are arguments here are NumPy's: for each of Python's Numba would compile the
function again. What hands arrays on to a tile is inlined, see ``_simd._call``.
"""

import numpy as np

from gdl.kernels._jit import inner
from gdl.kernels.cpu._panels import (
    FROM_BIAS,
    FROM_OUT,
    FROM_ZERO,
    HALF_ROWS,
    HALVES,
    STORE,
    column_panel_1,
    column_panel_2,
    column_panel_3,
    half_column_panel_2,
    half_column_panel_3,
    half_row_panel_2,
    half_row_panel_3,
    narrow_column_panel,
    narrow_row_panel,
    row_panel_1,
    row_panel_2,
    row_panel_3,
)
from gdl.kernels.cpu._simd import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES, pack, transpose_block, transpose_corner

ZERO = np.int64(0)
NO_BIAS = np.int64(-1)
AS_IS, TRANSPOSED, PACKED = np.int64(0), np.int64(1), np.int64(2)
# A panel of B is packed in blocks that stay in the second-level cache; 160 kB measured best of 24 to 160,
# with AVX-512 and with AVX2 (Zen 3: 88 GFLOP/s, and 84 with 24 kB, which the first-level cache would hold).
PANEL_BYTES = 160 * 1024
PANEL_ROWS = PANEL_BYTES // (TILE_VECTORS * VECTOR_BYTES)
# Fewer rows than this do not pay for packing B: each element packed is used once a row. Nor does a B that
# the first-level cache holds as it is: (64, 64, 64) ran at 149 GFLOP/s in place and at 128 packed.
PACKED_ROWS = 2 * TILE_ROWS
SMALL_BYTES = 32 * 1024


@inner
def panel_columns(values):
    """Columns of a whole panel, for the array's dtype."""
    return TILE_VECTORS * (VECTOR_BYTES // values.itemsize)


@inner
def round_up(n, step):
    """The least multiple of ``step`` that is at least n."""
    return (n + step - 1) // step * step


@inner(forceinline=True)
def ends_in_half(w, lanes):
    """Whether half a vector is enough for the last of w columns."""
    return 0 < w % lanes <= lanes // 2


@inner(forceinline=True)
def row_tiles(
    A, offsets, o, a, m0, m1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, bias, bias_at, finish, G, g
):
    """Rows m0 to m1 of C by w columns, A read by rows."""
    lanes = VECTOR_BYTES // B.itemsize
    if HALVES and w > 2 * lanes and ends_in_half(w, lanes):  # not even compiled where there are none
        half_row_panel_3(
            A, offsets, o, a, m0, m1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, bias, bias_at, finish, G, g
        )
    elif w > 2 * lanes:
        row_panel_3(
            A, offsets, o, a, m0, m1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, bias, bias_at, finish, G, g
        )
    elif HALVES and w > lanes and ends_in_half(w, lanes):
        half_row_panel_2(
            A, offsets, o, a, m0, m1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, bias, bias_at, finish, G, g
        )
    elif w > lanes:
        row_panel_2(
            A, offsets, o, a, m0, m1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, bias, bias_at, finish, G, g
        )
    elif w == lanes:
        row_panel_1(
            A, offsets, o, a, m0, m1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, bias, bias_at, finish, G, g
        )
    else:
        narrow_row_panel(
            A, offsets, o, a, m0, m1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, bias, bias_at, finish, G, g
        )


@inner(forceinline=True)
def column_tiles(A, offsets, o, i0, i1, B, b, b_stride, b_last, n, C, c, c_stride, w, start):
    """Rows i0 to i1 of C by w columns, A read by columns."""
    lanes = VECTOR_BYTES // B.itemsize
    if HALVES and w > 2 * lanes and ends_in_half(w, lanes):  # not even compiled where there are none
        half_column_panel_3(
            A, offsets, o, 0, i0, i1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, C, 0, STORE, C, 0
        )
    elif w > 2 * lanes:
        column_panel_3(A, offsets, o, 0, i0, i1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, C, 0, STORE, C, 0)
    elif HALVES and w > lanes and ends_in_half(w, lanes):
        half_column_panel_2(
            A, offsets, o, 0, i0, i1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, C, 0, STORE, C, 0
        )
    elif w > lanes:
        column_panel_2(A, offsets, o, 0, i0, i1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, C, 0, STORE, C, 0)
    elif w == lanes:
        column_panel_1(A, offsets, o, 0, i0, i1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, C, 0, STORE, C, 0)
    else:
        narrow_column_panel(
            A, offsets, o, 0, i0, i1, B, b, b_stride, b_last, n, C, c, c_stride, w, start, C, 0, STORE, C, 0
        )


@inner(forceinline=True)
def last_vector(width, n_columns, lanes):
    """Where the last vector starts in a row of ``width`` elements whose last column is the panel's last."""
    return width - lanes if n_columns >= lanes else 0


@inner
def pack_transposed(B, b, b_stride, n, w, panel, at):
    """Write ``panel[p, j] = B[j, p]`` for p < n and j < w, as ``pack`` lays out a panel.

    In whole squares of vectors, of which the last overlaps the one before; by corners where B has less than a square.
    What pads a panel narrower than a vector is no zero then, and nobody reads it.
    """
    lanes = VECTOR_BYTES // B.itemsize
    width = round_up(w, lanes)
    for j in range(0, width, lanes):
        column = b + max(0, min(j, w - lanes)) * b_stride
        if n < lanes or w < lanes:
            for p in range(0, n, lanes):
                row = max(0, min(p, n - lanes))
                transpose_corner(
                    B, column + row, b_stride, min(w, lanes), min(n, lanes), panel, at + row * width + j, width
                )
        else:
            for p in range(0, n, lanes):
                row = min(p, n - lanes)
                transpose_block(B, column + row, b_stride, panel, at + row * width + j, width)


@inner(forceinline=True)
def product_panel(
    A, offsets, o, m0, m1, B, b, b_stride, transposed, n, C, c, c_stride, w, bias, bias_at, finish, G, g, panel, at
):
    """Rows m0 to m1 of ``C = A B`` in one panel of w columns, ``finish`` applied in the tile.

    ``b`` and ``c`` are where the panel starts in B (of row p = 0, or of B's row j = 0 if ``transposed``)
    and in C and G (of row 0); ``bias_at`` is where its bias starts, -1 for none. ``panel`` from ``at`` on
    is room for PANEL_ROWS packed rows.
    """
    lanes = VECTOR_BYTES // B.itemsize
    width = round_up(w, lanes)
    small = n * b_stride * B.itemsize <= SMALL_BYTES
    packed = transposed == TRANSPOSED or (m1 - m0 >= PACKED_ROWS and not small)
    for p0 in range(0, max(n, 1), PANEL_ROWS):
        k = min(PANEL_ROWS, n - p0)
        start = FROM_OUT if p0 > 0 else (FROM_BIAS if bias_at >= 0 else FROM_ZERO)
        last = finish if p0 + k >= n else STORE
        if transposed == TRANSPOSED:
            pack_transposed(B, b + p0, b_stride, k, w, panel, at)
        elif packed:
            pack(B, b + p0 * b_stride, b_stride, k, w, panel, at)
        if packed:
            row_tiles(
                A, offsets, o, p0, m0, m1, panel, at, width, last_vector(width, w, lanes), k,
                C, c, c_stride, w, start, bias, bias_at, last, G, g,
            )  # fmt: skip
        else:
            row_tiles(
                A, offsets, o, p0, m0, m1, B, b + p0 * b_stride, b_stride, last_vector(w, w, lanes), k,
                C, c, c_stride, w, start, bias, bias_at, last, G, g,
            )  # fmt: skip


@inner(forceinline=True)
def transposed_product_rows(A, offsets, o, i0, i1, B, b, packed, n, C, c, n_columns):
    """Rows i0 to i1 of ``C = A^T B``; n rows of A and B, those of A starting at ``offsets`` from o on.

    B is read in place from ``b`` on or, if it is PACKED, as ``pack_panel`` left it there.
    """
    lanes = VECTOR_BYTES // C.itemsize
    for p0 in range(0, max(n, 1), PANEL_ROWS):
        k = min(PANEL_ROWS, n - p0)
        start = FROM_OUT if p0 > 0 else FROM_ZERO
        for p in range(n_panels(C, n_columns)):
            j = panel_start(C, n_columns, p)
            w = panel_start(C, n_columns, p + 1) - j
            stride = round_up(w, lanes) if packed == PACKED else n_columns
            at = b + j * n + p0 * stride if packed == PACKED else b + p0 * stride + j
            last = last_vector(stride if packed == PACKED else w, w, lanes)
            column_tiles(A, offsets, o + p0, i0, i1, B, at, stride, last, k, C, c + j, n_columns, w, start)


@inner(forceinline=True)
def n_packs(B, n, n_columns):
    """Panels of B that are packed for ``transposed_product_rows``: none if there is only one, or if B is small."""
    panels = n_panels(B, n_columns)
    return panels if panels > 1 and n * n_columns * B.itemsize > SMALL_BYTES else 0


@inner
def pack_panel(B, b, n, n_columns, p0, p1, panel, panels, at):
    """Pack rows p0 to p1 of one of B's panels, where ``transposed_product_rows`` looks for them."""
    j = panel_start(B, n_columns, panel)
    w = panel_start(B, n_columns, panel + 1) - j
    width = round_up(w, VECTOR_BYTES // B.itemsize)
    pack(B, b + p0 * n_columns + j, n_columns, p1 - p0, w, panels, at + j * n + p0 * width)


@inner(forceinline=True)
def n_panels(values, n_columns):
    """Panels of columns that a product with ``n_columns`` is cut into."""
    width = panel_columns(values)
    return (n_columns + width - 1) // width


@inner(forceinline=True)
def panel_start(values, n_columns, panel):
    """First column of a panel; all have the same number of vectors, or one less.

    Vectors are shared out because a tile of one vector loads more than it multiplies: 64 columns as 32 and
    32, not as 48 and 16.
    """
    panels = n_panels(values, n_columns)
    if panel == 0 or panel == panels:  # a division takes as long as a small tile
        return 0 if panel == 0 else n_columns
    lanes = VECTOR_BYTES // values.itemsize
    vectors = (n_columns + lanes - 1) // lanes
    return min(n_columns, vectors * panel // panels * lanes)


@inner
def n_shared_panels(panels, threads):
    """Panels that are cut into blocks of rows: those left when each thread has had as many whole ones as the others.

    If none are left, one for each thread, so that threads of unequal speed meet in blocks.
    """
    if threads == 1:
        return 0
    return panels % threads if panels % threads > 0 or panels == 0 else threads


@inner
def n_blocks(n_rows, shared, threads):
    """Blocks that each shared panel is cut into; they make about two tasks for each thread.

    Almost every block packs its panel again, so there are no more, and the other panels are not cut.
    """
    if shared == 0:
        return 1
    return max(1, min((2 * threads + shared - 1) // shared, n_rows // (2 * TILE_ROWS)))


@inner
def n_tasks(n_rows, panels, threads):
    """Tasks of a product with so many panels of columns: whole panels and blocks of the shared ones."""
    shared = n_shared_panels(panels, threads)
    return panels + shared * (n_blocks(n_rows, shared, threads) - 1)


@inner
def task_part(task, n_rows, panels, threads):
    """Panel of a task, its first row, and the row after its last.

    Blocks are where the leader, which takes tasks from the start, meets the helpers, which take them from the end:
    behind its share of the whole panels.
    """
    shared = n_shared_panels(panels, threads)
    blocks = n_blocks(n_rows, shared, threads)
    before = (panels - shared) // threads
    k = task - before
    if k < 0:
        return task, 0, n_rows
    if k >= shared * blocks:
        return task - shared * (blocks - 1), 0, n_rows
    block = k % blocks
    return before + k // blocks, block_start(block, blocks, n_rows), block_start(block + 1, blocks, n_rows)


@inner
def block_start(block, blocks, n_rows):
    """First row of a block, on half a tile: two blocks of 100 rows are 52 and 48 with AVX-512, not 56 and 44."""
    return min(n_rows, round_up(block * n_rows // blocks, HALF_ROWS))
