"""Elementary functions: accurate everywhere, the same bits in every context, and SIMD code in a loop."""

import functools
import os
import pathlib
import platform
import re
import subprocess
import sys

import numba
import numpy as np
import pytest
import scipy.special
from llvmlite import binding, ir
from numba.core.registry import cpu_target

import gdl
from gdl.kernels.cpu import _math
from gdl.kernels.cpu._math import fma

NAMES = ["exp", "expm1", "log", "log1p", "logistic", "normal_cdf", "softplus", "tanh"]
ULP = 4.0  # the promise for all of them; the docstrings have the measured errors, up to 3.9
LIBM = re.compile(r"_*(svml_)?(exp|expm1|log|log1p|tanh|erf|erfc|fma|pow|ldexp|scalbn)[fl]?\d*(_mask)?")

# normal_cdf by mpmath 1.3, 40 digits: erfc(-mpf(x) / sqrt(2)) / 2
NORMAL_CDF = [
    (-37.5, 4.6053530095819548438e-308),
    (-30, 4.9067139271481870595e-198),
    (-20, 2.7536241186062336951e-89),
    (-12.5, 3.7325642988777133772e-36),
    (-8.25, 7.919726314642477341e-17),
    (-5, 2.8665157187919391167e-7),
    (-3, 0.0013498980316300945267),
    (-1.5, 0.066807201268858066004),
    (-0.5, 0.30853753872598689636),
    (-0.0625, 0.4750823309707527788),
    (0.75, 0.77337264762313180067),
    (2, 0.9772498680518207928),
]


@functools.cache
def elementwise(name, **flags):
    function = getattr(_math, name)

    @numba.njit(error_model="numpy", **flags)
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return loop


def evaluate(name, x, **flags):
    out = np.empty_like(x)
    elementwise(name, **flags)(x, out)
    return out


def exact(name, x):
    """The same function by libm (Phi by SciPy), in numbers longer than x where the machine has them."""
    x = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    with np.errstate(all="ignore"):
        if name == "logistic":
            return 1 / (1 + np.exp(-x))
        if name == "softplus":
            return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))
        if name == "normal_cdf":
            a = abs(x)
            scaled = scipy.special.erfcx((a / np.sqrt(x.dtype.type(2))).astype(np.float64))
            tail = scaled * np.exp(-a * a / 2) / 2
            return np.where(x > 0, 1 - tail, tail)
        return getattr(np, name)(x)


def error_in_ulp(result, expected):
    """Error where the expected number is a normal one of the result's type, else 0."""
    limits = np.finfo(result.dtype)
    normal = (abs(expected) >= limits.tiny) & (abs(expected) <= limits.max)
    expected = np.where(normal, expected, 1)
    with np.errstate(over="ignore"):  # just below the largest number
        ulp = np.spacing(abs(expected).astype(result.dtype) * result.dtype.type(1 - limits.epsneg))
    return np.where(normal, abs(result.astype(expected.dtype) - expected) / ulp, 0).astype(np.float64)


