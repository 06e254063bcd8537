#pragma once
#include <string>
#include <vector>

#include "apps/learner.h"

namespace cairn::app {

/// The learning-rate range test (Smith 2017, "Cyclical Learning Rates for Training Neural Networks"): the
/// rate rises exponentially from step to step until the loss explodes.
struct LrRange {
  double from = 1e-7;
  double to = 10;
  int steps = 100;
};

struct LrPoint {
  double lr = 0;
  double loss = 0;      // of the batch, before its step
  double smoothed = 0;  // exponential moving average of the losses, corrected for its start
};

struct LrSearch {
  std::vector<LrPoint> points;
  double steepest = 0;    // where the smoothed loss falls fastest over the logarithm of the rate
  double at_minimum = 0;  // where it is least
  double suggested =
      0;  // a tenth of the latter (Smith), or the steepest if that is less; 0: the loss never fell
};

/// Fills in what the points say. Sorted by rate; the losses are finite.
void judge(LrSearch& search);

/// Trains the model that `setup` describes and gives it up. Throws InputError for a range that is none.
LrSearch find_lr(const LearnerSetup& setup, const LrRange& range);

/// One self-contained page with the curve.
std::string lr_page(const LrSearch& search, const std::string& title);

}  // namespace cairn::app
