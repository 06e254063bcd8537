#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace cairn::app {

/// SHA-256 (FIPS 180-4) of the bytes in 64 lower-case hexadecimal digits: what every other program can work
/// out too, and XXH3 is not.
std::string sha256(std::span<const std::uint8_t> bytes);

}  // namespace cairn::app
