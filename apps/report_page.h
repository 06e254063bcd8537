#pragma once
#include <string>

#include "apps/console.h"
#include "apps/prediction.h"
#include "apps/report/report_data.h"
#include "apps/run_dir.h"

namespace cairn::app {

/// One self-contained HTML file that opens offline: data, styles, scripts and Chart.js are in it.
std::string report_page(const report::ReportContent& content);

/// A finished run and its data, with the run's class numbers.
struct FinishedRun {
  const RunDir& run;
  const data::Dataset& dataset;
  const data::Manifest& manifest;
  Device device;
  int workers = 0;
  const Predictions* test = nullptr;  // of `best` on the test part, where they are known already
  bool calibrate = true;              // fit the temperature; else the weights keep what they have
};

/// From `best` of the run and its validation and test part: may fit the temperature and keep it in
/// best.safetensors, writes report.html, label_errors.csv and what TensorBoard shows beside the scalars.
void write_report(const FinishedRun& finished, Console& console);

/// What the page of a training that goes on shows.
struct UnfinishedRun {
  const RunDir& run;
  const data::Dataset& dataset;
  const data::Manifest& manifest;
  const ModelCard& card;
};
/// Writes report.html as far as it goes: curves, the figures of the best epoch so far on the validation part
/// (empty: none), the data set and the options.
void write_interim_report(const UnfinishedRun& unfinished, const Predictions& validation,
                          report::TrainingPlace place);

/// Writes label_errors.csv.
void write_suspects(const std::string& path, const Predictions& held_out, const data::Dataset& dataset);

}  // namespace cairn::app
