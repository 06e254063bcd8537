#pragma once
#include <cstdint>
#include <span>

namespace cairn::app {

/// Two classifiers on the same images, counted by who was right (McNemar 1947).
struct PairedTest {
  std::int64_t both_right = 0, only_first = 0, only_second = 0, both_wrong = 0;
  /// Of a difference at least this large if both were equally good: exact, two-sided binomial test of the
  /// images on which one alone was right.
  double p_value = 1;
};

/// labels, first, second: [n], the same images in the same order.
PairedTest paired_test(std::span<const std::int32_t> labels, std::span<const std::int32_t> first,
                       std::span<const std::int32_t> second);

/// P(|X - n/2| >= |k - n/2|) for X ~ binomial(n, 1/2).
double binomial_half_two_sided(std::int64_t k, std::int64_t n);

}  // namespace cairn::app
