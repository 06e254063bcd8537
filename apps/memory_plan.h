#pragma once
#include <cstdint>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/learner.h"
#include "engine/allocator.h"
#include "engine/dry_run.h"
#include "kernels/error.h"

namespace cairn::app {

/// What a training will take of the memory that its tensors lie in, in bytes, known before the first step: a
/// step and a batch of the validation are walked through without being computed (engine/dry_run.h).
struct MemoryPlan {
  std::int64_t batch_size = 0;
  std::int64_t parameters = 0;   // what they are trained with counts below
  std::int64_t gradients = 0;    // of the parameters
  std::int64_t optimizer = 0;    // moments, moving average
  std::int64_t activations = 0;  // and their gradients, at the moment of the peak
  std::int64_t workspaces = 0;   // of kernels, at that moment
  std::int64_t reserve = 0;      // freed blocks that the allocator keeps for reuse
  std::int64_t images = 0;       // batches on their way; on the CPU also decoded images that are kept
  std::int64_t state = 0;        // the copy that a checkpoint is written from
  std::int64_t program = 0;      // on the CPU: what the process held before
  std::int64_t available = 0;    // beside `program`, when the plan was made
  /// By layer, the largest first, at the moment of the peak.
  std::vector<DryRun::Holder> holders;

  std::int64_t peak() const {
    return parameters + gradients + optimizer + activations + workspaces + reserve + images + state + program;
  }
  std::int64_t needed() const { return peak() - program; }
  bool fits() const { return needed() <= available; }
};

/// The plan for a batch of so many images. Computes nothing and allocates next to nothing.
MemoryPlan plan_memory(const LearnerSetup& setup, std::int64_t batch_size);
/// The largest batch that fits, within 5 %, and at most `most`; 0 where not even one image does.
std::int64_t largest_batch(const LearnerSetup& setup, std::int64_t most);
/// For --batch-size auto: the largest power of two that fits and leaves an epoch of so many images kAutoSteps
/// steps, at most kAutoMost. Throws InputError where not even one image fits.
std::int64_t choose_batch_size(const LearnerSetup& setup, std::int64_t epoch_images);
inline constexpr std::int64_t kAutoSteps = 16, kAutoMost = 256;

/// Throws InputError naming the largest holders and what would fit, unless the plan fits.
void require_room(const MemoryPlan& plan, const LearnerSetup& setup);

/// Lets --batch-size of add_train_options() be "auto", which is 0 in TrainOptions.
void offer_auto_batch(CLI::App& command);
/// What a training begins with: chooses the batch size where it is auto, says the plan, throws InputError
/// where it does not fit. A model that cannot be walked through (a plugin whose forward pass reads values on
/// the host) is trained without a plan, with a warning.
MemoryPlan prepare_memory(LearnerSetup& setup);

/// What is said where memory runs out all the same: who holds most of it by the plan, and what to change.
std::string out_of_memory_text(const MemoryPlan& plan, const std::string& what);
/// Runs `work`; throws that as Error.
template <class Work>
auto within(const MemoryPlan& plan, Work&& work) {
  try {
    return work();
  } catch (const OutOfMemory& error) {
    throw Error(out_of_memory_text(plan, error.what()));
  } catch (const std::bad_alloc&) {
    throw Error(out_of_memory_text(plan, "the machine has no memory left"));
  }
}

/// "1.3 GiB", "45 MiB"
std::string memory_text(std::int64_t bytes);
/// One line for people.
std::string plan_text(const MemoryPlan& plan);
/// "layer1.0.conv1 196 MiB, bn1 98 MiB, ...": the largest few.
std::string holders_text(const MemoryPlan& plan);
nlohmann::json plan_json(const MemoryPlan& plan);

}  // namespace cairn::app
