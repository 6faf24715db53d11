"""Vector code that Numba does not write by itself: panel packing, vector reductions, and what tiles are built with.

Each function is an intrinsic that builds LLVM vectors as wide as the host has, or half as wide, and has a plain
stand-in that runs when Numba's compiler is switched off. Arrays are flat; positions and strides count elements.
"""

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.extending import intrinsic

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)


def _host():
    """Vector bytes, tile rows and tile vectors for the host, and whether it fuses multiply and add.

    8 rows by 3 vectors keep 24 accumulators, 3 vectors of B and one of A in 32 registers; 16 registers
    hold 4 by 3.
    """
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    features = features.split(",")
    if "+avx512f" in features:
        return 64, 8, 3, True
    if triple.startswith(("aarch64", "arm64")):
        return 16, 8, 3, True
    fuses = "+fma" in features
    return (32 if "+avx" in features else 16), 4, 3, fuses


VECTOR_BYTES, TILE_ROWS, TILE_VECTORS, FUSES = _host()
# Rows that ``pack`` asks for ahead: they lie far apart, and the processor does not see it by itself.
PACK_AHEAD = 16
# Vectors of columns that are summed at a time: neighbours in memory, so that each line is fetched with the next. With
# one at a time (256, 1024) took 97 us, with four 28.
SUM_VECTORS = 4


