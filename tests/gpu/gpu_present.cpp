// Without a GPU that works each test of the program is skipped, and says why.
#include <gtest/gtest.h>

#include "engine/backend.h"
#include "kernels/device.h"

namespace cairn {
namespace {

class GpuPresent : public testing::Environment {
 public:
  void SetUp() override {
    (void)backend_parts();
    const kernels::DeviceApi* api = kernels::device_api(DeviceType::cuda);
    std::string why = "libcairn_cuda.so is not loaded";
    if (!api || api->count(why) == 0) GTEST_SKIP() << why;
    ASSERT_EQ(device_fault({DeviceType::cuda, 0}), "");
    std::printf("[cuda:0] %s\n", api->describe(0).c_str());
  }
};
[[maybe_unused]] testing::Environment* const kGpuPresent = testing::AddGlobalTestEnvironment(new GpuPresent);

}  // namespace
}  // namespace cairn
