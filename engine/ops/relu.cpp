#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "kernels/pointwise.h"

namespace cairn {

// y = max(x, 0);  dx = dy where y > 0.  Gradient at 0 is 0.  Saves y only.
Tensor relu(const Tensor& x) {
  ops::require_floating(x, "relu");
  Tensor y = empty_like(x);
  call(kernels::relu_forward, x.queue(), {x.view(), y.out()});
  return record("relu", y, {x}, [y = Saved(y)](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::relu_backward, compute_queue(y.tensor().device()),
           {y.view(), g.output(), dx->view, dx->write});
  });
}

}  // namespace cairn
