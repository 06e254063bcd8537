#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "apps/commands/commands.h"
#include "apps/export/sample.h"
#include "apps/options.h"
#include "apps/prediction.h"
#include "apps/run_dir.h"
#include "data/atomic_file.h"
#include "data/manifest.h"
#include "engine/autograd.h"
#include "engine/io/safetensors.h"
#include "engine/io/weights.h"
#include "kernels/error.h"

#ifdef CAIRN_HAVE_ONNX
#include "apps/export/onnx_interpreter.h"
#include "apps/export/onnx_model.h"
#endif

namespace cairn::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  ModelSource source;
  std::string format;
  std::string out;
  std::string data;
  std::int64_t images = 16;
  bool softmax = false;
};

/// What an export is checked with: the resized pixels of real images, and of the generated sample.
struct CheckImages {
  std::vector<std::uint8_t> pixels;  // [n,S,S,3]
  std::int64_t n = 0;
  std::string words;  // "16 images of the test part of photos and the sample image"
};

CheckImages check_images(const Options& o, const ModelCard& card, Console& console) {
  CheckImages check;
  const auto add = [&](const std::vector<std::uint8_t>& file, const std::string& name) {
    const std::vector<std::uint8_t> pixels = expected_input(file, card, name);
    check.pixels.insert(check.pixels.end(), pixels.begin(), pixels.end());
    ++check.n;
  };
  add(sample_png(card.image_size), "the sample image");
  check.words = "the sample image";
  std::string path = o.data;
  data::Dataset dataset;
  std::vector<std::int64_t> items;
  try {
    const bool of_run = path.empty() && !o.source.run.empty();
    if (of_run) path = RunDir::open(o.source.run).options().data;
    if (path.empty()) return check;
    dataset = data::open_dataset(path);
    if (of_run) {
      items = data::part_items(dataset, data::read_manifest(RunDir::open(o.source.run).split()),
                               data::Part::test);
    } else {
      items.resize(dataset.items.size());
      for (std::size_t i = 0; i < items.size(); ++i) items[i] = static_cast<std::int64_t>(i);
    }
    path = (of_run ? "the test part of " : "") + path;
  } catch (const InputError& error) {
    if (!o.data.empty()) throw;
    console.warn("no real images to check the export with: " + std::string(error.what()));
    return check;
  }
  const auto count = static_cast<std::int64_t>(items.size());
  const std::int64_t wanted = std::min(o.images, count);
  std::int64_t real = 0;
  for (std::int64_t i = 0; i < wanted; ++i) {
    const data::Item& item = dataset.items[items[i * count / wanted]];
    try {
      add(dataset.read_bytes(item), dataset.display_path(item));
      ++real;
    } catch (const InputError& error) {
      console.warn("left out " + std::string(error.what()));
    }
  }
  if (real > 0) check.words = std::to_string(real) + " images of " + path + " and the sample image";
  return check;
}

std::vector<float> model_logits(nn::Module& model, const CheckImages& check, const ModelCard& card,
                                Device device) {
  const NoGrad no_grad;
  return forward_images(model, check.pixels.data(), check.n, card.image_size, DType::f32, card.normalization,
                        device)
      .to_vector<float>();
}

/// What the check of a written file found, for a line and for --json.
struct Verified {
  double difference = 0;  // largest, of a logit (or probability)
  std::string words;
};

[[noreturn]] void refuse(const std::string& why) {
  throw Error("the export does not stand its own check, nothing was written: " + why);
}

// The tensors of the file, read back, are the model's bit for bit.
Verified check_safetensors(const std::string& path, const FoundModel& found, nn::Module& model, Device device,
                           const CheckImages& check) {
  FoundModel written = found;
  written.weights = path;
  const auto again = load_model(written, device);
  const auto mine = model.named_tensors(), theirs = again->named_tensors();
  for (std::size_t i = 0; i < mine.size(); ++i) {
    const std::vector<float> a = mine[i].tensor.to_vector<float>(), b = theirs[i].tensor.to_vector<float>();
    if (a.size() != b.size() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0)
      refuse("tensor " + mine[i].name + " reads back otherwise");
  }
  if (model_logits(model, check, found.card, device) != model_logits(*again, check, found.card, device))
    refuse("the weights read back give other logits");
  return {0, std::to_string(mine.size()) + " tensors read back bit for bit, and the same logits on " +
                 check.words};
}

