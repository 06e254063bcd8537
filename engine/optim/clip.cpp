#include "engine/optim/clip.h"

#include "engine/autograd.h"
#include "kernels/reduce.h"

namespace cairn::optim {

void global_norm(const Tensor& flat, const Tensor& norm) {
  call(kernels::l2_norm, flat.queue(), {.x = flat.view(), .norm = norm.inplace()});
}

}  // namespace cairn::optim
