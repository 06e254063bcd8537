#pragma once
/// What is known of each byte of device and shared memory: whether it was written, and who touched it last.
/// Kernels built with checks call in here at each access (callbacks.cpp).
#include <cstddef>
#include <cstdint>

namespace cairn::emu {

class Worker;
struct Grid;
struct Allocation;

enum class Access : std::uint8_t { read, write, atomic };

void checks_begin_grid(const Grid& grid);
void checks_end_grid();
void checks_begin_block(Worker& worker, std::uint64_t linear_block);
void checks_end_block(Worker& worker);

/// One access of the running thread; nothing outside kernels. `aligned`: the instruction needs `p` to be a
/// multiple of its size.
void check_access(std::uintptr_t p, std::size_t bytes, Access access, bool aligned, std::uintptr_t pc);
/// The same for an atomic function called from `pc`; nothing in unchecked kernels.
void check_atomic(const volatile void* p, std::size_t bytes, std::uintptr_t return_address);
/// Whether the running thread's latest access covers `p`, so that a fault there has been reported.
bool already_checked(std::uintptr_t p);

/// Copies, fills and frees; nothing unless checked kernels are loaded. Addresses are the device's.
void shadow_host_access(const void* p, std::size_t bytes, bool write);
void shadow_copy(const void* to, const void* from, std::size_t bytes);
void shadow_free(const Allocation& allocation);

}  // namespace cairn::emu
