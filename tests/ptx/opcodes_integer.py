"""Integer, bit and move instructions (PTX ISA, "Integer Arithmetic", "Logic and Shift", "Data Movement": mov)."""
import numpy as np

import arithmetic
from opcodes import INTEGERS, NUMPY, PtxError, Step, family, reader, simple, writer
from parser import Immediate, Vector

WIDER = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}
LOW = "lo"


@family("mov")
def _mov(i, mods):
    kind = mods.kind()
    out, source = i.operands
    if isinstance(source, Immediate) and kind in ("f32", "f64") and not source.float_width:
        kind = {"f32": "b32", "f64": "b64"}[kind]
    if not isinstance(source, Vector) and not isinstance(out, Vector):
        return simple(lambda a: a, kind, i.operands)
    width = np.dtype(NUMPY[kind]).itemsize
    if isinstance(source, Vector):  # packs: the first part lies lowest
        part = f"b{8 * width // len(source.parts)}"
        ins, write = [reader(p, part) for p in source.parts], writer(out, kind)
        def pack(m, idx):
            total = np.zeros(1, np.uint64)
            for k, read in enumerate(ins):
                total = total | read(m, idx).astype(np.uint64) << np.uint64(k * int(part[1:]))
            write(m, idx, total.astype(f"u{width}").view(NUMPY[kind]))
        return pack
    part = f"b{8 * width // len(out.parts)}"
    outs, read = [writer(p, part) for p in out.parts], reader(source, f"b{8 * width}")
    def unpack(m, idx):
        value = read(m, idx)
        for k, write in enumerate(outs):
            write(m, idx, (value >> value.dtype.type(k * int(part[1:]))).astype(NUMPY[part]))
    return unpack


@family("cvta")
def _cvta(i, mods):  # addresses of every space are generic ones here
    mods.take("to")
    mods.take("global", "shared", "local", "const", "param")
    return simple(lambda a: a, mods.kind(), i.operands)


def _integer(mods, what):
    kind = mods.kind()
    if kind not in INTEGERS:
        raise PtxError(f"{what} of {kind}")
    return kind


@family("rem")
def _rem(i, mods):
    kind = _integer(mods, "rem")
    def rem(a, b):
        with np.errstate(all="ignore"):
            return np.where(b == 0, a, a - arithmetic.divide_integers(a, b) * b)
    return simple(rem, kind, i.operands)


def integer_mul(i, mods, kind):
    part = mods.take("lo", "hi", "wide")
    if part == "wide":
        wide = NUMPY[WIDER[kind]]
        return simple(lambda a, b: a.astype(wide) * b.astype(wide), kind, i.operands, result=WIDER[kind])
    if part == "hi":
        return simple(arithmetic.multiply_high, kind, i.operands)
    if part is None:
        raise PtxError("a product without .lo, .hi or .wide")
    return simple(lambda a, b: a * b, kind, i.operands)


@family("mad")
def _mad(i, mods):
    kind = _integer(mods, "mad")
    part = mods.take("lo", "hi", "wide")
    if part == "wide":
        wide = WIDER[kind]
        return simple(lambda a, b, c: a.astype(NUMPY[wide]) * b.astype(NUMPY[wide]) + c, kind, i.operands, result=wide,
                      sources=[kind, kind, wide])
    product = arithmetic.multiply_high if part == "hi" else lambda a, b: a * b
    return simple(lambda a, b, c: product(a, b) + c, kind, i.operands)


@family("and", "or", "xor")
def _logic(i, mods):
    operation = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[i.opcode]
    return simple(operation, mods.kind(), i.operands)


@family("not")
def _not(i, mods):
    return simple(np.invert, mods.kind(), i.operands)


@family("shl", "shr")
def _shift(i, mods):
    kind = mods.kind()
    bits = 8 * np.dtype(NUMPY[kind]).itemsize
    def shift(a, n):  # amounts beyond the width are clamped to it
        n = np.minimum(n, np.uint32(bits))
        most = n == bits
        n = np.where(most, np.uint32(0), n).astype(a.dtype)
        if i.opcode == "shl":
            return np.where(most, a.dtype.type(0), a << n)
        return np.where(most, a >> a.dtype.type(bits - 1) if a.dtype.kind == "i" else a.dtype.type(0), a >> n)
    return simple(shift, kind, i.operands, sources=[kind, "u32"])


@family("shf")
def _funnel(i, mods):
    left = mods.take("l", "r") == "l"
    clamp = mods.take("clamp", "wrap") == "clamp"
    def shift(low, high, n):
        n = np.minimum(n, np.uint32(32)) if clamp else n & np.uint32(31)
        both = high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)
        n = n.astype(np.uint64)
        return ((both << n) >> np.uint64(32) if left else both >> n).astype(np.uint32)
    mods.take("b32")
    return simple(shift, "u32", i.operands)


@family("bfe")
def _extract(i, mods):
    kind = mods.kind()
    bits = 8 * np.dtype(NUMPY[kind]).itemsize
    signed = kind[0] == "s"
    def extract(a, position, length):
        position, length = position & np.uint32(255), length & np.uint32(255)
        values, at, n = (x.astype(object) for x in np.broadcast_arrays(a, position, length))
        def one(v, p, l):
            v %= 1 << bits
            out = v >> p & (1 << l) - 1 if p < bits else 0
            l = min(l, bits - p) if p < bits else 0
            sign = v >> min(p + l - 1, bits - 1) & 1 if signed and (l or p >= bits) else 0
            if p >= bits and signed:
                sign, l = v >> bits - 1, 0
            return (out | (-1 << l if sign else 0)) % (1 << bits)
        return np.array([one(*x) for x in zip(values, at, n)], dtype=f"u{bits // 8}").view(NUMPY[kind])
    return simple(extract, kind, i.operands, sources=[kind, "u32", "u32"])


