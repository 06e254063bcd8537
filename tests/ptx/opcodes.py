"""What each instruction does: translate() turns it into a step whose run(machine, threads) does it for many threads.
Every modifier has to be understood; what is not raises PtxError. The families are spread over opcodes_*.py."""
import dataclasses

import numpy as np

from parser import SINK, Address, Immediate, Not, PtxError, Register, Special, Symbol, Vector, float_of

NUMPY = {"u8": np.uint8, "s8": np.int8, "b8": np.uint8, "u16": np.uint16, "s16": np.int16, "b16": np.uint16,
         "u32": np.uint32, "s32": np.int32, "b32": np.uint32, "u64": np.uint64, "s64": np.int64, "b64": np.uint64,
         "f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": np.uint16, "f16x2": np.uint32,
         "bf16x2": np.uint32, "pred": np.bool_}
INTEGERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")
FAMILIES = {}  # opcode -> function(instruction, modifiers) -> run


@dataclasses.dataclass
class Step:
    run: object
    text: str
    predicate: object = None
    control: object = None  # of instructions that the scheduler has to know of
    release: object = None  # of barriers


def family(*names):
    def register(function):
        for name in names:
            FAMILIES[name] = function
        return function
    return register


class Modifiers:
    """The words behind the opcode; each has to be taken by somebody."""

    def __init__(self, words):
        self.words = list(words)

    def take(self, *names, default=None):
        for name in names:
            if name in self.words:
                self.words.remove(name)
                return name
        return default

    def kind(self):
        """The type, which comes last."""
        if not self.words or self.words[-1] not in NUMPY:
            raise PtxError(f"no type among {self.words}")
        return self.words.pop()

    def done(self):
        if self.words:
            raise PtxError(f"unknown modifier {self.words}")


def translate(instruction):
    if instruction.opcode not in FAMILIES:
        raise PtxError(f"unknown opcode: {instruction.text}")
    modifiers = Modifiers(instruction.modifiers)
    try:
        made = FAMILIES[instruction.opcode](instruction, modifiers)
        modifiers.done()
    except PtxError as error:
        raise PtxError(f"{instruction.text}: {error}") from None
    if isinstance(made, Step):
        made.text, made.predicate = instruction.text, instruction.predicate
        return made
    return Step(made, instruction.text, instruction.predicate)


# ---- operands ----


def reader(operand, kind):
    """f(machine, threads) -> array of the type's numpy type (one element for a constant)."""
    dtype = np.dtype(NUMPY[kind])
    if isinstance(operand, Register):
        index, bits = operand.index, operand.bits
        if kind == "pred" or bits == 1:
            if kind != "pred" or bits != 1:
                raise PtxError(f"{operand.name} read as {kind}")
            return lambda m, idx: m.registers[index][idx]
        if bits == 8 * dtype.itemsize:
            return lambda m, idx: m.registers[index].view(dtype)[idx]
        if bits > 8 * dtype.itemsize:  # the low part of a wider register
            ratio = bits // 8 // dtype.itemsize
            return lambda m, idx: m.registers[index].view(dtype).reshape(-1, ratio)[idx, 0]
        raise PtxError(f"{operand.name} has fewer bits than {kind}")
    if isinstance(operand, Not):
        inner = reader(operand.predicate, "pred")
        return lambda m, idx: ~inner(m, idx)
    if isinstance(operand, Immediate):
        value = constant(operand, kind)
        return lambda m, idx: value
    if isinstance(operand, Special):
        name = operand.name
        return lambda m, idx: m.special(name).astype(dtype)[idx]
    if isinstance(operand, (Symbol, Address)):
        symbol = operand.base if isinstance(operand, Address) else operand
        name, offset = symbol.name, getattr(operand, "offset", 0)
        return lambda m, idx: np.array([m.memory.symbols[name] + offset]).astype(dtype)
    raise PtxError(f"cannot read {operand}")


