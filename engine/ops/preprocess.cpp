#include "kernels/preprocess.h"

#include <algorithm>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"

namespace cairn {
namespace {

constexpr const char* kOp = "preprocess";

// [N,H,W,3]
Shape output_shape(const Tensor& images, const Tensor& index) {
  ops::require_dtype(images, DType::u8, kOp, "images");
  ops::require(images.rank() == 4 && images.size(3) == 3, kOp,
               "images are " + to_string(images.shape()) + ", expected [N,H,W,3]");
  if (!index.defined()) return images.shape();
  ops::require(index.rank() == 1, kOp, "index is " + to_string(index.shape()) + ", expected [N]");
  ops::require_dtype(index, DType::i32, kOp, "index");
  return {index.size(0), images.size(1), images.size(2), 3};
}

}  // namespace

// y = (x / 255 - mean) / std, mirrored where flip says so. The input wants no gradient.
void preprocess_into(const Tensor& y, const Tensor& images, const Normalization& normalization,
                     const Tensor& flip, const Tensor& index, const Tensor& crop) {
  Shape shape = output_shape(images, index);
  if (crop.defined()) {
    ops::require(crop.shape() == Shape{shape[0], 2}, kOp,
                 "crop is " + to_string(crop.shape()) + ", expected " + to_string(Shape{shape[0], 2}));
    ops::require_dtype(crop, DType::i32, kOp, "crop");
    ops::require(
        y.rank() == 4 && y.size(1) <= shape[1] && y.size(2) <= shape[2], kOp,
        "the output is " + to_string(y.shape()) + ", and cannot be cut from " + to_string(images.shape()));
    shape[1] = y.size(1);
    shape[2] = y.size(2);
  }
  ops::require(y.shape() == shape, kOp,
               "the output is " + to_string(y.shape()) + ", expected " + to_string(shape));
  if (flip.defined()) {
    ops::require(flip.shape() == Shape{shape[0]}, kOp, "flip is " + to_string(flip.shape()));
    ops::require_dtype(flip, DType::u8, kOp, "flip");
  }
  kernels::Preprocess args{
      .x = images.view(), .flip = flip.view(), .index = index.view(), .crop = crop.view(), .y = y.inplace()};
  std::copy_n(normalization.mean, 3, args.mean);
  std::copy_n(normalization.std, 3, args.std);
  call(kernels::preprocess, images.queue(), args);
}

Tensor preprocess(const Tensor& images, DType dtype, const Normalization& normalization, const Tensor& flip,
                  const Tensor& index) {
  Tensor y = empty(output_shape(images, index), dtype, images.device());
  preprocess_into(y, images, normalization, flip, index);
  return y;
}

}  // namespace cairn
