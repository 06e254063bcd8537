#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/nn/module.h"
#include "engine/optim/optimizer.h"

namespace cairn::io {

/// All that an exact resume needs, as it was between two steps: parameters, buffers, the optimiser's state
/// and step count, and `progress`, text of the caller's own (JSON: epoch, best, random step ...). Taking it
/// costs the training a copy on its own device; writing it may be left to another thread.
class Checkpoint {
 public:
  /// Makes room for copies of these, which must outlive it.
  Checkpoint(const nn::Module& module, const optim::Optimizer& optimizer);
  ~Checkpoint();
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  /// Queues the copy behind what the device has been given so far, and does not wait for it. Not while
  /// write() is under way.
  void take();
  /// Writes what take() copied last, and `progress`, text of the caller's own (JSON: epoch, best ...): one
  /// safetensors file with a sum over all of it, replaced in one step; see write_summed_safetensors(). From
  /// any thread. Throws Error naming the file and the reason; then the old file is as it was.
  void write(const std::string& path, const std::string& progress,
             const std::function<void()>& before_replacing = {});
  /// Of the optimiser, when take() was called.
  std::int64_t steps() const { return steps_; }

 private:
  const float* on_host();
  const optim::Optimizer& optimizer_;
  std::vector<nn::NamedTensor> tensors_;
  Tensor copy_;            // [n] fp32: one behind the other
  float* host_ = nullptr;  // where the device computes elsewhere: pinned
  kernels::Queue queue_;   // for the way there, beside the training's
  void* taken_ = nullptr;  // event
  std::int64_t steps_ = 0;
};

/// Takes and writes one.
void save_checkpoint(const std::string& path, const nn::Module& module, const optim::Optimizer& optimizer,
                     const std::string& progress);
/// Restores it bit for bit and returns `progress`. Throws InputError in one line for a damaged file (its sum
/// is checked) or one of another model or optimiser; then nothing has been changed.
std::string load_checkpoint(const std::string& path, nn::Module& module, optim::Optimizer& optimizer);
/// `progress` and nothing else, of a file whose sum holds: what a resume needs to know before it builds the
/// model.
std::string read_progress(const std::string& path);

}  // namespace cairn::io
