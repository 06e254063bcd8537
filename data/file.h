#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace cairn::data {

/// The largest file that is read whole, in bytes: a larger one is no image or list that anybody means.
constexpr int64_t kMaxFileBytes = int64_t{1} << 31;

/// Reads a whole regular file. Throws InputError naming the file and the system's reason: missing, no
/// permission, a folder or a device, larger than max_bytes, shorter than it was when it was opened.
std::vector<uint8_t> read_file(const std::string& path, int64_t max_bytes = kMaxFileBytes);

}  // namespace cairn::data
