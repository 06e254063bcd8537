// Whole runs of the program on a tiny data set of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/io/safetensors.h"
#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kShort =
    " --model model_cnn --image-size 16 --epochs 2 --batch-size 4 --precision fp32 --device cpu --threads 2 "
    "--quiet";

class Run : public testing::Test {
 protected:
  Run() { make_data(folder_, 3, 14); }

  Outcome train(const std::string& run, const std::string& more = "") const {
    const Outcome o =
        cairn("train --data " + folder_.path("data") + " --out " + folder_.path(run) + kShort + " " + more);
    EXPECT_EQ(o.status, 0) << o.err;
    return o;
  }
  std::string weights(const std::string& run, const std::string& which = "last") const {
    return read_file(folder_.path(run + "/checkpoints/" + which + ".safetensors"));
  }
  static json last_json(const Outcome& o) {
    const std::vector<std::string> lines = lines_of(o.out);
    return lines.empty() ? json() : json::parse(lines.back(), nullptr, false);
  }
  // Objects of metrics.jsonl without what a clock measured.
  std::vector<json> metrics(const std::string& run) const {
    std::vector<json> lines;
    for (const std::string& line : lines_of(read_file(folder_.path(run + "/metrics.jsonl")))) {
      lines.push_back(json::parse(line));
      for (const char* timed : {"images_per_s", "data_wait", "seconds"}) lines.back().erase(timed);
    }
    return lines;
  }

  data::TempFolder folder_;
};

TEST_F(Run, SameSeedAndThreadsGiveTheSameBits) {
  train("a", "--workers 2");
  train("b", "--workers 2");
  ASSERT_FALSE(weights("a").empty());
  EXPECT_EQ(weights("a"), weights("b"));
  EXPECT_EQ(metrics("a"), metrics("b"));
  EXPECT_EQ(read_file(folder_.path("a/split.csv")), read_file(folder_.path("b/split.csv")));
}

TEST_F(Run, OtherNumbersOfLoaderThreadsGiveTheSameBits) {
  train("one", "--workers 1 --augment standard");
  train("three", "--workers 3 --augment standard");
  EXPECT_EQ(weights("one"), weights("three"));
}

TEST_F(Run, AnotherSeedGivesOtherWeights) {
  train("a", "--seed 1");
  train("b", "--seed 2");
  EXPECT_NE(weights("a"), weights("b"));
}

TEST_F(Run, ResNetTrainsToTheSameBitsToo) {
  const std::string more = "--model resnet18 --image-size 32 --max-steps 3";
  const auto run = [&](const std::string& name) {
    return cairn("train --data " + folder_.path("data") + " --out " + folder_.path(name) +
                 " --epochs 2 --batch-size 4 --precision fp32 --device cpu --threads 2 --quiet " + more);
  };
  EXPECT_EQ(run("a").status, 0);
  EXPECT_EQ(run("b").status, 0);
  ASSERT_FALSE(weights("a").empty());
  EXPECT_EQ(weights("a"), weights("b"));
}

TEST_F(Run, TrainJsonHoldsWhatIsPromised) {
  const Outcome o = train("run", "--json --log-every-steps 2");
  ASSERT_EQ(lines_of(o.out).size(), 1U) << o.out;
  const json j = last_json(o);
  for (const char* key : {"images_per_s", "first_step_s", "data_wait", "peak_rss_mb", "epochs", "steps",
                          "train_loss", "val", "test"})
    EXPECT_TRUE(j.contains(key)) << key;
  EXPECT_EQ(j["epochs"], 2);
  // 14 images a class: 2 test, 2 validation, 10 training; 30 in batches of 4, the partial one dropped.
  EXPECT_EQ(j["steps"], 14);
  EXPECT_EQ(j["test"]["n"], 6);
  EXPECT_GT(j["images_per_s"].get<double>(), 0);
  EXPECT_GT(j["first_step_s"].get<double>(), 0);
  for (const char* part : {"val", "test"})
    for (const char* key : {"accuracy", "balanced_accuracy", "macro_f1"}) {
      EXPECT_GE(j[part][key].get<double>(), 0);
      EXPECT_LE(j[part][key].get<double>(), 1);
    }
  std::vector<std::int64_t> steps;
  for (const json& line : metrics("run")) {
    if (line["kind"] != "step") continue;
    steps.push_back(line["step"].get<std::int64_t>());
    EXPECT_TRUE(std::isfinite(line["loss"].get<double>()));
    EXPECT_TRUE(line.contains("lr") && line.contains("epoch"));
  }
  EXPECT_THAT(steps, testing::ElementsAre(2, 4, 6, 8, 10, 12, 14));
  EXPECT_TRUE(last_json(train("few", "--json --max-steps 3"))["images_per_s"].is_null());
}

TEST_F(Run, RunDirectoryIsWhole) {
  train("run");
  for (const char* name :
       {"config.json", "split.csv", "metrics.jsonl", "report.html", "train.log", "label_errors.csv",
        "checkpoints/last.safetensors", "checkpoints/best.safetensors", "checkpoints/last.state"})
    EXPECT_TRUE(std::filesystem::exists(folder_.path(std::string("run/") + name))) << name;
  const json config = json::parse(read_file(folder_.path("run/config.json")));
  EXPECT_EQ(config["options"]["image-size"], 16);
  EXPECT_EQ(config["options"]["optimizer"], "adam");  // not given: the model's own
  const std::string best = weights("run", "best");
  EXPECT_THAT(best, HasSubstr("features.0.weight"));
  EXPECT_THAT(best, HasSubstr("image_size"));
}

