// Atomic functions: real atomics of the host, so that several operating-system threads can share a grid.
#include <cstring>

#include "kernels/cuda/launch.h"
#include "kernels/emu/checks.h"

namespace {

#define CAIRN_CHECK_ATOMIC()                           \
  ::cairn::emu::check_atomic(address, sizeof *address, \
                             reinterpret_cast<std::uintptr_t>(__builtin_return_address(0)))

template <class Bits>
Bits exchange_if(Bits* address, Bits expected, Bits desired) {
  __atomic_compare_exchange_n(address, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

/// Read-modify-write of any type of 2, 4 or 8 bytes.
template <class Bits, class T, class Update>
T update(T* address, Update&& next) {
  static_assert(sizeof(Bits) == sizeof(T));
  auto* bits = reinterpret_cast<Bits*>(address);
  Bits seen = __atomic_load_n(bits, __ATOMIC_RELAXED);
  for (;;) {
    T old;
    std::memcpy(static_cast<void*>(&old), &seen, sizeof old);
    const T fresh = next(old);
    Bits wanted;
    std::memcpy(&wanted, static_cast<const void*>(&fresh), sizeof wanted);
    const Bits before = exchange_if(bits, seen, wanted);
    if (before == seen) return old;
    seen = before;
  }
}

}  // namespace

#define CAIRN_FETCH(name, type, builtin)              \
  type name(type* address, type value) {              \
    CAIRN_CHECK_ATOMIC();                             \
    return builtin(address, value, __ATOMIC_RELAXED); \
  }
#define CAIRN_UPDATE(name, type, bits, expression)                                  \
  type name(type* address, type value) {                                            \
    CAIRN_CHECK_ATOMIC();                                                           \
    return update<bits>(address, [value](type old) -> type { return expression; }); \
  }
#define CAIRN_FETCH_32(name, builtin) CAIRN_FETCH(name, int, builtin) CAIRN_FETCH(name, unsigned, builtin)
#define CAIRN_FETCH_BITS(name, builtin) \
  CAIRN_FETCH_32(name, builtin) CAIRN_FETCH(name, unsigned long long, builtin)

CAIRN_FETCH_BITS(atomicAdd, __atomic_fetch_add)
CAIRN_FETCH_32(atomicSub, __atomic_fetch_sub)
CAIRN_FETCH_BITS(atomicAnd, __atomic_fetch_and)
CAIRN_FETCH_BITS(atomicOr, __atomic_fetch_or)
CAIRN_FETCH_BITS(atomicXor, __atomic_fetch_xor)
CAIRN_FETCH_BITS(atomicExch, __atomic_exchange_n)
CAIRN_UPDATE(atomicExch, float, std::uint32_t, (static_cast<void>(old), value))
CAIRN_UPDATE(atomicAdd, float, std::uint32_t, old + value)
CAIRN_UPDATE(atomicAdd, double, std::uint64_t, old + value)

namespace {
__nv_bfloat16 sum(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __float2bfloat16_rn(__bfloat162float(a) + __bfloat162float(b));
}
__half sum(__half a, __half b) { return __float2half_rn(__half2float(a) + __half2float(b)); }
}  // namespace
CAIRN_UPDATE(atomicAdd, __nv_bfloat16, std::uint16_t, sum(old, value))
CAIRN_UPDATE(atomicAdd, __half, std::uint16_t, sum(old, value))
CAIRN_UPDATE(atomicAdd, __nv_bfloat162, std::uint32_t,
             __nv_bfloat162(sum(old.x, value.x), sum(old.y, value.y)))
CAIRN_UPDATE(atomicAdd, __half2, std::uint32_t, __half2(sum(old.x, value.x), sum(old.y, value.y)))

#define CAIRN_ORDERED(type, bits)                                \
  CAIRN_UPDATE(atomicMin, type, bits, value < old ? value : old) \
  CAIRN_UPDATE(atomicMax, type, bits, old < value ? value : old)
CAIRN_ORDERED(int, std::uint32_t)
CAIRN_ORDERED(unsigned, std::uint32_t)
CAIRN_ORDERED(long long, std::uint64_t)
CAIRN_ORDERED(unsigned long long, std::uint64_t)
CAIRN_UPDATE(atomicInc, unsigned, std::uint32_t, old >= value ? 0u : old + 1)
CAIRN_UPDATE(atomicDec, unsigned, std::uint32_t, (old == 0 || old > value) ? value : old - 1)

#define CAIRN_CAS(type)                                     \
  type atomicCAS(type* address, type compare, type value) { \
    CAIRN_CHECK_ATOMIC();                                   \
    const type old = exchange_if(address, compare, value);  \
    if (old != compare) ::cairn::emu::yield_thread();       \
    return old;                                             \
  }
CAIRN_CAS(int)
CAIRN_CAS(unsigned)
CAIRN_CAS(unsigned long long)
CAIRN_CAS(unsigned short)
