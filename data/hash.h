#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "data/image.h"

namespace cairn::data {

/// 128-bit XXH3 of the bytes in 32 lower-case hexadecimal digits: equal files have equal hashes.
std::string content_hash(std::span<const uint8_t> bytes);

}  // namespace cairn::data
