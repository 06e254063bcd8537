#pragma once
#include <memory>
#include <string>
#include <vector>

#include "apps/console.h"
#include "apps/metrics.h"
#include "apps/model_card.h"
#include "apps/options.h"
#include "apps/paired_test.h"
#include "apps/prediction.h"

namespace cairn::app {

struct EvaluateOptions {
  CommonOptions common;
  ModelSource source;
  std::string data;  // empty: the run's
  std::string part;  // empty: test, or all of other data
  std::string decode = "exact";
  std::int64_t max_pixels = 128'000'000;
};

/// What a model answered on a part of a data set, and how good that is.
struct Evaluation {
  FoundModel found;
  std::unique_ptr<nn::Module> model;
  data::Dataset dataset;  // with the model's class numbers
  Predictions predictions;
  Scores scores;
  ScoreIntervals intervals;
  std::string data, part;
  std::int64_t left_out = 0;  // images that could not be read
};

/// Throws InputError for data that does not fit the model, or holds no image.
Evaluation evaluate(const EvaluateOptions& options, Device device, Console& console);
nlohmann::json evaluation_json(const Evaluation& evaluation);
/// path,label,answer,confidence: one line an image.
std::string predictions_csv(const Evaluation& evaluation);

/// Both models on the files that both were evaluated on.
struct Comparison {
  std::int64_t n = 0;
  PairedTest test;
  Scores first, second;
};
/// Throws InputError where there is no such file.
Comparison compare(const Evaluation& first, const Evaluation& second);
nlohmann::json comparison_json(const Comparison& comparison);
std::string comparison_text(const Comparison& comparison, const std::string& first,
                            const std::string& second);

/// Several runs on one data set, each image by the models that it was evaluated with: their mean logits.
/// The evaluations must be of the same data.
Predictions pooled(const std::vector<const Predictions*>& predictions);

}  // namespace cairn::app
