#include "models/registry.h"

#include <array>
#include <mutex>
#include <string>

#include "kernels/error.h"
#include "models/model_cnn.h"
#include "models/resnet.h"

namespace cairn::models {
namespace {

std::unique_ptr<nn::Module> resnet(const ModelOptions& o, const std::array<int, 4>& blocks,
                                   bool relu_on_logits) {
  nn::Initializer init(o.seed);
  return std::make_unique<ResNet>(
      init, ResNetOptions{.blocks = blocks, .classes = o.classes, .relu_on_logits = relu_on_logits});
}

std::unique_ptr<nn::Module> resnet18(const ModelOptions& o) { return resnet(o, {2, 2, 2, 2}, false); }
std::unique_ptr<nn::Module> resnet34(const ModelOptions& o) { return resnet(o, {3, 4, 6, 3}, false); }
std::unique_ptr<nn::Module> resnet_classes(const ModelOptions& o) { return resnet(o, {2, 2, 2, 2}, true); }

std::unique_ptr<nn::Module> model_cnn(const ModelOptions& o) {
  nn::Initializer init(o.seed);
  ModelCnnOptions options{.classes = o.classes, .image_size = o.image_size};
  if (o.dropout) options.block_dropout = options.head_dropout = *o.dropout;
  return std::make_unique<ModelCnn>(init, options);
}

// Chosen on validation data; docs/decisions.md has the candidates.
constexpr TrainingDefaults kResNetDefaults{.optimizer = "adamw",
                                           .lr = 1e-3,
                                           .weight_decay = 0.01,
                                           .schedule = "cosine",
                                           .warmup_epochs = 1.0,
                                           .label_smoothing = 0.1,
                                           .augment = "light",
                                           .epochs = 20};
constexpr TrainingDefaults kCnnDefaults{.optimizer = "adam",
                                        .lr = 3e-4,
                                        .weight_decay = 0.0,
                                        .schedule = "cosine",
                                        .warmup_epochs = 0.5,
                                        .label_smoothing = 0.0,
                                        .augment = "none",
                                        .epochs = 15};

constexpr ModelInfo kModels[] = {
    {"resnet18", "ResNet-18, torchvision's; the default", "fc", kResNetDefaults, &resnet18},
    {"resnet34", "ResNet-34, torchvision's", "fc", kResNetDefaults, &resnet34},
    {"resnet_classes", "ResNet-18 with a ReLU on the logits, the original classifier's", "fc",
     kResNetDefaults, &resnet_classes},
    {"model_cnn", "three convolutions and two linear layers, small and quick", "classifier.4", kCnnDefaults,
     &model_cnn},
};

// A fixed place: what all_models() answered stays valid when a plugin adds its own.
constexpr std::size_t kMaxModels = 256;
struct Registered {
  std::array<ModelInfo, kMaxModels> models;
  std::size_t count = 0;
};
Registered& registered() {
  static Registered& r = *[] {
    auto* made = new Registered;
    for (const ModelInfo& m : kModels) made->models[made->count++] = m;
    return made;
  }();
  return r;
}

}  // namespace

std::span<const ModelInfo> all_models() {
  const Registered& r = registered();
  return {r.models.data(), r.count};
}

void register_model(const ModelInfo& info) {
  static std::mutex mutex;  // plugins may be loaded from any thread
  const std::lock_guard lock(mutex);
  const std::string name(info.name);
  if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos)
    throw InputError("a model cannot be called '" + name + "': use a-z, 0-9 and _");
  for (const ModelInfo& m : all_models())
    if (m.name == info.name) throw InputError("there is a model '" + name + "' already: choose another name");
  Registered& r = registered();
  if (r.count == kMaxModels) throw InputError("no room for the model '" + name + "': 256 are registered");
  r.models[r.count++] = info;
}

const TrainingDefaults& resnet_defaults() { return kResNetDefaults; }

const ModelInfo& model_info(std::string_view name) {
  std::string names;
  for (const ModelInfo& m : all_models()) {
    if (m.name == name) return m;
    names += (names.empty() ? "" : ", ") + std::string(m.name);
  }
  throw InputError("unknown model '" + std::string(name) + "'; there are " + names +
                   " (one of your own comes with --plugin)");
}

std::unique_ptr<nn::Module> make_model(std::string_view name, const ModelOptions& options) {
  const ModelInfo& info = model_info(name);
  const auto require = [&](bool ok, const std::string& message) {
    if (!ok) throw InputError(std::string(name) + ": " + message);
  };
  require(options.classes >= 1 && options.classes <= 1'000'000,
          std::to_string(options.classes) + " classes, expected 1 to 1000000");
  require(options.image_size >= 1 && options.image_size <= 4096,
          "image size " + std::to_string(options.image_size) + ", expected 1 to 4096");
  require(!options.dropout || (*options.dropout >= 0 && *options.dropout < 1),
          "dropout " + std::to_string(options.dropout.value_or(0)) + ", expected 0 <= p < 1");
  auto model = info.make(options);
  model->set_random_state({.seed = options.seed, .step = {}});
  return model;
}

}  // namespace cairn::models
