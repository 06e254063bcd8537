#pragma once
/// What g++ needs to compile a kernel: CUDA's built-in variables, barriers, warp functions, atomics and
/// arithmetic for a thread of the emulated device. Semantics are those of the CUDA C++ Programming Guide,
/// section "C++ Language Extensions"; where it says "undefined", the emulated device reports a defect and
/// goes on with poison.
#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>

#include "kernels/emu/emu.h"
#include "kernels/emu/simt_math.h"

namespace cairn::emu {

/// What one emulated thread sees of itself.
struct ThreadView {
  uint3 thread_idx;
  uint3 block_idx;
  dim3 block_dim;
  dim3 grid_dim;
};

// Constant for a thread, and so read once by instrumented code; no callback then sees the emulator's own
// memory.
[[gnu::const]] uint3 checked_thread_idx() noexcept;
[[gnu::const]] uint3 checked_block_idx() noexcept;
[[gnu::const]] dim3 checked_block_dim() noexcept;
[[gnu::const]] dim3 checked_grid_dim() noexcept;

#if !defined(CAIRN_EMU_CHECKED)
/// The emulated thread that runs on this operating-system thread; fibers never move to another.
extern constinit thread_local ThreadView this_thread __attribute__((tls_model("initial-exec")));
#endif

void* dynamic_shared() noexcept;

using Where = std::source_location;

enum class BarrierVote : std::uint8_t { none, count, all, any };
int block_barrier(BarrierVote vote, int predicate, const Where& where);

enum class WarpOp : std::uint8_t {
  sync,
  shuffle,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
  match_any,
  match_all,
  add,
  min_unsigned,
  min_signed,
  max_unsigned,
  max_signed,
  bit_and,
  bit_or,
  bit_xor,
};
/// One warp function of the calling lane. `value`: what it contributes; `lane`: source lane, delta or lane
/// mask of a shuffle. Returns the shuffled bits, the ballot, the matching lanes or the reduced value.
std::uint64_t warp_exchange(WarpOp op, unsigned mask, std::uint64_t value, int lane, int width,
                            const Where& where);
unsigned active_mask() noexcept;
void memory_fence(bool beyond_block) noexcept;
void trap(const Where& where);
/// Lets the block's other threads go on; what a thread that waits in a loop calls.
void yield_thread() noexcept;

template <class T>
T shuffle(WarpOp op, unsigned mask, T value, int lane, int width, const Where& where) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_exchange(op, mask, bits, lane, width, where);
  std::memcpy(static_cast<void*>(&value), &bits, sizeof(T));  // __half2 has an operator= of its own
  return value;
}
template <class T>
std::uint64_t bits_of(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

}  // namespace cairn::emu

#undef __shared__
#define __shared__ static thread_local
#undef __launch_bounds__
#define __launch_bounds__(...)

#if defined(CAIRN_EMU_CHECKED)
#define threadIdx (::cairn::emu::checked_thread_idx())
#define blockIdx (::cairn::emu::checked_block_idx())
#define blockDim (::cairn::emu::checked_block_dim())
#define gridDim (::cairn::emu::checked_grid_dim())
#else
#define threadIdx (::cairn::emu::this_thread.thread_idx)
#define blockIdx (::cairn::emu::this_thread.block_idx)
#define blockDim (::cairn::emu::this_thread.block_dim)
#define gridDim (::cairn::emu::this_thread.grid_dim)
#endif
inline constexpr int warpSize = 32;

// ---- barriers and fences ("Synchronization Functions", "Memory Fence Functions") ----

#define CAIRN_WHERE ::cairn::emu::Where where = ::cairn::emu::Where::current()
inline void __syncthreads(CAIRN_WHERE) {
  ::cairn::emu::block_barrier(::cairn::emu::BarrierVote::none, 0, where);
}
inline int __syncthreads_count(int predicate, CAIRN_WHERE) {
  return ::cairn::emu::block_barrier(::cairn::emu::BarrierVote::count, predicate, where);
}
inline int __syncthreads_and(int predicate, CAIRN_WHERE) {
  return ::cairn::emu::block_barrier(::cairn::emu::BarrierVote::all, predicate, where);
}
inline int __syncthreads_or(int predicate, CAIRN_WHERE) {
  return ::cairn::emu::block_barrier(::cairn::emu::BarrierVote::any, predicate, where);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, CAIRN_WHERE) {
  ::cairn::emu::warp_exchange(::cairn::emu::WarpOp::sync, mask, 0, 0, 32, where);
}
inline void __threadfence() { ::cairn::emu::memory_fence(true); }
inline void __threadfence_block() { ::cairn::emu::memory_fence(false); }
inline void __threadfence_system() { ::cairn::emu::memory_fence(true); }
inline void __nanosleep(unsigned) { ::cairn::emu::yield_thread(); }
inline void __trap(CAIRN_WHERE) { ::cairn::emu::trap(where); }

