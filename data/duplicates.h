#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "data/image.h"

namespace cairn::data {

/// Side of the small picture that looks are compared on.
constexpr int kLookSide = 32;

/// How an image looks, small: what near duplicates are found by. 1096 bytes.
struct Look {
  uint64_t hash = 0;               // signs of the 63 lowest frequencies against their median (a "pHash")
  bool flat = false;               // nearly one colour: it looks like nothing
  std::array<int8_t, 64> rough{};  // [8, 8] luma without its mean, scaled to a length of 127
  std::array<uint8_t, kLookSide * kLookSide> luma{};  // [32, 32], the image squeezed into a square
};

/// The look of an upright image; its sides do not matter.
Look make_look(const Image& image);

/// Whether two images are one picture, the second resized, recompressed, cropped by a few per cent or made
/// brighter or darker: the small pictures are laid over each other (shift and scale along x and y, by Gauss
/// and Newton's method as Lucas & Kanade 1981) and must then correlate by 0.97. Symmetric; flat images are
/// like none.
/// Measured on the 768 pictures of the demo set, nine altered copies of each: docs/duplicates.md.
bool looks_alike(const Look& a, const Look& b);

/// Groups of two images or more that look alike, also over several steps; indices ascend, groups too. Every
/// pair is compared by hash, few in full: quadratic, about 2 ns a pair and thread. workers 0: one a core.
std::vector<std::vector<int64_t>> find_look_alikes(std::span<const Look> looks, int workers = 0);

/// The groups as pairs that join them, for SplitOptions::near_duplicates.
std::vector<std::pair<int64_t, int64_t>> joining_pairs(const std::vector<std::vector<int64_t>>& groups);

}  // namespace cairn::data
