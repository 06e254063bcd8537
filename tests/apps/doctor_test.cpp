#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "apps/self_test.h"
#include "kernels/dispatch.h"
#include "kernels/pool.h"
#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using nlohmann::json;

TEST(Doctor, EveryFindingThatDoesNotWorkHasOneLineOfCure) {
  const Outcome o = cairn("doctor --json");
  ASSERT_EQ(o.status, 0) << o.err;
  const json report = json::parse(o.out);
  bool ops = false;
  std::set<std::string> named;
  for (const json& f : report["findings"]) {
    if (!f["works"].get<bool>()) {
      EXPECT_FALSE(f["advice"].get<std::string>().empty()) << f;
    }
    EXPECT_THAT(f["advice"].get<std::string>(), testing::Not(testing::HasSubstr("\n")));
    named.insert(f["what"].get<std::string>());
    if (f["what"] == "ops on cpu") ops = f["works"].get<bool>();
  }
  EXPECT_TRUE(ops) << o.out;
  // Every library that a build may lack.
  for (const char* library : {"libwebp", "libonnx", "cpp-httplib", "Chart.js"})
    EXPECT_TRUE(named.contains(library)) << library;
  // The text has the same findings, and a cure under each that is marked.
  const std::vector<std::string> lines = lines_of(cairn("doctor").out);
  for (std::size_t i = 0; i + 1 < lines.size(); ++i)
    if (lines[i].starts_with("  --  ")) {
      EXPECT_THAT(lines[i + 1], testing::StartsWith("        ")) << lines[i];
    }
}

using Pool = kernels::KernelSlot<kernels::MaxPool2dForward>;
Pool::Entry right_pool;

// What a broken library would be like: one element is off.
kernels::Status wrong_pool(const kernels::Queue& queue, const kernels::MaxPool2dForward& a) {
  kernels::Status status = right_pool.run(queue, a);
  a.y.as<float>()[7] -= 1;
  return status;
}

TEST(Doctor, TheSelfTestPassesAndNoticesAWrongKernel) {
  EXPECT_EQ(self_test({}), "");
  Pool& slot = kernels::max_pool2d_forward;
  right_pool = slot.fill(DeviceType::cpu, DType::f32, nullptr);
  const std::string none = self_test({});
  slot.fill(DeviceType::cpu, DType::f32, &wrong_pool, right_pool.workspace);
  const std::string fault = self_test({});
  slot.fill(DeviceType::cpu, DType::f32, right_pool.run, right_pool.workspace);
  EXPECT_THAT(none, testing::HasSubstr("no fp32 kernel"));
  EXPECT_THAT(fault, testing::StartsWith("max_pool2d is wrong: element"));
  EXPECT_EQ(self_test({}), "");
}

}  // namespace
}  // namespace cairn::app
