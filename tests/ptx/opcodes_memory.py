"""Loads, stores, atomics and fences (PTX ISA, "Data Movement", "Parallel Synchronization": atom, red, membar)."""
import numpy as np

import arithmetic
from opcodes import NUMPY, PtxError, Step, Symbol, family, reader, writer
from parser import SINK, Vector

SPACES = ("global", "shared", "local", "const")
HARMLESS = ("nc", "volatile", "relaxed", "acquire", "release", "acq_rel", "weak", "gpu", "cta", "sys", "L1_no_allocate",
            "L1_evict_last", "L2_128B")


def address_of(operand):
    base, offset = operand.base, operand.offset
    bits = getattr(base, "bits", 64)
    read = reader(base, "u32" if bits == 32 else "u64")  # 32 bits hold an address of shared memory
    def run(m, idx):
        count = m.count if isinstance(idx, slice) else len(idx)
        at = read(m, idx).astype(np.int64) + offset
        return np.broadcast_to(at, (count,)).view(np.uint64) if at.shape == (count,) else np.full(count, at[0]).view(np.uint64)
    return run


def _parts(operand):
    return operand.parts if isinstance(operand, Vector) else (operand,)


def _options(mods, words=()):
    for word in HARMLESS:
        mods.take(word)
    return mods.take(*SPACES, *words), {"v2": 2, "v4": 4, "v8": 8}.get(mods.take("v2", "v4", "v8"), 1)


@family("ld")
def _ld(i, mods):
    kind = mods.kind()
    space, parts = _options(mods, ("param",))
    outs = _parts(i.operands[0])
    if len(outs) != parts:
        raise PtxError("another number of registers than of parts")
    writes = [writer(o, kind) for o in outs]
    dtype = np.dtype(NUMPY[kind])
    width = dtype.itemsize
    if space == "param" and isinstance(i.operands[1].base, str):
        name, offset = i.operands[1].base, i.operands[1].offset
        def run_parameter(m, idx):
            values = m.parameters[name]
            if offset + width * parts > len(values):
                raise PtxError("beyond the parameter's end")
            for k, write in enumerate(writes):
                write(m, idx, np.frombuffer(values, dtype, 1, offset + k * width))
        return run_parameter
    at = address_of(i.operands[1])
    def run(m, idx):
        for write, value in zip(writes, m.memory.load(at(m, idx), width, parts, m, idx)):
            write(m, idx, value.view(dtype))
    return run


@family("ldu")
def _ldu(i, mods):
    return _ld(i, mods)


@family("st")
def _st(i, mods):
    kind = mods.kind()
    _, parts = _options(mods)
    ins = _parts(i.operands[1])
    if len(ins) != parts:
        raise PtxError("another number of registers than of parts")
    reads = [reader(o, _bits(kind)) for o in ins]
    width = np.dtype(NUMPY[kind]).itemsize
    at = address_of(i.operands[0])
    def run(m, idx):
        m.memory.store(at(m, idx), [read(m, idx).view(f"u{width}") for read in reads], width, m, idx)
    return run


def _bits(kind):
    """Integers for any type, and so constants of any kind."""
    return kind if kind in ("f32", "f64") else f"b{8 * np.dtype(NUMPY[kind]).itemsize}"


def _pairs(function, convert, back):
    """An operation on two 16-bit floats in a word."""
    def run(a, b):
        out = 0
        for shift in (0, 16):
            x, y = (convert(np.array([int(v) >> shift & 0xFFFF], np.uint16)) for v in (a, b))
            out |= int(back(function(x, y))[0]) << shift
        return np.uint32(out)
    return run


_ADD_PAIRS = {
    "f16x2": _pairs(lambda x, y: x + y, lambda v: v.view(np.float16).astype(np.float32), arithmetic.to_f16),
    "bf16x2": _pairs(lambda x, y: x + y, arithmetic.from_bf16, arithmetic.to_bf16),
}


def _operation(name, kind):
    """f(old, operands...) -> new"""
    dtype = NUMPY[kind]
    if name == "add" and kind in _ADD_PAIRS:
        return _ADD_PAIRS[kind]
    operations = {
        "add": lambda old, a: dtype(old + a), "min": min, "max": max, "exch": lambda old, a: a,
        "and": lambda old, a: old & a, "or": lambda old, a: old | a, "xor": lambda old, a: old ^ a,
        "inc": lambda old, a: dtype(0) if old >= a else dtype(old + dtype(1)),
        "dec": lambda old, a: a if old == 0 or old > a else dtype(old - dtype(1)),
        "cas": lambda old, a, b: b if old == a else old,
    }
    if name in ("and", "or", "xor", "exch", "cas") and kind[0] == "f":
        raise PtxError(f"{name} of {kind}")
    return operations[name]


@family("atom", "red")
def _atom(i, mods):
    kind = mods.kind()
    _options(mods)
    mods.take("noftz")
    name = mods.take("add", "min", "max", "exch", "and", "or", "xor", "inc", "dec", "cas")
    if name is None:
        raise PtxError("an unknown atomic")
    operation, dtype = _operation(name, kind), np.dtype(NUMPY[kind])
    operands = i.operands if i.opcode == "atom" else (SINK,) + i.operands
    write, at = writer(operands[0], kind), address_of(operands[1])
    reads = [reader(o, kind) for o in operands[2:]]
    def run(m, idx):
        addresses = at(m, idx)
        threads = m.thread[idx]
        values = [np.broadcast_to(read(m, idx), addresses.shape) for read in reads]
        olds = np.empty(len(addresses), dtype)
        for k in range(len(addresses)):  # one after the other: threads in order
            one = addresses[k:k + 1]
            old = m.memory.load(one, dtype.itemsize, 1, m, threads[k:k + 1])[0].view(dtype)
            olds[k] = old[0]
            new = np.array([operation(old[0], *[v[k] for v in values])]).astype(dtype)
            m.memory.store(one, [new.view(f"u{dtype.itemsize}")], dtype.itemsize, m, threads[k:k + 1])
        write(m, idx, olds)
    return run


@family("membar", "fence")
def _fence(i, mods):  # instructions of a launch run one after the other here
    mods.take("gl", "cta", "sys", "gpu")
    mods.take("sc", "acq_rel")
    mods.take("gpu", "sys", "cta")
    return Step(lambda m, idx: None, "")


@family("prefetch", "discard")
def _hint(i, mods):
    mods.take("global")
    mods.take("L1", "L2")
    return Step(lambda m, idx: None, "")
