// Work on one place of memory that neither streams, events nor host waits order is reported in every
// schedule, whatever order it happened to run in; conformance_streams_test.cpp has the same programs with
// what they lack here.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "kernels/emu/emu.h"
#include "kernels/emu/runtime.h"
#include "tests/emu/programs.h"

namespace cairn::kernels {
namespace {

constexpr std::size_t kWords = 4, kBytes = kWords * sizeof(Word);

struct World {
  cudaStream_t a = nullptr, b = nullptr;
  cudaEvent_t event = nullptr;
  Word *x = nullptr, *y = nullptr, *pinned = nullptr;

  void kernel(cudaStream_t stream) const {
    ASSERT_TRUE(run_program("late_twice_plus", 1, kWords, 0, y, x, stream).ok());
  }
};

struct Mistake {
  const char* name;
  std::function<void(const World&)> make;
};
const Mistake kMistakes[] = {
    {"two kernels", [](const World& w) { w.kernel(w.a), w.kernel(w.b); }},
    {"a copy to the device",
     [](const World& w) {
       cudaMemcpyAsync(w.x, w.pinned, kBytes, cudaMemcpyHostToDevice, w.a);
       w.kernel(w.b);
     }},
    {"a copy to the host",
     [](const World& w) {
       w.kernel(w.a);
       cudaMemcpyAsync(w.pinned, w.x, kBytes, cudaMemcpyDeviceToHost, w.b);
     }},
    {"a fill",
     [](const World& w) {
       w.kernel(w.a);
       cudaMemsetAsync(w.x, 0, kBytes, w.b);
     }},
    {"an event recorded too early",
     [](const World& w) {
       cudaEventRecord(w.event, w.a);
       w.kernel(w.a);
       cudaStreamWaitEvent(w.b, w.event, 0);
       w.kernel(w.b);
     }},
    {"the default stream and one that does not block",
     [](const World& w) {
       w.kernel(nullptr);
       w.kernel(w.b);
     }},
};

TEST(StreamOrder, WorkThatNothingOrdersIsReported) {
  emu::print_reports(false);
  for (const Mistake& mistake : kMistakes)
    for (int schedule = 0; schedule < 8; ++schedule) {
      emu::set_schedule(schedule == 0   ? emu::Schedule::eager
                        : schedule == 1 ? emu::Schedule::late
                                        : emu::Schedule::random,
                        static_cast<std::uint64_t>(schedule));
      World w;
      ASSERT_EQ(cudaStreamCreateWithFlags(&w.a, cudaStreamNonBlocking), cudaSuccess);
      ASSERT_EQ(cudaStreamCreateWithFlags(&w.b, cudaStreamNonBlocking), cudaSuccess);
      ASSERT_EQ(cudaEventCreateWithFlags(&w.event, cudaEventDisableTiming), cudaSuccess);
      for (Word** p : {&w.x, &w.y}) {
        ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(p), kBytes), cudaSuccess);
        ASSERT_EQ(cudaMemset(*p, 0, kBytes), cudaSuccess);
      }
      ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&w.pinned), kBytes), cudaSuccess);
      std::fill_n(w.pinned, kWords, 7u);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      ASSERT_TRUE(emu::take_reports().empty()) << mistake.name;

      mistake.make(w);
      cudaDeviceSynchronize();
      const std::vector<emu::Report> reports = emu::take_reports();
      ASSERT_FALSE(reports.empty()) << mistake.name << ", schedule " << schedule;
      for (const emu::Report& r : reports) EXPECT_EQ(r.defect, emu::Defect::stream_order) << r.message;

      cudaFree(w.x);
      cudaFree(w.y);
      cudaFreeHost(w.pinned);
      cudaEventDestroy(w.event);
      cudaStreamDestroy(w.a);
      cudaStreamDestroy(w.b);
      emu::take_device_error();
    }
  emu::set_schedule(emu::Schedule::eager);
  emu::print_reports(true);
}

}  // namespace
}  // namespace cairn::kernels
