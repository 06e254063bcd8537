// Each fast path against the program without it (CAIRN_WITHOUT), and the program's other ways of being fast:
// --precision auto and --profile. docs/speed.md lists the paths.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using nlohmann::json;
using testing::AnyOf;
using testing::HasSubstr;

/// An environment variable for the programs that a test starts.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~Environment() { unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
};

class FastPaths : public testing::Test {
 protected:
  FastPaths() { make_data(folder_, 3, 14); }

  /// The figures of a run of an epoch: losses of the steps, and the validation's loss.
  std::vector<double> losses(const std::string& model, const std::string& without) {
    const Environment environment("CAIRN_WITHOUT", without);
    const std::string run = folder_.path(model + "-without-" + without);
    const Outcome o =
        cairn("train --data " + folder_.path("data") + " --out " + run + " --model " + model +
              " --image-size 32 --epochs 1 --max-steps 3 --batch-size 8 --optimizer sgd --lr 1e-5 "
              "--warmup-epochs 0 "
              "--precision fp32 "
              "--device cpu --threads 2 --workers 1 --augment none --log-every-steps 1 --quiet");
    EXPECT_EQ(o.status, 0) << o.err;
    std::vector<double> values;
    for (const std::string& line : lines_of(read_file(run + "/metrics.jsonl"))) {
      const json object = json::parse(line);
      if (object.at("kind") == "step") values.push_back(object.at("loss"));
      if (object.at("kind") == "epoch") values.push_back(object.at("val").at("loss"));
    }
    EXPECT_EQ(values.size(), 4u);
    return values;
  }

  data::TempFolder folder_;
};

// Memory and layouts change no bit; sums in another order change a loss by some roundings: 1e-5 of it in
// these three steps, and from the sixth on more, for on 32 pixels the last batch norms divide by the spread
// of 8 values.
TEST_F(FastPaths, EachCanBeSwitchedOffForTheSameLosses) {
  struct Path {
    const char* model;
    const char* name;
    bool same_bits;
  };
  std::map<std::string, std::vector<double>> all{{"resnet18", losses("resnet18", "none")},
                                                 {"model_cnn", losses("model_cnn", "none")}};
  for (const Path& path : {Path{"resnet18", "arena", true}, Path{"resnet18", "packing", true},
                           Path{"resnet18", "folding", false}, Path{"resnet18", "winograd", false},
                           Path{"resnet18", "fusion", false}, Path{"model_cnn", "huge-pages", true},
                           Path{"model_cnn", "conv-pool", false}, Path{"model_cnn", "fusion", false}}) {
    const std::vector<double>& with = all[path.model];
    const std::vector<double> without = losses(path.model, path.name);
    ASSERT_EQ(without.size(), with.size()) << path.name;
    for (std::size_t i = 0; i < with.size(); ++i) {
      const double room = path.same_bits ? 0 : 2e-4 * with[i];
      EXPECT_NEAR(without[i], with[i], room) << path.model << " without " << path.name << ", figure " << i;
    }
  }
}

class AutoPrecision : public FastPaths {
 protected:
  Outcome train(const std::string& run, const std::string& more) {
    return cairn("train --data " + folder_.path("data") + " --out " + folder_.path(run) +
                 " --model model_cnn --image-size 16 --epochs 2 --batch-size 8 --device cpu --threads 2 " +
                 more);
  }
  json config(const std::string& run) { return json::parse(read_file(folder_.path(run + "/config.json"))); }
};

