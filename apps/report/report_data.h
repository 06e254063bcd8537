#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/metrics.h"
#include "apps/model_card.h"
#include "apps/prediction.h"
#include "apps/run_dir.h"
#include "data/manifest.h"

namespace cairn::report {

/// Where a training is that goes on.
struct TrainingPlace {
  std::int64_t epoch = 0;  // the last one that is done, counted from 1
  std::int64_t epochs = 0;
};

/// What a report is made of; null and empty parts are left out of the page.
struct ReportContent {
  std::string title;
  std::string judged_name;  // of what the figures are: "the test part"
  const data::Dataset* dataset = nullptr;
  data::DecodeOptions decode{};
  int workers = 0;
  const app::Predictions* judged = nullptr;  // what the figures are of
  const app::Predictions* held_out =
      nullptr;  // every image that the model was not trained on: for label errors
  const app::Predictions* validation = nullptr;  // for the reliability diagram before and after scaling
  app::ModelCard card{};
  nn::Module* model = nullptr;  // for class-activation maps
  Device device{};
  const app::RunDir* run = nullptr;          // curves, options
  const data::Manifest* manifest = nullptr;  // parts, leak check
  std::optional<TrainingPlace> training{};   // a page written meanwhile: figures, without pictures
};

/// Everything that the page shows, as the page's script reads it (apps/assets/report.js). Images are
/// thumbnails as data: addresses, each once, kMostThumbnails at the most.
nlohmann::json report_json(const ReportContent& content);

inline constexpr std::size_t kMostThumbnails = 400;  // some 5 KB each: a page of 2 MB

/// `epoch` objects of metrics.jsonl, as columns.
nlohmann::json curves_json(const app::RunDir& run);
/// The command that repeats a run: what was not at its default.
std::string repeat_command(const app::RunDir& run);

}  // namespace cairn::report
