#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/dispatch.h"

namespace cairn::app {

/// Something that launches kernels, on tensors made beforehand: each call of run() does it once.
struct KernelWork {
  std::string what;  // "a training step of resnet18, batch 4 of 32x32, fp32, adamw"
  std::function<void()> run;
};

struct StepOptions {
  std::string model;
  std::int64_t classes = 7, batch_size = 4, image_size = 32;
  std::string optimizer;  // empty: the model's own
  std::string precision = "fp32";
};
/// A training step from pixels to changed weights, kernel by kernel. Throws InputError.
KernelWork training_step(const StepOptions& options, Device device);

/// Names for op_work().
std::vector<std::string> op_names();
/// A public op forward and, where it has a gradient, backward. Throws InputError for an unknown name,
/// ShapeError where x's shape does not fit the op.
KernelWork op_work(const std::string& name, const Shape& shape, DType dtype, Device device);

/// "8,56,56,64" -> [8,56,56,64]. Throws InputError.
Shape parse_shape(const std::string& text);

}  // namespace cairn::app
