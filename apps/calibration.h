#pragma once
#include <cstdint>
#include <vector>

#include "apps/prediction.h"

namespace cairn::app {

/// Images whose highest confidence lies in one tenth of [0, 1].
struct ReliabilityBin {
  std::int64_t n = 0;
  double confidence = 0;  // mean; 0 where n is
  double accuracy = 0;
};

/// How far confidences can be trusted.
struct Calibration {
  std::vector<ReliabilityBin> bins;  // kCalibrationBins, equally wide
  double ece = 0;   // expected calibration error: sum of n/N |accuracy - confidence| (Guo et al. 2017, eq. 3)
  double loss = 0;  // mean of -log of the label's probability
};

inline constexpr int kCalibrationBins = 10;  // the 15 of Guo et al. leave bins of few images on small sets

/// With logits divided by `temperature`. Labels must be known.
Calibration calibration_of(const Predictions& predictions, double temperature);

/// The temperature (Guo et al. 2017, section 4.2) that makes the mean of -log p(label) smallest, within
/// kLowestTemperature and kHighestTemperature. 1 where there is nothing to learn it from: no images, or none
/// answered wrongly, where the best temperature would be 0 and every confidence 1.
double fit_temperature(const Predictions& predictions);

inline constexpr double kLowestTemperature = 0.1, kHighestTemperature = 20;

}  // namespace cairn::app
