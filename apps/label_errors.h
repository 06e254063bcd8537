#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "apps/prediction.h"

namespace cairn::app {

/// An image as a candidate for a wrong label.
struct LabelSuspect {
  std::size_t index = 0;       // into the predictions
  std::int32_t suggested = 0;  // the class that the model would give it
  double confidence = 0;       // in the label it has
  double margin = 0;           // of that over the most likely other class: -1 to 1, low is suspect
  bool likely = false;         // counted as an error by confident learning
};

/// Every image, the most suspect first: by margin (Northcutt et al. 2021, "normalized margin"), those first
/// that confident learning counts as errors: where some other class is at least as probable as it is on
/// average for the images labelled with it. The predictions must come from models that have not been trained
/// on these images.
std::vector<LabelSuspect> rank_label_suspects(const Predictions& predictions);

/// The text of label_errors.csv: path, label, suggested, confidence, margin, likely; most suspect first.
std::string label_suspects_csv(const std::vector<LabelSuspect>& suspects, const Predictions& predictions,
                               const data::Dataset& dataset);

}  // namespace cairn::app
