#!/usr/bin/env python3
"""Tests of the interpreter itself: for each family of instructions small programs with known answers, from the PTX ISA's
own definitions or from exact fractions; unknown instructions and wrong programs have to be errors."""
import math
import random
import struct
import unittest
from fractions import Fraction

import numpy as np

import kernels  # noqa: F401  the modules are complete with it
import machine
import memory
import parser
from parser import PtxError

IN, OUT = 0x2000_0000_0000, 0x2000_0001_0000


def run(body, words=(0,), out_words=1, threads=None, block=None, in_words=1, declare="", dynamic=0):
    """Runs `body` for each group of in_words of `words`: %rd3 and %rd4 are the thread's in and out, %r1 is %tid.x, %rd1 and
    %rd2 begin them. The out words, those of a thread in a row."""
    threads = threads or len(words) // in_words
    text = f"""
.version 8.4
.target sm_90
.address_size 64
{declare}
.visible .entry t(
 .param .u64 t_in,
 .param .u64 t_out
)
{{
 .reg .pred %p<8>; .reg .b16 %rs<16>; .reg .b32 %r<32>; .reg .f32 %f<16>; .reg .b64 %rd<32>; .reg .f64 %fd<16>;
 ld.param.u64 %rd1, [t_in]; ld.param.u64 %rd2, [t_out];
 mov.u32 %r1, %tid.x;
 mad.wide.u32 %rd3, %r1, {4 * in_words}, %rd1;
 mad.wide.u32 %rd4, %r1, {4 * out_words}, %rd2;
{body}
 ret;
}}
"""
    module = parser.parse(text)
    program = machine.Program(module.kernels["t"], module, memory.lay_out_module(module))
    heap = memory.Heap()
    data = np.array([w % (1 << 32) for w in words], np.uint32)
    heap.allocate(IN, data.nbytes)
    heap.bytes_at(IN, data.nbytes)[:] = data.view(np.uint8)
    heap.allocate(OUT, 4 * out_words * threads)
    heap.bytes_at(OUT, 4 * out_words * threads)[:] = 0
    program.launch(heap, (1, 1, 1), block or (threads, 1, 1), dynamic, [struct.pack("<Q", IN), struct.pack("<Q", OUT)])
    return [int(x) for x in heap.bytes_at(OUT, 4 * out_words * threads).view(np.uint32)]


