#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/nn/module.h"

namespace cairn::models {

struct ModelOptions {
  std::int64_t classes = 0;
  int image_size = 224;               // input is [N,image_size,image_size,3]
  std::uint64_t seed = 0;             // of the first weights
  std::optional<float> dropout = {};  // in place of the model's own rates
};

/// How a model is trained where the user does not say: chosen on validation data, see docs/decisions.md.
struct TrainingDefaults {
  std::string_view optimizer;  // as --optimizer
  double lr;
  double weight_decay;
  std::string_view schedule;  // as --schedule
  double warmup_epochs;
  double label_smoothing;
  std::string_view augment;  // as --augment
  int epochs;
};

struct ModelInfo {
  std::string_view name;     // as --model
  std::string_view summary;  // one line for --help
  std::string_view head;     // name of the last layer: "fc"; its size follows the classes
  TrainingDefaults defaults;
  std::unique_ptr<nn::Module> (*make)(const ModelOptions&);
};

/// Every model, the default one first; registered ones behind, by order of registration.
std::span<const ModelInfo> all_models();
/// Adds a model from outside (models/plugin.h). The texts must live as long as the process. Throws InputError
/// for a name that is taken or is not of a-z, 0-9 and _.
void register_model(const ModelInfo& info);
/// What ResNets are trained with; a good start for a model of one's own.
const TrainingDefaults& resnet_defaults();
/// Throws InputError naming the models that there are.
const ModelInfo& model_info(std::string_view name);

/// Builds a model on the CPU in training mode: first weights from options.seed, dropout keyed by it too (call
/// set_random_state() with a step counter before training). Throws InputError for options that make no sense.
std::unique_ptr<nn::Module> make_model(std::string_view name, const ModelOptions& options);

}  // namespace cairn::models