TEST_F(AutoPrecision, IsFoundOutOnceKeptAndNeverAskedAgain) {
  const Environment cache("CAIRN_CACHE", folder_.path("cache"));
  const Outcome first = train("first", "--max-steps 2 --precision auto");
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_THAT(lines_of(first.out).at(0),
              AnyOf(HasSubstr("computing in fp32 ("), HasSubstr("computing in bf16 (")));
  const std::string precision = config("first").at("options").at("precision");
  EXPECT_THAT(precision, AnyOf("fp32", "bf16"));
  EXPECT_EQ(config("first").at("computed_in"), precision);
  if (!std::filesystem::exists(folder_.path("cache/precision")))
    GTEST_SKIP() << "this CPU has no bf16 instructions: there is nothing to try";

  // What the cache says goes, be it what it may.
  std::filesystem::path file;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path("cache/precision")))
    file = entry.path();
  json measured = json::parse(read_file(file.string()));
  ASSERT_GT(measured.at("fp32_s").get<double>(), 0);
  ASSERT_GT(measured.at("bf16_s").get<double>(), 0);
  measured["fp32_s"] = 3.0;
  measured["bf16_s"] = 1.5;
  folder_.write("cache/precision/" + file.filename().string(), measured.dump());
  const Outcome second = train("second", "--max-steps 2");
  ASSERT_EQ(second.status, 0) << second.err;
  EXPECT_THAT(lines_of(second.out).at(0), HasSubstr("computing in bf16 (measured to be 2.00 times as fast"));
  EXPECT_EQ(config("second").at("options").at("precision"), "bf16");

  // A file that is no answer is asked for anew.
  folder_.write("cache/precision/" + file.filename().string(), "{\"machine\": 3}");
  const Outcome third = train("third", "--max-steps 1");
  ASSERT_EQ(third.status, 0) << third.err;
  EXPECT_EQ(json::parse(read_file(file.string())).at("machine"), measured.at("machine"));
}

TEST_F(AutoPrecision, OfARunIsTheRunsWhenItIsResumed) {
  const Environment cache("CAIRN_CACHE", "off");
  ASSERT_EQ(train("run", "--precision bf16 --max-steps 2").status, 0);
  const Outcome resumed =
      cairn("train --resume " + folder_.path("run") + " --max-steps 4 --accept-changes --precision auto");
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_THAT(lines_of(resumed.out).at(0), HasSubstr("computing in bf16"));
  const Outcome other =
      cairn("train --resume " + folder_.path("run") + " --max-steps 6 --accept-changes --precision fp32");
  EXPECT_EQ(other.status, 2);
  EXPECT_THAT(other.err, HasSubstr("the run was computed in bf16"));
}

TEST_F(FastPaths, ProfileNamesTheKernelsOfEachLayer) {
  const std::string run = folder_.path("profiled");
  const std::string arguments =
      "train --data " + folder_.path("data") +
      " --model resnet18 --image-size 32 --epochs 2 --batch-size 4 --precision fp32 "
      "--device cpu --threads 2 --no-shuffle --workers 1 ";
  const Outcome o = cairn(arguments + "--profile --out " + run);
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("profile of 3 steps"));
  const std::string table = read_file(run + "/profile.txt");
  EXPECT_THAT(o.out, HasSubstr(table));
  const json trace = json::parse(read_file(run + "/profile.json"));
  double seconds = 0, bytes = 0, flops = 0;
  std::map<std::string, int> passes_of_conv;
  for (const json& e : trace.at("traceEvents")) {
    EXPECT_EQ(e.at("ph"), "X");
    EXPECT_GE(e.at("dur").get<double>(), 0);
    seconds += 1e-6 * e.at("dur").get<double>();
    if (e.at("args").at("layer") == "layer3.0.conv1") {
      ++passes_of_conv[e.at("args").at("kernel")];
      bytes = e.at("args").at("bytes");
      flops = e.at("args").at("flops");
    }
  }
  EXPECT_GT(seconds, 0);
  EXPECT_EQ(passes_of_conv,
            (std::map<std::string, int>{
                {"conv2d_forward", 3}, {"conv2d_backward_data", 3}, {"conv2d_backward_weight", 3}}));
  // layer3.0.conv1: 128 channels of 4x4 pixels to 256 of 2x2, 3x3, 4 images.
  EXPECT_EQ(flops, 2.0 * 4 * 2 * 2 * 256 * 9 * 128);
  EXPECT_EQ(bytes, 4.0 * (4 * 4 * 4 * 128 + 4 * 2 * 2 * 256 + 256 * 9 * 128));
  for (const char* row : {"backward   layer3.0.conv1", "optimizer ", "the rest", "GFLOP/s"})
    EXPECT_THAT(table, HasSubstr(row));
  // What is computed is the same.
  ASSERT_EQ(cairn(arguments + "--out " + run + "-not").status, 0);
  EXPECT_TRUE(read_file(run + "/checkpoints/last.safetensors") ==
              read_file(run + "-not/checkpoints/last.safetensors"));
}

}  // namespace
}  // namespace cairn::app
