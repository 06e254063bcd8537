// Without a GPU that works the program ends before its first test with status 77, which ctest calls skipped,
// and says why: GoogleTest counts tests that an environment skips among those that passed.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "engine/backend.h"
#include "kernels/device.h"

namespace cairn {
namespace {

constexpr int kSkipped = 77;

class GpuPresent : public testing::Environment {
 public:
  void SetUp() override {
    (void)backend_parts();
    const kernels::DeviceApi* api = kernels::device_api(DeviceType::cuda);
    std::string why = "libcairn_cuda.so is not loaded";
    if (!api || api->count(why) == 0) {
      std::printf("skipped: %s\n", why.c_str());
      std::exit(kSkipped);
    }
    ASSERT_EQ(device_fault({DeviceType::cuda, 0}), "");
    std::printf("[cuda:0] %s\n", api->describe(0).c_str());
  }
};
[[maybe_unused]] testing::Environment* const kGpuPresent = testing::AddGlobalTestEnvironment(new GpuPresent);

}  // namespace
}  // namespace cairn
