#pragma once
/// Memory traffic of kernels, counted as a device's memory system would see it: lanes' accesses put together
/// into the requests of a warp.
#include <cstddef>
#include <cstdint>

#include "kernels/emu/checks.h"

namespace cairn::emu {

void count_launch(const Grid& grid);

// Of checked kernels; the worker runs the block.
void log_begin_block(const Worker& worker);
void log_global(const Worker& worker, std::uintptr_t p, std::size_t bytes, Access access, std::uintptr_t pc);
void log_shared(const Worker& worker, std::uintptr_t p, std::size_t bytes, Access access, std::uintptr_t pc);
void log_end_block(const Worker& worker);

}  // namespace cairn::emu
