#include "engine/backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/device.h"
#include "engine/ops.h"

namespace cairn {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(Backend, EveryPartSaysWhatItIsOrWhatToDo) {
  ASSERT_EQ(backend_parts().size(), 3u);
  for (const BackendPart& part : backend_parts()) {
    EXPECT_FALSE(part.found.empty()) << part.name;
    EXPECT_THAT(part.found + part.advice, Not(HasSubstr("\n"))) << part.name;
    EXPECT_TRUE(part.in_build || !part.works) << part.name;
  }
}

TEST(Backend, AutoIsADeviceThatComputesAndSaysWhy) {
  std::string reason;
  const Device device = parse_device("auto", &reason);
  EXPECT_FALSE(reason.empty());
  EXPECT_EQ(device_fault(device), "");
  const Tensor x = zeros({2, 3}, DType::f32, device);
  EXPECT_EQ(sum(add(x, x)).to(Device{}).item(), 0.0);
}

// Without a GPU: one line that names the device, says why and what works, and the status of wrong use.
TEST(Backend, ADeviceThatIsNotThereIsAnInputError) {
  if (parse_device("auto").type == DeviceType::cuda) GTEST_SKIP() << "there is a GPU";
  try {
    parse_device("cuda");
    FAIL() << "cuda without a GPU";
  } catch (const InputError& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("device 'cuda"), Not(HasSubstr("\n"))));
  }
}

TEST(Backend, TheCpuHasNoPlainKernelsToWarnOf) {
  EXPECT_EQ(slow_kernels_warning(DeviceType::cpu), "");
  if (backend_parts()[1].works) return;
  EXPECT_THAT(slow_kernels_warning(DeviceType::cuda),
              HasSubstr("plain convolutions are used, many times slower"));
}

}  // namespace
}  // namespace cairn
