#pragma once
#include <string>
#include <vector>

#include "apps/run_dir.h"
#include "apps/trainer.h"

namespace cairn::app {

/// Writes report.html: one file that opens offline, with the curves of metrics.jsonl, the test figures with
/// their intervals, the per-class table, the confusion matrix and every option.
void write_report(const RunDir& run, const TrainResult& result, const std::vector<std::string>& classes);

}  // namespace cairn::app
