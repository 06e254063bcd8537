#include "apps/nonfinite.h"

#include <cmath>
#include <cstdio>
#include <utility>

#include "kernels/error.h"

namespace cairn::app {
namespace {

constexpr int kInARow = 3;
constexpr double kNear = 0.005;

std::string three_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", value);
  return text;
}

}  // namespace

OnNonfinite parse_on_nonfinite(std::string_view name) {
  if (name == "stop") return OnNonfinite::stop;
  if (name == "skip") return OnNonfinite::skip;
  if (name == "rewind") return OnNonfinite::rewind;
  throw InputError("--on-nonfinite is '" + std::string(name) + "'; there are stop, skip, rewind");
}

Nonfinite locate_nonfinite(const LearnerSetup& setup, TrainStep& step, Place place) {
  try {
    LearnerSetup again = setup;
    again.options.cache_file.clear();  // the run's own loader has it open
    const auto loader = make_loader(again, data::Part::train, true);
    loader->start_epoch(place.epoch, place.batch);
    data::Batch batch;
    if (!loader->next(batch)) throw Error("the batch is not there");
    return step.find_nonfinite(batch);
  } catch (const Error& error) {
    return {"a place that could not be found (" + std::string(error.what()) + ")", false};
  }
}

std::string describe_nonfinite(std::int64_t step, Place place, const kernels::StepReport& report,
                               const Nonfinite& found) {
  std::string text = "step " + std::to_string(step) + " (epoch " + std::to_string(place.epoch + 1) +
                     ", batch " + std::to_string(place.batch + 1) + "): ";
  if (std::isfinite(report.loss))
    text += "the loss is " + three_digits(static_cast<double>(report.loss)) +
            ", but its gradients are not finite";
  else
    text += std::isnan(report.loss) ? "the loss is no number" : "the loss is infinite";
  return text + ", first in " + found.where;
}

std::string nonfinite_advice(const TrainOptions& options, bool fp16) {
  return "--lr " + number_text(*options.lr / 10) + (options.clip_norm > 0 ? "" : " or --clip-norm 1") +
         (fp16 ? " or --precision bf16" : "");
}

GuessingWatch::GuessingWatch(std::size_t classes)
    : guessing_(std::log(static_cast<double>(classes))), classes_(classes) {}

bool GuessingWatch::add(double loss) {
  sum_ += loss;
  if (++steps_ < kSteps) return false;
  long_epoch_ = true;
  return judge(sum_ / static_cast<double>(steps_));
}

bool GuessingWatch::end_epoch(double mean_loss) {
  if (std::exchange(long_epoch_, false)) return false;
  return judge(mean_loss);
}

bool GuessingWatch::judge(double mean_loss) {
  sum_ = 0;
  steps_ = 0;
  const bool near = classes_ > 1 && std::abs(mean_loss - guessing_) <= kNear * guessing_;
  in_a_row_ = near ? in_a_row_ + 1 : 0;
  return in_a_row_ == kInARow;
}

std::string GuessingWatch::warning() const {
  return "the loss stands at " + three_digits(guessing_) + ", ln(" + std::to_string(classes_) +
         "), which guessing among the classes gives: nothing is being learned; look at the images and their "
         "labels (cairn inspect), try another --lr (cairn find-lr) or leave out --freeze";
}

}  // namespace cairn::app
