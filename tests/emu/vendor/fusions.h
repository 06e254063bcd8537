#pragma once
/// Fused graphs that the product does not use, put to the real cuDNN on device profiles: are they offered, by
/// which engine, and do their run-time compiled plans build? docs/cudnn-fusions.md has the answers and what
/// follows.
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/cudnn_graph.h"

namespace cairn::kernels::cudnn {

enum class Fusion : std::uint8_t {
  conv_statistics,  // y = conv(x); sum y, sum y^2 for each channel: batch norm's statistics on the way out
  norm_conv,        // y = conv(relu(scale * x + shift)): batch norm's second half on the way in
  dgrad_relu,       // dx = dgrad(dy) where the saved activation is above 0
  matmul,           // y = a b: a linear layer without cuBLASLt
  matmul_bias_relu  // y = relu(a b + bias)
};
inline constexpr Fusion kFusions[] = {Fusion::conv_statistics, Fusion::norm_conv, Fusion::dgrad_relu,
                                      Fusion::matmul, Fusion::matmul_bias_relu};
const char* name_of(Fusion fusion);

/// What cuDNN answers for one fused graph on one device.
struct Offer {
  std::int64_t engines = 0;   // distinct ones that the heuristics propose
  std::int64_t first = -1;    // the best one's global index
  bool deterministic = true;  // the best one
  bool runtime_compiled = false;
  bool tensor_core = false;
  std::int64_t workspace = -1;  // of the best one's plan, where it was built
  std::string failure;          // why no plan was built
};

/// `shape`: the convolution with its batch, its dtype 16 bits; for products x is [N,1,1,C], w [K,1,1,C]. With
/// `compile` the first plan that builds is built.
Offer ask_for(Fusion fusion, const ConvGraph& shape, const DeviceDescription& device, bool compile);

}  // namespace cairn::kernels::cudnn
