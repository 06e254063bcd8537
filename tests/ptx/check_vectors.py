#!/usr/bin/env python3
"""Holds the PTX of vectorised kernels to vectors.txt: check_vectors.py FOLDER... (each with FILE.cu.ptx of one target).
Status 1 where a kernel has lost 128-bit accesses, or the list and the kernels do not fit together."""
import pathlib
import re
import sys

import kernels
import parser

PARTS = {"v2": 2, "v4": 4, "v8": 8}


def wide_accesses(kernel):
    """(loads, stores) of 16 bytes and more at once, from global memory."""
    counts = {"ld": 0, "st": 0}
    for i in kernel.code:
        if i.opcode in counts and "global" in i.modifiers:
            parts = next((PARTS[m] for m in i.modifiers if m in PARTS), 1)
            counts[i.opcode] += parser.WIDTHS[i.modifiers[-1]] * parts >= 128
    return counts["ld"], counts["st"]


def read_list(path):
    lines = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(\S+\.cu)\s+(\S.*?)\s+(\d+)\s+(\d+)", line)
        if not match:
            sys.exit(f"check_vectors: {path.name}:{number}: expected FILE.cu PATTERN LOADS STORES")
        pattern = re.sub(r"\bT\b", "(?:bf16|fp16|float)", re.sub(r"\bW\b", "[48]", match[2]))
        lines.append((match[1], match[2], re.compile(pattern), int(match[3]), int(match[4])))
    return lines


def check(folder, lines):
    """Yields what is wrong; returns how many kernels were held to the list."""
    held, named = 0, set()
    for path in sorted(folder.glob("*.cu.ptx")):
        file = path.name.removesuffix(".ptx")
        module = parser.parse(path.read_text())
        names = kernels.demangled(module.kernels)
        for kernel in module.kernels.values():
            name = kernels.short(names[kernel.name])
            loads, stores = wide_accesses(kernel)
            found = [n for n, (f, _, pattern, *_) in enumerate(lines) if f == file and pattern.fullmatch(name)]
            named.update(found)
            if not found and loads + stores:
                yield f"{module.target}: {file} {name} moves 16 bytes at once; vectors.txt does not name it"
            for n in found[:1]:
                held += 1
                if loads < lines[n][3] or stores < lines[n][4]:
                    yield (f"{module.target}: {file} {name} has {loads} loads and {stores} stores of 16 bytes; "
                           f"vectors.txt asks for {lines[n][3]} and {lines[n][4]}")
    for n, (file, text, *_) in enumerate(lines):
        if n not in named and (folder / f"{file}.ptx").exists():
            yield f"vectors.txt: no kernel of {file} is called {text}"
    return held


def main():
    lines = read_list(pathlib.Path(__file__).with_name("vectors.txt"))
    wrong, held = [], 0
    for folder in sys.argv[1:]:
        checks = check(pathlib.Path(folder), lines)
        while True:
            try:
                wrong.append(next(checks))
            except StopIteration as end:
                held += end.value
                break
    for line in wrong:
        print(f"check_vectors: {line}")
    print(f"check_vectors: {held} vectorised kernels in {len(sys.argv) - 1} targets, {len(wrong)} wrong")
    return 1 if wrong or not held else 0


if __name__ == "__main__":
    sys.exit(main())
