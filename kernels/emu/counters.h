#pragma once
/// Memory traffic of kernels, counted as a device's memory system would see it: lanes' accesses put together
/// into the requests of a warp.
#include <cstddef>
#include <cstdint>

#include "kernels/emu/checks.h"
#include "kernels/emu/emu.h"

namespace cairn::emu {

inline constexpr std::uintptr_t kSectorBytes = 32;  // the unit in which L2 and memory are read

void count_launch(const Grid& grid);
/// Of checked kernels: the grid that count_launch() began has run.
void count_end_of_grid();

// Of checked kernels; the worker runs the block.
void log_begin_block(const Worker& worker);
void log_global(const Worker& worker, std::uintptr_t p, std::size_t bytes, Access access, std::uintptr_t pc);
void log_shared(const Worker& worker, std::uintptr_t p, std::size_t bytes, Access access, std::uintptr_t pc);
void log_end_block(const Worker& worker);

// To the ledger (ledger.h), which these write into while it is open.
bool ledger_open();
/// A sector that a request of the grid under way touches, by its number.
void note_sector(std::uintptr_t sector, bool load);
/// A grid has run; `launch` is what it alone added to its kernel's counters.
void note_kernel(const KernelCounters& launch);
void note_copy(const char* name, std::size_t read, std::size_t written);

}  // namespace cairn::emu
