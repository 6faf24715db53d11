"""Elementary functions of one float32 or float64 number, which LLVM turns into SIMD code inside a plain loop.

A call of libm (or SVML, where it is installed) in a loop either keeps the loop scalar or makes the bits depend on the
machine. The functions here are short chains of multiply-adds without branches or calls. No fast-math flag is ever set,
whatever the caller sets, so the vector body and the remainder of a loop give the same bits.

Each function is there twice. The public one is plain NumPy: it says what is computed, and it runs when Numba's
compiler is off. The private one below it writes the LLVM instructions that take its place in compiled code, on
``_Value``: there ``2 * x + 1`` reads as usual, the numbers become constants of the type of x (in Numba's own language
they would be float64, and every float32 with them), and nothing is left for type inference, which makes it quick to
compile. Sources of the methods: Muller, Elementary Functions, 3rd ed. 2016, chapters 3 (minimax polynomials) and 11
(range reduction); for the normal distribution see ``normal_cdf``.

Common to all: the result has the type of the argument, NaN gives NaN, and a result too large is inf. A result below
the smallest normal number (1.2e-38, 2.2e-308) may be 0 instead of a subnormal number. Errors are given in units in
the last place (ulp), the largest found over some 10**7 arguments in each type, and hold for all other results.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import float32, float64
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

# The coefficients are minimax fits, made with mpmath at 50 digits and rounded; highest power first. Each list has the
# fewest terms whose error, relative to the function's result, is below half of the type's rounding error.
# EXP: q in exp(r) = 1 + r + r^2 q(r) for |r| <= 0.52 log 2, by Remez exchange.
# LOG: q in log((1 + s) / (1 - s)) = 2 s + s z q(z), z = s^2, for |s| <= 3 - sqrt(8), by Remez exchange.
# TAIL: P and Q in Phi(-a) exp(a^2 / 2) = P(a) / Q(a) for 0 <= a <= 37.7 (float32: 13.5), by linearised least squares
#       with Lawson's reweighting. All terms are positive, so that no sum cancels.


class _Format(NamedTuple):
    """What a function has to know about a floating-point type."""

    bits: int  # of the whole number
    mantissa: int  # bits of the stored digits
    bias: int  # of the exponent
    ln2_hi: float  # so few bits that n ln2_hi is exact for every exponent n
    ln2_lo: float
    exp_min: float  # exp is a normal number from here ...
    exp_max: float  # ... to here
    tanh_max: float  # tanh is 1 from here on
    tail_max: float  # normal_cdf(-x) is below the normal numbers from here on
    exp: tuple
    log: tuple
    tail_p: tuple
    tail_q: tuple

    @property
    def shifter(self):
        """A number with unit spacing: x + shifter has round(x) in its lowest bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def tiny(self):
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def sqrt_half(self):
        """The bits of sqrt(1/2), lower end of the range of the logarithm's polynomial."""
        fraction = math.floor((math.sqrt(2) - 1) * 2**self.mantissa)
        return ((self.bias - 1) << self.mantissa) + fraction


# fmt: off
_FORMATS = {
    ir.FloatType(): _Format(
        bits=32,
        mantissa=23,
        bias=127,
        ln2_hi=0.693145751953125,
        ln2_lo=1.4286068203094172e-06,
        exp_min=-87.33654022216797,
        exp_max=88.72283172607422,
        tanh_max=10.0,
        tail_max=13.2,
        exp=(0.00139464764, 0.0083662399534, 0.041666312376, 0.16666557657, 0.5),
        log=(0.29873074441, 0.39977495538, 0.66666776717),
        tail_p=(0.0040369292393, 0.040097691970, 0.18164488966, 0.43614521848, 0.5),
        tail_q=(0.010118942150, 0.10051721771, 0.46527269758, 1.1958926752, 1.6701753658, 1.0),
    ),
    ir.DoubleType(): _Format(
        bits=64,
        mantissa=52,
        bias=1023,
        ln2_hi=0.6931471805598903,
        ln2_lo=5.497923018708371e-14,
        exp_min=-708.3964185322641,
        exp_max=709.782712893384,
        tanh_max=20.0,
        tail_max=37.6,
        exp=(
            2.5110054489604207e-8, 2.7620089464548200e-7, 2.7557242325234155e-6, 2.4801521293541152e-5,
            1.9841269886598801e-4, 1.3888888917215485e-3, 8.3333333333222069e-3, 4.1666666666624124e-2,
            1.6666666666666675e-1, 0.5,
        ),
        log=(
            0.14797507065607861, 0.15313903311146198, 0.18183569737218442, 0.22222198476040770,
            0.28571428743262022, 0.39999999999411097, 0.66666666666667349,
        ),
        tail_p=(
            1.3708519445829600e-6, 3.6920438365148856e-5, 4.8674060438255283e-4, 4.0638744292236500e-3,
            2.3502593023086320e-2, 9.7306933747533892e-2, 2.8845794222522806e-1, 5.9282113064012469e-1,
            7.7402792442953535e-1, 0.5,
        ),
        tail_q=(
            3.4362162446361928e-6, 9.2545814715481836e-5, 1.2235139778188376e-3, 1.0279168351496040e-2,
            6.0125469980868152e-2, 2.5391383001890608e-1, 7.7956355978689851e-1, 1.7104426239799405,
            2.5574318947133517, 2.3459404096619266, 1.0,
        ),
    ),
}
# fmt: on


