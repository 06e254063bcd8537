// Each known mistake is found at its line, and what was meant raises no alarm, in each order in which threads
// may run.
#include "tests/emu/defects.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "kernels/emu/emu.h"
#include "tests/emu/marked_line.h"

namespace cairn::kernels {
namespace {

using emu::Defect;

const std::map<std::string, Defect>& expected_defects() {
  static const std::map<std::string, Defect> expected = {
      {"missing_barrier", Defect::race},
      {"missing_barrier_between_turns", Defect::race},
      {"scratch_used_again", Defect::race},
      {"lockstep_trusted", Defect::race},
      {"shared_count_not_atomic", Defect::race},
      {"sum_not_atomic", Defect::race},
      {"all_blocks_write", Defect::race},
      {"reads_another_block", Defect::race},
      {"missing_fence", Defect::race},
      {"flag_not_atomic", Defect::race},
      {"neighbour_halves", Defect::race},
      {"off_by_one_read", Defect::out_of_bounds},
      {"off_by_one_write", Defect::out_of_bounds},
      {"unchecked_tail", Defect::out_of_bounds},
      {"before_the_start", Defect::out_of_bounds},
      {"half_past_the_end", Defect::out_of_bounds},
      {"vector_past_the_end", Defect::out_of_bounds},
      {"shared_array_too_short", Defect::out_of_bounds},
      {"dynamic_shared_too_short", Defect::out_of_bounds},
      {"null_pointer", Defect::invalid_address},
      {"local_array_passed_on", Defect::foreign_local},
      {"misaligned_vector", Defect::misaligned},
      {"misaligned_pair", Defect::misaligned},
      {"uninitialised_shared", Defect::uninitialised},
      {"uninitialised_global", Defect::uninitialised},
      {"shared_of_the_last_block", Defect::uninitialised},
      {"barrier_in_a_branch", Defect::divergent_barrier},
      {"barrier_after_return", Defect::divergent_barrier},
      {"two_barriers", Defect::divergent_barrier},
      {"shuffle_in_a_branch", Defect::warp_mask},
      {"caller_not_in_mask", Defect::warp_mask},
      {"source_not_in_mask", Defect::warp_mask},
      {"source_has_returned", Defect::warp_mask},
      {"width_not_a_power", Defect::warp_mask},
      {"warp_barrier_for_the_block", Defect::race},
      {"shuffle_taken_for_a_barrier", Defect::race},
      {"division_by_zero", Defect::arithmetic},
  };
  return expected;
}

class Arrays {
 public:
  Arrays() {
    const std::vector<float> values = [] {
      std::vector<float> v(64);
      std::iota(v.begin(), v.end(), 0.0f);
      return v;
    }();
    // `a` is 64 floats, since the kernels are about one block; `b` is one short.
    emu::device_write(a, values.data(), 64 * sizeof(float));
  }
  ~Arrays() {
    emu::device_free(a);
    emu::device_free(b);
  }
  float* a = static_cast<float*>(emu::device_malloc(64 * sizeof(float)));
  float* b = static_cast<float*>(emu::device_malloc(64 * sizeof(float)));
};

class Mistakes : public testing::TestWithParam<emu::Order> {
 protected:
  void SetUp() override {
    emu::set_order(GetParam(), 3);
    emu::take_reports();
  }
  void TearDown() override {
    emu::set_order(emu::Order::forward);
    emu::print_reports(true);
    emu::take_reports();
    emu::take_device_error();
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, Mistakes,
                         testing::Values(emu::Order::forward, emu::Order::reverse, emu::Order::random));

TEST_P(Mistakes, RightVersionsRaiseNoAlarm) {
  for (const Mistake& m : mistakes()) {
    const Arrays arrays;
    ASSERT_TRUE(run_mistake(m, false, arrays.a, arrays.b, 64).ok());
    for (const emu::Report& r : emu::take_reports()) ADD_FAILURE() << m.name << ": " << r.message;
  }
}

TEST_P(Mistakes, WrongVersionsAreFoundAtTheirLine) {
  emu::print_reports(false);
  EXPECT_EQ(mistakes().size(), expected_defects().size());
  for (const Mistake& m : mistakes()) {
    const Arrays arrays;
    ASSERT_TRUE(run_mistake(m, true, arrays.a, arrays.b, 64).ok());
    const std::string line = marked_line("defects.cu", m.name);
    bool found = false;
    std::string others;
    for (const emu::Report& r : emu::take_reports()) {
      found =
          found || (r.defect == expected_defects().at(m.name) && (r.location == line || r.other == line) &&
                    r.kernel == std::string(m.name) + "<true>");
      others += "\n  " + r.message;
    }
    EXPECT_TRUE(found) << m.name << ": no '" << emu::name_of(expected_defects().at(m.name)) << "' at " << line
                       << "; reports:" << others;
  }
}

}  // namespace
}  // namespace cairn::kernels
