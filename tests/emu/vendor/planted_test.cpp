// Faults planted in the providers (CMakeLists.txt beside this file says which line becomes what): each must
// be noticed by the checks that the right providers pass.
#include <dlfcn.h>

#include "kernels/backend.h"
#include "tests/emu/vendor/vendor_case.h"

namespace cairn::kernels {
namespace {

/// Has a faulty provider in the slots for as long as it lives. It is never closed: kernels may be queued.
class Planted {
 public:
  explicit Planted(const std::string& fault) {
    test_queue();  // the right providers first: what they filled is put back
    keep(conv2d_forward);
    keep(conv2d_backward_data);
    keep(conv2d_backward_weight);
    keep(linear_forward);
    keep(linear_backward_data);
    keep(linear_backward_weight);
    keep(matmul);
    const std::string file = std::string(CAIRN_FAULT_FOLDER) + "/libfault_" + fault + ".so";
    void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) throw std::runtime_error(dlerror());
    char text[256];
    const auto start = reinterpret_cast<CairnProviderStart*>(dlsym(library, "cairn_provider_start"));
    if (!start || start(text, sizeof text) != 0) throw std::runtime_error(file + " does not start");
  }
  ~Planted() {
    for (const auto& put_back : put_back_) put_back();
  }
  Planted(const Planted&) = delete;
  Planted& operator=(const Planted&) = delete;

 private:
  template <class Args>
  void keep(KernelSlot<Args>& slot) {
    for (const DType t : {DType::f32, DType::bf16, DType::f16}) {
      const auto entry = slot.fill(DeviceType::cuda_emu, t, nullptr);
      const auto put_back = [&slot, t, entry] {
        slot.fill(DeviceType::cuda_emu, t, entry.run, entry.workspace);
      };
      put_back();
      put_back_.push_back(put_back);
    }
  }
  std::vector<std::function<void()>> put_back_;
};

// x and y have one shape, so that swapped operands fit; H, W and C differ, so that swapped strides do not
// happen to be right; the stride of 2 is told from the dilation of 1.
std::string check_everything() {
  const VendorConv same{{{2, 7, 6, 8}, {8, 3, 3, 8}, {1, 1, 1, 1, 1, 1, 1}}, DType::f32};
  const VendorConv strided{{{2, 9, 8, 8}, {16, 3, 3, 8}, {2, 2, 1, 1, 1, 1, 1}}, DType::f32};
  // Padded to 8 channels, with a workspace; the bias is rounded into scratch.
  const VendorConv stem{{{2, 15, 13, 3}, {24, 7, 7, 3}, {2, 2, 3, 3, 1, 1, 1}}, DType::bf16};
  const VendorLinear linear{.n = 6, .c = 6, .k = 6, .dtype = DType::f32};
  const VendorLinear oblong{.n = 4, .c = 9, .k = 5, .dtype = DType::f32};
  for (const std::string& wrong :
       {same.forward(true, false, true), same.backward_data(Write::assign), same.backward_data(Write::add),
        same.backward_weight(Write::add, true), strided.forward(false, false, false),
        strided.backward_data(Write::assign), strided.backward_weight(Write::assign, false),
        stem.forward(true, false, true), stem.backward_weight(Write::assign, false),
        same.forward(false, false, false, {.x = 4}), linear.forward(true, true),
        linear.backward_data(Write::assign), linear.backward_weight(Write::add, true),
        oblong.forward(true, false), oblong.backward_data(Write::add),
        oblong.backward_weight(Write::assign, false)})
    if (!wrong.empty()) return wrong;
  return {};
}

class PlantedFault : public testing::TestWithParam<const char*> {};
TEST_P(PlantedFault, IsNoticed) {
  ASSERT_EQ(check_everything(), "") << "before the fault was planted";
  {
    const Planted planted(GetParam());
    const std::string noticed = check_everything();
    EXPECT_NE(noticed, "") << GetParam() << " changes nothing that a test sees";
    std::cout << GetParam() << ": " << noticed << '\n';
  }
  ASSERT_EQ(check_everything(), "") << "after the fault was taken out";
}
INSTANTIATE_TEST_SUITE_P(All, PlantedFault,
                         testing::Values("nchw_strides", "convolution_for_correlation", "dilation_for_stride",
                                         "padding_lost", "swapped_dgrad_operands", "swapped_wgrad_operands",
                                         "second_gradient_assigned", "unpadded_channels",
                                         "alignment_promised_too_high", "workspace_lost",
                                         "workspace_too_small", "workspace_over_a_tensor",
                                         "swapped_unique_ids", "bias_under_the_residuals_id",
                                         "swapped_leading_dimension", "wrong_transpose", "swapped_factors",
                                         "workspace_not_handed_in"),
                         [](const auto& tested) { return std::string(tested.param); });

}  // namespace
}  // namespace cairn::kernels
