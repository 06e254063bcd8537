#include "kernels/dropout.h"

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"

namespace cairn {

// y = mask * x / (1-p); dx = mask * dy / (1-p). Saves nothing: the mask is drawn again from its key.
Tensor dropout(const Tensor& x, float p, const DropoutKey& key) {
  ops::require_floating(x, "dropout");
  if (!(p >= 0.0f && p < 1.0f)) throw Error("[dropout] p = " + std::to_string(p) + ", expected 0 <= p < 1");
  if (p == 0.0f) return x;
  Tensor y = empty_like(x);
  call(kernels::dropout, x.queue(),
       {x.view(), y.out(), p, key.seed, key.stream, key.step.view(), key.first_index});
  return record("dropout", y, {x}, [p, key, step = Saved(key.step)](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::dropout, g.output_tensor().queue(),
           {g.output(), dx->view, p, key.seed, key.stream, step.view(), key.first_index, dx->write});
  });
}

}  // namespace cairn
