"""Elementary functions of one float32 or float64 number, which LLVM turns into SIMD code inside a plain loop.

A call of libm keeps a loop scalar; a vector library, where Numba finds one, makes the bits depend on the machine. The
functions here are short chains of multiply-adds, without branches or calls. No fast-math flag is ever set, whatever
the caller's flags are, so that the vector body and the remainder of a loop give the same bits.

Each function is there twice. The public one is plain NumPy: it says what is computed, and runs when Numba's compiler
is off. The private one below it writes the LLVM instructions that replace it in compiled code. It works on ``_Value``:
there ``2 * x + 1`` reads as usual, and numbers become constants of the type of x (in Numba's own language they would
be float64, and make a float32 loop a float64 one). Nothing is left to infer, so this compiles faster than source does.
Method: Muller, Elementary Functions, 3rd ed. 2016, chapters 3 (minimax approximation) and 11 (range reduction).

Common to all: the result has the type of the argument, NaN gives NaN, and what is too large is inf. A result below the
smallest normal number (1.2e-38, 2.2e-308) may be 0 instead of subnormal. Above it, the docstrings bound the error in
units in the last place: float32 against float64, every argument of magnitude above 2**-14; float64 against 80-bit
numbers, 2.5 million arguments (normal_cdf: mpmath, 150,000). Without fused multiply-add it is up to 1.1 ulp more.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import float32, float64
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

# Coefficients, highest power first: minimax fits made with mpmath at 50 digits, then rounded. Each has the fewest terms
# that keep its error, as a part of the function's result, below one half of the type's rounding error.
#   exp             exp(r) = 1 + r + r^2 q(r), |r| <= log(2) / 2 (float32: 5 % more); Remez exchange on q.
#   log             log(1 + u) = 2 s + s z q(z), s = u / (2 + u), z = s^2, sqrt(1/2) <= 1 + u <= sqrt(2); Remez on q.
#   tail_p, tail_q  exp(-a^2 / 2) / Phi(-a) = sqrt(2 pi) a + p(a) / q(a), 0 <= a <= 37.7 (float32: 13.5); least squares
#                   of p - q f, weighted by Loeb (to the error of p / q) and by Lawson (to the largest error).


class _Format(NamedTuple):
    """What the functions have to know about a floating-point type."""

    bits: int
    mantissa: int  # stored bits of it
    bias: int  # of the exponent
    sqrt_half: int  # the bits of sqrt(1/2)
    ln2_hi: float  # so short that n ln2_hi is exact for every exponent n
    ln2_lo: float
    exp_min: float  # exp(x) is a normal number from here ...
    exp_max: float  # ... to here
    tanh_max: float  # tanh(x) rounds to 1 from here on
    tail_max: float  # normal_cdf(-x) is no normal number from here on
    exp: tuple[float, ...]
    log: tuple[float, ...]
    tail_hi: float  # sqrt(2 pi) in the type's precision
    tail_lo: float  # and the rest of it
    tail_p: tuple[float, ...]
    tail_q: tuple[float, ...]


# fmt: off
_FLOAT32 = _Format(
    bits=32, mantissa=23, bias=127, sqrt_half=0x3F3504F3, ln2_hi=0.693145751953125, ln2_lo=1.4286068203094172e-06,
    exp_min=-87.33654022216797, exp_max=88.72283172607422, tanh_max=10.0, tail_max=13.2,
    exp=(0.00139464764, 0.0083662399534, 0.041666312376, 0.16666557657, 0.5),
    log=(0.29873074441, 0.39977495538, 0.66666776717),
    tail_hi=2.5066282749176025, tail_lo=-2.866020366467347e-10,
    tail_p=(0.0061744442121, 0.074100392300, 0.41372978953, 1.2552821408, 2.0),
    tail_q=(0.0024629762536, 0.029575029980, 0.16969622760, 0.56350688143, 1.0830706984, 1.0),
)
_FLOAT64 = _Format(
    bits=64, mantissa=52, bias=1023, sqrt_half=0x3FE6A09E667F3BCD, ln2_hi=0.6931471805598903,
    ln2_lo=5.497923018708371e-14, exp_min=-708.3964185322641, exp_max=709.782712893384, tanh_max=20.0, tail_max=37.6,
    exp=(2.5110054489604207e-8, 2.7620089464548200e-7, 2.7557242325234155e-6, 2.4801521293541152e-5,
         1.9841269886598801e-4, 1.3888888917215485e-3, 8.3333333333222069e-3, 4.1666666666624124e-2,
         1.6666666666666675e-1, 0.5),
    log=(0.14797507065607861, 0.15313903311146198, 0.18183569737218442, 0.22222198476040770,
         0.28571428743262022, 0.39999999999411097, 0.66666666666667349),
    tail_hi=2.5066282746310007, tail_lo=-1.8328579980459167e-16,
    tail_p=(1.4305686220050989e-6, 4.2949887525630189e-5, 6.3374743993882512e-4, 5.9613567161253251e-3,
            3.9181890213869535e-2, 1.8638670804582606e-1, 6.4344853602778526e-1, 1.5661421773341986,
            2.4747243683866615, 2.0),
    tail_q=(5.7071430838453232e-7, 1.7134526062959436e-5, 2.5397007830760525e-4, 2.4125062536587683e-3,
            1.6133547080243967e-2, 7.9011169030066444e-2, 2.8646916320646202e-1, 7.5995470897980604e-1,
            1.4173987510019422, 1.6927917607059649, 1.0),
)
# fmt: on
_FORMATS = {ir.FloatType(): _FLOAT32, ir.DoubleType(): _FLOAT64}


def _operator(integer, floating=None, swapped=False):
    def apply(self, other):
        name = integer if self.format is None else floating
        operands = (self.value, self.operand(other))
        return self.like(getattr(self.builder, name)(*(operands[::-1] if swapped else operands)))

    return apply


def _comparison(symbol):
    return lambda self, other: self.builder.fcmp_ordered(symbol, self.value, self.operand(other))  # False for NaN


class _Value:
    """An LLVM number with Python's operators; a Python number beside it becomes a constant of its type."""

    def __init__(self, builder, value):
        self.builder = builder
        self.value = value
        self.format: Any = _FORMATS.get(value.type)  # None for an integer

    def operand(self, other):
        return other.value if isinstance(other, _Value) else ir.Constant(self.value.type, other)

    def like(self, value):
        return _Value(self.builder, value)

    def constant(self, number):
        return self.like(self.operand(number))

    def bits(self):
        return self.like(self.builder.bitcast(self.value, ir.IntType(self.format.bits)))

    def from_bits(self, bits):
        """Return the number of this one's type that has these bits."""
        return self.like(self.builder.bitcast(bits.value, self.value.type))

    def __abs__(self):
        return self.from_bits(self.bits() & ((1 << (self.format.bits - 1)) - 1))

    def __neg__(self):
        return self.like(self.builder.fneg(self.value))

    __add__, __radd__ = _operator("add", "fadd"), _operator("add", "fadd", swapped=True)
    __sub__, __rsub__ = _operator("sub", "fsub"), _operator("sub", "fsub", swapped=True)
    __mul__, __rmul__ = _operator("mul", "fmul"), _operator("mul", "fmul", swapped=True)
    __truediv__, __rtruediv__ = _operator("", "fdiv"), _operator("", "fdiv", swapped=True)
    __and__, __or__ = _operator("and_"), _operator("or_")
    __lshift__, __rshift__ = _operator("shl"), _operator("lshr")  # zeros come in: AVX2 has no other >> for 64 bits
    __lt__, __le__, __gt__ = _comparison("<"), _comparison("<="), _comparison(">")


