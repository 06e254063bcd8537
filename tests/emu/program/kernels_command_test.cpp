// What `cairn kernels` prints equals pencil and paper for an op, and of every kernel of a training step
// ptxas's word is known.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace cairn {
namespace {

using nlohmann::json;

struct Answer {
  int status = -1;
  std::string text;
};
Answer run(const std::string& arguments) {
  Answer answer;
  const std::string command = std::string(CAIRN_PROGRAM) + " kernels " + arguments + " 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return answer;
  std::array<char, 4096> part{};
  while (const std::size_t n = std::fread(part.data(), 1, part.size(), pipe))
    answer.text.append(part.data(), n);
  answer.status = WEXITSTATUS(pclose(pipe));
  return answer;
}
json last_line(const std::string& text) {
  const std::size_t end = text.find_last_not_of('\n') + 1, begin = text.rfind('\n', end - 1) + 1;
  return json::parse(text.substr(begin, end - begin));
}
std::map<std::string, json> kernels_of(const Answer& answer) {
  std::map<std::string, json> by_name;
  const json all = last_line(answer.text);
  for (const json& k : all.at("kernels")) by_name[k.at("kernel")] = k;
  return by_name;
}

TEST(KernelsCommand, CountsAnOpAsPencilAndPaperDo) {
  const Answer answer = run("--op relu --shape 4,16,16,64 --json --quiet");
  ASSERT_EQ(answer.status, 0) << answer.text;
  int forward = 0;
  for (const auto& [name, k] : kernels_of(answer)) {
    if (name.find("ReluForward") == std::string::npos) continue;
    ++forward;
    // 65536 floats, 16 bytes a lane: 512 requests of 512 bytes, 16 sectors each.
    for (const char* side : {"loads", "stores"}) {
      EXPECT_EQ(k.at(side).at("bytes"), 262'144) << name;
      EXPECT_EQ(k.at(side).at("requests"), 512) << name;
      EXPECT_EQ(k.at(side).at("sectors"), 8192) << name;
    }
    EXPECT_EQ(k.at("launches"), 1);
    EXPECT_EQ(k.at("atomics"), 0);
    const json& estimate = k.at("estimates").at("sm90_H100");
    EXPECT_NEAR(estimate.at("least_us").get<double>(), 0.524288 / 3.350, 1e-3);
    EXPECT_GT(estimate.at("registers").get<int>(), 0);
    EXPECT_GT(estimate.at("occupancy").get<double>(), 0.5);
  }
  EXPECT_EQ(forward, 1) << answer.text;
}

TEST(KernelsCommand, KnowsPtxasWordOfEveryKernelOfAStep) {
  for (const char* precision : {"fp32", "bf16"}) {
    const Answer answer = run("--model model_cnn --batch-size 1 --image-size 16 --json --quiet --precision " +
                              std::string(precision));
    ASSERT_EQ(answer.status, 0) << answer.text;
    const auto kernels = kernels_of(answer);
    EXPECT_GE(kernels.size(), 6u) << answer.text;
    for (const auto& [name, k] : kernels)
      EXPECT_TRUE(k.at("estimates").at("sm90_H100").contains("registers"))
          << name << ": run scripts/ptxas-table";
  }
}

TEST(KernelsCommand, CallsAnEstimateOneAndSaysWhatItIsOf) {
  const Answer answer = run("--op batch_norm_relu --shape 2,8,8,32 --gpu sm75_T4 --lines");
  ASSERT_EQ(answer.status, 0) << answer.text;
  EXPECT_NE(answer.text.find("estimate, not measured, for sm75_T4"), std::string::npos) << answer.text;
  EXPECT_NE(answer.text.find("batch_norm.cu:"), std::string::npos) << answer.text;
  EXPECT_NE(answer.text.find("emulated"), std::string::npos) << answer.text;
}

TEST(KernelsCommand, RefusesWhatItCannotCount) {
  for (const char* wrong :
       {"", "--op relu --shape 4,x", "--op max_pool2d --shape 4,4", "--op relu --device cpu"}) {
    const Answer answer = run(wrong);
    EXPECT_EQ(answer.status, 2) << wrong << ": " << answer.text;
    EXPECT_NE(answer.text.find("error: "), std::string::npos) << answer.text;
  }
}

}  // namespace
}  // namespace cairn
