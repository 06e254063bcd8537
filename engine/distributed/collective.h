#pragma once
#include <memory>

#include "engine/distributed/communicator.h"
#include "engine/tensor.h"

namespace cairn::distributed {

/// Sums of tensors over the processes of a job, in place, behind what the device has been given so far: by
/// the communicator for the CPU, by NCCL between GPUs. Each process makes the same calls in the same order,
/// from one thread; all receive the same bits.
class Collective {
 public:
  virtual ~Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;

  virtual int world() const = 0;
  /// Begins to sum `t`, fp32 or fp64, beside what the device computes from now on. Nobody may touch it until
  /// finish().
  virtual void start_sum(const Tensor& t) = 0;
  /// What is queued on the device from now on sees the sums of all that was started.
  virtual void finish() = 0;
  /// The sum for what is queued from now on; what was started before stays under way.
  virtual void sum(const Tensor& t) = 0;

  /// Whether this process's images count in the statistics of a synchronised batch norm: one that has none in
  /// an epoch's last batch computes on a stand-in.
  bool counts() const { return counts_; }
  void set_counts(bool counts) { counts_ = counts; }

 protected:
  Collective() = default;

 private:
  bool counts_ = true;
};

/// For tensors of this device. Throws Error where the device's library (NCCL) is missing. `communicator` must
/// outlive it.
std::unique_ptr<Collective> make_collective(Communicator& communicator, Device device);

}  // namespace cairn::distributed
