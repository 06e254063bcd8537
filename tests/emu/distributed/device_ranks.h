#pragma once
#include <functional>

#include "engine/distributed/collective.h"
#include "kernels/cpu/parallel.h"
#include "kernels/emu/emu.h"
#include "kernels/emu/runtime.h"
#include "tests/distributed/local_transport.h"
#include "tests/emu/ops/device.h"

namespace cairn::distributed {

/// Ranks as threads, each on an emulated device of its own. Kernels of the CPU make no threads in them.
class DeviceRanks : public NoReportsTest {
 protected:
  void SetUp() override {
    NoReportsTest::SetUp();
    emu::set_device_count(kMostRanks);
    kernels::set_num_threads(1);
  }
  void TearDown() override {
    emu::set_schedule(emu::Schedule::eager);
    emu::set_device_count(1);
    kernels::set_num_threads(threads_);
    NoReportsTest::TearDown();
  }
  static void run(int world, const std::function<void(Communicator&, Device)>& body, bool good_order = true) {
    LocalNet net(world);
    run_ranks(
        net, {},
        [&](Communicator& processes) {
          body(processes, Device{DeviceType::cuda_emu, processes.rank()});
        },
        good_order);
  }

 private:
  static constexpr int kMostRanks = 4;
  const int threads_ = kernels::num_threads();
};

}  // namespace cairn::distributed
