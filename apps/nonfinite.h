#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "apps/learner.h"
#include "engine/find_nonfinite.h"
#include "kernels/step_guard.h"

namespace cairn::app {

/// --on-nonfinite: what to do about a step that could not be taken.
enum class OnNonfinite : std::uint8_t { stop, skip, rewind };
OnNonfinite parse_on_nonfinite(std::string_view name);

/// So many batches in a row cannot be skipped, nor can a run be rewound so often (the rate is 1/1024 by
/// then): what fails that often is not the batch.
inline constexpr int kMostSkippedInARow = 20, kMostRewinds = 10;

/// Where in the training data a step stands: both counted from 0.
struct Place {
  std::int64_t epoch = 0, batch = 0;
};

/// Loads the batch of that place once more and looks where in its step the first value is that is no number
/// (TrainStep::find_nonfinite); `where` is empty where it shows none. Where even that fails, `where` says so.
Nonfinite locate_nonfinite(const LearnerSetup& setup, TrainStep& step, Place place);

/// "step 57 (epoch 2, batch 9): the loss is nan, first in layer2.0.conv1, forward"
std::string describe_nonfinite(std::int64_t step, Place place, const kernels::StepReport& report,
                               const Nonfinite& found);
/// What may help: "--lr 0.0001, --clip-norm 1 ...".
std::string nonfinite_advice(const TrainOptions& options, bool fp16);

/// Notices a loss that stands where guessing puts it: ln(classes).
class GuessingWatch {
 public:
  explicit GuessingWatch(std::size_t classes);
  /// A step's loss; and the mean of an epoch's, at its end. True when it has stood there, within 0.5 %, for
  /// three epochs, or in long epochs for three times kSteps steps.
  bool add(double loss);
  bool end_epoch(double mean_loss);
  std::string warning() const;
  static constexpr std::int64_t kSteps = 500;

 private:
  bool judge(double mean_loss);
  double guessing_;
  std::size_t classes_;
  double sum_ = 0;  // of the steps since the last judgement
  std::int64_t steps_ = 0;
  bool long_epoch_ = false;
  int in_a_row_ = 0;
};

}  // namespace cairn::app
