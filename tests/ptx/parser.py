"""Reads PTX, as nvcc writes it, into kernels of instructions whose operands are resolved; the source is the PTX ISA,
sections "PTX Language Statements" and "State Spaces". Device functions are inlined where they are called."""
import dataclasses
import re
import struct


class PtxError(Exception):
    """What the interpreter does not know, or what a kernel does that it must not."""


@dataclasses.dataclass(frozen=True)
class Register:
    index: int
    bits: int  # 1 for a predicate
    name: str = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Immediate:
    """`bits` of an integer (Python's, signed or not), or of a float whose width is known."""
    bits: int
    float_width: int = 0


@dataclasses.dataclass(frozen=True)
class Special:
    name: str  # "%tid.x"


@dataclasses.dataclass(frozen=True)
class Symbol:
    """The address of a variable."""
    name: str


@dataclasses.dataclass(frozen=True)
class Address:
    base: object  # Register, Symbol, Immediate, or the name of a parameter
    offset: int


@dataclasses.dataclass(frozen=True)
class Vector:
    parts: tuple


@dataclasses.dataclass(frozen=True)
class Not:
    predicate: Register


SINK = "_"


@dataclasses.dataclass
class Instruction:
    opcode: str  # the first word: "ld"
    modifiers: tuple  # the others: ("global", "v4", "f32")
    operands: tuple
    predicate: object = None  # Register, Not or None
    text: str = ""
    target: int = -1  # of a branch
    targets: tuple = ()  # of an indexed branch


@dataclasses.dataclass
class Variable:
    name: str
    space: str
    bytes: int
    align: int
    data: bytes = b""


@dataclasses.dataclass
class Kernel:
    name: str
    parameters: list  # of Variable, in order
    code: list = dataclasses.field(default_factory=list)
    register_bits: list = dataclasses.field(default_factory=list)
    shared: list = dataclasses.field(default_factory=list)
    local: list = dataclasses.field(default_factory=list)
    threads_most: int = 1024


@dataclasses.dataclass
class Module:
    target: str = ""
    kernels: dict = dataclasses.field(default_factory=dict)
    variables: dict = dataclasses.field(default_factory=dict)
    functions: dict = dataclasses.field(default_factory=dict)


WIDTHS = {"pred": 1, "b8": 8, "u8": 8, "s8": 8, "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16, "b32": 32,
          "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "bf16x2": 32, "b64": 64, "u64": 64, "s64": 64, "f64": 64,
          "b128": 128}


