#include "engine/optim/kept_buffers.h"

#include <algorithm>
#include <cstring>

#include "engine/autograd.h"
#include "kernels/step_guard.h"

namespace cairn::optim {

KeptBuffers::KeptBuffers(const std::vector<nn::NamedTensor>& buffers, Device device) {
  std::int64_t total = 0;
  for (const nn::NamedTensor& b : buffers) {
    if (b.tensor.dtype() != DType::f32 || b.tensor.numel() == 0) continue;
    values_.push_back(b.tensor);
    total += b.tensor.numel();
    largest_ = std::max(largest_, b.tensor.numel());
  }
  if (values_.empty()) return;
  kept_ = empty({total}, DType::f32, device);
  std::vector<std::uint8_t> table(values_.size() * sizeof(kernels::KeptBuffer));
  auto* kept = static_cast<float*>(kept_.out().data);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const kernels::KeptBuffer entry{static_cast<float*>(values_[i].out().data), kept, values_[i].numel()};
    std::memcpy(table.data() + i * sizeof entry, &entry, sizeof entry);
    kept += entry.numel;
  }
  table_ = from_values<std::uint8_t>({static_cast<std::int64_t>(table.size())}, table, device);
  accept();
}

void KeptBuffers::accept() const {
  if (!values_.empty()) commit(full({1}, 0.0, DType::i32, kept_.device()));
}

void KeptBuffers::restore() const {
  if (!values_.empty()) commit(full({1}, 1.0, DType::i32, kept_.device()));
}

void KeptBuffers::commit(const Tensor& nonfinite) const {
  if (values_.empty()) return;
  for (const Tensor& value : values_) static_cast<void>(value.inplace());  // counts a version
  call(kernels::keep_buffers, kept_.queue(),
       {.buffers = static_cast<const kernels::KeptBuffer*>(table_.view().data),
        .count = static_cast<std::int64_t>(values_.size()),
        .largest = largest_,
        .nonfinite = nonfinite.view()});
}

}  // namespace cairn::optim
