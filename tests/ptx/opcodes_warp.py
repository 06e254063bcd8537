"""Barriers and warp functions (PTX ISA, "Parallel Synchronization and Communication"). A warp function waits until all
live lanes of its mask are there; a lane that is not in its own mask, and a lane that is read but absent, are errors."""
import numpy as np

from opcodes import NUMPY, PtxError, Step, family, reader, writer
from parser import Immediate, Vector


@family("bar", "barrier")
def _bar(i, mods):
    mods.take("cta")
    if mods.take("warp"):
        mods.take("sync")
        return _warp_step(i.operands[0], lambda m, threads: None)
    mods.take("aligned")
    form = mods.take("sync", "red")
    operands = list(i.operands)
    operation = mods.take("popc", "and", "or")
    kind = mods.kind() if mods.words else None
    barrier = operands[1] if form == "red" else operands[0]
    if form is None or not isinstance(barrier, Immediate) or barrier.bits != 0 or (form == "sync" and len(operands) != 1):
        raise PtxError("a named barrier")
    value = reader(operands[-1], "pred") if form == "red" else None
    write = writer(operands[0], "u32" if operation == "popc" else "pred") if form == "red" else None
    if kind not in (None, "u32", "pred"):
        raise PtxError(f"a reduction to {kind}")

    def control(m, pc, threads, idx, step):
        if step.predicate is not None:
            raise PtxError("a barrier under a predicate")
        m.wait_at_barrier(pc, threads, value(m, threads) if value else False)

    def release(m, threads):
        if not write:
            return
        block, values = m.block[threads], m.barrier_value[threads]
        votes = np.bincount(block[values], minlength=m.block[-1] + 1)
        threads_of = np.bincount(block, minlength=m.block[-1] + 1)
        result = {"popc": votes.astype(np.uint32), "and": votes == threads_of, "or": votes > 0}[operation]
        write(m, threads, result[block])
    return Step(None, "", control=control, release=release)


def lanes_of(m, threads):
    """A bit for each of the threads, in their warps: [warps]."""
    bits = np.zeros(m.warps, np.uint32)
    np.bitwise_or.at(bits, m.warp[threads], m.lane_bit[threads])
    return bits


def _warp_step(mask_operand, act):
    """A step that calls act(machine, threads) with the threads whose masks are complete."""
    read_mask = reader(mask_operand, "u32")

    def control(m, pc, threads, idx, step):
        if step.predicate is not None:
            chosen = m.predicate(step.predicate, threads)
            m.put(pc + 1, threads[~chosen])
            threads = threads[chosen]
        if pc in m.waiting:
            threads = np.sort(np.concatenate([threads, m.waiting.pop(pc)]))
        if not len(threads):
            return
        mask = np.broadcast_to(read_mask(m, threads), threads.shape)
        if ((mask & m.lane_bit[threads]) == 0).any():
            raise PtxError(f"{step.text}: a lane that is not in its own mask")
        present = lanes_of(m, threads)[m.warp[threads]]
        needed = mask & lanes_of(m, np.flatnonzero(m.live))[m.warp[threads]]
        ready = (needed & ~present) == 0
        if not ready.all():
            m.waiting[pc] = threads[~ready]
        threads = threads[ready]
        if len(threads):
            try:
                act(m, threads)
            except PtxError as error:
                raise PtxError(f"{step.text}: {error}") from None
            m.put(pc + 1, threads)
    return Step(None, "", control=control)


