// The kernels that serve the providers: padding of channels, column sums, the launch self-test. Compiled
// twice, with plain and with checked kernels.
#include "kernels/backend.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/pad_channels.h"
#include "tests/emu/vendor/vendor_case.h"

namespace cairn::kernels {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};

/// What the checks of the emulated device have found; "" if nothing.
template <class Args>
std::string run_kernel(const KernelSlot<Args>& slot, const Args& args) {
  const Status status = slot(test_queue(), args);
  const Status done = device_api(DeviceType::cuda_emu)->synchronize(test_queue());
  for (const emu::Report& r : emu::take_reports()) return r.message;
  return status.ok() ? done.message() : status.message();
}

TEST(PadChannelsKernel, CopiesWhatBothHaveAndClearsTheRest) {
  for (const DType from : kFloats)
    for (const DType to : kFloats)
      for (const auto& [rows, c, padded] :
           {std::array<std::int64_t, 3>{1, 3, 8}, {257, 3, 8}, {5, 8, 3}, {33, 7, 7}})
        for (const Write write : {Write::assign, Write::add}) {
          const std::vector<double> x = random_for(from, {rows, c}, 1),
                                    before = random_for(to, {rows, padded}, 2);
          const DeviceTensor xd(from, {rows, c}, x);
          DeviceTensor y(to, {rows, padded}, before);
          ASSERT_EQ(run_kernel(pad_channels, {.x = xd.in(), .y = y.view(), .write = write}), "");
          std::vector<double> want;
          for (std::int64_t i = 0; i < rows * padded; ++i) {
            const std::int64_t row = i / padded, column = i % padded;
            const double value = column < c ? x[static_cast<std::size_t>(row * c + column)] : 0.0;
            want.push_back(value + (write == Write::add ? before[static_cast<std::size_t>(i)] : 0.0));
          }
          // One sum in fp32, one rounding to the type: exact to that rounding.
          EXPECT_EQ(y.read().values(), held_by(to, held_by(DType::f32, want)))
              << name_of(from) << " to " << name_of(to) << ", " << rows << " rows of " << c << " to "
              << padded;
        }
}

TEST(ColumnSumsKernel, AreTheSumsInEveryOrderOfThreads) {
  for (const DType t : kFloats)
    for (const auto& [rows, columns] :
         {std::array<std::int64_t, 2>{1, 1}, {8, 31}, {9, 33}, {700, 64}, {1025, 3}, {0, 4}})
      for (const Write write : {Write::assign, Write::add}) {
        const std::vector<double> x = random_for(t, {rows, columns}, 1),
                                  before = random_for(DType::f32, {columns}, 2);
        const DeviceTensor xd(t, {rows, columns}, x);
        std::vector<double> want = write == Write::add ? before : std::vector<double>(before.size());
        for (std::size_t i = 0; i < x.size(); ++i) want[i % want.size()] += x[i];
        std::vector<Buffer> first;
        for (const emu::Order order : {emu::Order::forward, emu::Order::reverse, emu::Order::random}) {
          emu::set_order(order, 7);
          DeviceTensor y(DType::f32, {columns}, before);
          ColumnSums args{.x = xd.in(), .y = y.view(), .write = write};
          args.scratch_bytes = column_sums.workspace(test_queue(), args);
          DeviceTensor scratch(DType::u8, {static_cast<std::int64_t>(args.scratch_bytes)});
          args.scratch = scratch.view().data;
          ASSERT_EQ(run_kernel(column_sums, args), "");
          Buffer got = y.read();
          const auto length = static_cast<double>(rows + 1);
          EXPECT_EQ(mismatch(
                        got, want,
                        [&](std::size_t i) {
                          return sum_tolerance(DType::f32, want[i], std::sqrt(length), length);
                        },
                        to_string(Shape{rows, columns})),
                    "");
          first.push_back(std::move(got));
          EXPECT_TRUE(first.back().same_bits(first.front())) << "another order of threads gives other bits";
        }
        emu::set_order(emu::Order::forward);
      }
}

TEST(SelfTest, PassesOnAWorkingDevice) {
  test_queue();
  char text[256] = "untouched";
  EXPECT_EQ(cairn_cuda_self_test(0, text, sizeof text), 0) << text;
  EXPECT_STREQ(text, "");
  EXPECT_TRUE(emu::take_reports().empty());
}

TEST(SelfTest, SaysWhatIsWrongWithADeviceThatHasNoMemory) {
  test_queue();
  emu::set_memory_limit(emu::device_bytes_in_use() + 64);
  char text[256] = "";
  EXPECT_NE(cairn_cuda_self_test(0, text, sizeof text), 0);
  EXPECT_NE(std::string(text).find("no free memory: see nvidia-smi"), std::string::npos) << text;
  emu::set_memory_limit(emu::device_profile().total_global_mem);
}

}  // namespace
}  // namespace cairn::kernels
