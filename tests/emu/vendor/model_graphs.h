#pragma once
#include <vector>

#include "kernels/cuda/cudnn_graph.h"

namespace cairn::kernels::cudnn {

/// What a precision asks of the GPU: how a table of plans names it, and who has it.
struct Precision {
  const char* name;
  DType dtype;
  bool tf32;
  int least_capability;  // sm_XX from which the type exists
  bool wants_tensor_cores;
};
inline constexpr Precision kPrecisions[] = {
    {"fp32", DType::f32, false, 75, false},  // strict: tensor cores would round to TF32
    {"tf32", DType::f32, true, 80, true},
    {"bf16", DType::bf16, false, 80, true},
    {"fp16", DType::f16, false, 75, true},
};

/// Every convolution that ResNet-18, ResNetClasses and ModelCNN make in a training step on images of 224x224,
/// forward and both backward passes, as graphs for this batch and precision, each once. Taken from the models
/// themselves: a step runs on the CPU with kernels that note their arguments and compute nothing.
std::vector<ConvGraph> graphs_of_models(std::int64_t batch, const Precision& precision);

}  // namespace cairn::kernels::cudnn
