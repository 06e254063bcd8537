// Calibration, label errors and the paired test, against figures worked out by other means.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "apps/calibration.h"
#include "apps/evaluation.h"
#include "apps/label_errors.h"
#include "apps/paired_test.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace cairn::app {
namespace {

// Doubles that are sums of a few hundred numbers around 1.
constexpr double kClose = 1e-9;

// Images of two classes; row i: probability p[i] of class 0 (as logits), label[i].
Predictions two_classes(const std::vector<double>& p, const std::vector<std::int32_t>& labels) {
  Predictions predictions;
  predictions.classes = 2;
  for (std::size_t i = 0; i < p.size(); ++i) {
    predictions.items.push_back(static_cast<std::int64_t>(i));
    predictions.labels.push_back(labels[i]);
    predictions.logits.push_back(static_cast<float>(std::log(p[i] / (1 - p[i]))));
    predictions.logits.push_back(0);
  }
  return predictions;
}

TEST(Calibration, ByHand) {
  // Confidences 0.95, 0.95 (one right), 0.65 (right), 0.75 (answered class 1, right).
  const Predictions p = two_classes({0.95, 0.95, 0.65, 0.25}, {0, 1, 0, 1});
  const Calibration c = calibration_of(p, 1);
  ASSERT_EQ(c.bins.size(), 10U);
  EXPECT_EQ(c.bins[9].n, 2);
  EXPECT_NEAR(c.bins[9].confidence, 0.95, 1e-6);  // logits are floats
  EXPECT_NEAR(c.bins[9].accuracy, 0.5, kClose);
  EXPECT_EQ(c.bins[6].n, 1);
  EXPECT_EQ(c.bins[7].n, 1);
  EXPECT_NEAR(c.ece, 0.5 * 0.45 + 0.25 * 0.35 + 0.25 * 0.25, 1e-6);
  EXPECT_NEAR(c.loss, -(std::log(0.95) + std::log(0.05) + std::log(0.65) + std::log(0.75)) / 4, 1e-6);
}

TEST(Calibration, TemperatureOfOneConfidenceHasAClosedForm) {
  // 100 images of confidence 0.99, of which 80 are right: the best temperature makes it 0.8.
  const std::vector<double> p(100, 0.99);
  std::vector<std::int32_t> labels(100, 0);
  for (int i = 0; i < 20; ++i) labels[i] = 1;
  const Predictions predictions = two_classes(p, labels);
  const double t = fit_temperature(predictions);
  EXPECT_NEAR(t, std::log(0.99 / 0.01) / std::log(0.8 / 0.2), 1e-6);
  EXPECT_NEAR(calibration_of(predictions, t).ece, 0, 1e-6);
  EXPECT_LT(calibration_of(predictions, t).loss, calibration_of(predictions, 1).loss);
}

TEST(Calibration, TemperatureIsTheLossesMinimum) {
  Predictions p;
  p.classes = 5;
  for (int i = 0; i < 200; ++i) {
    p.items.push_back(i);
    p.labels.push_back(i % 5);
    for (int c = 0; c < 5; ++c) {
      const auto noise = uniform_float(philox(3, 0, static_cast<std::uint64_t>(5 * i + c)).v[0]);
      p.logits.push_back(8 * noise + (c == i % 5 ? 3.0f : 0.0f));
    }
  }
  const double t = fit_temperature(p), at_t = calibration_of(p, t).loss;
  EXPECT_GT(t, 1.1);  // 8 wide and 3 apart: far too sure
  for (const double other : {0.5, 0.9, 0.99, 1.01, 1.1, 2.0})
    EXPECT_GT(calibration_of(p, t * other).loss, at_t) << other;
}

TEST(Calibration, NothingToLearnFromLeavesItAlone) {
  EXPECT_EQ(fit_temperature(two_classes({0.9, 0.1}, {0, 1})), 1);  // all right
  EXPECT_EQ(fit_temperature(two_classes({}, {})), 1);
  // All wrong: as unsure as it may be.
  EXPECT_NEAR(fit_temperature(two_classes({0.9, 0.1}, {1, 0})), kHighestTemperature, 1e-6);
}

TEST(LabelErrors, ConfidentLearningByHand) {
  // Label 0: p0 = 0.9, 0.8, 0.1; mean 0.6. Label 1: p1 = 0.7, 0.9, 0.35; mean 0.65.
  const Predictions p = two_classes({0.9, 0.8, 0.1, 0.3, 0.1, 0.65}, {0, 0, 0, 1, 1, 1});
  const std::vector<LabelSuspect> ranked = rank_label_suspects(p);
  ASSERT_EQ(ranked.size(), 6U);
  // Image 2: p1 = 0.9 >= 0.65; image 5: p0 = 0.65 >= 0.6: both counted to the other class.
  EXPECT_EQ(ranked[0].index, 2U);
  EXPECT_EQ(ranked[0].suggested, 1);
  EXPECT_NEAR(ranked[0].confidence, 0.1, 1e-6);
  EXPECT_NEAR(ranked[0].margin, -0.8, 1e-6);
  EXPECT_TRUE(ranked[0].likely);
  EXPECT_EQ(ranked[1].index, 5U);
  EXPECT_EQ(ranked[1].suggested, 0);
  EXPECT_TRUE(ranked[1].likely);
  EXPECT_FALSE(ranked[2].likely);
  EXPECT_EQ(ranked[2].index, 3U);  // margin 0.4, the smallest of the rest
}

TEST(PairedTest, AsScipyHasIt) {
  // scipy.stats.binomtest(k, n, 0.5).pvalue, SciPy 1.16
  EXPECT_NEAR(binomial_half_two_sided(2, 10), 0.109375, kClose);
  EXPECT_NEAR(binomial_half_two_sided(8, 10), 0.109375, kClose);
  EXPECT_NEAR(binomial_half_two_sided(5, 10), 1, kClose);
  EXPECT_NEAR(binomial_half_two_sided(0, 6), 0.03125, kClose);
  EXPECT_NEAR(binomial_half_two_sided(430, 1000), 1.0709737664959605e-05, 1e-12);
  EXPECT_EQ(binomial_half_two_sided(0, 0), 1);
}

TEST(PairedTest, CountsWhoWasRight) {
  const std::vector<std::int32_t> labels = {0, 1, 2, 0, 1}, a = {0, 1, 2, 1, 0}, b = {0, 0, 0, 0, 0};
  const PairedTest t = paired_test(labels, a, b);
  EXPECT_EQ(t.both_right, 1);
  EXPECT_EQ(t.only_first, 2);
  EXPECT_EQ(t.only_second, 1);
  EXPECT_EQ(t.both_wrong, 1);
  EXPECT_EQ(t.p_value, 1);
  EXPECT_THROW(paired_test(labels, a, std::vector<std::int32_t>{0}), Error);
}

TEST(Pooled, MeanLogitsOfEachImage) {
  const Predictions a = two_classes({0.9, 0.2}, {0, 1});
  Predictions b = two_classes({0.5}, {1});
  b.items = {1};
  const Predictions all = pooled({&a, &b});
  EXPECT_THAT(all.items, testing::ElementsAre(0, 1));
  EXPECT_THAT(all.labels, testing::ElementsAre(0, 1));
  EXPECT_FLOAT_EQ(all.logits[2], (a.logits[2] + 0) / 2);
}

}  // namespace
}  // namespace cairn::app
