#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn::data {

// The weights of resize.cpp, laid out for its two passes. Private to it.

constexpr int kWeightBits = 22;           // Pillow's PRECISION_BITS: 32 - 8 bits of a pixel - 2 spare
constexpr int kLowBits = 11;              // of a weight's two halves
constexpr size_t kRowSlack = 3 * 3 + 16;  // bytes read behind a row: three taps of weight 0, a whole load

/// Outputs [begin, begin + count) of the resize of box0..box1 to `size`.
struct AxisWindow {
  float box0, box1;
  int size;
  int begin, count;
};

/// Along x: taps in groups of four, each {high01, high23, low01, low23}: the halves of the weights of taps 0
/// and 1 (2 and 3) as 16-bit pairs.
struct HorizontalAxis {
  int count = 0;
  std::vector<int> first;        // [count] first source pixel
  std::vector<int> group_begin;  // [count + 1] into weights, in groups
  std::vector<int32_t> weights;  // [groups, 4]
};

/// Along y: taps in pairs, each {high, low}.
struct VerticalAxis {
  int count = 0;
  int last_row = 0;              // the last source row that any output needs
  std::vector<int> first;        // [count] first source row
  std::vector<int> taps;         // [count] source rows
  std::vector<int> pair_begin;   // [count + 1] into weights, in pairs
  std::vector<int32_t> weights;  // [pairs, 2]
};

struct ResizePlan {
  const uint8_t* source;  // [source_height, source_width, 3]
  int source_width;
  bool vertical_first;
  HorizontalAxis horizontal;
  VerticalAxis vertical;
};

HorizontalAxis horizontal_axis(int in_size, const AxisWindow& window);
VerticalAxis vertical_axis(int in_size, const AxisWindow& window);

}  // namespace cairn::data
