#include "apps/lr_finder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// Losses at 10^(-6 + i / 20), as a function of the exponent.
template <class Loss>
LrSearch search_of(int points, Loss loss) {
  LrSearch s;
  for (int i = 0; i < points; ++i) {
    const double exponent = -6 + i / 20.0;
    s.points.push_back({.lr = std::pow(10.0, exponent), .loss = loss(exponent)});
  }
  judge(s);
  return s;
}

TEST(LrFinder, FindsTheFallAndTheValley) {
  // Falls fastest at 1e-3, is least at about 1e-2, explodes behind it. The average of ten steps lags by
  // about nine of them, of which twenty are a decade.
  const LrSearch s = search_of(140, [](double e) {
    return 2 - std::tanh(2 * (e + 3)) + (e > -2 ? std::pow(10.0, 2 * (e + 2)) - 1 : 0);
  });
  EXPECT_GT(s.steepest, 1e-3);
  EXPECT_LT(s.steepest, std::pow(10.0, -3 + 0.6));
  EXPECT_GT(s.at_minimum, 1e-2);
  EXPECT_LT(s.at_minimum, std::pow(10.0, -2 + 0.6));
  EXPECT_DOUBLE_EQ(s.suggested, std::min(s.at_minimum / 10, s.steepest));
}

TEST(LrFinder, TheAverageIsCorrectedForItsStart) {
  const LrSearch flat = search_of(30, [](double) { return 1.5; });
  for (const LrPoint& p : flat.points) EXPECT_NEAR(p.smoothed, 1.5, 1e-12);
  const LrSearch two = search_of(2, [](double e) { return e < -5.99 ? 1.0 : 3.0; });
  EXPECT_NEAR(two.points[1].smoothed, (0.9 * 1 + 1 * 3) / 1.9, 1e-12);
}

TEST(LrFinder, NothingIsSuggestedWhereTheLossNeverFalls) {
  EXPECT_EQ(search_of(60, [](double e) { return 7 + e; }).suggested, 0);
  EXPECT_EQ(search_of(5, [](double e) { return -e; }).suggested, 0) << "too few to tell";
}

TEST(LrFinder, OfTheProgramIsARateThatTrains) {
  data::TempFolder folder;
  make_data(folder, 3, 14);
  const std::string how = " --data " + folder.path("data") +
                          " --model model_cnn --image-size 16 --batch-size 4 --threads 1 --quiet ";
  const Outcome o = cairn("find-lr --json --html " + folder.path("lr.html") + how);
  ASSERT_EQ(o.status, 0) << o.err;
  const json found = json::parse(lines_of(o.out).back());
  const double suggested = found.at("suggested").get<double>();
  double last = 0;
  for (const json& p : found.at("points")) {
    EXPECT_GT(p.at("lr").get<double>(), last);
    last = p.at("lr").get<double>();
  }
  EXPECT_GT(suggested, 1e-7);
  EXPECT_LT(suggested, last);
  EXPECT_THAT(read_file(folder.path("lr.html")), HasSubstr("Suggested: --lr"));
  const Outcome trained = cairn("train --json --epochs 5 --lr " + found.at("suggested").dump() + " --out " +
                                folder.path("run") + how);
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_LT(json::parse(lines_of(trained.out).back()).at("train_loss").get<double>(), std::log(3.0));
  // The same search gives the same curve, bit for bit.
  EXPECT_EQ(json::parse(lines_of(cairn("find-lr --json" + how).out).back()), found);
}

TEST(LrFinder, ARangeThatIsNoneIsRefused) {
  data::TempFolder folder;
  make_data(folder, 2, 4);
  const std::string how = "find-lr --quiet --model model_cnn --image-size 16 --data " + folder.path("data");
  EXPECT_EQ(cairn("find-lr").status, 2);
  for (const char* bad : {" --from 0", " --from 1 --to 0.1", " --steps 3", " --from nan", " --to inf"})
    EXPECT_EQ(cairn(how + bad).status, 2) << bad;
}

}  // namespace
}  // namespace cairn::app
