#pragma once
#include <cstdint>
#include <vector>

namespace cairn::data {

/// An image in memory: 8-bit RGB, rgb is [height, width, 3] with rows tightly packed.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;
};

}  // namespace cairn::data
