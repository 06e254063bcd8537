"""Reads what the emulated device recorded (kernels/emu/recorder.h): a line that names the version, then events, each a
letter and its fields. Numbers are 8 bytes, strings and byte ranges their length and themselves, little-endian."""
import dataclasses
import struct

import numpy as np

from parser import PtxError

HEADER = b"cairn emulated device recording 1\n"
# DType of kernels/view.h, in its order; bf16 as its bits.
DTYPES = [("fp32", np.float32), ("fp64", np.float64), ("bf16", np.uint16), ("fp16", np.float16), ("uint8", np.uint8),
          ("int32", np.int32), ("int64", np.int64)]


@dataclasses.dataclass
class Launch:
    kernel: str  # mangled, as g++ has it
    file: str  # "pool.cu", or empty
    grid: tuple
    block: tuple
    dynamic_shared: int
    arguments: bytes  # as a std::tuple of the parameters, see parameters_of


@dataclasses.dataclass
class Expectation:
    what: str
    address: int
    dtype: int  # place in DTYPES
    tolerance: float
    want: object  # doubles
    device: bytes  # what the emulated device has there


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, len(HEADER)

    def number(self):
        value, = struct.unpack_from("<Q", self.data, self.at)
        self.at += 8
        return value

    def real(self):
        value, = struct.unpack_from("<d", self.data, self.at)
        self.at += 8
        return value

    def bytes(self):
        n = self.number()
        if self.at + n > len(self.data):
            raise PtxError("the recording is cut off")
        self.at += n
        return self.data[self.at - n:self.at]

    def text(self):
        return self.bytes().decode()


def events(path):
    """Yields (letter, fields): S name | E Expectation | l Launch | m address, bytes | f address | w address, data |
    r address, data | c to, from, bytes | s address, value, bytes | y variable, file, offset, data."""
    with open(path, "rb") as stream:
        data = stream.read()
    if not data.startswith(HEADER):
        raise PtxError(f"{path} is no recording of the emulated device")
    r = _Reader(data)
    while r.at < len(data):
        letter = chr(data[r.at])
        r.at += 1
        if letter == "S":
            yield letter, (r.text(),)
        elif letter == "E":
            yield letter, (Expectation(r.text(), r.number(), r.number(), r.real(), np.frombuffer(r.bytes(), np.float64),
                                       r.bytes()),)
        elif letter == "l":
            kernel, file = r.text(), r.text()
            sizes = [r.number() for _ in range(7)]
            yield letter, (Launch(kernel, file, tuple(sizes[:3]), tuple(sizes[3:6]), sizes[6], r.bytes()),)
        elif letter in "mf":
            yield letter, tuple(r.number() for _ in range(2 if letter == "m" else 1))
        elif letter in "wr":
            yield letter, (r.number(), r.bytes())
        elif letter in "cs":
            yield letter, tuple(r.number() for _ in range(3))
        elif letter == "y":
            yield letter, (r.text(), r.text(), r.number(), r.bytes())
        else:
            raise PtxError(f"unknown event {letter!r} in the recording")


def parameters_of(arguments, declared):
    """The bytes of each parameter. libstdc++ lays a tuple out from its last element to its first, each at the next
    multiple of its alignment (a tuple is derived from the tuple of its rest)."""
    at, places = 0, []
    for v in reversed(declared):
        at = -(-at // v.align) * v.align
        places.insert(0, at)
        at += v.bytes
    most = max((v.align for v in declared), default=1)
    if -(-at // most) * most != len(arguments):
        raise PtxError(f"parameters of {[v.bytes for v in declared]} bytes, {len(arguments)} bytes of arguments")
    return [arguments[p:p + v.bytes] for p, v in zip(places, declared)]


def as_doubles(data, dtype):
    """Bytes of device memory as doubles."""
    name, numpy_type = DTYPES[dtype]
    values = np.frombuffer(data, numpy_type)
    if name == "bf16":
        values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float64)