class _Value:
    """An LLVM number with Python's operators; a Python number beside it becomes a constant of its type."""

    def __init__(self, builder, value):
        self.builder = builder
        self.value = value
        self.format = _FORMATS.get(value.type)  # None for integers

    def _operand(self, other):
        return other.value if isinstance(other, _Value) else ir.Constant(self.value.type, other)

    def _apply(self, name, left, right):
        method = getattr(self.builder, name if self.format is None else "f" + name)
        return _Value(self.builder, method(self._operand(left), self._operand(right)))

    def __add__(self, other):
        return self._apply("add", self, other)

    def __radd__(self, other):
        return self._apply("add", other, self)

    def __sub__(self, other):
        return self._apply("sub", self, other)

    def __rsub__(self, other):
        return self._apply("sub", other, self)

    def __mul__(self, other):
        return self._apply("mul", self, other)

    def __rmul__(self, other):
        return self._apply("mul", other, self)

    def __truediv__(self, other):
        return self._apply("div", self, other)

    def __rtruediv__(self, other):
        return self._apply("div", other, self)

    def __neg__(self):
        return _Value(self.builder, self.builder.fneg(self.value))

    def __lt__(self, other):
        return self.builder.fcmp_ordered("<", self.value, self._operand(other))

    def __le__(self, other):
        return self.builder.fcmp_ordered("<=", self.value, self._operand(other))

    def __gt__(self, other):
        return self.builder.fcmp_ordered(">", self.value, self._operand(other))

    # Below: integers only.
    def __and__(self, other):
        return _Value(self.builder, self.builder.and_(self.value, self._operand(other)))

    def __or__(self, other):
        return _Value(self.builder, self.builder.or_(self.value, self._operand(other)))

    def __lshift__(self, count):
        return _Value(self.builder, self.builder.shl(self.value, self._operand(count)))

    def __rshift__(self, count):  # fills with zeros: AVX2 has no other for 64 bits
        return _Value(self.builder, self.builder.lshr(self.value, self._operand(count)))


def _constant(x, number):
    return _Value(x.builder, ir.Constant(x.value.type, number))


def _bits(x):
    return _Value(x.builder, x.builder.bitcast(x.value, ir.IntType(x.format.bits)))


def _number(bits, x):
    """Return the number of x's type that has these bits."""
    return _Value(x.builder, x.builder.bitcast(bits.value, x.value.type))


def _magnitude(x):
    return _number(_bits(x) & ((1 << (x.format.bits - 1)) - 1), x)


def _where(condition, yes, no):
    """Select without a branch; one of the two is a number of LLVM's."""
    x = yes if isinstance(yes, _Value) else no
    return _Value(x.builder, x.builder.select(condition, x._operand(yes), x._operand(no)))


@functools.cache
def _has_fma():
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return triple.startswith(("aarch64", "arm64")) or "+fma" in features.split(",")


def _fma(a, b, c):
    if _has_fma():
        return _Value(a.builder, a.builder.fma(a.value, a._operand(b), a._operand(c)))
    return a * b + c


def _polynomial(x, coefficients):
    total, *rest = coefficients
    for coefficient in rest:
        total = _fma(x, total, coefficient)
    return total