TEST_F(Run, EvaluateAgreesWithTrainAndPredict) {
  const json trained = last_json(train("run", "--json"));
  const std::string run = " --run " + folder_.path("run") + " ";
  const json evaluated = last_json(cairn("evaluate --json --quiet" + run));
  for (const char* key : {"accuracy", "balanced_accuracy", "macro_f1", "n"})
    EXPECT_EQ(evaluated[key], trained["test"][key]) << key;
  const json val = last_json(cairn("evaluate --json --quiet --part val" + run));
  EXPECT_EQ(val["balanced_accuracy"], trained["val"]["balanced_accuracy"]);

  const io::Metadata metadata =
      io::open_safetensors(folder_.path("run/checkpoints/best.safetensors")).metadata;
  const double temperature = metadata.contains("temperature") ? std::stod(metadata.at("temperature")) : 1;
  const Outcome o = cairn("predict --json --quiet --logits --top 2" + run + folder_.path("data"));
  ASSERT_EQ(lines_of(o.out).size(), 42U);
  for (const std::string& line : lines_of(o.out)) {
    const json j = json::parse(line);
    ASSERT_EQ(j["logits"].size(), 3U);
    ASSERT_EQ(j["top"].size(), 2U);
    EXPECT_EQ(j["class"], j["top"][0]["class"]);
    double sum = 0, own = 0;
    for (std::size_t c = 0; c < 3; ++c) {
      const double e = std::exp(j["logits"][c].get<double>() / temperature);
      sum += e;
      if (j["class"] == "c" + std::to_string(c)) own = e;
    }
    EXPECT_NEAR(j["confidence"].get<double>(), own / sum, 1e-6);
  }
  const Outcome csv = cairn("predict --csv --quiet --top 1" + run + folder_.path("data/c0"));
  ASSERT_EQ(lines_of(csv.out).size(), 15U);
  EXPECT_EQ(lines_of(csv.out)[0], "path,class,confidence");
}

TEST_F(Run, ARelativePathOfTheDataIsFoundFromAnotherFolderToo) {
  const std::filesystem::path here = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path(""));
  const Outcome trained = cairn(std::string("train --data data --out run --json") + kShort);
  std::filesystem::current_path(here);
  ASSERT_EQ(trained.status, 0) << trained.err;
  const Outcome o = cairn("evaluate --json --quiet --run " + folder_.path("run"));
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(last_json(o)["accuracy"], last_json(trained)["test"]["accuracy"]);
}

TEST_F(Run, TheFirstLineNamesTheDevice) {
  const Outcome o = cairn("predict --device cpu --run " + folder_.path("none") + " x.png");
  EXPECT_THAT(o.out, StartsWith("device: cpu"));
  EXPECT_THAT(cairn("predict --device cpu --json --run " + folder_.path("none") + " x.png").err,
              StartsWith("device: cpu"));
}

TEST_F(Run, SplitIsWhatTrainTakes) {
  const std::string manifest = folder_.path("split.csv");
  EXPECT_EQ(cairn("split " + folder_.path("data") + " --out " + manifest + " --seed 5 --quiet").status, 0);
  train("run", "--split " + manifest);
  EXPECT_EQ(read_file(manifest), read_file(folder_.path("run/split.csv")));
}

TEST_F(Run, FoldsAreSummedUp) {
  train("many", "--folds 2 --seeds 2 --max-steps 2");
  const Outcome o = cairn("evaluate --json --quiet --run " + folder_.path("many"));
  EXPECT_EQ(o.status, 0) << o.err;
  const json j = last_json(o);
  ASSERT_EQ(j["runs"].size(), 4U);
  double sum = 0;
  for (const json& run : j["runs"]) sum += run["accuracy"].get<double>() / 4;
  EXPECT_NEAR(j["accuracy"]["mean"].get<double>(), sum, 1e-12);
  EXPECT_EQ(j["runs"][0]["n"].get<int>() + j["runs"][2]["n"].get<int>(), 42);  // each image is tested once
}

class Resume : public Run, public testing::WithParamInterface<int> {};

TEST_P(Resume, EndsWithTheBitsOfARunNeverInterrupted) {
  const std::string more =
      " --epochs 6 --patience 0 --log-every-steps 1 --checkpoint-every-steps 5 --workers 2";
  train("whole", more);
  Running run("train --data " + folder_.path("data") + " --out " + folder_.path("cut") + kShort + more);
  ASSERT_TRUE(
      run.wait_for([&] { return lines_of(read_file(folder_.path("cut/metrics.jsonl"))).size() >= 18; }));
  run.send(GetParam());
  EXPECT_EQ(run.end().status, GetParam() == SIGTERM ? 1 : 128 + SIGKILL);
  const Outcome o = cairn("train --quiet --workers 3 --resume " + folder_.path("cut"));
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(weights("cut"), weights("whole"));
  EXPECT_EQ(weights("cut", "best"), weights("whole", "best"));
  EXPECT_EQ(metrics("cut"), metrics("whole"));
}
INSTANTIATE_TEST_SUITE_P(Signals, Resume, testing::Values(SIGTERM, SIGKILL));

TEST_F(Run, ResumeRefusesOtherOptionsAndChangedData) {
  train("run");
  const std::string resume = "train --quiet --resume " + folder_.path("run");
  const Outcome options = cairn(resume + " --lr 3");
  EXPECT_EQ(options.status, 2);
  EXPECT_THAT(options.err, HasSubstr("--lr"));
  folder_.write("data/c1/105.png", make_png(32, 32, 99, 2));
  const Outcome changed = cairn(resume);
  EXPECT_EQ(changed.status, 2);
  EXPECT_THAT(changed.err, HasSubstr("105.png"));
}

}  // namespace
}  // namespace cairn::app