def _where(condition, yes, no):
    """Select without a branch; one of the two at least is no Python number."""
    x = yes if isinstance(yes, _Value) else no
    return x.like(x.builder.select(condition, x.operand(yes), x.operand(no)))


@functools.cache
def _has_fma():
    """Tell whether the processor that Numba compiles for has the instruction: else LLVM would call libm's."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return triple.startswith(("aarch64", "arm64")) or "+fma" in features.split(",")


def _fma(a, b, c):
    return a.like(a.builder.fma(a.value, a.operand(b), a.operand(c))) if _has_fma() else a * b + c


def _polynomial(x, coefficients):
    total, *rest = coefficients
    for coefficient in rest:
        total = _fma(x, total, coefficient)
    return total


# Spelled out because a function inherits the flags of its caller, and with "reassoc" x + c - c is no rounding of x.
_FLAGS = {"fastmath": False, "error_model": "numpy", "forceinline": True}


def _in_place_of(plain):
    """Let the decorated function write the instructions for a call of ``plain`` in compiled code."""

    def register(formula):
        @intrinsic
        def emit(typingctx, x):
            return x(x), lambda context, builder, signature, args: formula(_Value(builder, args[0])).value

        @overload(plain, jit_options=_FLAGS)
        def implementation(x):
            return (lambda x: emit(x)) if x in (float32, float64) else None

        return formula

    return register


@np.errstate(all="ignore")
def fma(a, b, c):
    """Return ``a b + c``, rounded once where the processor has the instruction, twice elsewhere."""
    return a * b + c


@intrinsic
def _emit_fma(typingctx, a, b, c):
    return a(a, b, c), lambda context, builder, signature, args: _fma(*(_Value(builder, x) for x in args)).value


@overload(fma, jit_options=_FLAGS)
def _fma_overload(a, b, c):
    return (lambda a, b, c: _emit_fma(a, b, c)) if a in (float32, float64) and a == b == c else None


@np.errstate(all="ignore")
def exp(x):
    """``e**x``; error below 1.0 ulp (float32), 1.0 ulp (float64)."""
    return np.exp(x)


def _reduce(x, low=None):
    """Return r and the bits of n, which end in the integer n, with x + low = n log 2 + r, |r| <= log(2) / 2."""
    f = x.format
    shifter = 1.5 * 2.0**f.mantissa  # so large that adding it rounds to an integer, in the lowest bits
    shifted = _fma(x if low is None else x + low, 1 / math.log(2), shifter)
    n = shifted - shifter
    r = _fma(n, -f.ln2_hi, x)
    return _fma(n, -f.ln2_lo, r if low is None else r + low), shifted.bits()


def _exp_inside(x, low=None):
    """Return exp(x + low), low small, where that is a normal number; what it is elsewhere must not matter."""
    r, n = _reduce(x, low)
    y = _polynomial(r, (*x.format.exp, 1, 1))
    return x.from_bits(y.bits() + (n << x.format.mantissa))


@_in_place_of(exp)
def _exp(x):
    y = _where(x < x.format.exp_min, 0, _exp_inside(x))
    return _where(x <= x.format.exp_max, y, x + math.inf)  # the sum is inf or NaN


@np.errstate(all="ignore")
def expm1(x):
    """``e**x - 1``, without cancellation near 0; error below 1.9 ulp (float32), 1.8 ulp (float64)."""
    return np.expm1(x)


def _expm1_reduced(r):
    return _fma(r * r, _polynomial(r, r.format.exp), r)


def _power_of_two(x, n):
    return x.from_bits((n + x.format.bias) << x.format.mantissa)


def _expm1_inside(x):
    """Return exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), by halves because 2^128 is no float32."""
    r, n = _reduce(x)
    half = _power_of_two(x, n - 1)
    return 2 * _fma(half, _expm1_reduced(r), half - 0.5)


@_in_place_of(expm1)
def _expm1(x):
    lowest = -2 * x.format.tanh_max  # -1 from here down
    y = _expm1_inside(_where(x < lowest, lowest, x))
    return _where(x <= x.format.exp_max, y, x + math.inf)


@np.errstate(all="ignore")
def logistic(x):
    """``1 / (1 + e**-x)``; error below 2.5 ulp (float32), 2.2 ulp (float64)."""
    return 1 / (1 + np.exp(-x))


@_in_place_of(logistic)
def _logistic(x):
    lowest = x.format.exp_min
    y = 1 / (1 + _exp_inside(_where(-x < lowest, lowest, -x)))
    return _where(-x <= x.format.exp_max, y, _where(x < 0, 0, x))  # 0 or NaN


@np.errstate(all="ignore")
def tanh(x):
    """``(e**2x - 1) / (e**2x + 1)``; error below 2.5 ulp (float32), 2.7 ulp (float64)."""
    return np.tanh(x)


@_in_place_of(tanh)
def _tanh(x):
    a = abs(x)
    y = _expm1_inside(-2 * _where(a > x.format.tanh_max, x.format.tanh_max, a))  # in (-1, 0]: 2 + y cannot cancel
    sign = x.bits() & (1 << (x.format.bits - 1))
    return x.from_bits(((0 - y) / (2 + y)).bits() | sign)  # -y would be -0 for 0


@np.errstate(all="ignore")
def log(x):
    """Natural logarithm, -inf at 0, NaN below; error below 1.0 ulp (float32), 1.2 ulp (float64)."""
    return np.log(x)


def _split(x):
    """Return the bits of the integer k + bias and the number m with x = 2^k m, sqrt(1/2) <= m < sqrt(2)."""
    f = x.format
    shifted = x.bits() + ((f.bias << f.mantissa) - f.sqrt_half)
    return shifted >> f.mantissa, x.from_bits((shifted & ((1 << f.mantissa) - 1)) + f.sqrt_half)


def _anchored(k, x):
    """Return 2^mantissa + k for small positive bits k: cheaper than a conversion, which AVX2 lacks for 64 bits."""
    return x.from_bits(k | x.constant(2.0**x.format.mantissa).bits())


def _log_reduced(u, k):
    """Return log(2^k (1 + u)) for sqrt(1/2) <= 1 + u <= sqrt(2)."""
    f = u.format
    s = u / (2 + u)
    z = s * s
    y = _fma(-s, u - z * _polynomial(z, f.log), u)  # 2 s = u - s u, but 2 s would pass on all of the rounding of s
    return _fma(k, f.ln2_hi, _fma(k, f.ln2_lo, y))


@_in_place_of(log)
def _log(x):
    f = x.format
    anchor = 2.0**f.mantissa + f.bias
    subnormal = x < 2.0 ** (1 - f.bias)
    k, m = _split(_where(subnormal, x * 2.0**f.mantissa, x))
    y = _log_reduced(m - 1, _anchored(k, x) - _where(subnormal, x.constant(anchor + f.mantissa), anchor))
    y = _where(x < math.inf, y, x)  # inf or NaN
    return _where(x <= 0, _where(x < 0, x.constant(math.nan), -math.inf), y)


@np.errstate(all="ignore")
def log1p(x):
    """``log(1 + x)``, without cancellation near 0; error below 1.5 ulp (float32), 1.7 ulp (float64)."""
    return np.log1p(x)


@_in_place_of(log1p)
def _log1p(x):
    f = x.format
    k, _ = _split(1 + x)
    scale = x.from_bits(((2 * f.bias + 2) - k) << f.mantissa)  # 4 / 2^k, as 1 / 2^k may be subnormal
    u = 0.25 * _fma(scale, x, scale - 4)  # (1 + x) / 2^k - 1 without the rounding of 1 + x
    y = _log_reduced(u, _anchored(k, x) - (2.0**f.mantissa + f.bias))
    y = _where(x < math.inf, y, x)
    return _where(x <= -1, _where(x < -1, x.constant(math.nan), -math.inf), y)


@np.errstate(all="ignore")
def softplus(x):
    """``log(1 + e**x) = max(x, 0) + log(1 + e**-|x|)``; error below 1.9 ulp (float32), 2.1 ulp (float64)."""
    return np.logaddexp(x, 0)


@_in_place_of(softplus)
def _softplus(x):
    a = -abs(x)
    t = _where(a < x.format.exp_min, 0, _exp_inside(a))
    above = t > math.sqrt(2) - 1
    y = _log_reduced(_where(above, 0.5 * t - 0.5, t), _where(above, x.constant(1), 0))
    return _where(x < 0, 0, x) + y


@np.errstate(all="ignore")
def normal_cdf(x):
    """Distribution function of the standard normal, Phi(x); error below 3.9 ulp (float32), 3.1 ulp (float64).

    With ``a = |x|``, ``Phi(-a) = e**(-a**2 / 2) / (sqrt(2 pi) a + p(a) / q(a))`` and ``Phi(a) = 1 - Phi(-a)``. For
    large a the sum is its first term, so that rounding in p and q fades. The exponential would magnify the rounding of
    ``a**2``: the upper half h of a's digits is squared, which is exact, and ``a**2 - h**2`` is added after reduction.
    """
    a = np.float64(abs(x))
    h = np.float64(np.float32(a))
    slope = math.sqrt(2 * math.pi) * a + np.polyval(_FLOAT64.tail_p, a) / np.polyval(_FLOAT64.tail_q, a)
    tail = np.exp(-0.5 * h * h) * np.exp(0.5 * (h - a) * (h + a)) / slope
    tail = 0.0 if a > _FLOAT64.tail_max else tail
    return type(x)(1 - tail if x > 0 else tail)


@_in_place_of(normal_cdf)
def _normal_cdf(x):
    f = x.format
    beyond = abs(x) > f.tail_max
    a = _where(beyond, f.tail_max, abs(x))
    h = x.from_bits(a.bits() & -(1 << (f.mantissa // 2 + 1)))
    r, n = _reduce(-0.5 * h * h, 0.5 * (h - a) * (h + a))
    q = _polynomial(a, f.tail_q)
    linear = _fma(a, f.tail_hi, a * f.tail_lo)
    ratio = q / _fma(linear, q, _polynomial(a, f.tail_p))  # the roundings of a large q cancel
    tail = _fma(ratio, _expm1_reduced(r), ratio) * _power_of_two(x, n)  # one rounding less than exp(r) ratio
    tail = _where(beyond, 0, tail)
    return _where(x > 0, 1 - tail, tail)
