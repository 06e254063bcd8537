"""The memories that a launch sees. Addresses of all spaces are generic addresses, so cvta changes nothing: shared, local
and the module's own variables have windows far below the device's heap."""
import bisect

import numpy as np

from parser import PtxError

SHARED, LOCAL, MODULE, PARAMETERS, HEAP = 0x0100_0000, 0x1000_0000, 0x4000_0000, 0x8000_0000, 0x1_0000_0000
POISON = 0xFF  # as the emulated device fills fresh memory: a NaN in every float
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def _fit(bytes_, align=16):
    return -(-max(bytes_, 1) // align) * align


class Heap:
    """Device memory: allocations by their address. One array holds all, each at its address modulo 256."""

    def __init__(self):
        self.data = np.full(1 << 20, POISON, np.uint8)
        self.begins, self.ends, self.places = [], [], []  # sorted
        self.used = 0
        self._arrays = None

    def allocate(self, address, count):
        if not self.begins:
            self.used = 0
        place = self.used + (address - self.used) % 256
        self.used = place + count
        while self.used + 16 > len(self.data):
            self.data = np.concatenate([self.data, np.full(len(self.data), POISON, np.uint8)])
        self.data[place:self.used] = POISON
        at = bisect.bisect(self.begins, address)
        self.begins.insert(at, address)
        self.ends.insert(at, address + count)
        self.places.insert(at, place)
        self._arrays = None

    def free(self, address):
        at = bisect.bisect_left(self.begins, address)
        if at == len(self.begins) or self.begins[at] != address:
            raise PtxError(f"free of {address:#x}, where nothing begins")
        del self.begins[at], self.ends[at], self.places[at]
        self._arrays = None

    def clear(self):
        for address in list(self.begins):
            self.free(address)

    def bytes_at(self, address, count):
        """A view of memory that lies in one allocation."""
        at = bisect.bisect(self.begins, address) - 1
        if at < 0 or address + count > self.ends[at]:
            raise PtxError(f"{count} bytes at {address:#x} lie in no allocation")
        place = self.places[at] + address - self.begins[at]
        return self.data[place:place + count]

    def places_of(self, addresses, width):
        if self._arrays is None:
            self._arrays = (np.array(self.begins, np.uint64), np.array(self.ends, np.uint64),
                            np.array(self.places, np.uint64))
        begins, ends, places = self._arrays
        at = np.searchsorted(begins, addresses, side="right") - 1
        bad = (at < 0) | (addresses + np.uint64(width) > ends[at]) if len(begins) else np.ones(len(addresses), bool)
        if bad.any():
            raise PtxError(f"{width} bytes at {int(addresses[bad][0]):#x} lie in no allocation "
                           f"({int(bad.sum())} threads)")
        return places[at] + (addresses - begins[at])


class Memory:
    """What one launch can address."""

    def __init__(self, heap, kernel, module, module_data, blocks, threads, dynamic_shared, parameters):
        self.heap, self.threads = heap, threads
        self.symbols = {}
        at = 0
        dynamic = None
        for v in kernel.shared:
            if v.bytes == 0:
                dynamic = v
                continue
            at = -(-at // v.align) * v.align
            self.symbols[v.name] = SHARED + at
            at += v.bytes
        if dynamic_shared:  # behind the static one
            at = _fit(at) if at else 0
        for v in ([dynamic] if dynamic else []) + [v for v in module.variables.values() if v.space == "shared"]:
            self.symbols[v.name] = SHARED + at
        self.shared_bytes = at + dynamic_shared
        self.shared_row = _fit(self.shared_bytes)
        self.shared = np.full(blocks * self.shared_row, POISON, np.uint8)
        at = 0
        for v in kernel.local:
            at = -(-at // v.align) * v.align
            self.symbols[v.name] = LOCAL + at
            at += v.bytes
        self.local_bytes, self.local_row = at, _fit(at)
        self.local = np.full(threads * self.local_row if at else 16, POISON, np.uint8)
        self.module, self.module_places = module_data
        for name, place in self.module_places.items():
            self.symbols[name] = MODULE + place
        at, parts = 0, []
        for v in kernel.parameters:  # for those that the kernel takes the address of
            self.symbols[v.name] = PARAMETERS + at
            parts.append(parameters[v.name].ljust(_fit(v.bytes), b"\0"))
            at += _fit(v.bytes)
        self.parameters = np.frombuffer(b"".join(parts), np.uint8)

    def _locate(self, addresses, width, machine, idx):
        """(array, places) for addresses of one window."""
        first = int(addresses[0])
        if first >= HEAP:
            if int(addresses.min()) < HEAP:
                return None
            places = self.heap.places_of(addresses, width)
            data = self.heap.data
        elif SHARED <= first < LOCAL:
            offset = addresses - np.uint64(SHARED)
            if int(addresses.min()) < SHARED or int(addresses.max()) >= LOCAL:
                return None
            if int(offset.max()) + width > self.shared_bytes:
                raise PtxError(f"{width} bytes at {int(offset.max())} of {self.shared_bytes} bytes of shared memory")
            places = machine.block[idx].astype(np.uint64) * np.uint64(self.shared_row) + offset
            data = self.shared
        elif LOCAL <= first < MODULE:
            offset = addresses - np.uint64(LOCAL)
            if int(addresses.min()) < LOCAL or int(addresses.max()) >= MODULE:
                return None
            if int(offset.max()) + width > self.local_bytes:
                raise PtxError(f"{width} bytes at {int(offset.max())} of {self.local_bytes} bytes of local memory")
            places = machine.thread[idx].astype(np.uint64) * np.uint64(self.local_row) + offset
            data = self.local
        elif MODULE <= first < HEAP:
            base, data = (MODULE, self.module) if first < PARAMETERS else (PARAMETERS, self.parameters)
            if int(addresses.min()) < base or int(addresses.max()) + width > base + len(data):
                raise PtxError(f"{width} bytes beyond the module's variables or the parameters")
            places = addresses - np.uint64(base)
        else:
            raise PtxError(f"address {first:#x} lies in no memory")
        if (addresses & np.uint64(width - 1)).any():
            raise PtxError(f"{width} bytes at an address that is no multiple of {width}")
        return data, places

    def load(self, addresses, width, parts, machine, idx):
        """`parts` values of `width` bytes from each address, which is aligned to all of them."""
        found = self._locate(addresses, width * parts, machine, idx)
        if found is None:
            return self._apart(addresses, machine, idx, lambda a, i: self.load(a, width, parts, machine, i))
        data, places = found
        at = places // np.uint64(width)
        words = data[:len(data) // width * width].view(UNSIGNED[width])
        return [words[at + np.uint64(k)] for k in range(parts)]

    def store(self, addresses, values, width, machine, idx):
        found = self._locate(addresses, width * len(values), machine, idx)
        if found is None:
            raise PtxError("a store to more than one kind of memory at once")
        data, places = found
        at = places // np.uint64(width)
        words = data[:len(data) // width * width].view(UNSIGNED[width])
        for k, value in enumerate(values):
            words[at + np.uint64(k)] = value

    def _apart(self, addresses, machine, idx, access):
        """Thread by thread: addresses of more than one window in one instruction."""
        threads = machine.thread[idx]
        rows = [access(addresses[i:i + 1], threads[i:i + 1]) for i in range(len(addresses))]
        return [np.concatenate([r[k] for r in rows]) for k in range(len(rows[0]))]


def lay_out_module(module):
    """(bytes, places by name) of the module's .global and .const variables."""
    places, at = {}, 0
    for v in module.variables.values():
        if v.space in ("global", "const"):
            at = -(-at // max(v.align, 16)) * max(v.align, 16)
            places[v.name] = at
            at += v.bytes
    data = np.zeros(_fit(at), np.uint8)
    for name, place in places.items():
        v = module.variables[name]
        data[place:place + v.bytes] = np.frombuffer(v.data or bytes(v.bytes), np.uint8)
    return data, places
