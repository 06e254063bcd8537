#include "apps/model_card.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/console.h"
#include "apps/plugins.h"
#include "apps/run_dir.h"
#include "engine/io/safetensors.h"
#include "engine/nn/init.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

std::vector<std::string> read_class_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw InputError("cannot read the class names in " + path);
  std::vector<std::string> names;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  if (names.empty()) throw InputError(path + " holds no class names: one a line is expected");
  return names;
}

bool is_safetensors(const std::string& path) {
  return std::filesystem::path(path).extension() == ".safetensors";
}

}  // namespace

data::ResizeMode parse_resize(const std::string& name) {
  if (name == "stretch") return data::ResizeMode::stretch;
  if (name == "crop") return data::ResizeMode::crop;
  if (name == "pad") return data::ResizeMode::pad;
  throw InputError("unknown way to resize '" + name + "'; there are stretch, crop, pad");
}

Normalization imagenet_normalization() { return {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}}; }

Normalization make_normalization(const std::vector<double>& mean, const std::vector<double>& std) {
  for (const std::vector<double>* v : {&mean, &std})
    if (v->size() != 1 && v->size() != 3)
      throw InputError("--mean and --std take one value, or three: red, green, blue");
  Normalization n;
  for (std::size_t c = 0; c < 3; ++c) {
    n.mean[c] = static_cast<float>(mean[mean.size() == 1 ? 0 : c]);
    n.std[c] = static_cast<float>(std[std.size() == 1 ? 0 : c]);
    if (!(n.std[c] > 0)) throw InputError("--std is " + std::to_string(n.std[c]) + ", expected more than 0");
  }
  return n;
}

io::Metadata card_metadata(const ModelCard& card) {
  const auto three = [](const float(&v)[3]) { return nlohmann::json(v).dump(); };
  io::Metadata metadata = {{"format", "pt"},
                           {"model", card.model},
                           {"classes", nlohmann::json(card.classes).dump()},
                           {"image_size", std::to_string(card.image_size)},
                           {"resize", card.resize},
                           {"mean", three(card.normalization.mean)},
                           {"std", three(card.normalization.std)}};
  if (card.temperature != 1) metadata["temperature"] = nlohmann::json(card.temperature).dump();
  return metadata;
}

void read_card(const io::Metadata& metadata, const std::string& path, ModelCard& card) {
  const auto field = [&](const char* name, auto&& read) {
    const auto found = metadata.find(name);
    if (found == metadata.end()) return;
    try {
      read(found->second);
    } catch (const std::exception&) {
      throw InputError(path + ": '" + name +
                       "' in its metadata cannot be read: " + one_line(found->second.substr(0, 80)));
    }
  };
  const auto three = [](const std::string& text, float(&to)[3]) {
    const auto values = nlohmann::json::parse(text).get<std::vector<float>>();
    for (std::size_t c = 0; c < 3; ++c) to[c] = values.at(c);
  };
  field("model", [&](const std::string& text) { card.model = text; });
  field("classes", [&](const std::string& text) {
    card.classes = nlohmann::json::parse(text).get<std::vector<std::string>>();
  });
  field("image_size", [&](const std::string& text) { card.image_size = std::stoll(text); });
  field("resize", [&](const std::string& text) {
    parse_resize(text);
    card.resize = text;
  });
  field("mean", [&](const std::string& text) { three(text, card.normalization.mean); });
  field("std", [&](const std::string& text) {
    three(text, card.normalization.std);
    for (const float s : card.normalization.std)
      if (!(s > 0)) throw Error("not more than 0");
  });
  field("temperature", [&](const std::string& text) {
    card.temperature = nlohmann::json::parse(text).get<double>();
    if (!(card.temperature > 0 && card.temperature < 1e6)) throw Error("not more than 0");
  });
}

void add_model_source(CLI::App& command, ModelSource& source) {
  command
      .add_option("--plugin", source.plugin,
                  "shared object that holds the model; in place of the one that a run remembers")
      ->allow_extra_args(false);
  command.add_option("--run", source.run, "run directory, as `cairn train` made it");
  command.add_option("--weights", source.weights, "in place of --run: .safetensors, or PyTorch's .pth");
  command.add_option("--model", source.model, "with --weights: which model it is");
  command.add_option("--classes", source.classes, "with --weights: file of class names, one a line");
  command
      .add_option("--image-size", source.image_size, "with --weights: side of the images it was trained on")
      ->check(CLI::Range(1, 4096));
  command
      .add_option("--mean", source.mean,
                  "with --weights: what it subtracts from each channel (0 to 1); default: as the file's "
                  "metadata say, else ImageNet's")
      ->expected(1, 3)
      ->delimiter(',');
  command
      .add_option("--std", source.std, "with --weights: what it divides each channel by; default as --mean")
      ->expected(1, 3)
      ->delimiter(',');
}

FoundModel find_model(const ModelSource& source) {
  if (source.run.empty() == source.weights.empty())
    throw InputError("give either --run RUN, or --weights FILE with --model M (and --classes FILE)");
  FoundModel found;
  if (!source.run.empty()) {
    if (!source.model.empty() || !source.classes.empty() || source.image_size || !source.mean.empty() ||
        !source.std.empty())
      throw InputError(
          "--model, --classes, --image-size, --mean and --std go with --weights: a run knows its own");
    const RunDir run = RunDir::open(source.run);
    if (source.plugin.empty()) load_plugins(run.options().plugin);
    found.weights = run.best_weights();
    found.card = run.card();
    const io::Metadata metadata = io::open_safetensors(found.weights).metadata;
    if (const auto t = metadata.find("temperature"); t != metadata.end())
      read_card({*t}, found.weights, found.card);
    return found;
  }
  found.weights = source.weights;
  bool described = false;
  if (is_safetensors(source.weights)) {
    const io::Metadata metadata = io::open_safetensors(source.weights).metadata;
    described = metadata.contains("mean");
    read_card(metadata, source.weights, found.card);
  }
  if (!source.model.empty()) found.card.model = source.model;
  if (found.card.model.empty())
    throw InputError(source.weights + " does not say which model it is: give --model");
  if (!source.classes.empty()) found.card.classes = read_class_file(source.classes);
  if (found.card.classes.empty())
    throw InputError(source.weights +
                     " does not say which classes it knows: give --classes FILE, one name a line");
  if (source.image_size) found.card.image_size = *source.image_size;
  if (source.mean.empty() != source.std.empty()) throw InputError("--mean and --std go together");
  if (!source.mean.empty()) {
    found.card.normalization = make_normalization(source.mean, source.std);
  } else if (!described) {
    found.card.normalization = imagenet_normalization();
    found.note = source.weights +
                 " does not say how its images were normalised: ImageNet's mean and std are taken, as for "
                 "torchvision's weights (--mean and --std say otherwise)";
  }
  return found;
}

std::unique_ptr<nn::Module> load_model(const FoundModel& found, Device device) {
  const models::ModelOptions options{.classes = static_cast<std::int64_t>(found.card.classes.size()),
                                     .image_size = static_cast<int>(found.card.image_size),
                                     .dropout = {}};
  std::unique_ptr<nn::Module> model = [&] {
    const nn::SkipInit skip;  // every parameter is in the file, or loading fails
    return models::make_model(found.card.model, options);
  }();
  io::load_weights(*model, found.weights);
  model->to(device);
  model->eval();
  return model;
}

}  // namespace cairn::app
