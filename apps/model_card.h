#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/resize.h"
#include "engine/io/weights.h"
#include "engine/ops.h"
#include "models/registry.h"

namespace cairn::app {

/// What a file of weights needs beside it to be used: which model, which classes, what images look like.
struct ModelCard {
  std::string model;
  std::vector<std::string> classes;
  std::int64_t image_size = 224;
  std::string resize = "stretch";
  Normalization normalization;
  /// By which logits are divided before softmax, so that confidences can be trusted: fitted on the validation
  /// part once the run is done, kept in best.safetensors' metadata alone.
  double temperature = 1;
};

/// As text to text, for a safetensors file's __metadata__, and back. Where the file says nothing of a field
/// the card keeps its value; a field that cannot be read throws InputError naming `path`.
io::Metadata card_metadata(const ModelCard& card);
void read_card(const io::Metadata& metadata, const std::string& path, ModelCard& card);

data::ResizeMode parse_resize(const std::string& name);  // throws InputError
/// ImageNet's, which torchvision's and timm's weights expect.
Normalization imagenet_normalization();
/// One value for all channels or three; throws InputError for another number of them, or an std of 0 or less.
Normalization make_normalization(const std::vector<double>& mean, const std::vector<double>& std);

/// The card that stands for --run RUN, or for --weights FILE with what the file does not say of itself; and
/// where the weights are.
struct ModelSource {
  std::vector<std::string> plugin;
  std::string run;
  std::string weights;
  std::string model;
  std::string classes;  // a text file, one name a line
  std::optional<std::int64_t> image_size;
  std::vector<double> mean, std;  // one value, or one a channel
};
struct FoundModel {
  ModelCard card;
  std::string weights;
  std::string note;  // for the person: what had to be assumed; may be empty
};
void add_model_source(CLI::App& command, ModelSource& source);
/// Throws InputError saying which option is missing.
FoundModel find_model(const ModelSource& source);

/// The model with its weights on the device, in evaluation mode.
std::unique_ptr<nn::Module> load_model(const FoundModel& found, Device device);

}  // namespace cairn::app