def _in_place_of(plain):
    """Let the decorated function write the instructions for calls of ``plain`` in compiled code."""

    def register(formula):
        @intrinsic
        def emit(typingctx, x):
            return x(x), lambda context, builder, signature, args: formula(_Value(builder, args[0])).value

        # Spelled out, because the caller's flags would be inherited: reassociation breaks the range reductions.
        @overload(plain, jit_options={"fastmath": False, "error_model": "numpy", "forceinline": True})
        def implementation(x):
            return (lambda x: emit(x)) if x in (float32, float64) else None

        return formula

    return register


@np.errstate(all="ignore")
def fma(a, b, c):
    """Compute ``a b + c``, rounded once where the processor has the instruction, twice elsewhere."""
    return a * b + c


@intrinsic
def _emit_fma(typingctx, a, b, c):
    def codegen(context, builder, signature, args):
        return _fma(*(_Value(builder, arg) for arg in args)).value

    return a(a, b, c), codegen


@overload(fma, jit_options={"fastmath": False, "forceinline": True})
def _fma_overload(a, b, c):
    return (lambda a, b, c: _emit_fma(a, b, c)) if a in (float32, float64) and a == b == c else None


@np.errstate(all="ignore")
def exp(x):
    """``e**x``; error below 1.0 ulp (float32), 1.0 ulp (float64)."""
    return np.exp(x)


def _reduce(x):
    """Return r and the bits of an integer n with x = n log 2 + r, |r| <= log(2) / 2; n is in the lowest bits."""
    shifted = _fma(x, 1 / math.log(2), x.format.shifter)
    n = shifted - x.format.shifter
    return _fma(n, -x.format.ln2_lo, _fma(n, -x.format.ln2_hi, x)), _bits(shifted)


def _exp_inside(x, low=0):
    """Return exp(x + low), |low| << 1, where that is a normal number; elsewhere anything but a NaN's payload."""
    r, n = _reduce(x)
    y = _polynomial(r + low if low else r, (*x.format.exp, 1, 1))
    return _number(_bits(y) + (n << x.format.mantissa), x)


@_in_place_of(exp)
def _exp(x):
    y = _where(x < x.format.exp_min, 0, _exp_inside(x))
    return _where(x <= x.format.exp_max, y, x + math.inf)  # the sum is inf or NaN


@np.errstate(all="ignore")
def expm1(x):
    """``e**x - 1``, to full relative precision near 0; error below 1.8 ulp (float32), 1.8 ulp (float64)."""
    return np.expm1(x)


def _expm1_inside(x):
    """Return exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), by halves because 2^128 is no float32."""
    r, n = _reduce(x)
    p = _fma(r * r, _polynomial(r, x.format.exp), r)
    half = _number((n + (x.format.bias - 1)) << x.format.mantissa, x)
    return 2 * _fma(half, p, half - 0.5)


@_in_place_of(expm1)
def _expm1(x):
    lowest = -2 * x.format.tanh_max
    y = _expm1_inside(_where(x < lowest, lowest, x))
    return _where(x <= x.format.exp_max, y, x + math.inf)


@np.errstate(all="ignore")
def logistic(x):
    """``1 / (1 + e**-x)``; error below 2.4 ulp (float32), 2.2 ulp (float64)."""
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
    a = _magnitude(x)
    y = _expm1_inside(-2 * _where(a > x.format.tanh_max, x.format.tanh_max, a))  # in (-1, 0]: 2 + y cannot cancel
    return _number(_bits(-y / (2 + y)) | (_bits(x) & (1 << (x.format.bits - 1))), x)


@np.errstate(all="ignore")
def log(x):
    """Natural logarithm, -inf at 0, NaN below; error below 1.0 ulp (float32), 1.2 ulp (float64)."""
    return np.log(x)


def _split(x):
    """Return the bits of the integer k + bias and the number m with x = 2^k m, sqrt(1/2) <= m < sqrt(2)."""
    f = x.format
    shifted = _bits(x) + ((f.bias << f.mantissa) - f.sqrt_half)
    m = _number((shifted & ((1 << f.mantissa) - 1)) + f.sqrt_half, x)
    return shifted >> f.mantissa, m


