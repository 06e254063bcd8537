#include "apps/paired_test.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"

namespace cairn::app {

double binomial_half_two_sided(std::int64_t k, std::int64_t n) {
  const std::int64_t small = std::min(k, n - k);
  if (2 * small >= n) return 1;
  double tail = 0;  // P(X <= small); the other tail is as heavy
  const auto size = static_cast<double>(n);
  for (std::int64_t i = 0; i <= small; ++i) {
    const auto at = static_cast<double>(i);
    tail += std::exp(std::lgamma(size + 1) - std::lgamma(at + 1) - std::lgamma(size - at + 1) -
                     size * std::log(2.0));
  }
  return std::min(1.0, 2 * tail);
}

PairedTest paired_test(std::span<const std::int32_t> labels, std::span<const std::int32_t> first,
                       std::span<const std::int32_t> second) {
  if (labels.size() != first.size() || labels.size() != second.size())
    throw Error("[paired_test] " + std::to_string(labels.size()) + " labels, " +
                std::to_string(first.size()) + " and " + std::to_string(second.size()) + " answers");
  PairedTest t;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const bool a = first[i] == labels[i], b = second[i] == labels[i];
    ++(a ? b ? t.both_right : t.only_first : b ? t.only_second : t.both_wrong);
  }
  t.p_value = binomial_half_two_sided(t.only_first, t.only_first + t.only_second);
  return t;
}

}  // namespace cairn::app
