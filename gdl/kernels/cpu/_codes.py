"""Vector code of screening: products of samples that are rounded to 7 bits.

Lanes run over samples, whose codes lie four features at a time beside each other. On x86 one instruction multiplies
unsigned bytes by signed ones and adds pairs of products in 16 bits, which hold two such sums of 7-bit codes: 100,000
samples of 128 features and 8 candidates took 1.2 ms in cache, and 1.9 with products of 16 bits (one core, Zen 3).
The plain stand-in runs when Numba's compiler is switched off. Arrays are flat.
"""

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from gdl.kernels.cpu._simd import _Builder

# Samples of a tile, its candidates, and neighboring features of a sample.
CODE_LANES, CODE_CANDIDATES, QUAD = 8, 8, 4
# What is added to a sample's code, so that it is not negative.
ZERO_CODE = 63
# Quads that are added up in 16 bits, two products of each: 2 * 2 * 126 * 63 = 31,752, and 32,767 fit.
_DEPTH = 2
# Tiles that are asked for ahead, which from memory saved a fifth of the time.
_TILES_AHEAD = 2

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES = ir.VectorType(_I8, QUAD * CODE_LANES)
_SHORTS = ir.VectorType(_I16, 2 * CODE_LANES)
_SUMS = ir.VectorType(_I32, CODE_LANES)
_AVX2 = "+avx2" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")


def _load(builder, pointer, kind):
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = 1
    return value


def _splat(builder, value):
    undefined = ir.Constant(_SUMS, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_SUMS, [0] * CODE_LANES))


def _add_pairs(builder, values, kind):
    undefined = ir.Constant(values.type, ir.Undefined)
    first, second = (ir.VectorType(_I32, kind.count)(list(range(k, 2 * kind.count, 2))) for k in (0, 1))
    return builder.add(
        builder.shuffle_vector(values, undefined, first), builder.shuffle_vector(values, undefined, second)
    )


def _quad_products(builder, samples, candidates):
    """Sums in 16 bits of two products each, of unsigned by signed bytes."""
    if _AVX2:
        kind = ir.FunctionType(_SHORTS, [_BYTES, _BYTES])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.ub.sw")
        return builder.call(function, [samples, candidates])
    wide = ir.VectorType(_I16, _BYTES.count)
    return _add_pairs(builder, builder.mul(builder.zext(samples, wide), builder.sext(candidates, wide)), _SHORTS)


def _twice_the_sums(builder, products):
    """Twice the sums of two neighbors each, in 32 bits."""
    if _AVX2:
        kind = ir.FunctionType(_SUMS, [_SHORTS, _SHORTS])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
        return builder.call(function, [products, _SHORTS([2] * _SHORTS.count)])
    sums = _add_pairs(builder, builder.sext(products, ir.VectorType(_I32, _SHORTS.count)), _SUMS)
    return builder.add(sums, sums)


@intrinsic
def _code_tile(typing_context, codes, at, n_quads, candidates, c, starts, s, least, i):
    """Which of CODE_LANES samples any of CODE_CANDIDATES candidates may improve, a bit each.

    ``codes`` holds the samples from ``at`` on and ``candidates`` the candidates from ``c`` on, quad by quad, of which
    there are ``n_quads``, an even number. Sample k is one of them where twice its product with a candidate, and the
    candidate's number in ``starts`` from ``s`` on, are at least ``least[i + k]``.
    """

    def implementation(context, builder, signature, arguments):
        v = _Builder(context, builder, types.float32)  # for what has no type: data, constants and prefetching
        codes, candidates, starts, least = (v.data(signature.args[k], arguments[k]) for k in (0, 3, 5, 7))
        _, at, n_quads, _, c, _, s, _, i = arguments
        constant = v.constant
        codes, candidates = builder.gep(codes, [at]), builder.gep(candidates, [c])
        tile = builder.mul(n_quads, constant(_TILES_AHEAD * _BYTES.count))
        ahead = builder.gep(codes, [tile])
        sums = [
            cgutils.alloca_once_value(builder, _splat(builder, builder.load(builder.gep(starts, [builder.add(s, k)]))))
            for k in map(constant, range(CODE_CANDIDATES))
        ]
        with cgutils.for_range_slice(builder, constant(0), n_quads, constant(_DEPTH)) as (quad, _):
            first = builder.mul(quad, constant(_BYTES.count))
            v.prefetch(builder.gep(ahead, [first]))
            places = [builder.add(first, constant(k * _BYTES.count)) for k in range(_DEPTH)]
            samples = [_load(builder, builder.gep(codes, [place]), _BYTES) for place in places]
            for k, total in enumerate(sums):
                products = []
                for place, values in zip(places, samples, strict=True):
                    candidate = builder.gep(candidates, [builder.add(place, constant(k * QUAD))])
                    candidate = builder.bitcast(_splat(builder, _load(builder, candidate, _I32)), _BYTES)
                    products.append(_quad_products(builder, values, candidate))
                product = _twice_the_sums(builder, builder.add(*products))
                builder.store(builder.add(builder.load(total), product), total)
        most = builder.load(sums[0])
        for total in sums[1:]:
            product = builder.load(total)
            most = builder.select(builder.icmp_signed(">", product, most), product, most)
        reached = builder.icmp_signed(">=", most, _load(builder, builder.gep(least, [i]), _SUMS))
        return builder.zext(builder.bitcast(reached, ir.IntType(CODE_LANES)), _I64)

    i64 = types.int64
    return types.int64(codes, i64, i64, candidates, i64, starts, i64, least, i64), implementation


def _plain_code_tile(codes, at, n_quads, candidates, c, starts, s, least, i):
    size = n_quads * CODE_LANES * QUAD
    samples = codes[at : at + size].reshape(n_quads, CODE_LANES, QUAD).astype(np.int64)
    others = candidates[c : c + size].reshape(n_quads, CODE_CANDIDATES, QUAD).astype(np.int64)
    products = np.einsum("qif,qkf->ik", samples, others)
    reached = (2 * products + starts[s : s + CODE_CANDIDATES] >= least[i : i + CODE_LANES, None]).any(axis=1)
    return int(reached @ (1 << np.arange(CODE_LANES)))


code_tile = _plain_code_tile if config.DISABLE_JIT else _code_tile
