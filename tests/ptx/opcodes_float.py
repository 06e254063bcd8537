"""Arithmetic that floats share with integers, floats alone, and conversions (PTX ISA, "Floating-Point", "cvt").
The .approx functions are taken as exact in double and then rounded: hardware may differ by the ulps that the ISA
allows them, and so do tolerances."""
import numpy as np

import arithmetic
from opcodes import INTEGERS, NUMPY, PtxError, family, reader, simple, writer
from opcodes_integer import integer_mul

ROUNDINGS = ("rn", "rz", "rm", "rp")
FLOATS = ("f32", "f64")


def finished(function, mods, kind):
    """`function` with what .ftz and .sat add."""
    ftz, sat = mods.take("ftz"), mods.take("sat")
    if not ftz and not sat:
        return function
    if kind == "f64" and sat:
        raise PtxError("sat of f64")
    def run(*args):
        if ftz and kind == "f32":
            args = [arithmetic.flush(a) for a in args]
        y = function(*args)
        if ftz and kind == "f32":
            y = arithmetic.flush(y)
        if sat:  # NaN becomes 0
            y = np.where(np.isnan(y), y.dtype.type(0), np.clip(y, y.dtype.type(0), y.dtype.type(1)))
        return y
    return run


def _float_kind(kind):
    if kind not in FLOATS:
        raise PtxError(f"arithmetic in {kind}")


@family("add", "sub")
def _add(i, mods):
    kind = mods.kind()
    minus = i.opcode == "sub"
    if kind in INTEGERS:
        return simple((lambda a, b: a - b) if minus else (lambda a, b: a + b), kind, i.operands)
    _float_kind(kind)
    mode = mods.take(*ROUNDINGS, default="rn")
    if kind == "f64":
        if mode != "rn":
            raise PtxError("rounding of f64")
        function = (lambda a, b: a - b) if minus else (lambda a, b: a + b)
    else:
        function = lambda a, b: arithmetic.add32(a, -b if minus else b, mode)
    return simple(finished(function, mods, kind), kind, i.operands)


@family("mul")
def _mul(i, mods):
    kind = mods.kind()
    if kind in INTEGERS:
        return integer_mul(i, mods, kind)
    _float_kind(kind)
    mode = mods.take(*ROUNDINGS, default="rn")
    if kind == "f64":
        if mode != "rn":
            raise PtxError("rounding of f64")
        return simple(lambda a, b: a * b, kind, i.operands)
    return simple(finished(lambda a, b: arithmetic.mul32(a, b, mode), mods, kind), kind, i.operands)


@family("fma")
def _fma(i, mods):
    kind = mods.kind()
    _float_kind(kind)
    mode = mods.take(*ROUNDINGS)
    fma = arithmetic.fma32 if kind == "f32" else arithmetic.fma64
    if mode is None or (kind == "f64" and mode != "rn"):
        raise PtxError("a rounding that is not known")
    return simple(finished(lambda a, b, c: fma(a, b, c, mode), mods, kind), kind, i.operands)


@family("div")
def _div(i, mods):
    kind = mods.kind()
    if kind in INTEGERS:
        return simple(arithmetic.divide_integers, kind, i.operands)
    _float_kind(kind)
    mods.take("rn", "full", "approx")
    return simple(finished(lambda a, b: a / b, mods, kind), kind, i.operands)


@family("abs", "neg")
def _sign(i, mods):
    kind = mods.kind()
    if kind in INTEGERS:
        return simple(np.abs if i.opcode == "abs" else lambda a: ~a + a.dtype.type(1), kind, i.operands)
    _float_kind(kind)
    return simple(finished(np.abs if i.opcode == "abs" else np.negative, mods, kind), kind, i.operands)


@family("min", "max")
def _least(i, mods):
    kind = mods.kind()
    low = i.opcode == "min"
    if kind in INTEGERS:
        return simple(np.minimum if low else np.maximum, kind, i.operands)
    _float_kind(kind)
    keeps_nan = mods.take("NaN")
    def least(a, b):
        a, b = np.broadcast_arrays(a, b)
        if keeps_nan:
            y = np.minimum(a, b) if low else np.maximum(a, b)
        else:  # the number, where the other is none
            y = np.fmin(a, b) if low else np.fmax(a, b)
        zeros = (a == 0) & (b == 0)  # -0 < +0
        sign = np.signbit(a) | np.signbit(b) if low else np.signbit(a) & np.signbit(b)
        return np.where(zeros, np.where(sign, y.dtype.type(-0.0), y.dtype.type(0)), y)
    return simple(finished(least, mods, kind), kind, i.operands)


@family("copysign")
def _copysign(i, mods):
    return simple(lambda a, b: np.copysign(b, a), mods.kind(), i.operands)  # of a, onto b


@family("testp")
def _testp(i, mods):
    kind = mods.kind()
    tests = {"finite": np.isfinite, "infinite": np.isinf, "number": lambda a: ~np.isnan(a), "notanumber": np.isnan,
             "normal": lambda a: np.isfinite(a) & (np.abs(a) >= np.finfo(a.dtype).tiny),
             "subnormal": lambda a: (a != 0) & (np.abs(a) < np.finfo(a.dtype).tiny)}
    return simple(tests[mods.take(*tests)], kind, i.operands, result="pred")