@family("shfl")
def _shfl(i, mods):
    mods.take("sync")
    mode = mods.take("up", "down", "bfly", "idx")
    kind = mods.kind()
    outs = i.operands[0].parts if isinstance(i.operands[0], Vector) else (i.operands[0],)
    write = writer(outs[0], kind)
    write_found = writer(outs[1], "pred") if len(outs) > 1 else None
    value, amount, clamp, mask = (reader(o, "u32") for o in i.operands[1:])

    def act(m, threads):
        lane = m.lane[threads].astype(np.int64)
        b = np.broadcast_to(amount(m, threads), threads.shape).astype(np.int64) & 31
        c = np.broadcast_to(clamp(m, threads), threads.shape).astype(np.int64)
        segment = c >> 8 & 31
        most = (lane & segment) | (c & 31 & ~segment)
        least = lane & segment
        source = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": least | (b & ~segment)}[mode]
        found = source >= most if mode == "up" else source <= most
        source = np.where(found, source, lane)
        here = np.zeros(m.count + 32, bool)
        here[threads] = True
        from_thread = m.warp_first[threads] + source
        named = np.broadcast_to(mask(m, threads), threads.shape).astype(np.int64) >> source & 1
        # A lane that its block does not have, that has returned, or that came with another group.
        if (~here[from_thread] | (m.warp[np.minimum(from_thread, m.count - 1)] != m.warp[threads]) | (named == 0)).any():
            raise PtxError("reads a lane that does not take part")
        every = np.zeros(m.count, np.uint32)
        every[threads] = value(m, threads)
        write(m, threads, every[from_thread])
        if write_found:
            write_found(m, threads, found)
    return _warp_step(i.operands[-1], act)


@family("vote")
def _vote(i, mods):
    mods.take("sync")
    form = mods.take("ballot", "all", "any", "uni")
    kind = mods.kind()
    write, predicate, mask = writer(i.operands[0], kind), reader(i.operands[1], "pred"), reader(i.operands[2], "u32")

    def act(m, threads):
        yes = np.broadcast_to(predicate(m, threads), threads.shape)
        ballot = lanes_of(m, threads[yes])[m.warp[threads]]
        present = lanes_of(m, threads)[m.warp[threads]]
        asked = np.broadcast_to(mask(m, threads), threads.shape) & present
        ballot = ballot & asked
        result = {"ballot": ballot, "all": ballot == asked, "any": ballot != 0,
                  "uni": (ballot == asked) | (ballot == 0)}[form]
        write(m, threads, result)
    return _warp_step(i.operands[2], act)


@family("match")
def _match(i, mods):
    form = mods.take("any", "all")
    mods.take("sync")
    kind = mods.kind()
    outs = i.operands[0].parts if isinstance(i.operands[0], Vector) else (i.operands[0],)
    write = writer(outs[0], "b32")
    write_same = writer(outs[1], "pred") if len(outs) > 1 else None
    value, mask = reader(i.operands[1], kind), reader(i.operands[2], "u32")

    def act(m, threads):
        values = np.broadcast_to(value(m, threads), threads.shape)
        masks = np.broadcast_to(mask(m, threads), threads.shape)
        out, same = np.zeros(len(threads), np.uint32), np.zeros(len(threads), bool)
        for warp in np.unique(m.warp[threads]):
            mine = np.flatnonzero(m.warp[threads] == warp)
            for k in mine:
                equal = mine[values[mine] == values[k]]
                lanes = int(np.bitwise_or.reduce(m.lane_bit[threads[equal]])) & int(masks[k])
                all_lanes = int(np.bitwise_or.reduce(m.lane_bit[threads[mine]])) & int(masks[k])
                same[k] = lanes == all_lanes
                out[k] = lanes if form == "any" or same[k] else 0
        write(m, threads, out)
        if write_same:
            write_same(m, threads, same)
    return _warp_step(i.operands[2], act)


@family("redux")
def _redux(i, mods):
    mods.take("sync")
    operation = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
                 "xor": np.bitwise_xor}[mods.take("add", "min", "max", "and", "or", "xor")]
    kind = mods.kind()
    write, value, mask = writer(i.operands[0], kind), reader(i.operands[1], kind), reader(i.operands[2], "u32")

    def act(m, threads):
        values = np.broadcast_to(value(m, threads), threads.shape)
        masks = np.broadcast_to(mask(m, threads), threads.shape)
        out = np.zeros(len(threads), NUMPY[kind])
        for group in np.unique(np.stack([m.warp[threads], masks.astype(np.int64)]), axis=1).T:
            mine = (m.warp[threads] == group[0]) & (masks == group[1])
            out[mine] = operation.reduce(values[mine], dtype=NUMPY[kind])
        write(m, threads, out)
    return _warp_step(i.operands[2], act)


@family("activemask")
def _activemask(i, mods):
    mods.take("b32")
    write = writer(i.operands[0], "b32")
    def run(m, idx):
        threads = m.thread[idx]
        write(m, idx, lanes_of(m, threads)[m.warp[threads]])
    return run
