#include "kernels/loss.h"

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "kernels/pointwise.h"

namespace cairn {

// loss = mean_n -sum_c t_nc w_c log softmax(logits)_nc, and its gradient in the same pass.
// Saves d loss / d logits; backward multiplies it by the gradient of the loss.
Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options) {
  constexpr const char* kOp = "softmax_cross_entropy";
  ops::require_floating(logits, kOp);
  ops::require_rank(logits, 2, kOp, "logits");
  const Shape n{logits.size(0)};
  ops::require(logits.size(0) > 0 && logits.size(1) > 0, kOp, "logits are " + to_string(logits.shape()));
  const auto check_labels = [&](const Tensor& t, DType dtype, const char* what) {
    ops::require(t.shape() == n, kOp,
                 std::string(what) + " is " + to_string(t.shape()) + ", expected " + to_string(n));
    ops::require_dtype(t, dtype, kOp, what);
    ops::require_same_device(logits, t, kOp, what);
  };
  check_labels(labels, DType::i32, "labels");
  ops::require(options.labels2.defined() == options.lambda.defined(), kOp, "labels2 and lambda go together");
  if (options.labels2.defined()) {
    check_labels(options.labels2, DType::i32, "labels2");
    check_labels(options.lambda, DType::f32, "lambda");
  }
  if (options.class_weights.defined())
    ops::require_parameter(logits, options.class_weights, {logits.size(1)}, kOp, "class_weights");
  ops::require(options.focal_gamma == 0.0f || (options.label_smoothing == 0.0f && !options.labels2.defined()),
               kOp, "focal loss goes with neither label smoothing nor mixed labels");
  const DType dtype = ops::parameter_dtype(logits.dtype());
  Tensor loss = empty({1}, dtype, logits.device());
  Tensor dlogits = wants_grad({&logits}) ? empty(logits.shape(), dtype, logits.device()) : Tensor();
  call(kernels::softmax_cross_entropy, logits.queue(),
       {.logits = logits.view(),
        .labels = labels.view(),
        .labels2 = options.labels2.view(),
        .lambda = options.lambda.view(),
        .class_weights = options.class_weights.view(),
        .label_smoothing = options.label_smoothing,
        .focal_gamma = options.focal_gamma,
        .loss = loss.out(),
        .per_image = {},
        .dlogits = dlogits.out()});
  return record(kOp, loss, {logits}, [dlogits](Grads& g) {
    const auto dx = g.wants(0);
    if (!dx) return;
    const kernels::Queue& queue = dlogits.queue();
    const Tensor dloss = g.output_tensor().alias({1, 1});
    if (dx->view.dtype == dlogits.dtype()) {
      call(kernels::binary_forward, queue,
           {kernels::BinaryOp::mul, dlogits.view(), dloss.view(), dx->view, 1.0f, dx->write});
      return;
    }
    Tensor scaled = empty_like(dlogits);
    call(kernels::binary_forward, queue,
         {kernels::BinaryOp::mul, dlogits.view(), dloss.view(), scaled.out()});
    call(kernels::cast, queue, {scaled.view(), dx->view, dx->write});
  });
}

Tensor softmax(const Tensor& logits) {
  ops::require_floating(logits, "softmax");
  ops::require_rank(logits, 2, "softmax", "logits");
  Tensor y = empty(logits.shape(), ops::parameter_dtype(logits.dtype()), logits.device());
  call(kernels::softmax, logits.queue(), {logits.view(), y.out()});
  return y;
}

}  // namespace cairn