// ---- warp functions ("Warp Vote", "Warp Match", "Warp Reduce", "Warp Shuffle Functions") ----

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CAIRN_WHERE) {
  return ::cairn::emu::shuffle(::cairn::emu::WarpOp::shuffle, mask, value, source, width, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CAIRN_WHERE) {
  return ::cairn::emu::shuffle(::cairn::emu::WarpOp::shuffle_up, mask, value, static_cast<int>(delta), width,
                               where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CAIRN_WHERE) {
  return ::cairn::emu::shuffle(::cairn::emu::WarpOp::shuffle_down, mask, value, static_cast<int>(delta),
                               width, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, CAIRN_WHERE) {
  return ::cairn::emu::shuffle(::cairn::emu::WarpOp::shuffle_xor, mask, value, lane_mask, width, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CAIRN_WHERE) {
  return static_cast<unsigned>(
      ::cairn::emu::warp_exchange(::cairn::emu::WarpOp::ballot, mask, predicate != 0, 0, 32, where));
}
inline int __any_sync(unsigned mask, int predicate, CAIRN_WHERE) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CAIRN_WHERE) {
  return __ballot_sync(mask, predicate == 0, where) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, CAIRN_WHERE) {
  return static_cast<unsigned>(::cairn::emu::warp_exchange(::cairn::emu::WarpOp::match_any, mask,
                                                           ::cairn::emu::bits_of(value), 0, 32, where));
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* same, CAIRN_WHERE) {
  const auto lanes = static_cast<unsigned>(::cairn::emu::warp_exchange(
      ::cairn::emu::WarpOp::match_all, mask, ::cairn::emu::bits_of(value), 0, 32, where));
  *same = lanes != 0;
  return lanes;
}
#define CAIRN_WARP_REDUCE(name, type, op)                                                                   \
  inline type name(unsigned mask, type value, CAIRN_WHERE) {                                                \
    return static_cast<type>(::cairn::emu::warp_exchange(::cairn::emu::WarpOp::op, mask,                    \
                                                         static_cast<std::uint32_t>(value), 0, 32, where)); \
  }
CAIRN_WARP_REDUCE(__reduce_add_sync, unsigned, add)
CAIRN_WARP_REDUCE(__reduce_add_sync, int, add)
CAIRN_WARP_REDUCE(__reduce_min_sync, unsigned, min_unsigned)
CAIRN_WARP_REDUCE(__reduce_min_sync, int, min_signed)
CAIRN_WARP_REDUCE(__reduce_max_sync, unsigned, max_unsigned)
CAIRN_WARP_REDUCE(__reduce_max_sync, int, max_signed)
CAIRN_WARP_REDUCE(__reduce_and_sync, unsigned, bit_and)
CAIRN_WARP_REDUCE(__reduce_or_sync, unsigned, bit_or)
CAIRN_WARP_REDUCE(__reduce_xor_sync, unsigned, bit_xor)
#undef CAIRN_WARP_REDUCE
#undef CAIRN_WHERE
inline unsigned __activemask() { return ::cairn::emu::active_mask(); }

// ---- atomics ("Atomic Functions"): relaxed read-modify-write; each returns the old value ----
// Functions of the emulator's library, so that instrumented kernels do not count them as plain accesses.

#define CAIRN_ATOMIC(name, type) type name(type* address, type value);
#define CAIRN_ATOMIC_32(name) CAIRN_ATOMIC(name, int) CAIRN_ATOMIC(name, unsigned)
#define CAIRN_ATOMIC_ORDERED(name) \
  CAIRN_ATOMIC_32(name) CAIRN_ATOMIC(name, long long) CAIRN_ATOMIC(name, unsigned long long)
#define CAIRN_ATOMIC_BITS(name) CAIRN_ATOMIC_32(name) CAIRN_ATOMIC(name, unsigned long long)
CAIRN_ATOMIC_BITS(atomicAdd)
CAIRN_ATOMIC(atomicAdd, float)
CAIRN_ATOMIC(atomicAdd, double)
CAIRN_ATOMIC(atomicAdd, __nv_bfloat16)
CAIRN_ATOMIC(atomicAdd, __half)
CAIRN_ATOMIC(atomicAdd, __nv_bfloat162)
CAIRN_ATOMIC(atomicAdd, __half2)
CAIRN_ATOMIC_32(atomicSub)
CAIRN_ATOMIC_BITS(atomicExch)
CAIRN_ATOMIC(atomicExch, float)
CAIRN_ATOMIC_ORDERED(atomicMin)
CAIRN_ATOMIC_ORDERED(atomicMax)
CAIRN_ATOMIC_BITS(atomicAnd)
CAIRN_ATOMIC_BITS(atomicOr)
CAIRN_ATOMIC_BITS(atomicXor)
CAIRN_ATOMIC(atomicInc, unsigned)
CAIRN_ATOMIC(atomicDec, unsigned)
#undef CAIRN_ATOMIC_BITS
#undef CAIRN_ATOMIC_ORDERED
#undef CAIRN_ATOMIC_32
#undef CAIRN_ATOMIC
int atomicCAS(int* address, int compare, int value);
unsigned atomicCAS(unsigned* address, unsigned compare, unsigned value);
unsigned long long atomicCAS(unsigned long long* address, unsigned long long compare,
                             unsigned long long value);
unsigned short atomicCAS(unsigned short* address, unsigned short compare, unsigned short value);
