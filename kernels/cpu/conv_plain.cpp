#include "kernels/cpu/conv_plain.h"

#if defined(CAIRN_KERNELS_F64)  // conv.cpp serves the other dtypes through oneDNN, which has no double

#include "kernels/cpu/fill.h"

namespace cairn::kernels {
namespace {

const FillCpu kFillForward{conv2d_forward, [](const Queue&, const Conv2dForward& a) {
                             plain::conv2d_forward<double>(a);
                             return Status();
                           }};
const FillCpu kFillBackwardData{conv2d_backward_data, [](const Queue&, const Conv2dBackwardData& a) {
                                  plain::conv2d_backward_data<double>(a);
                                  return Status();
                                }};
const FillCpu kFillBackwardWeight{conv2d_backward_weight, [](const Queue&, const Conv2dBackwardWeight& a) {
                                    plain::conv2d_backward_weight<double>(a);
                                    return Status();
                                  }};

}  // namespace
}  // namespace cairn::kernels

#endif