def constant(operand, kind):
    dtype = np.dtype(NUMPY[kind])
    if kind == "pred":
        return np.array([bool(operand.bits)])
    width = 8 * dtype.itemsize
    if operand.float_width or (kind in ("f32", "f64")):
        if not operand.float_width:
            raise PtxError(f"an integer constant for {kind}")
        bits = float_of(operand, width)
    else:
        bits = operand.bits % (1 << width)
    return np.array([bits], dtype=np.dtype(f"u{dtype.itemsize}")).view(dtype)


def writer(operand, kind):
    """f(machine, threads, values). A wider register takes integers extended by their sign."""
    dtype = np.dtype(NUMPY[kind])
    if operand == SINK:
        return lambda m, idx, v: None
    if not isinstance(operand, Register):
        raise PtxError(f"cannot write {operand}")
    index, bits = operand.index, operand.bits
    if kind == "pred":
        if bits != 1:
            raise PtxError(f"{operand.name} is no predicate")
        def write(m, idx, v):
            m.registers[index][idx] = v
        return write
    if bits == 8 * dtype.itemsize:
        def write(m, idx, v):
            m.registers[index].view(dtype)[idx] = v
        return write
    if bits > 8 * dtype.itemsize:
        extended = np.dtype(f"i{bits // 8}") if dtype.kind == "i" else np.dtype(f"u{bits // 8}")
        raw = dtype if dtype.kind in "iu" else np.dtype(f"u{dtype.itemsize}")
        def write(m, idx, v):
            m.registers[index].view(extended)[idx] = np.asarray(v, dtype).view(raw).astype(extended)
        return write
    raise PtxError(f"{operand.name} has fewer bits than {kind}")


def simple(function, kind, operands, result=None, sources=None):
    """A step that writes function(a, b, ...) of operands of one type."""
    out = writer(operands[0], result or kind)
    ins = [reader(o, k) for o, k in zip(operands[1:], sources or [kind] * len(operands))]
    return lambda m, idx: out(m, idx, function(*[f(m, idx) for f in ins]))


# ---- control ----


def _split_by_predicate(machine, threads, idx, step):
    if step.predicate is None:
        return threads, threads[:0]
    chosen = machine.predicate(step.predicate, idx)
    return threads[chosen], threads[~chosen]


@family("bra")
def _bra(i, mods):
    mods.take("uni")
    def control(m, pc, threads, idx, step):
        taken, rest = _split_by_predicate(m, threads, idx, step)
        m.put(i.target, taken)
        m.put(pc + 1, rest)
    return Step(None, "", control=control)


@family("brx")
def _brx(i, mods):
    mods.take("idx")
    mods.take("uni")
    index = reader(i.operands[0], "u32")
    def control(m, pc, threads, idx, step):
        taken, rest = _split_by_predicate(m, threads, idx, step)
        m.put(pc + 1, rest)
        at = np.broadcast_to(index(m, taken), taken.shape)
        if (at >= len(i.targets)).any():
            raise PtxError("a jump outside its table")
        for k in np.unique(at):
            m.put(i.targets[k], taken[at == k])
    return Step(None, "", control=control)


@family("ret", "exit")
def _ret(i, mods):
    mods.take("uni")
    def control(m, pc, threads, idx, step):
        gone, rest = _split_by_predicate(m, threads, idx, step)
        m.exit(gone)
        m.put(pc + 1, rest)
    return Step(None, "", control=control)


@family("trap")
def _trap(i, mods):
    def control(m, pc, threads, idx, step):
        gone, rest = _split_by_predicate(m, threads, idx, step)
        if len(gone):
            raise PtxError("trap")
        m.put(pc + 1, rest)
    return Step(None, "", control=control)


import opcodes_float  # noqa: E402, F401  they fill FAMILIES
import opcodes_integer  # noqa: E402, F401
import opcodes_memory  # noqa: E402, F401
import opcodes_warp  # noqa: E402, F401
