#pragma once
#include <cstdint>
#include <string>

namespace cairn::data {

/// Bytes that this process can still take before it is refused memory or killed for it: what the machine has
/// (MemAvailable and free swap), what each control group above the process leaves (versions 1 and 2; pages of
/// files that can be dropped count as free), and the limit on the address space (ulimit -v). `root` stands
/// before /proc and /sys, for tests. INT64_MAX where nothing is known.
std::int64_t available_memory(const std::string& root = "");

}  // namespace cairn::data
