#include "data/resize_axis.h"

#include <algorithm>
#include <cmath>

namespace cairn::data {

namespace {

/// Pillow's precompute_coeffs and normalize_coeffs_8bpc for one output: fills `weights` (any size) and gives
/// the first source position. In double and in its order of operations: the weights' last bits depend on it.
int make_weights(int in_size, const AxisWindow& window, int output, std::vector<double>& exact,
                 std::vector<int32_t>& weights) {
  const double scale = static_cast<double>(window.box1 - window.box0) / window.size;
  const double filter_scale = std::max(scale, 1.0), support = filter_scale;
  const double centre = window.box0 + (output + 0.5) * scale, inverse = 1.0 / filter_scale;
  const int first = std::max(0, static_cast<int>(centre - support + 0.5));
  const int taps = std::min(in_size, static_cast<int>(centre + support + 0.5)) - first;
  exact.clear();
  double sum = 0;
  for (int i = 0; i < taps; ++i) {
    const double t = std::abs((i + first - centre + 0.5) * inverse);
    exact.push_back(t < 1.0 ? 1.0 - t : 0.0);
    sum += exact.back();
  }
  weights.clear();
  for (const double weight : exact) {
    const double normalised = sum != 0.0 ? weight / sum : weight;
    weights.push_back(static_cast<int32_t>(0.5 + normalised * (1 << kWeightBits)));
  }
  return first;
}

int32_t high_pair(int32_t a, int32_t b) { return a >> kLowBits | b >> kLowBits << 16; }
int32_t low_pair(int32_t a, int32_t b) {
  constexpr int32_t kMask = (1 << kLowBits) - 1;
  return (a & kMask) | (b & kMask) << 16;
}

}  // namespace

HorizontalAxis horizontal_axis(int in_size, const AxisWindow& window) {
  HorizontalAxis axis{window.count, {}, {0}, {}};
  std::vector<double> exact;
  std::vector<int32_t> w;
  for (int i = 0; i < window.count; ++i) {
    axis.first.push_back(make_weights(in_size, window, window.begin + i, exact, w));
    w.resize((w.size() + 3) / 4 * 4);
    for (size_t t = 0; t < w.size(); t += 4) {
      axis.weights.insert(axis.weights.end(), {high_pair(w[t], w[t + 1]), high_pair(w[t + 2], w[t + 3]),
                                               low_pair(w[t], w[t + 1]), low_pair(w[t + 2], w[t + 3])});
    }
    axis.group_begin.push_back(static_cast<int>(axis.weights.size() / 4));
  }
  return axis;
}

VerticalAxis vertical_axis(int in_size, const AxisWindow& window) {
  VerticalAxis axis{window.count, 0, {}, {}, {0}, {}};
  std::vector<double> exact;
  std::vector<int32_t> w;
  for (int i = 0; i < window.count; ++i) {
    axis.first.push_back(make_weights(in_size, window, window.begin + i, exact, w));
    axis.taps.push_back(static_cast<int>(w.size()));
    axis.last_row = std::max(axis.last_row, axis.first.back() + static_cast<int>(w.size()) - 1);
    w.resize((w.size() + 1) / 2 * 2);
    for (size_t t = 0; t < w.size(); t += 2) {
      axis.weights.insert(axis.weights.end(), {high_pair(w[t], w[t + 1]), low_pair(w[t], w[t + 1])});
    }
    axis.pair_begin.push_back(static_cast<int>(axis.weights.size() / 2));
  }
  return axis;
}

}  // namespace cairn::data
