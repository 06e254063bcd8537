// Several emulated devices in one process, and queued work that needs another thread: a wait lets that thread
// queue and run what is missing, whatever the schedule, also within a graph.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "kernels/emu/emu.h"
#include "kernels/emu/runtime.h"
#include "tests/emu/programs.h"

namespace cairn::emu {
namespace {

class Devices : public testing::TestWithParam<Schedule> {
 protected:
  void SetUp() override {
    set_device_count(2);
    set_schedule(GetParam(), 1);
    for (const int d : {1, 0}) {
      EXPECT_EQ(cudaSetDevice(d), cudaSuccess);
      EXPECT_EQ(cudaStreamCreateWithFlags(&streams[d], cudaStreamNonBlocking), cudaSuccess);
      EXPECT_EQ(cudaEventCreateWithFlags(&events[d], cudaEventDisableTiming), cudaSuccess);
    }
  }
  void TearDown() override {
    for (const int d : {0, 1}) {
      EXPECT_EQ(cudaStreamSynchronize(streams[d]), cudaSuccess);
      EXPECT_EQ(cudaEventDestroy(events[d]), cudaSuccess);
      EXPECT_EQ(cudaStreamDestroy(streams[d]), cudaSuccess);
    }
    set_schedule(Schedule::eager);
    set_device_count(1);
    for (const Report& r : take_reports()) ADD_FAILURE() << r.message;
  }
  void queue(int device, const char* name, std::function<void()> run, std::function<bool()> may_run = {}) {
    ASSERT_EQ(enqueue_library_call(streams[device], name, std::move(run), std::move(may_run)), cudaSuccess);
  }
  cudaStream_t streams[2] = {};
  cudaEvent_t events[2] = {};
  std::atomic<bool> open_ = false;
};

TEST_P(Devices, AreChosenByThread) {  // CUDA C++ Programming Guide, "Device Selection"
  int device = -1, other = -1, count = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 2);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  std::thread([&] { EXPECT_EQ(cudaGetDevice(&other), cudaSuccess); }).join();
  EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 1);
  EXPECT_EQ(other, 0);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  (void)cudaGetLastError();
}

TEST_P(Devices, RefuseEachOthersStreams) {  // the same guide, "Stream and Event Behavior"
  kernels::Word* x = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&x), 16), cudaSuccess);
  ASSERT_EQ(cudaMemset(x, 0, 16), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // the streams do not wait for the default stream
  EXPECT_TRUE(kernels::run_program("late_twice_plus", 1, 4, 0, x, x, streams[0]).ok());
  EXPECT_FALSE(kernels::run_program("late_twice_plus", 1, 4, 0, x, x, streams[1]).ok());
  EXPECT_EQ(cudaEventRecord(events[0], streams[1]), cudaErrorInvalidResourceHandle);
  (void)cudaGetLastError();
  // Waiting across devices is what events are for.
  EXPECT_EQ(cudaEventRecord(events[0], streams[0]), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(streams[1], events[0], 0), cudaSuccess);
  EXPECT_EQ(cudaFree(x), cudaSuccess);
}

TEST_P(Devices, AreWaitedForAlone) {
  std::atomic<bool> open = false;
  queue(
      1, "held", [] {}, [this] { return open_.load(); });
  bool ran = false;
  queue(0, "free", [&] { ran = true; });
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // of device 0: else it would wait for ever
  EXPECT_TRUE(ran);
  EXPECT_EQ(cudaStreamQuery(streams[1]), cudaErrorNotReady);
  (void)cudaGetLastError();
  open_ = true;
}

TEST_P(Devices, WorkWaitsForAnotherThreads) {
  std::atomic<int> came = 0;
  std::vector<std::string> order;
  const auto rank = [&](int device) {
    ASSERT_EQ(cudaSetDevice(device), cudaSuccess);
    queue(device, "come", [&] { ++came; });
    queue(
        device, "met", [&, device] { order.push_back("met " + std::to_string(device)); },
        [&] { return came == 2; });
    queue(device, "behind", [&, device] { order.push_back("behind " + std::to_string(device)); });
    ASSERT_EQ(cudaStreamSynchronize(streams[device]), cudaSuccess);
  };
  std::thread other(rank, 1);
  rank(0);
  other.join();
  ASSERT_EQ(order.size(), 4U);
  for (const int d : {0, 1}) {
    const auto at = [&](const std::string& what) {
      return std::find(order.begin(), order.end(), what + std::to_string(d)) - order.begin();
    };
    EXPECT_LT(at("met "), at("behind "));
  }
}

TEST_P(Devices, GraphsWaitInTheirMiddle) {
  std::atomic<int> came = 0;
  std::atomic<int> met = 0;
  const auto rank = [&](int device) {
    ASSERT_EQ(cudaSetDevice(device), cudaSuccess);
    ASSERT_EQ(cudaStreamBeginCapture(streams[device], cudaStreamCaptureModeRelaxed), cudaSuccess);
    queue(device, "come", [&] { ++came; });
    queue(
        device, "met", [&] { ++met; }, [&] { return came == 2; });
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamEndCapture(streams[device], &graph), cudaSuccess);
    cudaGraphExec_t exec = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(exec, streams[device]), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(streams[device]), cudaSuccess);
    EXPECT_EQ(came, 2);
    ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
    ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  };
  std::thread other(rank, 1);
  rank(0);
  other.join();
  EXPECT_EQ(met, 2);
}

INSTANTIATE_TEST_SUITE_P(Schedules, Devices,
                         testing::Values(Schedule::eager, Schedule::late, Schedule::random));

}  // namespace
}  // namespace cairn::emu
