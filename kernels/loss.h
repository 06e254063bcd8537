#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// Softmax cross-entropy over C classes, mean over the batch, with its gradient in the same pass.
///   p = softmax(logits_n); t = target distribution: label smoothing e puts (1-e) on the label and e/C on
///   each class (Szegedy et al. 2016), w_c class weights as torch.nn.CrossEntropyLoss(weight,
///   label_smoothing); l_n = - sum_c t_c w_c log p_c;   loss = sum_n l_n / sum_n w_label(n)   (plain mean
///   without weights).
/// With a second label (mixup, CutMix): l_n and its weight are lambda_n of the first and 1 - lambda_n of the
/// second label's. focal_gamma > 0 (Lin et al. 2017): l_n is multiplied by (1 - p_label)^gamma, for
/// label_smoothing = 0 and one label. logits [N,C] in the compute dtype; labels, labels2 [N] int32 in [0,C)
/// (checked by the engine); lambda [N] fp32; class_weights [C] fp32 (fp64 where logits are fp64, as loss,
/// per_image and dlogits are). Writes loss [1]; per_image [N] (l_n), if wanted; dlogits [N,C] (d loss / d
/// logits), if wanted.
struct SoftmaxCrossEntropy {
  ConstView logits;
  ConstView labels;
  ConstView labels2;
  ConstView lambda;
  ConstView class_weights;
  float label_smoothing = 0.0f;
  float focal_gamma = 0.0f;
  View loss;
  View per_image;
  View dlogits;  // fp32
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return logits.dtype; }
};

/// y = softmax(x) over the last axis; x [N,C] in the compute dtype, y [N,C] fp32 (fp64 where x is).
struct Softmax {
  ConstView x;
  View y;
  DType dtype() const { return x.dtype; }
};

inline constinit KernelSlot<SoftmaxCrossEntropy> softmax_cross_entropy("softmax_cross_entropy");
inline constinit KernelSlot<Softmax> softmax("softmax");

}  // namespace cairn::kernels
