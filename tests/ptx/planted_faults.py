#!/usr/bin/env python3
"""Plants faults in the PTX of kernels, one instruction each, and asks whether the comparison of replay.py notices.

  planted_faults.py --recording FILE --ptx DIR [--faults N] [--seed N] [--json FILE]

Only instructions that the recording's runs execute are changed. Survivors are named. Most are steps of grid-stride loops,
which shapes this small do not go round (tests/emu/ops has larger ones), and bounds that the grid meets exactly. It shows
that the comparison is not empty, kernel by kernel; status 1 where fewer than 65 % are noticed."""
import argparse
import collections
import dataclasses
import json
import pathlib
import random
import sys

import kernels
import machine
import recording
import replay
from parser import Immediate, PtxError

LEAST = 0.65


def _words(i, **changes):
    return dataclasses.replace(i, modifiers=tuple(changes.get(m, m) for m in i.modifiers))


# name -> (is it one of these?, the changed instruction)
FAULTS = {
    "sum for difference": (lambda i: i.opcode == "sub" and "f32" in i.modifiers, lambda i: dataclasses.replace(i, opcode="add")),
    "difference for sum": (lambda i: i.opcode == "add" and i.modifiers[-1] in ("f32", "f64"),
                           lambda i: dataclasses.replace(i, opcode="sub")),
    "an fma without its addend": (lambda i: i.opcode == "fma" and i.modifiers[-1] == "f32",
                                  lambda i: dataclasses.replace(i, opcode="mul", operands=i.operands[:3])),
    "least for greatest": (lambda i: i.opcode == "max", lambda i: dataclasses.replace(i, opcode="min")),
    "a comparison off by one": (lambda i: i.opcode == "setp" and i.modifiers[0] in ("lt", "le", "gt", "ge"),
                                lambda i: _words(i, lt="le", le="lt", gt="ge", ge="gt")),
    "a comparison turned round": (lambda i: i.opcode == "setp" and i.modifiers[0] in ("eq", "ne"), lambda i: _words(i, eq="ne", ne="eq")),
    "a choice turned round": (lambda i: i.opcode == "selp",
                              lambda i: dataclasses.replace(i, operands=(i.operands[0], i.operands[2], i.operands[1], i.operands[3]))),
    "a lost store": (lambda i: i.opcode == "st" and "global" in i.modifiers,
                     lambda i: dataclasses.replace(i, opcode="nanosleep", modifiers=("u32",), operands=())),
    "a shuffle from another lane": (lambda i: i.opcode == "shfl" and isinstance(i.operands[2], Immediate),
                                    lambda i: dataclasses.replace(i, operands=i.operands[:2] + (Immediate(i.operands[2].bits ^ 3),) + i.operands[3:])),
    "rounding towards zero": (lambda i: i.opcode == "cvt" and i.modifiers[-1] == "f32" and "bf16" in i.modifiers,
                              lambda i: _words(i, rn="rz")),
    "a shifted index": (lambda i: i.opcode == "shl" and isinstance(i.operands[2], Immediate) and i.operands[2].bits in (1, 2, 3),
                        lambda i: dataclasses.replace(i, operands=i.operands[:2] + (Immediate(i.operands[2].bits + 1),))),
}


def executed_steps(program, library, place, path, sections):
    """The places of the instructions that are run: each step is wrapped to note itself."""
    seen = set()
    for at, step in enumerate(program.steps):
        def noting(inner, at=at):
            def run(*arguments):
                seen.add(at)
                return inner(*arguments)
            return run
        if step.run:
            step.run = noting(step.run)
        if step.control:
            step.control = noting(step.control)
    replay.replay(path, library, sections, False)
    del library.programs[place]
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", required=True)
    parser.add_argument("--ptx", required=True)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json")
    options = parser.parse_args()
    source = random.Random(options.seed)
    library = kernels.Library(sorted(pathlib.Path(options.ptx).glob("*.cu.ptx")))
    sections = replay.sections_of(options.recording)
    names = kernels.demangled({kernel for s in sections.values() for kernel, _ in s})
    runs = collections.defaultdict(list)  # place -> its sections, the cheapest first
    for section, launched in sorted(sections.items(), key=lambda s: sum(s[1].values())):
        for kernel, file in launched:
            runs[library.find(kernels.short(names[kernel]), file)].append(section)
    places = sorted(runs)
    noticed, survivors, kinds = 0, [], collections.Counter()
    seen = {}
    while noticed + len(survivors) < options.faults:
        place = source.choice(places)
        kind = source.choice(sorted(FAULTS))
        chosen = runs[place][:6]
        if place not in seen:
            seen[place] = executed_steps(library.program(place), library, place, options.recording, set(chosen))
        kernel = library.modules[place[0]].kernels[place[1]]
        candidates = [at for at, i in enumerate(kernel.code) if at in seen[place] and FAULTS[kind][0](i)]
        if not candidates:
            continue
        at = source.choice(candidates)
        original = kernel.code[at]
        kernel.code[at] = FAULTS[kind][1](original)
        library.programs.pop(place, None)
        found = False
        for section in chosen:
            try:
                found = bool(replay.replay(options.recording, library, {section}, False).failures)
            except (PtxError, IndexError):
                found = True
            if found:
                break
        kernel.code[at] = original
        library.programs.pop(place, None)
        kinds[kind] += 1
        noticed += found
        if not found:
            name = kernels.short(kernels.demangled([place[1]])[place[1]])
            survivors.append(f"{place[0]} {name}: {kind}: {original.text}")
    share = noticed / options.faults
    for line in survivors:
        print(f"planted_faults: survived: {line}")
    print(f"planted_faults: {noticed} of {options.faults} noticed, of {len(kinds)} kinds")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"planted": options.faults, "noticed": noticed, "kinds": kinds,
                                                          "survivors": survivors}, indent=1) + "\n")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
