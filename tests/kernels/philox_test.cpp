#include "kernels/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace cairn {
namespace {

void expect_words(const Philox4x32& got, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  EXPECT_EQ(got.v[0], a);
  EXPECT_EQ(got.v[1], b);
  EXPECT_EQ(got.v[2], c);
  EXPECT_EQ(got.v[3], d);
}

// The three philox4x32-10 lines of Random123's kat_vectors.
TEST(Philox, KnownAnswers) {
  expect_words(philox4x32_10({{0, 0, 0, 0}}, 0, 0), 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u);
  expect_words(philox4x32_10({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u), 0x408f276du, 0x41c83b0eu, 0xa20bc7c6u,
               0x6d5451fdu);
  expect_words(
      philox4x32_10({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, 0xa4093822u, 0x299f31d0u),
      0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u);
}

TEST(Philox, HelperLaysOutKeyAndCounter) {
  const Philox4x32 got = philox(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u);
  expect_words(got, 0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u);
}

TEST(Philox, StreamsDiffer) {
  std::set<uint32_t> first;
  for (const PhiloxStream use : {kStreamInit, kStreamDropout, kStreamSplit, kStreamShuffle, kStreamOversample,
                                 kStreamAugment, kStreamMix}) {
    for (uint64_t sub = 0; sub < 10; ++sub) first.insert(philox(1, philox_stream(use, sub), 0).v[0]);
  }
  EXPECT_EQ(first.size(), 70u);
}

TEST(Philox, UniformFloatStaysBelowOne) {
  EXPECT_EQ(uniform_float(0), 0.0f);
  EXPECT_LT(uniform_float(~0u), 1.0f);
  EXPECT_EQ(uniform_float(0x80000000u), 0.5f);
}

// Mean and variance of n uniform draws lie within five standard errors of 1/2 and 1/12.
TEST(Philox, UniformFloatIsUniform) {
  constexpr int kDraws = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws / 4; ++i) {
    for (const uint32_t word : philox(7, philox_stream(kStreamDropout, 3), i).v) {
      const double u = uniform_float(word);
      sum += u;
      squares += u * u;
    }
  }
  const double mean = sum / kDraws;
  EXPECT_NEAR(mean, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws - mean * mean, 1.0 / 12, 5 * std::sqrt(1.0 / 180 / kDraws));
}

TEST(Philox, UniformBelowReachesEveryValue) {
  int counts[7] = {};
  for (int i = 0; i < 7000; ++i) ++counts[uniform_below(philox(3, 4, i).v[0], 7)];
  for (const int count : counts) EXPECT_NEAR(count, 1000, 5 * std::sqrt(1000.0));
}

}  // namespace
}  // namespace cairn
