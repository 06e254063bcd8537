#include "apps/calibration.h"

#include <algorithm>
#include <cmath>

namespace cairn::app {

Calibration calibration_of(const Predictions& predictions, double temperature) {
  Calibration c;
  c.bins.resize(kCalibrationBins);
  const auto n = static_cast<double>(predictions.size());
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    const std::vector<double> p = softmax_of(predictions.logits_of(i), temperature);
    const std::int32_t answer = predictions.answer(i);
    const double confidence = p[answer];
    const int bin = std::min(kCalibrationBins - 1, static_cast<int>(confidence * kCalibrationBins));
    ++c.bins[bin].n;
    c.bins[bin].confidence += confidence;
    c.bins[bin].accuracy += answer == predictions.labels[i] ? 1 : 0;
    c.loss -= std::log(std::max(p[predictions.labels[i]], 1e-300)) / n;
  }
  for (ReliabilityBin& bin : c.bins) {
    if (bin.n == 0) continue;
    bin.confidence /= static_cast<double>(bin.n);
    bin.accuracy /= static_cast<double>(bin.n);
    c.ece += static_cast<double>(bin.n) / n * std::abs(bin.accuracy - bin.confidence);
  }
  return c;
}

double fit_temperature(const Predictions& predictions) {
  bool any_wrong = false;
  for (std::size_t i = 0; i < predictions.size() && !any_wrong; ++i)
    any_wrong = predictions.answer(i) != predictions.labels[i];
  if (!any_wrong) return 1;
  // The loss is convex in b = 1/T, with d/db = mean(E_p[logit] - logit of the label): bisection finds its
  // zero.
  const auto slope = [&](double temperature) {
    double sum = 0;
    for (std::size_t i = 0; i < predictions.size(); ++i) {
      const std::span<const float> logits = predictions.logits_of(i);
      const std::vector<double> p = softmax_of(logits, temperature);
      for (std::size_t c = 0; c < p.size(); ++c) sum += p[c] * static_cast<double>(logits[c]);
      sum -= static_cast<double>(logits[predictions.labels[i]]);
    }
    return sum;
  };
  double low = 1 / kHighestTemperature, high = 1 / kLowestTemperature;
  constexpr int kHalvings = 50;  // of the logarithm of b: to the last digits of a double
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = std::sqrt(low * high);
    (slope(1 / middle) < 0 ? low : high) = middle;
  }
  return 1 / std::sqrt(low * high);
}

}  // namespace cairn::app