def arguments(name, dtype, rng, size):
    """Numbers of all magnitudes, more where the function bends, and the borders of its range."""
    limits = np.finfo(dtype)
    reach = 1.02 * np.log(float(limits.max))
    magnitudes = np.exp(rng.uniform(np.log(float(limits.tiny)), np.log(float(limits.max)), size))
    magnitudes[0] = limits.max
    borders = [reach / 1.02, 8.0, 1.0, 0.5, np.sqrt(0.5), np.sqrt(2) - 1, 0.5 * np.log(2), float(limits.tiny)]
    near = np.multiply.outer(borders, 1 + limits.eps * np.arange(-4, 5)).ravel()
    x = np.concatenate([magnitudes, rng.uniform(0, reach, size), rng.uniform(0, 2, size), near])
    if name == "log":
        return np.concatenate([x, 1 + rng.uniform(-0.5, 1, size)]).astype(dtype)
    if name == "log1p":
        return np.concatenate([x, -rng.uniform(0, 1, size), -np.exp(rng.uniform(-80, -1, size))]).astype(dtype)
    return np.concatenate([x, -x]).astype(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_within_four_units_in_the_last_place(name, dtype, rng):
    x = arguments(name, dtype, rng, 1_000 if numba.config.DISABLE_JIT else 20_000)
    error = error_in_ulp(evaluate(name, x), exact(name, x))
    slack = 0
    if dtype == np.float64 and name == "normal_cdf":
        slack = 8  # the error of SciPy's erfcx; the numbers of NORMAL_CDF are judged without
    elif dtype == np.float64 and np.finfo(np.longdouble).nmant < 60:
        slack = 2  # libm's own error
    worst = np.argmax(error)
    assert error[worst] <= ULP + slack, f"{name}({x[worst]!r})"


def test_normal_cdf_in_the_tail(dtype):
    x, expected = np.array(NORMAL_CDF).T
    representable = expected > np.finfo(dtype).tiny
    result = evaluate("normal_cdf", x[representable].astype(dtype))
    assert error_in_ulp(result, expected[representable]).max() <= ULP


@pytest.mark.parametrize("name", NAMES)
def test_below_the_normal_numbers_nothing_worse_than_zero(name, dtype):
    limits = np.finfo(dtype)
    x = np.linspace(limits.smallest_subnormal, limits.tiny, 50, dtype=dtype)
    if name == "log":
        assert error_in_ulp(evaluate(name, x), exact(name, x)).max() <= ULP  # not small at all
        return
    if name in ("expm1", "tanh", "log1p"):
        np.testing.assert_allclose(evaluate(name, x), x, rtol=0, atol=4 * float(limits.smallest_subnormal))
        return
    lowest = np.log(float(limits.tiny)) if name != "normal_cdf" else scipy.special.ndtri_exp(np.log(float(limits.tiny)))
    result = evaluate(name, np.linspace(1.1 * lowest, 1.001 * lowest, 50, dtype=dtype))
    assert (result >= 0).all()
    assert (result <= limits.tiny).all()


INF, NAN = np.inf, np.nan
SPECIAL = {
    "exp": [(0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (1e30, INF), (-1e30, 0), (710, INF), (-760, 0)],
    "expm1": [(0, 0), (INF, INF), (-INF, -1), (1e30, INF), (-1e30, -1), (710, INF), (-60, -1)],
    "log": [(1, 0), (0, -INF), (-0.0, -INF), (-1, NAN), (-1e-40, NAN), (-INF, NAN), (INF, INF)],
    "log1p": [(0, 0), (-1, -INF), (-1.5, NAN), (-INF, NAN), (INF, INF)],
    "logistic": [(0, 0.5), (INF, 1), (-INF, 0), (1e30, 1), (-1e30, 0), (60, 1), (-760, 0)],
    "normal_cdf": [(0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0), (1e30, 1), (-1e30, 0), (9, 1), (-39, 0)],
    "softplus": [(INF, INF), (-INF, 0), (1e30, 1e30), (-1e30, 0), (710, 710), (-760, 0)],
    "tanh": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e30, 1), (-1e30, -1), (60, 1), (-60, -1)],
}


@pytest.mark.parametrize("name", NAMES)
def test_special_arguments(name, dtype):
    x, expected = np.array([*SPECIAL[name], (NAN, NAN), (-NAN, NAN)]).astype(dtype).T
    result = evaluate(name, np.ascontiguousarray(x))
    np.testing.assert_array_equal(result, expected)
    if name == "tanh":
        np.testing.assert_array_equal(np.signbit(result[x == 0]), np.signbit(x[x == 0]))


@pytest.mark.compiled
@pytest.mark.parametrize("name", NAMES)
def test_every_nan_stays_one(name, dtype, rng):
    # The range reductions do integer arithmetic on the bits of a NaN, so all of them count.
    bits = np.dtype(f"u{dtype.itemsize}").type
    x = np.full(1_000, np.nan, dtype)
    x.view(bits)[:] |= rng.integers(0, 2 ** np.finfo(dtype).nmant, x.size, dtype=bits)
    assert np.isnan(evaluate(name, x)).all()


@pytest.mark.parametrize("name", [*NAMES, "fma"])
def test_keeps_the_type(name, dtype):
    function = getattr(_math, name)
    x = dtype.type(0.5)
    arguments = (x, x, x) if name == "fma" else (x,)
    from_python = function(*arguments)
    assert from_python.dtype == dtype
    compiled = numba.njit(lambda arguments: function(*arguments))
    assert compiled(arguments) == pytest.approx(from_python, rel=4 * float(np.finfo(dtype).eps))
    if not numba.config.DISABLE_JIT:
        (signature,) = compiled.nopython_signatures
        assert signature.return_type == numba.from_dtype(dtype)


