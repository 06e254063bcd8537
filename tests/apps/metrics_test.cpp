#include "apps/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace cairn::app {
namespace {

using testing::ElementsAre;

// Doubles that are sums and quotients of small whole numbers.
constexpr double kExact = 1e-12;

// Class 0: 3 images, 2 right; class 1: 2 images, 1 right; class 2: 1 image, wrong.
const std::vector<std::int32_t> kLabels = {0, 0, 0, 1, 1, 2};
const std::vector<std::int32_t> kAnswers = {0, 0, 1, 1, 0, 0};

TEST(Metrics, ByHand) {
  const Scores s = score(kLabels, kAnswers, 3);
  EXPECT_EQ(s.n, 6);
  EXPECT_NEAR(s.accuracy, 0.5, kExact);
  EXPECT_NEAR(s.balanced_accuracy, (2.0 / 3 + 1.0 / 2 + 0) / 3, kExact);
  EXPECT_NEAR(s.majority_accuracy, 0.5, kExact);
  EXPECT_NEAR(s.classes[0].precision, 0.5, kExact);
  EXPECT_NEAR(s.classes[0].recall, 2.0 / 3, kExact);
  EXPECT_NEAR(s.classes[0].f1, 4.0 / 7, kExact);
  EXPECT_NEAR(s.classes[1].f1, 0.5, kExact);
  EXPECT_EQ(s.classes[2].precision, 0);
  EXPECT_EQ(s.classes[2].f1, 0);
  EXPECT_NEAR(s.macro_f1, (4.0 / 7 + 0.5 + 0) / 3, kExact);
  EXPECT_THAT(s.confusion, ElementsAre(2, 1, 0, 1, 1, 0, 1, 0, 0));
}

TEST(Metrics, AClassNobodyHasCountsNowhere) {
  const Scores s = score(kLabels, kAnswers, 5);
  EXPECT_NEAR(s.balanced_accuracy, (2.0 / 3 + 1.0 / 2 + 0) / 3, kExact);
  EXPECT_NEAR(s.macro_f1, (4.0 / 7 + 0.5 + 0) / 3, kExact);
  EXPECT_EQ(score({}, {}, 3).n, 0);
}

TEST(Metrics, RefusesWhatDoesNotFit) {
  const std::vector<std::int32_t> short_one = {0, 1}, outside = {0, 0, 0, 1, 1, 3},
                                  negative = {0, 0, 0, 1, 1, -1};
  EXPECT_THROW(score(kLabels, short_one, 3), Error);
  EXPECT_THROW(score(kLabels, outside, 3), Error);
  EXPECT_THROW(score(negative, kAnswers, 3), Error);
}

TEST(Metrics, AsScikitLearnHasThem) {
  std::ifstream file(CAIRN_SOURCE_DIR "/tests/fixtures/metrics.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_EQ(cases.size(), 4U);
  for (const nlohmann::json& c : cases) {
    const auto labels = c.at("labels").get<std::vector<std::int32_t>>();
    const auto answers = c.at("predictions").get<std::vector<std::int32_t>>();
    const int classes = c.at("classes").get<int>();
    const Scores s = score(labels, answers, classes);
    EXPECT_NEAR(s.accuracy, c.at("accuracy").get<double>(), kExact);
    EXPECT_NEAR(s.balanced_accuracy, c.at("balanced_accuracy").get<double>(), kExact);
    EXPECT_NEAR(s.macro_f1, c.at("macro_f1").get<double>(), kExact);
    for (int k = 0; k < classes; ++k) {
      EXPECT_NEAR(s.classes[k].precision, c.at("precision")[k].get<double>(), kExact);
      EXPECT_NEAR(s.classes[k].recall, c.at("recall")[k].get<double>(), kExact);
      EXPECT_NEAR(s.classes[k].f1, c.at("f1")[k].get<double>(), kExact);
      EXPECT_EQ(s.classes[k].support, c.at("support")[k].get<std::int64_t>());
      for (int j = 0; j < classes; ++j)
        EXPECT_EQ(s.confusion[k * classes + j], c.at("confusion")[k][j].get<std::int64_t>());
    }
    const Interval wilson = wilson_interval(std::llround(s.accuracy * static_cast<double>(s.n)), s.n);
    EXPECT_NEAR(wilson.low, c.at("wilson")[0].get<double>(), 1e-9);
    EXPECT_NEAR(wilson.high, c.at("wilson")[1].get<double>(), 1e-9);
  }
}

TEST(Metrics, WilsonAtTheEdges) {
  EXPECT_EQ(wilson_interval(0, 0).low, 0);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
  EXPECT_NEAR(wilson_interval(0, 10).low, 0, kExact);
  // z^2 / (n + z^2) with z = 1.96
  EXPECT_NEAR(wilson_interval(0, 10).high, 3.8414588 / 13.8414588, 1e-6);
  EXPECT_NEAR(wilson_interval(10, 10).high, 1, kExact);
}

TEST(Metrics, BootstrapIsTheNormalIntervalForManyImages) {
  // Two classes of 2000, 80 % and 60 % right: the balanced accuracy's standard error is
  // sqrt(.8 * .2 / 2000 + .6 * .4 / 2000) / 2 = 0.00707.
  std::vector<std::int32_t> labels, answers;
  for (int i = 0; i < 4000; ++i) {
    const std::int32_t label = i % 2;
    labels.push_back(label);
    answers.push_back((i / 2) % 10 < (label == 0 ? 8 : 6) ? label : 1 - label);
  }
  const ScoreIntervals a = score_intervals(labels, answers, 2);
  const double half = 1.96 * 0.00707;
  // The 2.5 % point of 1000 resamples has a standard error of about 0.1 of the half width.
  EXPECT_NEAR(a.balanced_accuracy.low, 0.7 - half, 0.35 * half);
  EXPECT_NEAR(a.balanced_accuracy.high, 0.7 + half, 0.35 * half);
  EXPECT_LT(a.macro_f1.low, score(labels, answers, 2).macro_f1);
  EXPECT_GT(a.macro_f1.high, score(labels, answers, 2).macro_f1);
  const ScoreIntervals b = score_intervals(labels, answers, 2);
  EXPECT_EQ(a.balanced_accuracy.low, b.balanced_accuracy.low);
  EXPECT_NE(a.balanced_accuracy.low, score_intervals(labels, answers, 2, 1).balanced_accuracy.low);
}

}  // namespace
}  // namespace cairn::app
