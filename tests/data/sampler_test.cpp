#include "data/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "kernels/error.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Part7 {
  std::vector<int64_t> items;
  std::vector<int32_t> labels;
};

// Items 1000, 1001, … with counts[c] of class c.
Part7 make_part(const std::vector<int64_t>& counts) {
  Part7 part;
  for (size_t c = 0; c < counts.size(); ++c) {
    for (int64_t i = 0; i < counts[c]; ++i) {
      part.items.push_back(1000 + static_cast<int64_t>(part.items.size()));
      part.labels.push_back(static_cast<int32_t>(c));
    }
  }
  return part;
}

Sampler make_sampler(const std::vector<int64_t>& counts, const SamplerOptions& options) {
  const Part7 part = make_part(counts);
  return {part.items, part.labels, static_cast<int>(counts.size()), options};
}

std::vector<int64_t> epoch_of(const Sampler& sampler, int64_t epoch) {
  std::vector<int64_t> items;
  for (int64_t p = 0; p < sampler.epoch_images(); ++p) items.push_back(sampler.pick(epoch, p).item);
  return items;
}

TEST(Permute, IsAPermutationOfAnyRange) {
  for (const uint64_t n : {1, 2, 3, 4, 5, 7, 16, 17, 64, 100, 1000, 1757}) {
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t place = permute(1, 2, n, i);
      EXPECT_LT(place, n);
      seen.insert(place);
    }
    EXPECT_EQ(seen.size(), n);
  }
}

// Over 12,000 keys each of the 120 orders of five comes up 100 times: chi-square with 119 degrees of freedom
// is below 119 + 5 sqrt(2 * 119).
TEST(Permute, ReachesAllOrdersEvenly) {
  std::map<std::vector<uint64_t>, int> counts;
  for (uint64_t key = 0; key < 12000; ++key) {
    std::vector<uint64_t> order;
    for (uint64_t i = 0; i < 5; ++i) order.push_back(permute(key, 9, 5, i));
    ++counts[order];
  }
  ASSERT_EQ(counts.size(), 120u);
  double chi_square = 0;
  for (const auto& [order, count] : counts) chi_square += (count - 100.0) * (count - 100.0) / 100.0;
  EXPECT_LT(chi_square, 119 + 5 * std::sqrt(2.0 * 119));
}

// A larger range, over 20,000 keys: the place of the first element in 100 bins (99 degrees of freedom), and
// that of the first two in 10 x 10 (99 again, as far as two places of 100 are independent).
TEST(Permute, SpreadsALargerRangeEvenly) {
  std::vector<double> single(100, 0), joint(100, 0);
  for (uint64_t key = 0; key < 20000; ++key) {
    const uint64_t a = permute(key, 9, 100, 0), b = permute(key, 9, 100, 1);
    single[a] += 1;
    joint[a / 10 * 10 + b / 10] += 1;
  }
  for (const auto& counts : {single, joint}) {
    double chi_square = 0;
    for (const double count : counts) chi_square += (count - 200) * (count - 200) / 200;
    EXPECT_LT(chi_square, 99 + 5 * std::sqrt(2.0 * 99));
  }
}

TEST(Sampler, ShuffledEpochsHoldEveryImageOnceInAnotherOrder) {
  const Sampler sampler = make_sampler({30, 20}, {.seed = 5, .batch_size = 8});
  EXPECT_EQ(sampler.batches_per_epoch(), 6);
  const auto first = epoch_of(sampler, 0), second = epoch_of(sampler, 1);
  EXPECT_NE(first, second);
  EXPECT_EQ(first, epoch_of(make_sampler({30, 20}, {.seed = 5, .batch_size = 16}), 0));
  EXPECT_NE(first, epoch_of(make_sampler({30, 20}, {.seed = 6, .batch_size = 8}), 0));
  EXPECT_EQ(std::set(first.begin(), first.end()).size(), 50u);
  EXPECT_EQ(std::set(second.begin(), second.end()).size(), 50u);
  EXPECT_EQ(sampler.pick(0, 3).label, first[3] < 1030 ? 0 : 1);
}

TEST(Sampler, WithoutShuffleInOrderWithThePartialBatch) {
  const Sampler sampler = make_sampler({7, 4}, {.batch_size = 4, .shuffle = false});
  EXPECT_EQ(sampler.batches_per_epoch(), 3);
  EXPECT_EQ(sampler.local_batch_size(2), 3);
  EXPECT_THAT(epoch_of(sampler, 3),
              ElementsAre(1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010));
}

TEST(Sampler, AnEpochSmallerThanABatchIsKept) {
  const Sampler sampler = make_sampler({3, 2}, {.batch_size = 32});
  EXPECT_EQ(sampler.batches_per_epoch(), 1);
  EXPECT_EQ(sampler.local_batch_size(0), 5);
}

