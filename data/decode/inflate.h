#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace cairn::data {

/// Inflates a zlib stream, given in pieces, that must fill `out` exactly. Throws Refusal (decode/internal.h)
/// if it is damaged (its checksum included), cut short, or holds less or more. Never writes beyond `out`.
void inflate_exactly(std::span<const std::span<const uint8_t>> pieces, std::span<uint8_t> out);

}  // namespace cairn::data
