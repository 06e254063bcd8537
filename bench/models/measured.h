#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>
#include <vector>

#include "engine/tensor.h"

/// What the models' benchmarks share.
namespace cairn::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/// Noise in place of photos, the same every time: images [n,S,S,3] uint8, labels [n] int32.
struct RandomBatch {
  RandomBatch(std::int64_t n, std::int64_t size, std::int64_t classes, Device device) {
    std::mt19937 random(0);
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(n * size * size * 3));
    for (std::uint8_t& p : pixels) p = static_cast<std::uint8_t>(random());
    std::vector<std::int32_t> classes_of(static_cast<std::size_t>(n));
    for (std::int32_t& c : classes_of)
      c = static_cast<std::int32_t>(random() % static_cast<unsigned>(classes));
    images = from_values<std::uint8_t>({n, size, size, 3}, pixels, device);
    labels = from_values<std::int32_t>({n}, classes_of, device);
  }
  Tensor images, labels;
};

}  // namespace cairn::bench