@family("rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh")
def _function(i, mods):
    kind = mods.kind()
    _float_kind(kind)
    exact = mods.take("rn")
    if mods.take("approx") is None and exact is None:
        raise PtxError("neither .rn nor .approx")
    double = {"rcp": lambda a: 1 / a, "sqrt": np.sqrt, "rsqrt": lambda a: 1 / np.sqrt(a), "ex2": np.exp2, "lg2": np.log2,
              "sin": np.sin, "cos": np.cos, "tanh": np.tanh}[i.opcode]
    if kind == "f64" and not exact:
        if i.opcode not in ("rcp", "rsqrt") or mods.take("ftz") is None:
            raise PtxError(f"no such function of f64")
        def rough(a):  # rcp.approx.ftz.f64: the lower half of the result is 0
            return (double(a).view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)
        return simple(rough, kind, i.operands)
    if kind == "f64" or exact:  # numpy rounds 1 / a and sqrt(a) correctly in either type
        if i.opcode not in ("rcp", "sqrt"):
            raise PtxError("correctly rounded")
        return simple(finished(lambda a: double(a).astype(a.dtype), mods, kind), kind, i.operands)
    return simple(finished(lambda a: double(a.astype(np.float64)).astype(np.float32), mods, kind), kind, i.operands)


# ---- cvt ----


def _to_float32_and_up(values, kind):
    """A source as float32 or float64, exactly."""
    if kind == "bf16":
        return arithmetic.from_bf16(values)
    return values.astype(np.float32) if kind == "f16" else values


@family("cvt")
def _cvt(i, mods):
    source = mods.kind()
    result = mods.kind()
    sat, ftz, relu = mods.take("sat"), mods.take("ftz"), mods.take("relu")
    mode = mods.take("rni", "rzi", "rmi", "rpi", *ROUNDINGS)
    if relu or (sat and result not in INTEGERS + ("f32",)):
        raise PtxError("an unknown form")
    if result in ("bf16x2", "f16x2"):
        return _cvt_pair(i, source, result, mode)
    read, write = reader(i.operands[1], source), writer(i.operands[0], result)
    from_integer, to_integer = source in INTEGERS, result in INTEGERS
    dtype = NUMPY[result]

    def convert(v):
        if ftz and source == "f32":
            v = arithmetic.flush(v)
        if from_integer and to_integer:
            if sat:
                info = np.iinfo(dtype)
                return np.clip(v.astype(object), info.min, info.max).astype(dtype)
            return v.astype(dtype)  # keeps the low bits, or extends by the source's sign
        if to_integer:
            if mode not in arithmetic.ROUND_TO_INTEGER:
                raise PtxError("a float to an integer without its rounding")
            return arithmetic.float_to_integer(_to_float32_and_up(v, source), mode, dtype)
        if from_integer:
            if mode != "rn":
                raise PtxError("an integer to a float, not to nearest")
            if result in ("f16", "bf16"):
                wide = v.astype(np.float64)
                return arithmetic.to_f16(wide).view(np.float16) if result == "f16" else arithmetic.double_to_bf16(wide)
            return v.astype(dtype)
        return _float_to_float(_to_float32_and_up(v, source), source, result, mode)

    def run(m, idx):
        v = convert(read(m, idx))
        if result == "f32" and ftz:
            v = arithmetic.flush(v)
        if result == "f32" and sat:
            v = np.where(np.isnan(v), np.float32(0), np.clip(v, np.float32(0), np.float32(1)))
        write(m, idx, v)
    return run


def _float_to_float(v, source, result, mode):
    if mode in arithmetic.ROUND_TO_INTEGER:
        if source != result:
            raise PtxError("rounds to integers and converts")
        return arithmetic.ROUND_TO_INTEGER[mode](v)
    if result == "bf16":
        return arithmetic.double_to_bf16(v) if v.dtype == np.float64 else arithmetic.to_bf16(v, mode)
    if result == "f16":
        if mode != "rn":
            raise PtxError("f16 not to nearest")
        return arithmetic.to_f16(v).view(np.float16)
    if result == "f32" and v.dtype == np.float64:
        return arithmetic.narrow(v, mode)
    return v.astype(NUMPY[result])


def _cvt_pair(i, source, result, mode):
    """d, a, b: a becomes the upper half."""
    if source != "f32" or mode != "rn":
        raise PtxError("an unknown pair")
    to = arithmetic.to_bf16 if result == "bf16x2" else arithmetic.to_f16
    upper, lower = (reader(o, "f32") for o in i.operands[1:])
    write = writer(i.operands[0], result)
    def run(m, idx):
        high, low = to(upper(m, idx)), to(lower(m, idx))
        write(m, idx, high.astype(np.uint32) << np.uint32(16) | low.astype(np.uint32))
    return run