class _Builder:
    """The vector operations of one element type, on one LLVM builder."""

    def __init__(self, context, builder, dtype, vector_bytes=VECTOR_BYTES):
        self.context, self.builder, self.dtype = context, builder, dtype
        self.scalar = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.suffix = "f32" if dtype == types.float32 else "f64"
        self.item = dtype.bitwidth // 8
        self.lanes = vector_bytes // self.item
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.mask_type = ir.VectorType(_I1, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def halved(self):
        """The same for vectors of half the size."""
        return _Builder(self.context, self.builder, self.dtype, VECTOR_BYTES // 2)

    def data(self, array_type, value):
        return self.context.make_array(array_type)(self.context, self.builder, value).data

    def at(self, pointer, *index):
        for i in index:
            pointer = self.builder.gep(pointer, [i])
        return pointer

    def constant(self, value):
        return ir.Constant(_I64, value)

    def splat(self, value):
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, undefined, zeros)

    def first(self, n):
        """Mask of the first n lanes."""
        lane = ir.Constant(ir.VectorType(_I32, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", lane, self.splat(self.builder.trunc(n, _I32)))

    def load(self, pointer, mask=None):
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            value = self.builder.load(pointer)
            value.align = self.item
            return value
        kind = ir.FunctionType(self.vector, [pointer.type, _I32, self.mask_type, self.vector])
        function = self.intrinsic(kind, f"llvm.masked.load.v{self.lanes}{self.suffix}.p0")
        return self.builder.call(function, [pointer, ir.Constant(_I32, self.item), mask, self.zero])

    def store(self, value, pointer, mask=None):
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, pointer).align = self.item
            return
        kind = ir.FunctionType(ir.VoidType(), [self.vector, pointer.type, _I32, self.mask_type])
        function = self.intrinsic(kind, f"llvm.masked.store.v{self.lanes}{self.suffix}.p0")
        self.builder.call(function, [value, pointer, ir.Constant(_I32, self.item), mask])

    def prefetch(self, pointer):
        pointer = self.builder.bitcast(pointer, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
        read, keep, data = (ir.Constant(_I32, k) for k in (0, 3, 1))
        self.builder.call(self.intrinsic(kind, "llvm.prefetch.p0"), [pointer, read, keep, data])

    def unknown(self, value):
        """The same value, as one that LLVM knows nothing of."""
        kind = ir.FunctionType(value.type, [value.type])
        return self.builder.asm(kind, "", "=r,0", [value], side_effect=False)

    def intrinsic(self, kind, name):
        return cgutils.get_or_insert_function(self.builder.module, kind, name)

    def fma(self, a, b, c):
        if not FUSES:
            return self.builder.fadd(self.builder.fmul(a, b), c)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.builder.call(self.intrinsic(kind, f"llvm.fma.v{self.lanes}{self.suffix}"), [a, b, c])


def _call(builder, name, write, arguments):
    """Call a function of these pointers and numbers, whose code ``write(builder, arguments)`` adds to the module.

    A function of its own: its code is there once for all callers, and no caller prepares what only it needs. Numba's
    functions in between, which take seven numbers for each array, can then be inlined. Without, a fit of 4-8-3 took a
    tenth longer. The name must say all that the code depends on: of functions with the same name, a process runs the
    first that it loads.
    """
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    assert function.function_type == kind
    if function.is_declaration:
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        inside = ir.IRBuilder(function.append_basic_block())
        write(inside, function.args)
        inside.ret_void()
    builder.call(function, arguments)


@intrinsic
def _pack(typing_context, B, b, b_stride, n, n_columns, panel, at):
    """Copy n rows of up to 3 vectors; the last vector overlaps the one before, and a narrow row ends in zeros."""

    def implementation(context, builder, signature, arguments):
        B, b, b_stride, n, n_columns, panel, at = arguments
        kinds = signature.args
        v = _Builder(context, builder, kinds[0].dtype)
        B, panel = v.at(v.data(kinds[0], B), b), v.at(v.data(kinds[5], panel), at)

        def write(inside, values):
            _write_pack(_Builder(context, inside, kinds[0].dtype), *values)

        _call(builder, f"gdl_pack_{v.suffix}", write, [B, b_stride, n, n_columns, panel])
        return context.get_dummy_value()

    i = types.int64
    return types.void(B, i, i, i, i, panel, i), implementation


def _write_pack(v, B, b_stride, n, n_columns, panel):
    builder, lanes = v.builder, v.constant(v.lanes)
    last = builder.sub(n_columns, lanes)
    n_vectors = builder.sdiv(builder.add(n_columns, v.constant(v.lanes - 1)), lanes)

    def rows(n_vectors, mask):
        with cgutils.for_range(builder, n) as row:
            source = v.at(B, builder.mul(row.index, b_stride))
            target = v.at(panel, builder.mul(row.index, v.constant(n_vectors * v.lanes)))
            v.prefetch(v.at(source, builder.mul(b_stride, v.constant(PACK_AHEAD))))
            if n_vectors * v.lanes * v.item > 64:
                v.prefetch(v.at(source, builder.mul(b_stride, v.constant(PACK_AHEAD)), last))
            for j in range(n_vectors):
                step = last if mask is None and j == n_vectors - 1 else v.constant(j * v.lanes)
                v.store(v.load(v.at(source, step), mask), v.at(target, v.constant(j * v.lanes)))

    with builder.if_else(builder.icmp_signed("<", last, v.constant(0))) as (then, otherwise):
        with then:
            rows(1, v.first(n_columns))
        with otherwise:
            for k in range(1, TILE_VECTORS + 1):
                with builder.if_then(builder.icmp_signed("==", n_vectors, v.constant(k))):
                    rows(k, None)


@intrinsic
def _transpose_block(typing_context, B, b, b_stride, panel, at, width):
    """Write ``panel[p * width + j] = B[j * b_stride + p]`` for one square of vectors."""

    def implementation(context, builder, signature, arguments):
        B, b, b_stride, panel, at, width = arguments
        v = _Builder(context, builder, signature.args[0].dtype)
        B, panel = v.at(v.data(signature.args[0], B), b), v.at(v.data(signature.args[3], panel), at)
        rows = [v.load(v.at(B, builder.mul(b_stride, v.constant(i)))) for i in range(v.lanes)]
        for p, row in enumerate(_transposed(v, rows)):
            v.store(row, v.at(panel, builder.mul(width, v.constant(p))))
        return context.get_dummy_value()

    i = types.int64
    return types.void(B, i, i, panel, i, i), implementation


@intrinsic
def _transpose_corner(typing_context, B, b, b_stride, n_rows, n_columns, panel, at, width):
    """``transpose_block`` where B has only some rows (the first stands for the others) or columns of the square."""

    def implementation(context, builder, signature, arguments):
        B, b, b_stride, n_rows, n_columns, panel, at, width = arguments
        v = _Builder(context, builder, signature.args[0].dtype)
        B, panel = v.at(v.data(signature.args[0], B), b), v.at(v.data(signature.args[5], panel), at)
        rows = []
        for i in range(v.lanes):
            in_row = builder.icmp_signed(">", n_rows, v.constant(i))
            start = builder.select(in_row, builder.mul(b_stride, v.constant(i)), v.constant(0))
            rows.append(v.load(v.at(B, start), v.first(n_columns)))
        last = builder.sub(n_columns, v.constant(1))
        # Without a branch: what is beyond the last row goes there first.
        for p, row in reversed(list(enumerate(_transposed(v, rows)))):
            to = builder.select(builder.icmp_signed("<", last, v.constant(p)), last, v.constant(p))
            v.store(row, v.at(panel, builder.mul(width, to)))
        return context.get_dummy_value()

    i = types.int64
    return types.void(B, i, i, i, i, panel, i, i), implementation


def _transposed(v, rows):
    """Rows of a square as its columns: after the round with distance d, bit d of row and column are exchanged."""
    n = v.lanes
    distance = n // 2
    while distance:
        low = [i if not i & distance else n + (i - distance) for i in range(n)]
        high = [i + distance if not i & distance else n + i for i in range(n)]
        masks = [ir.Constant(ir.VectorType(_I32, n), index) for index in (low, high)]
        for i in range(n):
            if not i & distance:
                pair = rows[i], rows[i + distance]
                rows[i] = v.builder.shuffle_vector(*pair, masks[0])
                rows[i + distance] = v.builder.shuffle_vector(*pair, masks[1])
        distance //= 2
    return rows


@intrinsic
def _all_finite(typing_context, values, start, stop):
    """Whether no element is NaN or infinite: x - x is 0 for finite x only."""

    def implementation(context, builder, signature, arguments):
        values, start, stop = arguments
        v = _Builder(context, builder, signature.args[0].dtype)
        values = v.data(signature.args[0], values)
        sums = [cgutils.alloca_once_value(builder, v.zero) for _ in range(4)]

        def add(k, x):
            # 0 or NaN, and NaN stays: the order of additions does not matter.
            builder.store(builder.fadd(builder.load(sums[k]), builder.fsub(x, x)), sums[k])

        n = v.constant(4 * v.lanes)
        at = cgutils.alloca_once_value(builder, start)
        with cgutils.for_range_slice(builder, start, builder.sub(stop, v.constant(4 * v.lanes - 1)), n) as (i, _):
            for k in range(4):
                add(k, v.load(v.at(values, builder.add(i, v.constant(k * v.lanes)))))
            builder.store(builder.add(i, n), at)
        with cgutils.for_range_slice(builder, builder.load(at), stop, v.constant(v.lanes)) as (i, _):
            add(0, v.load(v.at(values, i), v.first(builder.sub(stop, i))))
        total = builder.load(sums[0])
        for k in range(1, 4):
            total = builder.fadd(total, builder.load(sums[k]))
        zero = builder.fcmp_ordered("==", total, v.zero)
        kind = ir.FunctionType(_I1, [v.mask_type])
        return builder.call(v.intrinsic(kind, f"llvm.vector.reduce.and.v{v.lanes}i1"), [zero])

    return types.boolean(values, types.int64, types.int64), implementation


@intrinsic
def _sum_of_squares(typing_context, values, start, stop):
    """Sum of squares in float64, by 4 vectors' worth of partial sums in a fixed order."""

    def implementation(context, builder, signature, arguments):
        values, start, stop = arguments
        v = _Builder(context, builder, signature.args[0].dtype)
        values = v.data(signature.args[0], values)
        wide = ir.VectorType(ir.DoubleType(), v.lanes)
        zero = ir.Constant(wide, [0.0] * v.lanes)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(4)]

        def add(k, x):
            x = x if wide == v.vector else builder.fpext(x, wide)
            builder.store(builder.fadd(builder.load(sums[k]), builder.fmul(x, x)), sums[k])

        n = v.constant(4 * v.lanes)
        at = cgutils.alloca_once_value(builder, start)
        with cgutils.for_range_slice(builder, start, builder.sub(stop, v.constant(4 * v.lanes - 1)), n) as (i, _):
            for k in range(4):
                add(k, v.load(v.at(values, builder.add(i, v.constant(k * v.lanes)))))
            builder.store(builder.add(i, n), at)
        with cgutils.for_range_slice(builder, builder.load(at), stop, v.constant(v.lanes)) as (i, _):
            add(0, v.load(v.at(values, i), v.first(builder.sub(stop, i))))
        total = builder.load(sums[0])
        for k in range(1, 4):
            total = builder.fadd(total, builder.load(sums[k]))
        result = builder.extract_element(total, ir.Constant(_I32, 0))
        for lane in range(1, v.lanes):
            result = builder.fadd(result, builder.extract_element(total, ir.Constant(_I32, lane)))
        return result

    return types.float64(values, types.int64, types.int64), implementation


@intrinsic
def _sum_rows(typing_context, values, at, n_rows, n_columns, sums, to):
    """Sum of each column, row after row in float64, some vectors of columns at a time in registers.

    The last vector overlaps the one before; fewer columns than a vector has lanes are masked.
    """

    def implementation(context, builder, signature, arguments):
        values, at, n_rows, n_columns, sums, to = arguments
        v = _Builder(context, builder, signature.args[0].dtype)
        values, sums = v.at(v.data(signature.args[0], values), at), v.at(v.data(signature.args[4], sums), to)
        wide = ir.VectorType(ir.DoubleType(), v.lanes)
        lanes = v.constant(v.lanes)

        def columns(starts, mask=None):
            totals = [cgutils.alloca_once_value(builder, ir.Constant(wide, [0.0] * v.lanes)) for _ in starts]
            with cgutils.for_range(builder, n_rows) as row:
                at = builder.mul(row.index, n_columns)
                for j, total in zip(starts, totals, strict=True):
                    x = v.load(v.at(values, at, j), mask)
                    x = x if wide == v.vector else builder.fpext(x, wide)
                    builder.store(builder.fadd(builder.load(total), x), total)
            for j, total in zip(starts, totals, strict=True):
                result = builder.load(total)
                v.store(result if wide == v.vector else builder.fptrunc(result, v.vector), v.at(sums, j), mask)

        last = builder.sub(n_columns, lanes)
        with builder.if_else(builder.icmp_signed("<", last, v.constant(0))) as (then, otherwise):
            with then:
                columns([v.constant(0)], v.first(n_columns))
            with otherwise:
                done = cgutils.alloca_once_value(builder, v.constant(0))
                for n in (SUM_VECTORS, 1):
                    whole = builder.sub(n_columns, v.constant((n - 1) * v.lanes)) if n > 1 else n_columns
                    step = v.constant(n * v.lanes)
                    with cgutils.for_range_slice(builder, builder.load(done), whole, step) as (j, _):
                        starts = [builder.add(j, v.constant(k * v.lanes)) for k in range(n)]
                        starts[-1] = builder.select(builder.icmp_signed("<", starts[-1], last), starts[-1], last)
                        columns(starts)
                        builder.store(builder.add(j, step), done)
        return context.get_dummy_value()

    i = types.int64
    return types.void(values, i, i, i, sums, i), implementation


@intrinsic
def _borrow(typing_context, array):
    """The array without its owner, and flat: nobody counts references to it. The caller of the kernel holds it.

    Each array read from a tuple costs two atomic additions otherwise (650 calls in the code of a training step), and
    two threads that count on the same cache line wait for each other.
    """
    if array.layout != "C":
        raise TypingError(f"{array} is not contiguous")

    def implementation(context, builder, signature, arguments):
        whole = context.make_array(signature.args[0])(context, builder, arguments[0])
        borrowed = context.make_array(signature.return_type)(context, builder)
        borrowed.data, borrowed.nitems = whole.data, whole.nitems
        # A constant, so that nothing is divided by it: a division takes as long as a small tile.
        borrowed.itemsize = whole.itemsize.type(array.dtype.bitwidth // 8)
        borrowed.shape = cgutils.pack_array(builder, [whole.nitems])
        borrowed.strides = cgutils.pack_array(builder, [borrowed.itemsize])
        borrowed.meminfo = ir.Constant(borrowed.meminfo.type, None)
        borrowed.parent = ir.Constant(borrowed.parent.type, None)
        return borrowed._getvalue()

    return types.Array(array.dtype, 1, "C")(array), implementation


@intrinsic
def _part(typing_context, array, start, n):
    """The n elements from ``start`` on, as ``_borrow`` has them.

    Loops that count from 0 vectorise; with ``array[start + i]`` Numba asks each time whether the index is
    negative, and LLVM gives up (4 times slower at 5,000 elements).
    """

    def implementation(context, builder, signature, arguments):
        value, start, n = arguments
        part = context.make_array(signature.args[0])(context, builder, value)
        part.data = builder.gep(part.data, [start])
        part.shape = cgutils.pack_array(builder, [n])
        part.nitems = n
        part.meminfo = ir.Constant(part.meminfo.type, None)
        part.parent = ir.Constant(part.parent.type, None)
        return part._getvalue()

    return array(array, types.int64, types.int64), implementation


@intrinsic
def _choose(typing_context, condition, one, other):
    """One number or the other, as a select, never a branch."""

    def implementation(context, builder, signature, arguments):
        return builder.select(*arguments)

    return one(types.boolean, one, one), implementation


def _plain_borrow(array):
    return array.reshape(-1)


def _plain_choose(condition, one, other):
    return one if condition else other


def _plain_part(array, start, n):
    return array[start : start + n]


def _plain_pack(B, b, b_stride, n, n_columns, panel, at):
    n_vectors = -(-n_columns // lanes(B))
    rows = np.arange(n)[:, None]
    for j in range(n_vectors):
        columns = max(0, min(j * lanes(B), n_columns - lanes(B))) + np.arange(min(lanes(B), n_columns))
        to = at + (rows * n_vectors + j) * lanes(B)
        panel[to + np.arange(lanes(B))] = 0
        panel[to + np.arange(len(columns))] = B[b + rows * b_stride + columns]


def _plain_transpose_block(B, b, b_stride, panel, at, width):
    n = lanes(B)
    for j in range(n):
        for p in range(n):
            panel[at + p * width + j] = B[b + j * b_stride + p]


def _plain_transpose_corner(B, b, b_stride, n_rows, n_columns, panel, at, width):
    for p in range(n_columns):
        for j in range(lanes(B)):
            panel[at + p * width + j] = B[b + (j if j < n_rows else 0) * b_stride + p]


def _plain_all_finite(values, start, stop):
    return bool(np.isfinite(values[start:stop]).all())


def _plain_sum_of_squares(values, start, stop):
    return float(np.sum(np.square(values[start:stop], dtype=np.float64)))


def _plain_sum_rows(values, at, n_rows, n_columns, sums, to):
    rows = values[at : at + n_rows * n_columns].reshape(n_rows, n_columns)
    sums[to : to + n_columns] = np.add.accumulate(rows, dtype=np.float64)[-1] if n_rows else 0


def lanes(values):
    """Elements of a vector of the array's dtype."""
    return VECTOR_BYTES // values.itemsize


pack = _plain_pack if config.DISABLE_JIT else _pack
transpose_block = _plain_transpose_block if config.DISABLE_JIT else _transpose_block
transpose_corner = _plain_transpose_corner if config.DISABLE_JIT else _transpose_corner
all_finite = _plain_all_finite if config.DISABLE_JIT else _all_finite
sum_of_squares = _plain_sum_of_squares if config.DISABLE_JIT else _sum_of_squares
sum_rows = _plain_sum_rows if config.DISABLE_JIT else _sum_rows
borrow = _plain_borrow if config.DISABLE_JIT else _borrow
choose = _plain_choose if config.DISABLE_JIT else _choose
part = _plain_part if config.DISABLE_JIT else _part
