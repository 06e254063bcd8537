#pragma once
#include <chrono>
#include <optional>

#include "apps/report_page.h"

namespace cairn::app {

/// The report of a training that goes on, for somebody who looks at it meanwhile.
class InterimReport {
 public:
  InterimReport(const UnfinishedRun& unfinished, Console& console)
      : unfinished_(unfinished), console_(console) {}
  /// Writes it again, but no more often than every ten seconds: an epoch may be shorter than the writing.
  /// Where it cannot be written, that is one warning, and training goes on.
  void update(const Predictions& validation, report::TrainingPlace place);

 private:
  using Clock = std::chrono::steady_clock;
  UnfinishedRun unfinished_;
  Console& console_;
  std::optional<Clock::time_point> last_;
  bool failed_ = false;
};

}  // namespace cairn::app
