"""Runs one launch of a PTX kernel: all its threads at once, in groups of those that are at the same instruction. The
group that lies furthest back goes first, so that threads which diverged meet again; now and then the foremost one
goes, so that threads which spin on a lock let its holder on."""
import collections

import numpy as np

import opcodes
from memory import Memory
from parser import Not, PtxError

ALL = slice(None)
FOREMOST_EVERY = 16  # turns

DTYPES = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


class Program:
    """A kernel, translated once for all its launches. Raises PtxError for an instruction that is not known."""

    def __init__(self, kernel, module, module_data):
        self.kernel, self.module, self.module_data = kernel, module, module_data
        self.steps = [opcodes.translate(i) for i in kernel.code]
        self.opcodes = collections.Counter(".".join((i.opcode,) + i.modifiers) for i in kernel.code)

    def launch(self, heap, grid, block, dynamic_shared, parameters):
        """Runs it to its end. `parameters`: the bytes of each, in order."""
        declared = self.kernel.parameters
        if [len(p) for p in parameters] != [p.bytes for p in declared]:
            raise PtxError(f"{self.kernel.name}: takes parameters of {[p.bytes for p in declared]} bytes, "
                           f"given {[len(p) for p in parameters]}")
        machine = Machine(self, heap, grid, block, dynamic_shared,
                          {d.name: bytes(p) for d, p in zip(declared, parameters)})
        with np.errstate(all="ignore"):
            machine.run()
        return machine.executed


class Machine:
    def __init__(self, program, heap, grid, block, dynamic_shared, parameters):
        self.program, self.steps = program, program.steps
        self.parameters, self.grid, self.block_size = parameters, grid, block
        blocks = grid[0] * grid[1] * grid[2]
        self.block_threads = block[0] * block[1] * block[2]
        if self.block_threads > program.kernel.threads_most:
            raise PtxError(f"{self.block_threads} threads a block, more than the kernel's bound")
        self.count = blocks * self.block_threads
        self.thread = np.arange(self.count)
        self.block = self.thread // self.block_threads
        self.in_block = self.thread % self.block_threads
        self.lane = self.in_block % 32
        warps = -(-self.block_threads // 32)
        self.warp = self.block * warps + self.in_block // 32
        self.warp_first = self.block * self.block_threads + self.in_block // 32 * 32  # thread of lane 0
        self.lane_bit = (np.uint32(1) << self.lane.astype(np.uint32))
        self.warps = blocks * warps
        self.live = np.ones(self.count, bool)
        self.registers = [np.zeros(self.count, DTYPES[b]) for b in program.kernel.register_bits]
        self.memory = Memory(heap, program.kernel, program.module, program.module_data, blocks, self.count,
                             dynamic_shared, parameters)
        self.groups = {0: [self.thread]}
        self.at_barrier = np.full(self.count, -1)  # the instruction at which a thread waits
        self.barrier_value = np.zeros(self.count, bool)
        self.waiting = {}  # warp functions whose lanes are not all there: instruction -> threads
        self.executed = 0  # thread instructions
        self._specials = {}

    def special(self, name):
        if name not in self._specials:
            self._specials[name] = self._make_special(name)
        return self._specials[name]

    def _make_special(self, name):
        axis = {"x": 0, "y": 1, "z": 2}.get(name[-1]) if "." in name else None
        def along(linear, size):
            return (linear // (1, size[0], size[0] * size[1])[axis] % size[axis]).astype(np.uint32)
        def same(n):
            return np.full(self.count, n, np.uint32)
        match name.split(".")[0]:
            case "%tid":
                return along(self.in_block, self.block_size)
            case "%ctaid":
                return along(self.block, self.grid)
            case "%ntid":
                return same(self.block_size[axis])
            case "%nctaid":
                return same(self.grid[axis])
            case "%laneid":
                return self.lane.astype(np.uint32)
            case "%warpid":
                return (self.in_block // 32).astype(np.uint32)
            case "%lanemask_eq":
                return self.lane_bit
            case "%lanemask_lt":
                return self.lane_bit - np.uint32(1)
        raise PtxError(f"unknown special register {name}")

    # ---- scheduling ----

    def put(self, pc, threads):
        if len(threads):
            self.groups.setdefault(pc, []).append(threads)

    def run(self):
        turn = 0
        while True:
            if not self.groups and not self._release():
                break
            turn += 1
            pc = max(self.groups) if turn % FOREMOST_EVERY == 0 else min(self.groups)
            parts = self.groups.pop(pc)
            threads = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
            self._run_group(pc, threads)
        if self.live.any():
            raise PtxError(f"{int(self.live.sum())} threads wait for ever")

    def _run_group(self, pc, threads):
        idx = ALL if len(threads) == self.count else threads
        others = min((p for p in self.groups if p > pc), default=1 << 60)
        while pc < others:
            step = self.steps[pc]
            self.executed += len(threads)
            if step.control is None:
                self._execute(step, idx)
                pc += 1
                continue
            step.control(self, pc, threads, idx, step)
            return
        self.put(pc, threads)

    def _execute(self, step, idx):
        if step.predicate is not None:
            chosen = self.predicate(step.predicate, idx)
            if not chosen.all():
                idx = np.flatnonzero(chosen) if idx is ALL else idx[chosen]
                if not len(idx):
                    return
        try:
            step.run(self, idx)
        except PtxError as error:
            raise PtxError(f"{self.program.kernel.name}: {step.text}: {error}") from None

    def predicate(self, predicate, idx):
        if isinstance(predicate, Not):
            return ~self.registers[predicate.predicate.index][idx]
        return self.registers[predicate.index][idx]

    def exit(self, threads):
        self.live[threads] = False

    # ---- barriers ----

    def wait_at_barrier(self, pc, threads, values):
        self.at_barrier[threads] = pc
        self.barrier_value[threads] = values

    def _release(self):
        """Lets go those that nothing holds back any more: blocks whose threads are all at a barrier, and warp functions
        of which some lanes have returned. False if there are none."""
        waits = self.at_barrier >= 0
        if waits.any():
            held = np.bincount(self.block[self.live & ~waits], minlength=self.block[-1] + 1) > 0
            free = waits & ~held[self.block]
            if free.any():
                threads = np.flatnonzero(free)
                blocks, pcs = self.block[threads], self.at_barrier[threads]
                first = np.zeros(self.block[-1] + 1, pcs.dtype)
                first[blocks] = pcs
                if (first[blocks] != pcs).any():
                    raise PtxError(f"{self.program.kernel.name}: threads of a block wait at different barriers")
                self.at_barrier[threads] = -1
                for pc in np.unique(pcs):
                    mine = threads[pcs == pc]
                    self.steps[pc].release(self, mine)
                    self.put(int(pc) + 1, mine)
        waiting, self.waiting = self.waiting, {}
        before = sum(len(t) for t in waiting.values())
        for pc, threads in waiting.items():
            self.steps[pc].control(self, pc, threads, threads, self.steps[pc])
        after = sum(len(t) for t in self.waiting.values())
        return bool(self.groups) or after < before
