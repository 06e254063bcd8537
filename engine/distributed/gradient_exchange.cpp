#include "engine/distributed/gradient_exchange.h"

#include <algorithm>

#include "engine/gradient_hook.h"

namespace cairn::distributed {

GradientExchange::GradientExchange(optim::FlatParameters& parameters, Collective& collective,
                                   std::int64_t bucket_bytes)
    : parameters_(parameters), collective_(collective) {
  const std::int64_t most = bucket_bytes / static_cast<std::int64_t>(sizeof(float));
  const auto& slices = parameters.slices();
  std::int64_t end = parameters.grads().numel();
  for (std::size_t i = slices.size(); i-- > 0; end = slices[i].offset) {
    if (buckets_.empty() || buckets_.back().end - slices[i].offset > most)
      buckets_.push_back({.begin = end, .end = end, .parameters = 0, .waiting = 0});
    Bucket& bucket = buckets_.back();
    bucket.begin = slices[i].offset;
    ++bucket.parameters;
    bucket_of_[slices[i].parameter.tensor.impl().get()] = buckets_.size() - 1;
  }
}

void GradientExchange::send_whole() {
  for (; sent_ < buckets_.size() && buckets_[sent_].waiting == 0; ++sent_) {
    const Bucket& b = buckets_[sent_];
    collective_.start_sum(parameters_.grads().alias({b.end - b.begin}, b.begin));
  }
}

void GradientExchange::arrived(const TensorImpl& leaf) {
  const auto found = bucket_of_.find(&leaf);
  // What no gradient has reached holds an earlier step's: it is cleared, and sent, at the end.
  if (found == bucket_of_.end() || !leaf.grad_arrived) return;
  --buckets_[found->second].waiting;
  send_whole();
}

void GradientExchange::backward(const Tensor& loss, const Tensor& gradient) {
  for (Bucket& bucket : buckets_) bucket.waiting = bucket.parameters;
  sent_ = 0;
  {
    const GradientHook hook([this](const TensorImpl& leaf) { arrived(leaf); });
    loss.backward(gradient);
  }
  parameters_.clear_unused_grads();
  for (Bucket& bucket : buckets_) bucket.waiting = 0;
  send_whole();
  collective_.finish();
}

}  // namespace cairn::distributed
