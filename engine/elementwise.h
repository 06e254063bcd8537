#pragma once
#include "engine/autograd.h"
#include "engine/ops/checks.h"
#include "kernels/elementwise.h"

namespace cairn {

/// The op of a functor (kernels/elementwise.h): y = f.forward(x) with dx = f.backward(x, dy). x: any shape,
/// floating dtype; y is like it. Saves x. Throws DTypeError.
template <class F>
Tensor elementwise(const F& f, const Tensor& x) {
  ops::require_floating(x, F::kName);
  Tensor y = empty_like(x);
  call(kernels::elementwise_forward<F>, x.queue(), {f, x.view(), y.out()});
  return record(F::kName, y, {x}, [f, x = Saved(x)](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::elementwise_backward<F>, x.tensor().queue(),
           {f, x.view(), g.output(), dx->view, dx->write});
  });
}

}  // namespace cairn
