#pragma once
#include "apps/report/report_data.h"

namespace cairn::report {

/// What TensorBoard shows beside the scalars of training, in an event file of its own in the run directory:
/// the confusion matrix as a picture (rows true, columns predicted), a batch as training saw it, histograms
/// of the weights of `best` and of its confidence in right and wrong answers. An earlier file of this kind is
/// replaced.
void write_run_events(const ReportContent& content);

}  // namespace cairn::report
