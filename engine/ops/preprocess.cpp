#include "kernels/preprocess.h"

#include <algorithm>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"

namespace cairn {

// y = (x / 255 - mean) / std, mirrored where flip says so. The input wants no gradient.
Tensor preprocess(const Tensor& images, DType dtype, const Normalization& normalization, const Tensor& flip) {
  constexpr const char* kOp = "preprocess";
  ops::require_dtype(images, DType::u8, kOp, "images");
  ops::require(images.rank() == 4 && images.size(3) == 3, kOp,
               "images are " + to_string(images.shape()) + ", expected [N,H,W,3]");
  if (flip.defined()) {
    ops::require(flip.shape() == Shape{images.size(0)}, kOp, "flip is " + to_string(flip.shape()));
    ops::require_dtype(flip, DType::u8, kOp, "flip");
  }
  Tensor y = empty(images.shape(), dtype, images.device());
  kernels::Preprocess args{.x = images.view(), .flip = flip.view(), .y = y.out()};
  std::copy_n(normalization.mean, 3, args.mean);
  std::copy_n(normalization.std, 3, args.std);
  call(kernels::preprocess, images.queue(), args);
  return y;
}

}  // namespace cairn
