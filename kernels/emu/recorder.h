#pragma once
/// A record of what happens on the emulated device: memory, copies, launches with their parameters. It is for
/// tests that do the same again elsewhere: tests/ptx runs the PTX that nvcc makes of the same kernels and
/// compares what is read. CAIRN_EMU_RECORD=FILE records a whole process; queued work has to run in the order
/// of the calls (the eager schedule). tests/ptx/recording.py describes the file.
#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include "kernels/emu/emu.h"
#include "kernels/view.h"

namespace cairn::emu {

namespace recorder_detail {
extern std::atomic<bool> on;
}
inline bool recording() { return recorder_detail::on.load(std::memory_order_relaxed); }

/// Begins a file; throws cairn::Error where it cannot be made.
void record_to(const std::string& path);
/// Ends it, and throws where it could not be written whole.
void stop_recording();
/// What comes now belongs to `name`, and needs nothing of what came before.
void record_section(const std::string& name);
/// The `count` elements of `dtype` at `device` ought to be `want`, each to within tolerance times the largest
/// |want| (at least 1e-3). The device's own bytes are recorded beside them.
void record_expectation(const std::string& what, const void* device, DType dtype, std::size_t count,
                        const std::vector<double>& want, double tolerance);

// For the emulated device itself, while recording().
void record_malloc(const void* p, std::size_t bytes);
void record_free(const void* p);
void record_write(const void* device, const void* host, std::size_t bytes);
void record_read(const void* device, std::size_t bytes);
void record_copy(const void* to, const void* from, std::size_t bytes);
void record_fill(const void* device, int value, std::size_t bytes);
void record_symbol(const void* symbol, const void* host, std::size_t bytes, std::size_t offset);
void record_launch(const KernelCall& call, dim3 grid, dim3 block, std::size_t dynamic_shared);

}  // namespace cairn::emu
