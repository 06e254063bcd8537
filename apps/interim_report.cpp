#include "apps/interim_report.h"

#include "kernels/error.h"

namespace cairn::app {

void InterimReport::update(const Predictions& validation, report::TrainingPlace place) {
  constexpr std::chrono::seconds kInterval{10};
  if (last_ && Clock::now() - *last_ < kInterval) return;
  try {
    write_interim_report(unfinished_, validation, place);
    failed_ = false;
  } catch (const Error& error) {
    if (!failed_) console_.warn(std::string(error.what()) + "; training goes on without the report");
    failed_ = true;
  }
  last_ = Clock::now();
}

}  // namespace cairn::app