@family("bfi")
def _insert(i, mods):
    kind = mods.kind()
    bits = 8 * np.dtype(NUMPY[kind]).itemsize
    def insert(a, b, position, length):
        position, length = (position & np.uint32(255)).astype(np.uint64), (length & np.uint32(255)).astype(np.uint64)
        one = np.uint64(1)
        mask = np.where(length >= bits, ~np.uint64(0), (one << np.minimum(length, np.uint64(63))) - one)
        at = np.minimum(position, np.uint64(63))
        mask = np.where(position >= bits, np.uint64(0), mask << at)
        return ((b.astype(np.uint64) & ~mask) | ((a.astype(np.uint64) << at) & mask)).astype(NUMPY[kind])
    return simple(insert, kind, i.operands, sources=[kind, kind, "u32", "u32"])


@family("popc", "clz", "brev", "bfind")
def _count(i, mods):
    kind = mods.kind()
    bits = 8 * np.dtype(NUMPY[kind]).itemsize
    one = {"popc": lambda v: v.bit_count(), "clz": lambda v: bits - v.bit_length(),
           "brev": lambda v: int(f"{v:0{bits}b}"[::-1], 2),
           "bfind": lambda v: v.bit_length() - 1 if v else 0xFFFFFFFF}[i.opcode]
    result = kind if i.opcode == "brev" else "u32"
    if i.opcode == "bfind" and kind[0] != "u":
        raise PtxError("bfind of a signed type")
    if mods.take("shiftamt"):  # how far to shift left, in place of which bit
        one = lambda v: bits - v.bit_length() if v else 0xFFFFFFFF
    def count(a):
        return np.array([one(int(v)) for v in a.view(f"u{bits // 8}")], dtype=np.dtype(NUMPY[result]))
    return simple(count, kind, i.operands, result=result)


@family("prmt")
def _permute(i, mods):
    mods.take("b32")
    def permute(a, b, selector):
        both = b.astype(np.uint64) << np.uint64(32) | a.astype(np.uint64)
        out = np.zeros(1, np.uint32)
        for k in range(4):
            nibble = selector >> np.uint32(4 * k) & np.uint32(15)
            byte = (both >> ((nibble & np.uint32(7)).astype(np.uint64) * np.uint64(8)) & np.uint64(255)).astype(np.uint32)
            sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
            out = out | np.where(nibble & np.uint32(8), sign, byte) << np.uint32(8 * k)
        return out
    return simple(permute, "u32", i.operands)


@family("lop3")
def _lop3(i, mods):
    mods.take("b32")
    table = i.operands[4].bits
    def logic(a, b, c):
        out = np.zeros(1, np.uint32)
        for k in range(8):
            if table >> k & 1:
                out = out | (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
        return out
    return simple(logic, "u32", i.operands[:4])


@family("selp")
def _select(i, mods):
    kind = mods.kind()
    return simple(lambda a, b, p: np.where(p, a, b), kind, i.operands, sources=[kind, kind, "pred"])


COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
           "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}


@family("setp", "set")
def _setp(i, mods):
    kind = mods.kind()
    result = mods.kind() if i.opcode == "set" else "pred"
    flush = mods.take("ftz")
    word = mods.take(*COMPARE, *(c + "u" for c in ("eq", "ne", "lt", "le", "gt", "ge")), "num", "nan")
    joined = mods.take("and", "or", "xor")
    a, b = reader(i.operands[1], kind), reader(i.operands[2], kind)
    third = reader(i.operands[3], "pred") if joined else None
    outs = i.operands[0].parts if isinstance(i.operands[0], Vector) else (i.operands[0],)
    writes = [writer(o, result) for o in outs]
    if i.opcode == "set" and result not in ("u32", "s32", "b32", "f32"):
        raise PtxError(f"set of {result}")
    def run(m, idx):
        x, y = a(m, idx), b(m, idx)
        if kind == "f16" or flush or kind == "bf16":
            if kind == "bf16":
                x, y = arithmetic.from_bf16(x), arithmetic.from_bf16(y)
            elif kind == "f32":
                x, y = arithmetic.flush(x), arithmetic.flush(y)
        unordered = (x != x) | (y != y)
        if word in ("num", "nan"):
            p = unordered if word == "nan" else ~unordered
        elif word in COMPARE:
            p = COMPARE[word](x, y)
            if word == "ne":
                p = p & ~unordered
        else:
            p = COMPARE[word[:2]](x, y) | unordered
        for k, write in enumerate(writes):
            value = ~p if k else p
            if third is not None:
                q = third(m, idx)
                value = value & q if joined == "and" else value | q if joined == "or" else value ^ q
            if result != "pred":
                yes = np.float32(1) if result == "f32" else NUMPY[result](-1 if result == "s32" else 0xFFFFFFFF)
                value = np.where(value, yes, NUMPY[result](0))
            write(m, idx, value)
    return run


@family("nanosleep", "pragma")
def _nothing(i, mods):
    mods.take("u32")
    return Step(lambda m, idx: None, "")
