// A run directory whose config.json somebody damaged: one line each, never a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/options.h"
#include "apps/run_dir.h"
#include "kernels/error.h"
#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using testing::HasSubstr;

std::string damaged(const std::string& whole, std::size_t at) {
  std::string changed = whole;
  changed[at] = static_cast<char>(changed[at] ^ 0x81);  // the highest and the lowest bit
  return changed;
}

/// Calls read() with the file at every cut and with every byte changed; returns how many were refused.
template <class F>
int refused_of(data::TempFolder& folder, const std::string& name, const std::string& whole, F read) {
  int refused = 0;
  const auto attempt = [&](const std::string& content) {
    folder.write(name, content);
    try {
      read();
    } catch (const InputError& error) {
      ++refused;
      EXPECT_THAT(std::string(error.what()), testing::Not(HasSubstr("\n")));
    }
  };
  for (std::size_t n = 0; n < whole.size(); n += 5) attempt(whole.substr(0, n));
  for (std::size_t i = 0; i < whole.size(); ++i) attempt(damaged(whole, i));
  return refused;
}

TEST(HostileRun, ConfigsAreReadOrRefused) {
  data::TempFolder folder;
  const std::string whole = read_file(CAIRN_SOURCE_DIR "/tests/fuzz/seeds/config.options");
  folder.write("config.json", whole);
  const RunDir run = RunDir::open(folder.path(""));
  EXPECT_EQ(run.options().model, "model_cnn");
  EXPECT_EQ(run.card().classes.size(), 2U);
  const int refused = refused_of(folder, "config.json", whole, [&] {
    TrainOptions options = run.options();
    EXPECT_EQ(to_json(train_options_from_json(to_json(options))), to_json(options));
    options.resolve();
    run.card();
  });
  EXPECT_GT(refused, static_cast<int>(whole.size() / 5));  // every cut at least
}

TEST(HostileRun, NumbersOutOfRangeAreRefused) {
  data::TempFolder folder;
  const auto says = [&](const std::string& options) {
    folder.write("config.json", "{\"options\":" + options + "}");
    try {
      TrainOptions o = RunDir::open(folder.path("")).options();
      o.resolve();
      return std::string("taken");
    } catch (const InputError& error) {
      return std::string(error.what());
    }
  };
  EXPECT_THAT(says(R"({"batch-size": 1e300})"), testing::Not("taken"));
  EXPECT_THAT(says(R"({"image-size": 9223372036854775807})"), HasSubstr("image-size"));
  EXPECT_THAT(says(R"({"epochs": -1})"), HasSubstr("epochs"));
  EXPECT_THAT(says(R"({"model": "../../x"})"), HasSubstr("model"));
  EXPECT_THAT(says(R"({"lr": "0.1"})"), HasSubstr("cannot be read"));
  EXPECT_THAT(says(R"({"mean": [1, 2, 3, 4, 5]})"), HasSubstr("--mean"));
  EXPECT_THAT(says("[]"), testing::Not(testing::IsEmpty()));
  EXPECT_THAT(says(std::string(100'000, '[')), HasSubstr("config.json is damaged"));
}

}  // namespace
}  // namespace cairn::app