#ifdef CAIRN_HAVE_ONNX
Verified check_onnx(const std::string& path, const Options& o, const FoundModel& found, nn::Module& model,
                    Device device, const CheckImages& check) {
  const OnnxInterpreter onnx(path, device);
  const auto classes = found.card.classes.size();
  const std::vector<float> want = model_logits(model, check, found.card, device);
  const std::int64_t side = found.card.image_size;
  const std::vector<float> got =
      onnx.run(from_values<std::uint8_t>({check.n, side, side, 3}, check.pixels, device)).to_vector<float>();
  if (got.size() != want.size()) refuse("the graph's output has another shape");
  Verified v;
  for (std::size_t i = 0; i < static_cast<std::size_t>(check.n); ++i) {
    const std::span<const float> mine(want.data() + i * classes, classes);
    const std::vector<double> p = softmax_of(mine);
    const std::vector<double> expected = o.softmax ? p : std::vector<double>(mine.begin(), mine.end());
    double largest = 1;
    for (const double e : expected) largest = std::max(largest, std::abs(e));
    for (std::size_t c = 0; c < classes; ++c) {
      const double d = std::abs(static_cast<double>(got[i * classes + c]) - expected[c]) / largest;
      if (!(d <= 1e-4)) refuse("its nodes, computed one by one, differ by " + number_text(d));
      v.difference = std::max(v.difference, d);
    }
  }
  v.words = "ONNX's checker, and " + std::to_string(onnx.nodes()) +
            " nodes computed one by one: " + (o.softmax ? "probabilities" : "logits") + " within " +
            number_text(v.difference) + " of cairn's on " + check.words;
  return v;
}
#endif

Verified write_and_check(const Options& o, const FoundModel& found, nn::Module& model, Device device,
                         const CheckImages& check, const std::string& path) {
  const io::Metadata metadata = export_metadata(model, found.card, device);
  if (o.format == "safetensors") {
    io::save_weights(model, path, metadata);
    return check_safetensors(path, found, model, device, check);
  }
#ifdef CAIRN_HAVE_ONNX
  data::write_file_atomically(path, onnx_model(model, found.card, metadata, o.softmax));
  return check_onnx(path, o, found, model, device, check);
#else
  throw InputError(
      "this build writes no ONNX: sudo apt-get install libonnx-dev libprotobuf-dev, then scripts/build");
#endif
}

int run(const Options& o) {
  Console console(o.common.quiet, o.common.json);
  if (o.softmax && o.format != "onnx") throw InputError("--softmax goes with --format onnx");
  const Device device = open_device(o.common, console);
  const FoundModel found = find_model(o.source);
  if (!found.note.empty()) console.say(found.note);
  if (std::error_code error; fs::is_directory(o.out, error))
    throw InputError(o.out + " is a folder: name the file to write");
  const auto model = load_model(found, device);
  const CheckImages check = check_images(o, found.card, console);
  // It gets its name once it has been checked.
  const std::string unchecked = o.out + ".unchecked";
  Verified verified;
  std::error_code error;
  try {
    verified = write_and_check(o, found, *model, device, check, unchecked);
  } catch (...) {
    fs::remove(unchecked, error);
    throw;
  }
  const auto bytes = fs::file_size(unchecked, error);
  fs::rename(unchecked, o.out, error);
  if (error) {
    const std::string reason = error.message();
    fs::remove(unchecked, error);
    throw Error("cannot write " + o.out + ": " + reason);
  }
  console.say("wrote " + o.out + ": " + found.card.model + ", " + std::to_string(found.card.classes.size()) +
              " classes, " + std::to_string(bytes) + " bytes");
  console.say("verified: " + verified.words);
  if (o.common.json)
    console.result(nlohmann::json({{"out", o.out},
                                   {"format", o.format},
                                   {"model", found.card.model},
                                   {"bytes", bytes},
                                   {"images", check.n},
                                   {"largest_difference", verified.difference},
                                   {"verified", verified.words}})
                       .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  return 0;
}

}  // namespace

Command add_export(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("export", "writes a model for other programs, and checks what it wrote");
  const auto o = std::make_shared<Options>();
  command->add_option("OUT", o->out, "file to write; one that is there is replaced")->required();
  command
      ->add_option("--format", o->format,
                   "onnx: a graph from the resized uint8 image to the logits; safetensors: weights under "
                   "torchvision's names")
      ->required()
      ->check(CLI::IsMember({"onnx", "safetensors"}));
  command->add_flag("--softmax", o->softmax, "with onnx: probabilities in place of logits");
  add_model_source(*command, o->source);
  command->add_option("--data", o->data, "images to check the file with (default: the run's test part)");
  command->add_option("--images", o->images, "how many of them, evenly spread")
      ->capture_default_str()
      ->check(CLI::Range(0, 10'000));
  add_common(*command, o->common);
  command->footer("Example: cairn export --run runs/first --format onnx first.onnx");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
