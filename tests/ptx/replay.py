#!/usr/bin/env python3
"""Does over again, with the PTX that nvcc made, what the emulated device recorded, and compares.

  replay.py --recording FILE --ptx DIR [--sections quick|all] [--exact-reads] [--json FILE] [--not-run FILE]

Each expectation in the recording, results with their double-precision reference, is held against the memory that the PTX
kernels leave, with the recording's tolerance. --exact-reads holds everything that the host read against what the emulated
device gave, bit for bit. Every kernel of the PTX has to be run, but for those that --not-run names with a reason. Status 1 where something differs or is missing."""
import argparse
import collections
import json
import multiprocessing
import pathlib
import sys
import time

import numpy as np

import kernels
import recording
from memory import Heap
from parser import PtxError


class Comparison:
    """What came out of one worker's share; adds up."""

    def __init__(self):
        self.launches = collections.Counter()  # by place
        self.instructions = 0
        self.expectations = self.elements = self.same_bits = self.reads = 0
        self.worst = 0.0  # share of the tolerance that was used
        self.worst_at = ""
        self.failures = []
        self.opcodes = collections.Counter()

    def add(self, other):
        self.launches.update(other.launches)
        self.opcodes.update(other.opcodes)
        for name in ("instructions", "expectations", "elements", "same_bits", "reads"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.worst > self.worst:
            self.worst, self.worst_at = other.worst, other.worst_at
        self.failures += other.failures

    def expectation(self, e, heap, section):
        dtype = recording.DTYPES[e.dtype][1]
        data = bytes(heap.bytes_at(e.address, len(e.want) * np.dtype(dtype).itemsize))
        got = recording.as_doubles(data, e.dtype)
        width = np.dtype(dtype).itemsize
        self.expectations += 1
        self.elements += len(got)
        self.same_bits += int((np.frombuffer(data, f"u{width}") == np.frombuffer(e.device, f"u{width}")).sum())
        scale = max(np.max(np.abs(e.want), initial=0.0), 1e-3)
        with np.errstate(invalid="ignore"):  # of two infinities: a NaN, which is wrong
            error = np.abs(got - e.want) / scale
        if e.tolerance > 0 and np.isfinite(error).all():
            used = float(np.max(error, initial=0.0)) / e.tolerance
            if used > self.worst:
                self.worst, self.worst_at = used, f"{section}: {e.what}"
        wrong = ~(error <= e.tolerance)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            device = recording.as_doubles(e.device, e.dtype)[at]
            self.failures.append(f"{section}: {e.what}: element {at} of {len(got)} is {got[at]}, expected {e.want[at]} "
                                 f"(the emulated device has {device}); {int(wrong.sum())} are wrong")


def replay(path, library, chosen, exact_reads):
    """Runs the sections in `chosen` (None: everything)."""
    out, heap, section, running = Comparison(), Heap(), "", chosen is None
    names, last = {}, "nothing"
    for letter, fields in recording.events(path):
        if letter == "S":
            section = fields[0]
            running = chosen is None or section in chosen
        elif letter == "m":
            heap.allocate(*fields)
        elif letter == "f":
            heap.free(*fields)
        elif not running:
            continue
        elif letter == "w":
            heap.bytes_at(fields[0], len(fields[1]))[:] = np.frombuffer(fields[1], np.uint8)
        elif letter == "s":
            heap.bytes_at(fields[0], fields[2])[:] = fields[1]
        elif letter == "c":
            heap.bytes_at(fields[0], fields[2])[:] = heap.bytes_at(fields[1], fields[2]).copy()
        elif letter == "y":
            library.set_variable(kernels.demangled([fields[0]])[fields[0]], *fields[1:])
        elif letter == "E":
            out.expectation(fields[0], heap, section)
        elif letter == "r":
            out.reads += 1
            if exact_reads and bytes(heap.bytes_at(fields[0], len(fields[1]))) != fields[1]:
                got = np.frombuffer(bytes(heap.bytes_at(fields[0], len(fields[1]))), np.uint8)
                at = int(np.flatnonzero(got != np.frombuffer(fields[1], np.uint8))[0])
                out.failures.append(f"{section}: byte {at} of {len(got)} read after {last} differs from the emulated device's")
        elif letter == "l":
            launch = fields[0]
            if launch.kernel not in names:
                names[launch.kernel] = kernels.short(kernels.demangled([launch.kernel])[launch.kernel])
            last = names[launch.kernel]
            try:
                place = library.find(last, launch.file)
                program = library.program(place)
                parameters = recording.parameters_of(launch.arguments, program.kernel.parameters)
                out.instructions += program.launch(heap, launch.grid, launch.block, launch.dynamic_shared, parameters)
            except PtxError as error:
                out.failures.append(f"{section}: {last}: {error}")
                running = False  # what follows would only repeat it
                continue
            out.launches[place] += 1
            if out.launches[place] == 1:
                out.opcodes.update(program.opcodes)
    return out


def sections_of(path):
    """{section: {(kernel, file): threads}} in the recording's order."""
    out, section = {}, None
    for letter, fields in recording.events(path):
        if letter == "S":
            section = out.setdefault(fields[0], collections.Counter())
        elif letter == "l" and section is not None:
            launch = fields[0]
            section[launch.kernel, launch.file] += int(np.prod(launch.grid)) * int(np.prod(launch.block))
    return out


def few_sections(sections):
    """Sections that together launch every kernel that any of them does, by threads the cheapest first: a greedy cover."""
    missing = set().union(*sections.values()) if sections else set()
    chosen = []
    while missing:
        best = min((s for s in sections if missing & sections[s].keys()),
                   key=lambda s: (sum(sections[s].values()) / len(missing & sections[s].keys())))
        chosen.append(best)
        missing -= sections[best].keys()
    return chosen


def read_not_run(path):
    """`FILE.cu KERNEL: reason`, one a line."""
    listed = {}
    for line in pathlib.Path(path).read_text().splitlines() if path else []:
        if not line.strip() or line.startswith("#"):
            continue
        name, reason = line.split(": ", 1)
        listed[name.strip()] = reason.strip()
    return listed


_library = None


def _work(arguments):
    path, chosen, exact_reads = arguments
    return replay(path, _library, chosen, exact_reads)


def main():
    global _library
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", required=True)
    parser.add_argument("--ptx", required=True, help="folder of FILE.cu.ptx")
    parser.add_argument("--sections", choices=["quick", "all"], default="all",
                        help="quick: only as many as it takes to run each kernel once")
    parser.add_argument("--exact-reads", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--not-run", help="kernels that need not run, with the reasons")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    try:
        _library = kernels.Library(sorted(pathlib.Path(options.ptx).glob("*.cu.ptx")))
        sections = sections_of(options.recording)
    except (OSError, PtxError) as error:
        sys.exit(f"replay: {error}")
    if not _library.modules:
        sys.exit(f"replay: no PTX in {options.ptx}")
    targets = sorted({m.target for m in _library.modules.values()})

    chosen, shares = list(sections), [None]
    if not options.exact_reads:
        chosen = few_sections(sections) if options.sections == "quick" else list(sections)
        chosen.sort(key=lambda s: -sum(sections[s].values()))
        shares = [set(chosen[i::options.jobs]) for i in range(options.jobs)]
    total = Comparison()
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for part in pool.imap_unordered(_work, [(options.recording, s, options.exact_reads) for s in shares]):
            total.add(part)

    not_run = read_not_run(options.not_run)
    all_places = _library.places()
    missing = []
    for file, mangled, plain in all_places:
        name = f"{file} {plain}"
        if (file, mangled) not in total.launches and name not in not_run:
            missing.append(name)
    for failure in total.failures[:20]:
        print(f"replay: {failure}")
    for name in missing:
        print(f"replay: never run: {name}")
    seconds = time.monotonic() - began
    print(f"replay: {', '.join(targets)}: {len(total.launches)} of {len(all_places)} kernels, {len(chosen)} sections, "
          f"{sum(total.launches.values())} launches, {total.instructions / 1e6:.1f} M thread instructions, "
          f"{total.expectations} results of {total.elements} elements ({total.same_bits} with the emulated device's bits), {total.reads} reads, "
          f"worst {total.worst:.2f} of its tolerance, {len(total.failures)} wrong, {len(missing)} never run, {seconds:.0f} s")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({
            "targets": targets, "kernels": len(all_places), "kernels_run": len(total.launches),
            "launches": sum(total.launches.values()), "thread_instructions": total.instructions,
            "results": total.expectations, "elements": total.elements, "same_bits": total.same_bits,
            "reads": total.reads, "worst_share_of_tolerance": total.worst, "worst_at": total.worst_at,
            "failures": total.failures, "never_run": missing, "seconds": round(seconds, 1),
            "opcode_forms": len(total.opcodes)}, indent=1) + "\n")
    return 1 if total.failures or missing else 0


if __name__ == "__main__":
    sys.exit(main())
