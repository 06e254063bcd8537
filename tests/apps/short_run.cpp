#include "tests/apps/short_run.h"

#include <filesystem>

#include "apps/run_state.h"
#include "kernels/atomic_file.h"
#include "kernels/error.h"

namespace cairn::app {

std::string ShortRun::train(const std::string& run, const std::string& more) const {
  return "train --data " + path("data") + " --out " + path(run) +
         " --model model_cnn --image-size 8 --epochs 3 --patience 0 --batch-size 4 --precision fp32 --device "
         "cpu"
         " --threads 2 --workers 2 --augment light --checkpoint-every-steps 1 --log-every-steps 1 --quiet " +
         more;
}

void ShortRun::finish(const std::string& run, const std::string& more) const {
  const Outcome o = cairn(train(run, more));
  ASSERT_EQ(o.status, 0) << o.err;
}

std::string ShortRun::weights(const std::string& run, const std::string& which) const {
  return read_file(path(run + "/checkpoints/" + which + ".safetensors"));
}

void ShortRun::expect_same_weights(const std::string& a, const std::string& b) const {
  for (const char* which : {"last", "best"}) {
    ASSERT_FALSE(weights(a, which).empty()) << which;
    EXPECT_TRUE(weights(a, which) == weights(b, which)) << which << ".safetensors differs";
  }
}

std::int64_t ShortRun::position(const std::string& run) const {
  constexpr std::int64_t kStepsPerEpoch = 7;
  if (!std::filesystem::exists(path(run + "/config.json"))) return 0;
  testing::internal::CaptureStderr();
  std::int64_t steps = 0;
  try {
    Console console(true, false);
    const nlohmann::json progress = find_state(RunDir::open(path(run)), console).progress;
    steps =
        progress.at("epoch").get<std::int64_t>() * kStepsPerEpoch + progress.at("batch").get<std::int64_t>();
  } catch (const InputError&) {
  }
  testing::internal::GetCapturedStderr();
  return steps;
}

std::vector<std::string> ShortRun::unfinished_files(const std::string& run) const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path(run)))
    if (is_unfinished_file(entry.path().filename().string())) names.push_back(entry.path().string());
  return names;
}

}  // namespace cairn::app