@pytest.mark.compiled
@pytest.mark.parametrize("name", NAMES)
def test_same_bits_in_every_context(name, dtype, rng):
    x = arguments(name, dtype, rng, 333)
    expected = evaluate(name, x)
    one_by_one = np.array([evaluate(name, x[i : i + 1])[0] for i in range(x.size)])
    np.testing.assert_array_equal(one_by_one, expected)
    # A caller's flags would break the range reduction, were they inherited.
    np.testing.assert_array_equal(evaluate(name, x, fastmath=True), expected)


@pytest.mark.compiled
@pytest.mark.parametrize("name", NAMES)
def test_a_loop_becomes_simd_code(name, dtype):
    x = np.ones(8, dtype)
    evaluate(name, x)
    loop = elementwise(name)
    (assembly,) = (text for types, text in loop.inspect_asm().items() if types[0].dtype == numba.from_dtype(dtype))
    symbols = set(re.findall(r"[A-Za-z_]\w*", assembly))
    assert [symbol for symbol in symbols if LIBM.fullmatch(symbol)] == []
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    if platform.machine().lower() in ("aarch64", "arm64"):
        assert re.search(r"\bfml[as](\.[24][sd]\s|\s+v\d)", assembly)
    elif "+avx2" in features.split(","):
        suffix = "ps" if dtype == np.float32 else "pd"
        assert re.search(rf"\bv(fn?madd\w+|mul){suffix}\s.*%[yz]mm", assembly)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [ir.FloatType(), ir.DoubleType()], ids=str)
def test_instructions_are_one_block_without_calls(name, kind):
    module = ir.Module()
    module.triple = binding.get_process_triple()
    function = ir.Function(module, ir.FunctionType(kind, [kind]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(getattr(_math, f"_{name}")(_math._Value(builder, function.args[0])).value)
    binding.parse_assembly(str(module)).verify()
    assert set(re.findall(r"call .*?@\"?([\w.]+)", str(module))) <= {"llvm.fma.f32", "llvm.fma.f64"}
    assert len(function.blocks) == 1


@numba.njit
def multiply_add(a, b, c):
    return fma(a, b, c)


def test_fma(dtype):
    eps = np.finfo(dtype).eps
    one = dtype.type(1)
    assert multiply_add(dtype.type(2), dtype.type(3), one) == 7
    assert np.isnan(multiply_add(dtype.type(NAN), one, one))
    assert multiply_add(np.finfo(dtype).max, dtype.type(2), one) == INF
    once = -(eps**2)  # (1 + eps) (1 - eps) - 1; 0 if the product is rounded
    fused = not numba.config.DISABLE_JIT and _math._has_fma()
    assert multiply_add(one + eps, one - eps, -one) == (once if fused else 0)


@pytest.mark.compiled
def test_fma_takes_one_type():
    with pytest.raises(numba.TypingError, match="fma"):
        multiply_add(np.float32(1), 1.0, 1.0)


CALLER = """
import re
import numba
import numpy as np
from gdl.kernels.cpu._math import exp, fma, log1p, normal_cdf

@numba.njit(error_model="numpy", cache=True)
def total(X):
    result = X.dtype.type(0)
    for x in X:
        result = fma(exp(x), normal_cdf(x), result) + log1p(x)
    return result

for dtype in ("float32", "float64"):
    print(total(np.linspace(0.5, 3, 1000).astype(dtype)))
print(sum(total.stats.cache_hits.values()))
print(any(re.search(r"\\bfmaf?\\b", assembly) for assembly in total.inspect_asm().values()))
"""


def call_in_new_process(folder, **environment):
    path = folder / "caller.py"
    if not path.exists():  # older Numba goes by the file's time
        path.write_text(CALLER)
    root = str(pathlib.Path(gdl.__file__).parents[1])
    settings = os.environ | {"PYTHONPATH": root, "NUMBA_CACHE_DIR": str(folder / "cache")} | environment
    done = subprocess.run(
        [sys.executable, path], env=settings, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.compiled
def test_callers_in_other_processes(tmp_path):
    *first, hits, _ = call_in_new_process(tmp_path)
    assert hits == "0"
    *second, hits, _ = call_in_new_process(tmp_path)
    assert hits == "2"
    assert second == first
    # x86 without the instruction; where all processors have it, only the name of the processor changes.
    *generic, hits, calls_fma = call_in_new_process(tmp_path, NUMBA_CPU_NAME="generic")
    assert hits == "0"
    assert calls_fma == "False"
    for total, expected, rtol in zip(generic, first, (1e-4, 1e-12), strict=True):
        assert float(total) == pytest.approx(float(expected), rel=rtol)