def f32(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def value32(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def f64(x):
    bits, = struct.unpack("<Q", struct.pack("<d", x))
    return [bits & 0xFFFFFFFF, bits >> 32]


def rounded(exact, digits, least, mode="rn"):
    """An exact fraction to a float of `digits` binary digits, none below 2^least."""
    if exact == 0:
        return Fraction(0)
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    while Fraction(2) ** exponent > size:
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= size:
        exponent += 1
    unit = Fraction(2) ** max(exponent - digits + 1, least)
    n, rest = divmod(size, unit)
    up = {"rn": rest * 2 > unit or (rest * 2 == unit and n % 2 == 1), "rz": False,
          "rm": exact < 0 and rest > 0, "rp": exact > 0 and rest > 0}[mode]
    return (n + up) * unit * (1 if exact > 0 else -1)


def random_floats(count, seed, low=-20, high=20):
    """Bits of float32 whose exponents lie near each other, so that sums cancel and round."""
    source = random.Random(seed)
    return [f32(math.ldexp(source.choice((-1, 1)) * (1 + source.getrandbits(23) / (1 << 23)), source.randint(low, high)))
            for _ in range(count)]


def unary(kind_in, instruction, kind_out, register_in, register_out):
    return f"ld.global.{kind_in} {register_in}, [%rd3]; {instruction} {register_out}, {register_in}; " \
           f"st.global.{kind_out} [%rd4], {register_out};"


class Integers(unittest.TestCase):
    def binary(self, instruction, pairs, kind="b32", out="%r4"):
        words = [w for p in pairs for w in p]
        return run(f"ld.global.v2.u32 {{%r2, %r3}}, [%rd3]; {instruction} {out}, %r2, %r3; st.global.{kind} [%rd4], {out};",
                   words, in_words=2, out_words=2 if kind == "b64" else 1)

    def test_add_sub_wrap(self):
        self.assertEqual(self.binary("add.s32", [(0xFFFFFFFF, 2)]), [1])
        self.assertEqual(self.binary("sub.u32", [(1, 3)]), [0xFFFFFFFE])

    def test_products(self):
        self.assertEqual(self.binary("mul.lo.s32", [(0x10001, 0x10001)]), [0x20001])
        self.assertEqual(self.binary("mul.hi.u32", [(0xFFFFFFFF, 0xFFFFFFFF)]), [0xFFFFFFFE])
        self.assertEqual(self.binary("mul.hi.s32", [(0xFFFFFFFF, 0xFFFFFFFF), (0x80000000, 2)]), [0, 0xFFFFFFFF])
        self.assertEqual(self.binary("mul.wide.u32", [(0xFFFFFFFF, 2)], "b64", "%rd9"), [0xFFFFFFFE, 1])
        self.assertEqual(self.binary("mul.wide.s32", [(0xFFFFFFFF, 2)], "b64", "%rd9"), [0xFFFFFFFE, 0xFFFFFFFF])
        source = random.Random(1)
        for signed in "us":
            for _ in range(8):
                a, b = source.getrandbits(64), source.getrandbits(64)
                to = lambda v: v - (1 << 64) if signed == "s" and v >> 63 else v
                want = (to(a) * to(b) >> 64) % (1 << 64)
                got = run(f"ld.global.v2.u64 {{%rd5, %rd6}}, [%rd3]; mul.hi.{signed}64 %rd7, %rd5, %rd6; st.global.u64 [%rd4], %rd7;",
                          [a & 0xFFFFFFFF, a >> 32, b & 0xFFFFFFFF, b >> 32], in_words=4, out_words=2)
                self.assertEqual(got, [want & 0xFFFFFFFF, want >> 32])

    def test_division_is_towards_zero(self):
        self.assertEqual(self.binary("div.s32", [(-7, 2), (7, -2), (-8, -3), (-2147483648, 3)]),
                         [w % (1 << 32) for w in (-3, -3, 2, -715827882)])
        self.assertEqual(self.binary("rem.s32", [(-7, 2), (7, -2)]), [w % (1 << 32) for w in (-1, 1)])
        self.assertEqual(self.binary("div.u32", [(0xFFFFFFFF, 16)]), [0x0FFFFFFF])

    def test_shifts_clamp(self):
        self.assertEqual(self.binary("shl.b32", [(1, 31), (1, 32), (1, 255)]), [0x80000000, 0, 0])
        self.assertEqual(self.binary("shr.u32", [(0x80000000, 31), (0x80000000, 32)]), [1, 0])
        self.assertEqual(self.binary("shr.s32", [(0x80000000, 4), (0x80000000, 99)]), [0xF8000000, 0xFFFFFFFF])

    def test_bits(self):
        self.assertEqual(run(unary("b32", "popc.b32", "u32", "%r2", "%r3"), [0, 0xF00F000F]), [0, 12])
        self.assertEqual(run(unary("b32", "clz.b32", "u32", "%r2", "%r3"), [0, 1, 0x80000000]), [32, 31, 0])
        self.assertEqual(run(unary("b32", "bfind.u32", "u32", "%r2", "%r3"), [0, 1, 0x00F00000]), [0xFFFFFFFF, 0, 23])
        self.assertEqual(run(unary("b32", "bfind.shiftamt.u32", "u32", "%r2", "%r3"), [0, 1, 0x00F00000]), [0xFFFFFFFF, 31, 8])
        self.assertEqual(run(unary("b32", "brev.b32", "u32", "%r2", "%r3"), [1, 0x0000F000]), [0x80000000, 0x000F0000])
        self.assertEqual(run("bfi.b32 %r4, 5, -1, 4, 8; st.global.u32 [%rd4], %r4;"), [0xFFFFF05F])
        self.assertEqual(run("bfe.u32 %r4, 0x12345678, 8, 8; st.global.u32 [%rd4], %r4;"), [0x56])
        self.assertEqual(run("bfe.s32 %r4, 0x1234F678, 8, 8; st.global.u32 [%rd4], %r4;"), [0xFFFFFFF6])
        self.assertEqual(self.binary("and.b32", [(0xFF00FF00, 0x0FF00FF0)]), [0x0F000F00])
        self.assertEqual(run("lop3.b32 %r4, 0xF0, 0xCC, 0xAA, 0x96; st.global.u32 [%rd4], %r4;"), [0xF0 ^ 0xCC ^ 0xAA])
        # PTX ISA, prmt: nibbles choose bytes; the highest bit of a nibble spreads the sign.
        self.assertEqual(run("prmt.b32 %r4, 0x33221100, 0x776655B4, 0x5C10; st.global.u32 [%rd4], %r4;"), [0x55FF1100])
        self.assertEqual(run("shf.l.wrap.b32 %r4, 0x80000000, 1, 1; shf.r.clamp.b32 %r5, 0x12345678, 0x9, 32; "
                             "st.global.v2.u32 [%rd4], {%r4, %r5};", out_words=2), [3, 9])

    def test_moves(self):
        self.assertEqual(run("mov.b64 %rd5, {%r1, 7}; mov.b64 {%r2, %r3}, %rd5; st.global.v2.u32 [%rd4], {%r3, %r2};",
                             out_words=2), [7, 0])
        self.assertEqual(run("{ .reg .b16 low; mov.b32 {low, %rs1}, 0x12345678; mov.b32 %r2, {%rs1, low}; } "
                             "st.global.u32 [%rd4], %r2;"), [0x56781234])
        self.assertEqual(run("mov.b64 {_, %r2}, 0x1122334455667788; st.global.u32 [%rd4], %r2;"), [0x11223344])

    def test_predicates(self):
        self.assertEqual(run("ld.global.u32 %r2, [%rd3]; setp.lt.s32 %p1, %r2, 0; selp.b32 %r3, 1, 2, %p1; "
                             "@!%p1 add.s32 %r3, %r3, 40; st.global.u32 [%rd4], %r3;", [5, -5]), [42, 1])
        self.assertEqual(run("setp.eq.s32 %p1, 0, 0; setp.gt.and.u32 %p2|%p3, 1, 2, %p1; selp.b32 %r3, 1, 0, %p2; "
                             "selp.b32 %r4, 1, 0, %p3; st.global.v2.u32 [%rd4], {%r3, %r4};", out_words=2), [0, 1])
        nan = "0f7FC00000"
        for word, want in (("eq", 0), ("ne", 0), ("lt", 0), ("equ", 1), ("neu", 1), ("gtu", 1), ("num", 0), ("nan", 1)):
            self.assertEqual(run(f"setp.{word}.f32 %p1, {nan}, 0f3F800000; selp.b32 %r3, 1, 0, %p1; "
                                 "st.global.u32 [%rd4], %r3;"), [want], word)


class Floats(unittest.TestCase):
    def test_fma_is_rounded_once(self):
        count = 1000
        a, b = random_floats(count, 1), random_floats(count, 2)
        # Addends that nearly cancel the product, and others.
        c = [f32(-value32(x) * value32(y) * (1 + 2**-20)) if i % 2 else z
             for i, (x, y, z) in enumerate(zip(a, b, random_floats(count, 3)))]
        words = [w for t in zip(a, b, c, [0] * count) for w in t]
        for mode in ("rn", "rz", "rm", "rp"):
            got = run(f"ld.global.v4.f32 {{%f1, %f2, %f3, %f4}}, [%rd3]; fma.{mode}.f32 %f5, %f1, %f2, %f3; "
                      "st.global.f32 [%rd4], %f5;", words, in_words=4)
            for x, y, z, g in zip(a, b, c, got):
                exact = Fraction(value32(x)) * Fraction(value32(y)) + Fraction(value32(z))
                self.assertEqual(Fraction(value32(g)), rounded(exact, 24, -149, mode), (mode, x, y, z))

    def test_fma_subnormal_and_overflow(self):
        def fma(x, y, z):
            return run("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd3]; fma.rn.f32 %f5, %f1, %f2, %f3; st.global.f32 [%rd4], %f5;",
                       [f32(x), f32(y), f32(z), 0], in_words=4)[0]
        self.assertEqual(fma(2.0**-100, 2.0**-49, 0.0), 1)
        self.assertEqual(fma(2.0**-100, 2.0**-50, 0.0), 0)  # a tie to even
        self.assertEqual(fma(2.0**-100, 1.5 * 2.0**-50, 0.0), 1)
        self.assertEqual(fma(2.0**100, 2.0**100, 0.0), 0x7F800000)

    def test_fma64_is_rounded_once(self):
        source = random.Random(5)
        for _ in range(60):
            x, y = source.uniform(1, 2), source.uniform(1, 2)
            z = -x * y * (1 + source.choice((0, 2**-52, 2**-30)))
            got = run("ld.global.v2.f64 {%fd1, %fd2}, [%rd3]; ld.global.f64 %fd3, [%rd3+16]; fma.rn.f64 %fd4, %fd1, %fd2, %fd3; "
                      "st.global.f64 [%rd4], %fd4;", f64(x) + f64(y) + f64(z) + [0, 0], in_words=8, out_words=2)
            exact = Fraction(x) * Fraction(y) + Fraction(z)
            self.assertEqual(got, f64(float(rounded(exact, 53, -1074))))

    def test_directed_sums(self):
        self.assertEqual([run(f"add.{m}.f32 %f1, 0f3F800000, 0f33000000; st.global.f32 [%rd4], %f1;")[0]
                          for m in ("rn", "rz", "rm", "rp")], [0x3F800000, 0x3F800000, 0x3F800000, 0x3F800001])

    def test_least_and_greatest(self):
        def least(name, x, y):
            return run(f"{name} %f3, 0f{x:08X}, 0f{y:08X}; st.global.f32 [%rd4], %f3;")[0]
        nan, one = 0x7FC00000, 0x3F800000
        self.assertEqual(least("min.f32", nan, one), one)
        self.assertEqual(least("max.f32", one, nan), one)
        self.assertEqual(least("min.f32", 0, 0x80000000), 0x80000000)
        self.assertEqual(least("max.f32", 0x80000000, 0), 0)
        self.assertEqual(least("max.NaN.f32", one, nan) & 0x7FC00000, nan)

    def test_functions(self):
        self.assertEqual(run(unary("f32", "sqrt.rn.f32", "f32", "%f1", "%f2"), [f32(2.0)]), [f32(math.sqrt(2))])
        self.assertEqual(run(unary("f32", "ex2.approx.ftz.f32", "f32", "%f1", "%f2"), [f32(-3.0), 0xFF800000]), [f32(0.125), 0])
        self.assertEqual(run(unary("f32", "lg2.approx.ftz.f32", "f32", "%f1", "%f2"), [f32(8.0)]), [f32(3.0)])
        self.assertEqual(run(unary("f32", "rcp.rn.f32", "f32", "%f1", "%f2"), [f32(3.0)]), [f32(1 / 3)])
        self.assertEqual(run("div.rn.f32 %f1, 0f3F800000, 0f40400000; st.global.f32 [%rd4], %f1;"), [f32(1 / 3)])
        self.assertEqual(run(unary("f32", "rsqrt.approx.f32", "f32", "%f1", "%f2"), [f32(16.0)]), [f32(0.25)])
        self.assertEqual(run("mul.ftz.f32 %f1, 0f00400000, 0f40000000; st.global.f32 [%rd4], %f1;"), [0])
        self.assertEqual(run("fma.rn.sat.f32 %f1, 0f40000000, 0f40000000, 0f00000000; st.global.f32 [%rd4], %f1;"), [f32(1.0)])


class Conversions(unittest.TestCase):
    # Ties, just above them, largest values, subnormals, infinities, signs.
    HARD = [0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x7F7F7FFF, 0x7F800000, 0xFF800000, 0x00008000,
            0x00018000, 0x80000001, 0x477FE000, 0x477FEFFF, 0x477FF000, 0x33000000, 0x33000001, 0x33800000, 0x387FC000,
            0x38802000, 0x38806000, 0xB8802001, 0x80000000]

    def expect(self, word, bits, digits, least, most, infinity):
        sign = word >> 31
        x = value32(word)
        if math.isinf(x):
            return infinity | sign << 15
        r = rounded(Fraction(x), digits, least)
        if abs(r) > most:
            return infinity | sign << 15
        return bits(float(abs(r))) | sign << 15

    def test_bf16(self):
        words = self.HARD + random_floats(500, 7, -30, 30)
        got = run("ld.global.f32 %f1, [%rd3]; cvt.rn.bf16.f32 %rs1, %f1; cvt.u32.u16 %r2, %rs1; st.global.u32 [%rd4], %r2;", words)
        most = Fraction(255, 128) * 2**127
        self.assertEqual(got, [self.expect(w, lambda v: f32(v) >> 16, 8, -133, most, 0x7F80) for w in words])
        self.assertEqual(run("cvt.rn.bf16.f32 %rs1, 0f7F800001; cvt.u32.u16 %r2, %rs1; st.global.u32 [%rd4], %r2;"), [0x7FFF])

    def test_fp16(self):
        words = self.HARD + random_floats(500, 8, -26, 16)
        got = run("ld.global.f32 %f1, [%rd3]; cvt.rn.f16.f32 %rs1, %f1; cvt.u32.u16 %r2, %rs1; st.global.u32 [%rd4], %r2;", words)
        half = lambda v: struct.unpack("<H", struct.pack("<e", v))[0]
        self.assertEqual(got, [self.expect(w, half, 11, -24, Fraction(65504), 0x7C00) for w in words])
        back = run("ld.global.u32 %r2, [%rd3]; cvt.u16.u32 %rs1, %r2; cvt.f32.f16 %f1, %rs1; st.global.f32 [%rd4], %f1;",
                   [0x3C01, 0x0001, 0xFBFF, 0x7C00])
        self.assertEqual(back, [f32(1 + 2**-10), f32(2.0**-24), f32(-65504.0), 0x7F800000])

    def test_pairs(self):  # the first source becomes the upper half
        self.assertEqual(run("cvt.rn.bf16x2.f32 %r2, 0f3F800000, 0f40000000; st.global.u32 [%rd4], %r2;"), [0x3F804000])
        self.assertEqual(run("cvt.rn.f16x2.f32 %r2, 0f3F800000, 0f40000000; st.global.u32 [%rd4], %r2;"), [0x3C004000])

    def test_double_to_narrow(self):
        source = random.Random(3)
        values = [1 + 2**-24 + 2**-50, 1 + 2**-24, 1 + 2**-8 + 2**-40, 1 + 2**-11 + 2**-40, 65519.999999,
                  *(source.uniform(-4, 4) for _ in range(200))]
        words = [w for v in values for w in f64(v)]
        for kind, digits, least, bits in (("f32", 24, -149, f32), ("f16", 11, -24, lambda v: struct.unpack("<H", struct.pack("<e", v))[0]),
                                          ("bf16", 8, -133, lambda v: f32(v) >> 16)):
            register = "%f1" if kind == "f32" else "%rs1"
            widen = "mov.b32 %r2, %f1;" if kind == "f32" else "cvt.u32.u16 %r2, %rs1;"
            got = run(f"ld.global.f64 %fd1, [%rd3]; cvt.rn.{kind}.f64 {register}, %fd1; {widen} st.global.u32 [%rd4], %r2;",
                      words, in_words=2)
            self.assertEqual(got, [bits(float(rounded(Fraction(v), digits, least))) for v in values], kind)

    def test_float_to_integer(self):
        values = [2.5, -2.5, 3.5, 1e10, -1e10, -0.7, 4.3e9]
        words = [f32(v) for v in values] + [0x7FC00000]
        def convert(form, register="%r2"):
            return run(f"ld.global.f32 %f1, [%rd3]; cvt.{form}.f32 {register}, %f1; st.global.u32 [%rd4], {register};", words)
        signed = lambda ws: [w - (1 << 32) if w >> 31 else w for w in ws]
        self.assertEqual(signed(convert("rzi.s32")), [2, -2, 3, 2**31 - 1, -2**31, 0, 2**31 - 1, 0])
        self.assertEqual(signed(convert("rni.s32")), [2, -2, 4, 2**31 - 1, -2**31, -1, 2**31 - 1, 0])
        self.assertEqual(signed(convert("rmi.s32")), [2, -3, 3, 2**31 - 1, -2**31, -1, 2**31 - 1, 0])
        self.assertEqual(convert("rzi.u32"), [2, 0, 3, 2**32 - 1, 0, 0, 2**32 - 1, 0])
        self.assertEqual(run("cvt.rni.f32.f32 %f1, 0f40200000; st.global.f32 [%rd4], %f1;"), [f32(2.0)])

    def test_integer_to_float_and_widths(self):
        self.assertEqual(run("ld.global.u32 %r2, [%rd3]; cvt.rn.f32.s32 %f1, %r2; st.global.f32 [%rd4], %f1;",
                             [16777217, -16777219]), [f32(16777216.0), f32(-16777220.0)])
        self.assertEqual(run("ld.global.u32 %r2, [%rd3]; cvt.s64.s32 %rd5, %r2; st.global.u64 [%rd4], %rd5;", [-2], out_words=2),
                         [0xFFFFFFFE, 0xFFFFFFFF])
        self.assertEqual(run("ld.global.u32 %r2, [%rd3]; cvt.s32.s8 %r3, %r2; st.global.u32 [%rd4], %r3;", [0x1F0]), [0xFFFFFFF0])
        self.assertEqual(run("ld.global.s8 %r2, [%rd3]; st.global.u32 [%rd4], %r2;", [0xF0]), [0xFFFFFFF0])
        self.assertEqual(run("ld.global.u8 %rs1, [%rd3+1]; cvt.u32.u16 %r2, %rs1; st.global.u32 [%rd4], %r2;", [0xABCD]), [0xAB])


class Memories(unittest.TestCase):
    def test_shared_and_barrier(self):
        got = run(""".shared .align 4 .b8 s[256];
            mov.u32 %r2, s; shl.b32 %r3, %r1, 2; add.s32 %r4, %r2, %r3; st.shared.u32 [%r4], %r1; bar.sync 0;
            sub.s32 %r5, 63, %r1; shl.b32 %r5, %r5, 2; add.s32 %r5, %r2, %r5; ld.shared.u32 %r6, [%r5]; st.global.u32 [%rd4], %r6;""",
                  [0] * 64)
        self.assertEqual(got, list(range(63, -1, -1)))

    def test_local_and_generic(self):
        got = run(""".local .align 8 .b8 l[16]; mov.u64 %rd5, l; cvta.local.u64 %rd6, %rd5; st.u32 [%rd6+4], %r1;
            ld.local.u32 %r2, [%rd5+4]; st.u32 [%rd4], %r2;""", [0] * 5)
        self.assertEqual(got, [0, 1, 2, 3, 4])

    def test_constants(self):
        self.assertEqual(run("mul.wide.u32 %rd5, %r1, 4; mov.u64 %rd6, table; add.s64 %rd7, %rd6, %rd5; "
                             "ld.const.u32 %r2, [%rd7]; st.global.u32 [%rd4], %r2;", [0] * 3,
                             declare=".const .align 4 .u32 table[3] = {7, 0x10, 9};"), [7, 16, 9])

    def test_vectors(self):
        self.assertEqual(run("ld.global.nc.v4.u32 {%r2, %r3, %r4, %r5}, [%rd3]; st.global.v4.u32 [%rd4], {%r5, %r4, %r3, %r2};",
                             [1, 2, 3, 4, 5, 6, 7, 8], in_words=4, out_words=4), [4, 3, 2, 1, 8, 7, 6, 5])

    def test_wrong_accesses_are_errors(self):
        for body in ("ld.global.u32 %r2, [%rd3+4];", "ld.global.u32 %r2, [%rd3+-4];", "ld.global.u32 %r2, [%rd3+1];",
                     "mov.u64 %rd5, 16; ld.global.u32 %r2, [%rd5];",
                     ".shared .align 4 .b8 s[8]; mov.u32 %r2, s; st.shared.u32 [%r2+8], %r1;"):
            with self.assertRaises(PtxError, msg=body):
                run(body)

    def atomic(self, instruction, start, threads=5):
        return run(f"{instruction}; st.global.u32 [%rd4+8], %r2;", [0] * threads, out_words=4) if start is None else \
            run(f"setp.eq.u32 %p1, %r1, 0; @%p1 st.global.u32 [%rd2], {start}; bar.sync 0; {instruction}; "
                "st.global.u32 [%rd4+8], %r2;", [0] * threads, out_words=4)

    def test_atomics_return_the_old_value(self):
        olds = lambda out: out[2::4]
        out = self.atomic("atom.global.add.u32 %r2, [%rd2], 3", 10)
        self.assertEqual((out[0], olds(out)), (25, [10, 13, 16, 19, 22]))
        out = self.atomic("atom.global.inc.u32 %r2, [%rd2], 2", 1)  # 1, 2, 0, 1, 2 and then 0
        self.assertEqual((out[0], olds(out)), (0, [1, 2, 0, 1, 2]))
        out = self.atomic("atom.global.dec.u32 %r2, [%rd2], 2", 1)  # 1, 0, 2, 1, 0 and then 2
        self.assertEqual((out[0], olds(out)), (2, [1, 0, 2, 1, 0]))
        out = self.atomic("atom.global.cas.b32 %r2, [%rd2], 7, %r1", 7)
        self.assertEqual((out[0], olds(out)), (0, [7, 0, 0, 0, 0]))
        out = self.atomic("add.s32 %r3, %r1, 100; atom.global.exch.b32 %r2, [%rd2], %r3", 1)
        self.assertEqual((out[0], olds(out)), (104, [1, 100, 101, 102, 103]))
        out = self.atomic("sub.s32 %r3, 2, %r1; atom.global.min.s32 %r2, [%rd2], %r3", 0)
        self.assertEqual(out[0], 0xFFFFFFFE)
        out = self.atomic("atom.global.max.u32 %r2, [%rd2], %r1", 2)
        self.assertEqual(out[0], 4)
        out = self.atomic("shl.b32 %r3, 1, %r1; atom.global.or.b32 %r2, [%rd2], %r3", 0)
        self.assertEqual(out[0], 31)
        out = self.atomic("atom.global.add.f32 %f1, [%rd2], 0f3F000000; mov.b32 %r2, %f1", f32(1.0))
        self.assertEqual((out[0], out[18]), (f32(3.5), f32(3.0)))

    def test_atomics_on_pairs_and_shared(self):
        got = run("mov.b32 %r5, 0x3C004000; atom.global.add.noftz.f16x2 %r6, [%rd2], %r5; bar.sync 0;", [0] * 2)
        self.assertEqual(got[0], 0x40004400)
        got = run(".shared .align 4 .b8 s[4]; mov.u32 %r2, s; setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [%r2], 0; bar.sync 0; "
                  "red.shared.add.u32 [%r2], %r1; bar.sync 0; ld.shared.u32 %r3, [%r2]; st.global.u32 [%rd4], %r3;", [0] * 4)
        self.assertEqual(got, [6] * 4)


class Warps(unittest.TestCase):
    def shuffle(self, mode, amount, clamp):
        got = run(f"add.s32 %r2, %r1, 100; shfl.sync.{mode}.b32 %r3|%p1, %r2, {amount}, {clamp}, -1; selp.b32 %r4, 1, 0, %p1; "
                  "st.global.v2.u32 [%rd4], {%r3, %r4};", [0] * 32, out_words=2)
        return [w - 100 for w in got[::2]], got[1::2]

    def test_shuffles(self):  # clamps are those that CUDA's functions pass: (32 - width) << 8 | 31, or 0 for up
        self.assertEqual(self.shuffle("up", 3, 0), ([i - 3 if i >= 3 else i for i in range(32)], [int(i >= 3) for i in range(32)]))
        self.assertEqual(self.shuffle("down", 5, 31), ([i + 5 if i < 27 else i for i in range(32)], [int(i < 27) for i in range(32)]))
        self.assertEqual(self.shuffle("down", 5, 16 << 8 | 31)[0], [i + 5 if i % 16 < 11 else i for i in range(32)])
        self.assertEqual(self.shuffle("bfly", 21, 31)[0], [i ^ 21 for i in range(32)])
        self.assertEqual(self.shuffle("idx", 11, 24 << 8 | 31)[0], [i // 8 * 8 + 3 for i in range(32)])
        self.assertEqual(self.shuffle("up", 3, 24 << 8)[0], [i - 3 if i % 8 >= 3 else i for i in range(32)])

    def test_votes(self):
        body = "rem.u32 %r2, %r1, 3; setp.eq.u32 %p1, %r2, 0; "
        ballot = sum(1 << i for i in range(0, 32, 3))
        self.assertEqual(run(body + "vote.sync.ballot.b32 %r3, %p1, -1; st.global.u32 [%rd4], %r3;", [0] * 32), [ballot] * 32)
        self.assertEqual(run(body + "setp.ge.u32 %p2, %r1, 12; @%p2 bra end; vote.sync.ballot.b32 %r3, %p1, 0xfff; "
                             "st.global.u32 [%rd4], %r3; end:", [0] * 32), [ballot & 0xFFF] * 12 + [0] * 20)
        self.assertEqual(run(body + "vote.sync.all.pred %p2, %p1, -1; vote.sync.any.pred %p3, %p1, -1; selp.b32 %r3, 1, 0, %p2; "
                             "selp.b32 %r4, 1, 0, %p3; st.global.v2.u32 [%rd4], {%r3, %r4};", [0] * 32, out_words=2), [0, 1] * 32)

    def test_match_and_redux(self):
        self.assertEqual(run("rem.u32 %r2, %r1, 2; match.any.sync.b32 %r3, %r2, -1; st.global.u32 [%rd4], %r3;", [0] * 32),
                         [0x55555555, 0xAAAAAAAA] * 16)
        self.assertEqual(run("match.all.sync.b32 %r3|%p1, %r1, -1; selp.b32 %r4, 1, 0, %p1; st.global.v2.u32 [%rd4], {%r3, %r4};",
                             [0] * 32, out_words=2), [0, 0] * 32)
        self.assertEqual(run("redux.sync.add.s32 %r3, %r1, -1; redux.sync.max.u32 %r4, %r1, -1; st.global.v2.u32 [%rd4], {%r3, %r4};",
                             [0] * 32, out_words=2), [496, 31] * 32)

    def test_block_votes(self):
        self.assertEqual(run("rem.u32 %r2, %r1, 3; setp.eq.u32 %p1, %r2, 0; bar.red.popc.u32 %r3, 0, %p1; "
                             "bar.red.and.pred %p2, 0, %p1; selp.b32 %r4, 1, 0, %p2; st.global.v2.u32 [%rd4], {%r3, %r4};",
                             [0] * 70, out_words=2), [24, 0] * 70)

    def test_diverged_lanes_meet_at_their_mask(self):
        got = run("and.b32 %r2, %r1, 1; setp.eq.u32 %p1, %r2, 1; @%p1 bra odd; shfl.sync.bfly.b32 %r3, %r1, 4, 31, 0x55555555; "
                  "bra.uni end; odd: shfl.sync.bfly.b32 %r3, %r1, 2, 31, 0xaaaaaaaa; end: st.global.u32 [%rd4], %r3;", [0] * 32)
        self.assertEqual(got, [i ^ 2 if i & 1 else i ^ 4 for i in range(32)])

    def test_wrong_masks_are_errors(self):
        for body in ("shfl.sync.idx.b32 %r3, %r1, 0, 31, 0xfffffffe;",  # lane 0 is not in its mask
                     "setp.lt.u32 %p1, %r1, 4; @%p1 bra end; shfl.sync.idx.b32 %r3, %r1, 0, 31, 0xfffffff0; end:",
                     "setp.eq.u32 %p1, %r1, 0; @%p1 bra end; bar.sync 0; end: ld.global.u32 %r2, [%rd3+4096];"):
            with self.assertRaises(PtxError, msg=body):
                run(body, [0] * 32)


class Control(unittest.TestCase):
    def test_loops_diverge_and_meet(self):
        got = run("mov.u32 %r2, 0; mov.u32 %r3, 0; loop: setp.gt.u32 %p1, %r3, %r1; @%p1 bra done; add.s32 %r2, %r2, %r3; "
                  "add.s32 %r3, %r3, 1; bra loop; done: bar.sync 0; st.global.u32 [%rd4], %r2;", [0] * 40)
        self.assertEqual(got, [i * (i + 1) // 2 for i in range(40)])

    def test_spinning_threads_let_the_holder_on(self):
        got = run("spin: atom.global.cas.b32 %r2, [%rd1], 0, 1; setp.ne.u32 %p1, %r2, 0; @%p1 bra spin; ld.global.u32 %r3, [%rd2]; "
                  "add.s32 %r3, %r3, 1; st.global.u32 [%rd2], %r3; membar.gl; atom.global.exch.b32 %r4, [%rd1], 0;", [0] * 20)
        self.assertEqual(got[0], 20)

    def test_calls_and_tables(self):
        declare = """.func (.param .b32 out) twice(.param .b32 in) { .reg .b32 %q<3>; .reg .pred %s; ld.param.u32 %q1, [in];
            setp.eq.u32 %s, %q1, 3; @%s bra three; add.s32 %q2, %q1, %q1; st.param.b32 [out], %q2; ret;
            three: st.param.b32 [out], 33; ret; }"""
        got = run("{ .param .b32 p0; .param .b32 r0; st.param.b32 [p0], %r1; call.uni (r0), twice, (p0); ld.param.b32 %r2, [r0]; } "
                  "st.global.u32 [%rd4], %r2;", [0] * 5, declare=declare)
        self.assertEqual(got, [0, 2, 4, 33, 8])
        got = run("table: .branchtargets a, b; and.b32 %r2, %r1, 1; brx.idx %r2, table; a: mov.u32 %r3, 10; bra end; "
                  "b: mov.u32 %r3, 20; end: st.global.u32 [%rd4], %r3;", [0] * 4)
        self.assertEqual(got, [10, 20, 10, 20])

    def test_unknown_instructions_are_errors(self):
        for body in ("wgmma.fence.sync.aligned;", "add.rn.bf16 %rs1, %rs1, %rs1;", "cvt.rna.tf32.f32 %r2, 0f3F800000;",
                     "ld.global.L2::weird.u32 %r2, [%rd3];", "bar.sync 1;", "frobnicate.u32 %r2, %r1;", "mov.u32 %r2, nowhere;"):
            with self.assertRaises(PtxError, msg=body):
                run(body)


if __name__ == "__main__":
    unittest.main()
