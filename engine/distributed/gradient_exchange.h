#pragma once
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/distributed/collective.h"
#include "engine/optim/parameters.h"

namespace cairn::distributed {

/// Sums the gradients of all processes while backward still runs: the flat buffer is cut into buckets of
/// whole parameters, from its end, since the last layers' gradients come first, and each is sent off once it
/// and those before it are whole (Li et al. 2020, "PyTorch Distributed").
class GradientExchange {
 public:
  /// Large beside what a message costs, small beside a model: 11 buckets of a ResNet-18.
  static constexpr std::int64_t kBucketBytes = std::int64_t{4} << 20;

  /// Both must outlive it.
  GradientExchange(optim::FlatParameters& parameters, Collective& collective,
                   std::int64_t bucket_bytes = kBucketBytes);

  /// loss.backward(gradient), after which the flat gradients are the sums over the processes, for what is
  /// queued from now on.
  void backward(const Tensor& loss, const Tensor& gradient);
  std::int64_t buckets() const { return static_cast<std::int64_t>(buckets_.size()); }

 private:
  struct Bucket {
    std::int64_t begin = 0, end = 0;  // in elements
    std::int64_t parameters = 0;
    std::int64_t waiting = 0;  // parameters whose gradient is not whole yet
  };
  void arrived(const TensorImpl& leaf);
  void send_whole();

  optim::FlatParameters& parameters_;
  Collective& collective_;
  std::vector<Bucket> buckets_;  // the first to be sent comes first
  std::unordered_map<const TensorImpl*, std::size_t> bucket_of_;
  std::size_t sent_ = 0;
};

}  // namespace cairn::distributed
