#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

namespace cairn::app {

/// An estimate and its 95 % interval.
struct Interval {
  double low = 0;
  double high = 0;
};

struct ClassScores {
  double precision = 0;  // 0 where nothing was predicted as this class, as scikit-learn has it
  double recall = 0;     // 0 where no image is of this class
  double f1 = 0;
  std::int64_t support = 0;  // images that are of this class
};

/// What a classifier got right on n images, as scikit-learn defines it.
struct Scores {
  std::int64_t n = 0;
  double accuracy = 0;
  double balanced_accuracy = 0;  // mean recall of the classes that occur among the labels
  double macro_f1 = 0;           // mean F1 of the classes that occur among labels or predictions
  double majority_accuracy = 0;  // of always answering the most frequent label
  std::vector<ClassScores> classes;
  std::vector<std::int64_t> confusion;  // [classes, classes], rows true, columns predicted
};

struct ScoreIntervals {
  Interval accuracy;  // Wilson's
  Interval balanced_accuracy;
  Interval macro_f1;
};

/// labels, predictions: [n] in [0, classes). Throws Error for lengths or values that do not fit.
Scores score(std::span<const std::int32_t> labels, std::span<const std::int32_t> predictions, int classes);

/// Wilson's score interval for k of n at 95 % (Wilson 1927); [0, 1] for n = 0.
Interval wilson_interval(std::int64_t k, std::int64_t n);

/// Wilson for accuracy; for the others the 2.5 and 97.5 percentiles over `resamples` resamplings of the
/// images with replacement (Efron 1979), drawn from Philox, so that the same input gives the same interval.
ScoreIntervals score_intervals(std::span<const std::int32_t> labels,
                               std::span<const std::int32_t> predictions, int classes, std::uint64_t seed = 0,
                               int resamples = 1000);

/// accuracy, balanced_accuracy, macro_f1, n: what `train` says of a part.
nlohmann::json summary_json(const Scores& scores);
/// Everything, for `evaluate --json`.
nlohmann::json scores_json(const Scores& scores, const ScoreIntervals& intervals,
                           const std::vector<std::string>& class_names);
/// For people: headline figures with intervals, the per-class table, the confusion matrix.
std::string scores_text(const Scores& scores, const ScoreIntervals& intervals,
                        const std::vector<std::string>& class_names);

}  // namespace cairn::app