def _anchored(k, x):
    """Return 2^mantissa + k for small positive bits k: cheaper than a conversion, which AVX2 lacks for 64 bits."""
    return _number(k | _bits(_constant(x, 2.0**x.format.mantissa)), x)


def _log_reduced(u, k):
    """Return log(2^k (1 + u)): with s = u / (2 + u), log(1 + u) = 2 s + s z q(z) = u - s (u - z q(z)), z = s^2."""
    s = u / (2 + u)
    z = s * s
    y = _fma(-s, u - z * _polynomial(z, u.format.log), u)  # 2 s would pass on all of the rounding of s
    return _fma(k, u.format.ln2_hi, _fma(k, u.format.ln2_lo, y))


@_in_place_of(log)
def _log(x):
    f = x.format
    anchor = 2.0**f.mantissa + f.bias
    subnormal = x < f.tiny
    k, m = _split(_where(subnormal, x * 2.0**f.mantissa, x))
    y = _log_reduced(m - 1, _anchored(k, x) - _where(subnormal, _constant(x, anchor + f.mantissa), anchor))
    y = _where(x < math.inf, y, x)  # inf or NaN
    return _where(x <= 0, _where(x < 0, _constant(x, math.nan), -math.inf), y)


@np.errstate(all="ignore")
def log1p(x):
    """``log(1 + x)``, to full relative precision near 0; error below 1.5 ulp (float32), 1.7 ulp (float64)."""
    return np.log1p(x)


@_in_place_of(log1p)
def _log1p(x):
    f = x.format
    k, _ = _split(1 + x)
    scale = _number(((2 * f.bias + 2) - k) << f.mantissa, x)  # 4 / 2^k; 1 / 2^k may be subnormal
    u = 0.25 * _fma(scale, x, scale - 4)  # (1 + x) / 2^k - 1 without the rounding of 1 + x
    y = _log_reduced(u, _anchored(k, x) - (2.0**f.mantissa + f.bias))
    y = _where(x < math.inf, y, x)
    return _where(x <= -1, _where(x < -1, _constant(x, math.nan), -math.inf), y)


@np.errstate(all="ignore")
def softplus(x):
    """``log(1 + e**x)``; error below 1.9 ulp (float32), 2.1 ulp (float64)."""
    return np.logaddexp(x, 0)


@_in_place_of(softplus)
def _softplus(x):
    a = -_magnitude(x)
    t = _where(a < x.format.exp_min, 0, _exp_inside(a))
    above = t > math.sqrt(2) - 1
    y = _log_reduced(_where(above, 0.5 * t - 0.5, t), _where(above, _constant(x, 1), 0))
    return _where(x < 0, 0, x) + y  # log(1 + e**x) = max(x, 0) + log(1 + e**-|x|)


@np.errstate(all="ignore")
def normal_cdf(x):
    """Distribution function of the standard normal, Phi(x); error below 5.2 ulp (float32), 6.8 ulp (float64).

    With a = |x|, Phi(-a) = e**(-a**2 / 2) P(a) / Q(a): the quotient is smooth (it is Mills' ratio over sqrt(2 pi)), and
    the exponential takes the tail. A rounding of a**2 would be magnified there, so the upper half h of a's digits is
    squared, which is exact, and (a - h) (a + h) is added to what the range reduction leaves (Cody 1969, section 3).
    """
    f = _FORMATS[ir.DoubleType()]
    a = np.float64(abs(x))
    h = np.float64(np.float32(a))
    tail = np.polyval(f.tail_p, a) / np.polyval(f.tail_q, a) * np.exp(-h * h / 2) * np.exp((h - a) * (h + a) / 2)
    tail = 0.0 if a > f.tail_max else tail
    return type(x)(1 - tail if x > 0 else tail)


@_in_place_of(normal_cdf)
def _normal_cdf(x):
    f = x.format
    a = _magnitude(x)
    inside = _where(a > f.tail_max, f.tail_max, a)
    h = _number(_bits(inside) & -(1 << (f.mantissa // 2 + 1)), x)
    e = _exp_inside(-0.5 * h * h, 0.5 * (h - inside) * (h + inside))
    tail = e * _polynomial(inside, f.tail_p) / _polynomial(inside, f.tail_q)
    tail = _where(a > f.tail_max, 0, tail)
    return _where(x > 0, 1 - tail, tail)