def _statements(text):
    """(depth, statement) pairs; "{" and "}" of scopes are statements of their own."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", " ", text)
    current, braces = "", 0
    for piece in re.split(r"([;{}])", text):
        if piece == "{":
            header = current.strip()
            # A brace opens a scope, unless it is a vector's or an initialiser's, in the middle of a statement.
            if braces == 0 and (not header or re.search(r"\.(entry|func)\b", header)):
                if header:
                    yield header
                yield "{"
                current = ""
            else:
                braces += 1
                current += piece
        elif piece == "}":
            if braces:
                braces -= 1
                current += piece
            else:
                if current.strip():
                    raise PtxError(f"a statement without its end: {current.strip()[:80]}")
                yield "}"
                current = ""
        elif piece == ";":
            if current.strip():
                yield current.strip()
            current = ""
        else:
            current += piece
            # Lines that end without a semicolon: directives of the module, and labels.
            while match := re.match(r"\s*(\.(?:version|target|address_size|file|loc|section|pragma)\b[^\n]*)\n", current):
                if match[1].startswith(".target"):
                    yield match[1]
                current = current[match.end():]
            while match := re.match(r"\s*([$\w]+):(?!:)", current):
                yield match[1] + ":"
                current = current[match.end():]


def _variable(text):
    """`.shared .align 4 .b8 name[64] = {1, 2}`; None if it is something else."""
    match = re.fullmatch(
        r"(?:\.(?:visible|extern|weak|common)\s+)*\.(param|shared|local|global|const)\s+(?:\.align\s+(\d+)\s+)?"
        r"(?:\.attribute\(.*?\)\s+)?(?:\.ptr\s+)?\.(\w+)\s+(?:\.ptr\s+\.?\w*\s*(?:\.align\s+\d+)?\s+)?([$\w]+)"
        r"(?:\[(\d*)\])?\s*(?:=\s*(.*))?", text, re.S)
    if not match:
        return None
    space, align, kind, name, count, initial = match.groups()
    width = WIDTHS[kind] // 8
    count = 1 if count is None else int(count) if count else 0
    data = b""
    if initial:
        values = re.findall(r"[-\w.]+", initial)
        if kind.startswith("f"):
            data = b"".join(_float_bits(v).to_bytes(width, "little") for v in values)
        else:
            data = b"".join((int(v.rstrip("U"), 0) % (1 << (8 * width))).to_bytes(width, "little") for v in values)
    return Variable(name, space, width * count, int(align or width), data.ljust(width * count, b"\0"))


def _float_bits(text):
    if text[:2] in ("0f", "0F", "0d", "0D"):
        return int(text[2:], 16)
    raise PtxError(f"not a float: {text}")


class _Body:
    """Turns the statements of one kernel into instructions."""

    def __init__(self, module, kernel):
        self.module, self.kernel = module, kernel
        self.scopes = [{}]  # name -> Register or Variable or "param" cell prefix
        self.labels, self.pending, self.branch_tables = {}, [], {}
        self.inlined = 0

    def declare(self, bits, name):
        register = Register(len(self.kernel.register_bits), bits, name)
        self.kernel.register_bits.append(bits)
        self.scopes[-1][name] = register
        return register

    def lookup(self, name):
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def run(self, statements, suffix="", returns_to=None):
        for statement in statements:
            if statement == "{":
                self.scopes.append({})
            elif statement == "}":
                self.scopes.pop()
            elif statement.endswith(":"):
                self.labels[statement[:-1] + suffix] = len(self.kernel.code)
            else:
                self.statement(statement, suffix, returns_to)

    def statement(self, text, suffix, returns_to):
        if text.startswith(".reg"):
            match = re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", text, re.S)
            for name in re.split(r"\s*,\s*", match[2].strip()):
                if ranged := re.fullmatch(r"(%?[$\w]+)<(\d+)>", name):
                    for i in range(int(ranged[2])):
                        self.declare(WIDTHS[match[1]], f"{ranged[1]}{i}")
                else:
                    self.declare(WIDTHS[match[1]], name)
        elif text.startswith(".branchtargets"):
            label = [k for k, v in self.labels.items() if v == len(self.kernel.code)][-1]
            self.branch_tables[label] = tuple(x.strip() + suffix for x in text.split(None, 1)[1].split(","))
        elif text.startswith(".pragma"):
            pass
        elif text.startswith("."):
            variable = _variable(text)
            if variable is None:
                raise PtxError(f"unknown declaration: {text[:100]}")
            if variable.space == "param":
                self.scopes[-1][variable.name] = {}  # offset -> Register: it never leaves this code
            elif variable.space in ("shared", "local"):
                unique = dataclasses.replace(variable, name=variable.name + suffix)
                getattr(self.kernel, variable.space).append(unique)
                self.scopes[-1][variable.name] = Symbol(unique.name)
            else:
                raise PtxError(f"unexpected declaration in a kernel: {text[:100]}")
        else:
            self.instruction(text, suffix, returns_to)

    def instruction(self, text, suffix, returns_to):
        text = re.sub(r"\s+", " ", text)
        match = re.fullmatch(r"(?:@(!?)(%?[$\w]+) )?([\w.:]+)(?: (.*))?", text)
        if not match:
            raise PtxError(f"not an instruction: {text}")
        negated, predicate, opcode, rest = match.groups()
        if predicate:
            predicate = self.lookup(predicate)
            predicate = Not(predicate) if negated else predicate
        opcode, *modifiers = re.sub(r"::", "_", opcode).split(".")
        modifiers = tuple(modifiers)
        if opcode == "call":
            if predicate:
                raise PtxError(f"a call under a predicate: {text}")
            self.call(rest)
            return
        if opcode == "ret" and returns_to is not None:
            self.append("bra", ("uni",), (), predicate, text, returns_to)
            return
        if opcode in ("ret", "exit", "trap"):
            self.append(opcode, modifiers, (), predicate, text)
            return
        if opcode == "bra":
            self.append(opcode, modifiers, (), predicate, text, rest.strip() + suffix)
            return
        if opcode == "brx":
            index, table = (x.strip() for x in rest.split(","))
            self.append(opcode, modifiers, (self.operand(index),), predicate, text, table + suffix)
            return
        operands = tuple(self.operand(x) for x in _split(rest or ""))
        # Parameters of calls live in registers of their own.
        if "param" in modifiers and opcode in ("ld", "st"):
            cell = operands[1] if opcode == "ld" else operands[0]
            if isinstance(cell.base, dict):
                widths = {"v2": 2, "v4": 4}
                kind = modifiers[-1]
                values = operands[0] if opcode == "ld" else operands[1]
                parts = values.parts if isinstance(values, Vector) else (values,)
                if len(parts) != next((widths[m] for m in modifiers if m in widths), 1):
                    raise PtxError(f"parts of {text}")
                for i, part in enumerate(parts):
                    at = cell.offset + i * WIDTHS[kind] // 8
                    if at not in cell.base:
                        cell.base[at] = self.declare(WIDTHS[kind], f"param+{at}")
                    pair = (part, cell.base[at]) if opcode == "ld" else (cell.base[at], part)
                    self.append("mov", ("b" + str(WIDTHS[kind]),), pair, predicate, text)
                return
        self.append(opcode, modifiers, operands, predicate, text)

    def append(self, opcode, modifiers, operands, predicate, text, label=None):
        if label is not None:
            self.pending.append((len(self.kernel.code), label))
        self.kernel.code.append(Instruction(opcode, modifiers, operands, predicate, text))

    def call(self, rest):
        """`(retval0), name, (param0, param1)`"""
        match = re.fullmatch(r"(?:\((?P<out>[^)]*)\), )?(?P<name>[$\w]+)(?:, \((?P<args>[^)]*)\))?", rest.strip())
        if not match or match["name"] not in self.module.functions:
            raise PtxError(f"a call of an unknown function: {rest}")
        outs, ins, body = self.module.functions[match["name"]]
        self.inlined += 1
        end = f"$inlined_{self.inlined}"
        scope = {}
        for names, given in ((outs, match["out"]), (ins, match["args"])):
            actual = [x.strip() for x in (given or "").split(",") if x.strip()]
            if len(names) != len(actual):
                raise PtxError(f"arguments of {rest}")
            scope.update({name: self.lookup(a) for name, a in zip(names, actual)})
        outer = self.scopes
        self.scopes = [scope, {}]
        self.run(body, suffix=end, returns_to=end)
        self.scopes = outer
        self.labels[end] = len(self.kernel.code)

    def operand(self, text):
        text = text.strip()
        if text.startswith("{"):
            return Vector(tuple(self.operand(x) for x in _split(text[1:-1])))
        if text.startswith("["):
            return self.address(text[1:-1].strip())
        if text.startswith("!"):
            return Not(self.lookup(text[1:].strip()))
        if "|" in text:
            return Vector(tuple(self.operand(x) for x in text.split("|")))
        if text == SINK:
            return SINK
        if re.match(r"0[fFdD][0-9a-fA-F]+$", text) and len(text) in (10, 18):
            return Immediate(int(text[2:], 16), 32 if text[1] in "fF" else 64)
        if re.match(r"-?(0[xX][0-9a-fA-F]+|\d+)U?$", text):
            return Immediate(int(text.rstrip("U"), 0))
        if text == "WARP_SZ":
            return Immediate(32)
        found = self.lookup(text)
        if found is not None:
            return found
        if re.match(r"%(n?tid|n?ctaid|laneid|lanemask|warpid|clock|globaltimer)", text):
            return Special(text)
        if text in self.module.variables or any(p.name == text for p in self.kernel.parameters):
            return Symbol(text)
        raise PtxError(f"unknown operand {text}")

    def address(self, text):
        match = re.fullmatch(r"([%$\w]+)(?:\s*\+\s*(-?\w+))?", text)
        if not match:
            raise PtxError(f"not an address: {text}")
        offset = int(match[2], 0) if match[2] else 0
        for parameter in self.kernel.parameters:
            if parameter.name == match[1]:
                return Address(parameter.name, offset)
        return Address(self.operand(match[1]), offset)

    def finish(self):
        for at, label in self.pending:
            instruction = self.kernel.code[at]
            if instruction.opcode == "brx":
                instruction.targets = tuple(self.labels[x] for x in self.branch_tables[label])
            else:
                instruction.target = self.labels[label]
        self.kernel.code.append(Instruction("ret", (), (), None, "ret (the end)"))


def _split(text):
    """At commas outside of brackets."""
    out, depth, current = [], 0, ""
    for c in text:
        depth += (c in "[{(") - (c in "]})")
        if c == "," and depth == 0:
            out.append(current)
            current = ""
        else:
            current += c
    return out + [current] if current.strip() else out


def _names(parameters):
    return [_variable(re.sub(r"\s+", " ", p.strip())) for p in parameters.split(",") if p.strip()]


def parse(text):
    """A Module. Raises PtxError for what it cannot read."""
    module, kernels = Module(), []
    header, body, depth = None, [], 0
    for statement in _statements(text):
        if statement == "{":
            depth += 1
            if depth > 1:
                body.append(statement)
        elif statement == "}":
            depth -= 1
            if depth:
                body.append(statement)
                continue
            kernels.append((header, body))
            header, body = None, []
        elif depth:
            body.append(statement)
        elif statement.startswith(".target"):
            module.target = re.search(r"sm_\w+", statement)[0]
        elif re.search(r"\.(entry|func)\b", statement):
            header = statement  # of a prototype too: the next one takes its place
        else:
            variable = _variable(re.sub(r"\s+", " ", statement))
            if variable is None:
                raise PtxError(f"unknown statement: {statement[:100]}")
            module.variables[variable.name] = variable
    for header, body in kernels:
        if not re.search(r"\.entry\b", header):
            match = re.search(r"\.func\s*(?:\((?P<out>.*?)\)\s*)?(?P<name>[$\w]+)\s*(?:\((?P<in>.*?)\))?", header, re.S)
            module.functions[match["name"]] = ([v.name for v in _names(match["out"] or "")],
                                               [v.name for v in _names(match["in"] or "")], body)
    for header, body in kernels:
        if match := re.search(r"\.entry\s+([$\w]+)\s*(?:\((.*?)\))?", header, re.S):
            kernel = Kernel(match[1], _names(match[2] or ""))
            if bound := re.search(r"\.maxntid\s+([\d, ]+)", header):
                kernel.threads_most = 1
                for n in bound[1].split(","):
                    kernel.threads_most *= int(n)
            worker = _Body(module, kernel)
            worker.run(body)
            worker.finish()
            module.kernels[kernel.name] = kernel
    return module


def float_of(immediate, width):
    """The bits of an immediate for a float of `width` bits."""
    if immediate.float_width == width:
        return immediate.bits
    if immediate.float_width == 64 and width == 32:
        return struct.unpack("<I", struct.pack("<f", struct.unpack("<d", struct.pack("<Q", immediate.bits))[0]))[0]
    raise PtxError(f"a float of {immediate.float_width} bits where {width} are wanted")