// The demo set's training part (15 % taken twice): 251 of the largest class, 7 * 251 = 1757 images an epoch.
TEST(Sampler, OversamplingShowsEveryClassAlike) {
  const std::vector<int64_t> counts = {59, 33, 251, 26, 78, 21, 72};
  const Sampler sampler = make_sampler(counts, {.seed = 1, .batch_size = 32, .balance = Balance::oversample});
  EXPECT_EQ(sampler.epoch_images(), 1757);
  EXPECT_EQ(sampler.batches_per_epoch(), 54);
  std::vector<std::map<int64_t, int>> shown;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::map<int64_t, int> times;
    std::vector<int> of_class(7, 0);
    for (int64_t p = 0; p < 1757; ++p) {
      const Sampler::Pick pick = sampler.pick(epoch, p);
      ++times[pick.item];
      ++of_class[pick.label];
    }
    EXPECT_THAT(of_class, ElementsAre(251, 251, 251, 251, 251, 251, 251));
    const Part7 part = make_part(counts);
    for (size_t i = 0; i < part.items.size(); ++i) {
      const int64_t n = counts[part.labels[i]], rounds = 251 / n;
      const int64_t seen = times[part.items[i]];
      EXPECT_TRUE(seen == rounds || seen == rounds + 1) << i;
      EXPECT_TRUE(seen == rounds || 251 % n != 0) << i;
    }
    shown.push_back(std::move(times));
  }
  EXPECT_NE(shown[0], shown[1]);  // the rest is drawn anew
}

TEST(Sampler, ProcessesSliceEachBatch) {
  for (const Balance balance : {Balance::none, Balance::oversample}) {
    const Sampler whole = make_sampler({9, 14}, {.seed = 3, .batch_size = 6, .balance = balance});
    for (int64_t batch = 0; batch < whole.batches_per_epoch(); ++batch) {
      std::vector<int64_t> together;
      for (int rank = 0; rank < 3; ++rank) {
        const Sampler slice =
            make_sampler({9, 14}, {.seed = 3, .batch_size = 6, .balance = balance, .rank = rank, .world = 3});
        EXPECT_EQ(slice.batches_per_epoch(), whole.batches_per_epoch());
        for (int64_t i = 0; i < slice.local_batch_size(batch); ++i) {
          together.push_back(slice.pick(2, slice.first_position(batch) + i).item);
        }
      }
      std::vector<int64_t> expected;
      for (int64_t i = 0; i < 6; ++i) expected.push_back(whole.pick(2, batch * 6 + i).item);
      EXPECT_EQ(together, expected);
    }
  }
}

TEST(Sampler, PartialBatchIsSharedByPosition) {
  int64_t images = 0;
  for (int rank = 0; rank < 4; ++rank) {
    const Sampler slice = make_sampler({9}, {.batch_size = 8, .shuffle = false, .rank = rank, .world = 4});
    EXPECT_EQ(slice.batches_per_epoch(), 2);
    EXPECT_EQ(slice.local_batch_size(1), rank == 0 ? 1 : 0);
    images += slice.local_batch_size(0) + slice.local_batch_size(1);
  }
  EXPECT_EQ(images, 9);
}

TEST(Sampler, SenselessOptionsAreRefused) {
  EXPECT_THAT(message_of([] { make_sampler({}, {}); }), HasSubstr("holds no images"));
  EXPECT_THROW(make_sampler({5}, {.batch_size = 0}), InputError);
  EXPECT_THAT(message_of([] { make_sampler({5}, {.batch_size = 5, .world = 2}); }),
              HasSubstr("must be a multiple"));
  EXPECT_THROW(make_sampler({5}, {.batch_size = 4, .rank = 2, .world = 2}), InputError);
  EXPECT_THROW(parse_balance("some"), InputError);
  EXPECT_EQ(parse_balance("effective"), Balance::effective);
}

// Weights by hand: inverse is N / (K n); for counts 1 and 3, N = 2, b = 1/2, (1 - b) / (1 - b^n) is 1 and
// 4/7, scaled by 4 / (1 + 12/7).
TEST(ClassWeights, HaveMeanOneOverTheImages) {
  EXPECT_THAT(class_weights(Balance::none, {1, 3}), ElementsAre(1.0f, 1.0f));
  EXPECT_THAT(class_weights(Balance::oversample, {1, 3}), ElementsAre(1.0f, 1.0f));
  EXPECT_THAT(class_weights(Balance::inverse, {1, 3}), ElementsAre(2.0f, testing::FloatEq(2.0f / 3)));
  EXPECT_THAT(class_weights(Balance::effective, {1, 3}),
              ElementsAre(testing::FloatEq(28.0f / 19), testing::FloatEq(16.0f / 19)));
  EXPECT_THAT(class_weights(Balance::inverse, {2, 0, 2}), ElementsAre(1.0f, 0.0f, 1.0f));
}

TEST(ClassWeights, EffectiveLiesBetweenNoneAndInverse) {
  const std::vector<int64_t> counts = {59, 33, 251, 26, 78, 21, 72};
  const auto spread = [&](Balance balance) {
    const auto weights = class_weights(balance, counts);
    return weights[5] / weights[2];
  };
  EXPECT_NEAR(spread(Balance::inverse), 251.0 / 21, 1e-4);
  EXPECT_GT(spread(Balance::effective), 2.0f);
  EXPECT_LT(spread(Balance::effective), 10.0f);
}

TEST(BalanceTable, SaysWhatAnEpochShows) {
  const auto rows = balance_table(Balance::oversample, {"a", "b"}, {2, 5});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].images, 2);
  EXPECT_EQ(rows[0].shown, 5);
  EXPECT_EQ(balance_table(Balance::inverse, {"a", "b"}, {2, 5})[0].shown, 2);
}

}  // namespace
}  // namespace cairn::data
