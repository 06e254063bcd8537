"""Arithmetic on numpy arrays with PTX's roundings, where numpy has none of its own."""
import ctypes
import ctypes.util

import numpy as np

_libm = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
_libm.fma.argtypes = [ctypes.c_double] * 3
_libm.fma.restype = ctypes.c_double
_fma64 = np.frompyfunc(_libm.fma, 3, 1)


def _round_to_odd(a, b):
    """a + b of doubles: the exact sum, or the neighbour of it whose last bit is 1; a later rounding to fewer bits is then
    the rounding of the exact sum (Boldo and Melquiond, 2008)."""
    a, b = np.broadcast_arrays(a, b)
    s = a + b
    t = s - a
    error = (a - (s - t)) + (b - t)  # Knuth's two-sum: exact
    inexact = np.isfinite(s) & (error != 0) & np.isfinite(error) & ((s.view(np.uint64) & np.uint64(1)) == 0)
    if not inexact.any():
        return s
    # Towards the error: the truncated value's neighbour is odd.
    return np.where(inexact, np.nextafter(s, np.where(error > 0, np.inf, -np.inf)), s)


def narrow(x, mode):
    """Doubles to float32, rounded as `mode` says: rn, rz, rm (down) or rp (up)."""
    f = x.astype(np.float32)
    if mode == "rn":
        return f
    back = f.astype(np.float64)
    down, up = np.nextafter(f, np.float32(-np.inf)), np.nextafter(f, np.float32(np.inf))
    lower, upper = np.where(back > x, down, f), np.where(back < x, up, f)
    if mode == "rm":
        return lower
    if mode == "rp":
        return upper
    return np.where(x > 0, lower, upper)


def fma32(a, b, c, mode):
    # The product of two floats is exact in double.
    return narrow(_round_to_odd(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)), mode)


def fma64(a, b, c, mode):
    if mode != "rn":
        raise NotImplementedError(f"fma.{mode}.f64")
    return np.asarray(_fma64(a, b, c), dtype=np.float64)


def add32(a, b, mode):
    return a + b if mode == "rn" else narrow(_round_to_odd(a.astype(np.float64), b.astype(np.float64)), mode)


def mul32(a, b, mode):
    return a * b if mode == "rn" else narrow(a.astype(np.float64) * b.astype(np.float64), mode)


def to_bf16(x, mode="rn"):
    """float32 to the bits of bf16."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    if mode == "rn":
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    elif mode == "rz":
        rounded = bits >> np.uint32(16)
    else:
        raise NotImplementedError(f"cvt.{mode}.bf16")
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def double_to_bf16(x):
    """By way of round-to-odd to float32, so that it is rounded once."""
    f = narrow(x, "rz")
    inexact = (f.astype(np.float64) != x) & np.isfinite(x)
    return to_bf16((f.view(np.uint32) | inexact.astype(np.uint32)).view(np.float32))


def to_f16(x):
    """float32 or float64 to fp16, to nearest even; NaN has one form."""
    half = x.astype(np.float16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), half.view(np.uint16))


ROUND_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def float_to_integer(x, mode, dtype):
    """PTX ISA, cvt: out of range is clamped; NaN is 0, or the sign bit alone where 64 bits take part."""
    info = np.iinfo(dtype)
    wide = x.dtype == np.float64 or info.bits == 64
    r = ROUND_TO_INTEGER[mode](x.astype(np.float64))
    high, low = r >= float(info.max), r <= float(info.min)
    safe = np.where(high | low | np.isnan(r), 0.0, r)
    out = safe.astype(dtype)
    out = np.where(high, dtype(info.max), np.where(low, dtype(info.min), out)).astype(dtype)
    nan = np.array(1 << (info.bits - 1), dtype=np.uint64).astype(np.dtype(f"u{info.bits // 8}")).view(dtype) if wide else dtype(0)
    return np.where(np.isnan(r), nan, out).astype(dtype)


def flush(x):
    """Subnormal float32 values to zero of their sign."""
    tiny = (np.abs(x) < np.finfo(np.float32).tiny) & (x != 0)
    return np.where(tiny, np.copysign(np.float32(0), x), x)


def divide_integers(a, b):
    """Quotient towards zero; of a division by zero, which PTX leaves open, all ones."""
    a, b = np.broadcast_arrays(a, b)
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    zero = b == 0
    if a.dtype.kind == "u":
        return np.where(zero, ~np.zeros_like(a), a // np.where(zero, np.ones_like(b), b))
    magnitude = lambda v: np.where(v < 0, (~v).view(unsigned) + unsigned.type(1), v.view(unsigned))
    q = magnitude(a) // np.where(zero, unsigned.type(1), magnitude(b))
    q = np.where((a < 0) != (b < 0), ~q + unsigned.type(1), q).view(a.dtype)
    return np.where(zero, ~np.zeros_like(a), q)


def multiply_high(a, b):
    """The upper half of the product of two integers of one type."""
    a, b = np.broadcast_arrays(a, b)
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = np.dtype(f"{a.dtype.kind}{a.dtype.itemsize * 2}")
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(bits)).astype(a.dtype)
    u = np.uint64
    ua, ub = a.astype(u), b.astype(u)
    al, ah, bl, bh = ua & u(0xFFFFFFFF), ua >> u(32), ub & u(0xFFFFFFFF), ub >> u(32)
    middle = ah * bl + ((al * bl) >> u(32))
    lower = al * bh + (middle & u(0xFFFFFFFF))
    high = ah * bh + (middle >> u(32)) + (lower >> u(32))
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, ub, u(0)) - np.where(b < 0, ua, u(0))
    return high.astype(a.dtype)
