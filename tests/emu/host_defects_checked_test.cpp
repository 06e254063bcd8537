// The host's known mistakes are found, in the schedule that hides them too, and what was meant raises no
// alarm.
#include "tests/emu/host_defects.h"

#include <gtest/gtest.h>

#include <map>

#include "kernels/emu/emu.h"
#include "kernels/emu/runtime.h"
#include "tests/emu/marked_line.h"

namespace cairn::kernels {
namespace {

using emu::Defect;

const std::map<std::string, Defect>& expected_defects() {
  static const std::map<std::string, Defect> expected = {
      {"freed_before_the_launch", Defect::use_after_free},
      {"freed_on_another_stream", Defect::stream_order},  // or, where the free runs first, its consequence
      {"missing_event_wait", Defect::stream_order},
      {"copy_overtaken", Defect::stream_order},
      {"result_copied_early", Defect::stream_order},
      {"cleared_late", Defect::stream_order},
      {"host_memory_passed", Defect::host_pointer},
      {"wrong_size_allocated", Defect::out_of_bounds},
      {"too_much_shared", Defect::invalid_launch},
      {"too_many_threads", Defect::invalid_launch},
      {"empty_grid", Defect::invalid_launch},
  };
  return expected;
}

class HostMistakes : public testing::TestWithParam<emu::Schedule> {
 protected:
  void SetUp() override {
    emu::set_schedule(GetParam(), 5);
    (void)emu::take_reports();
  }
  void TearDown() override {
    emu::set_schedule(emu::Schedule::eager);
    emu::print_reports(true);
    (void)emu::take_reports();
    (void)emu::take_device_error();
  }
};
INSTANTIATE_TEST_SUITE_P(Schedules, HostMistakes,
                         testing::Values(emu::Schedule::eager, emu::Schedule::late, emu::Schedule::random));

TEST_P(HostMistakes, RightVersionsRaiseNoAlarm) {
  for (const HostMistake& m : host_mistakes()) {
    EXPECT_TRUE(m.run(false).ok()) << m.name;
    for (const emu::Report& r : emu::take_reports()) ADD_FAILURE() << m.name << ": " << r.message;
  }
}

TEST_P(HostMistakes, WrongVersionsAreFoundAtTheirLine) {
  emu::print_reports(false);
  EXPECT_EQ(host_mistakes().size(), expected_defects().size());
  for (const HostMistake& m : host_mistakes()) {
    const Defect expected = expected_defects().at(m.name);
    EXPECT_EQ(m.run(true).ok(), expected != Defect::invalid_launch) << m.name;
    const std::string line = expected == Defect::invalid_launch ? "" : marked_line("host_defects.cu", m.name);
    bool found = false;
    std::string others;
    for (const emu::Report& r : emu::take_reports()) {
      const bool right =
          r.defect == expected || (expected == Defect::stream_order && r.defect == Defect::use_after_free);
      found = found || (right && (r.location == line || r.other == line) &&
                        r.message.find(m.kernel) != std::string::npos);
      others += "\n  " + r.message;
    }
    EXPECT_TRUE(found) << m.name << ": no '" << emu::name_of(expected) << "' of " << m.kernel << " at "
                       << line << "; reports:" << others;
  }
}

}  // namespace
}  // namespace cairn::kernels
