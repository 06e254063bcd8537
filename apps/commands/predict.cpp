#include <algorithm>
#include <cstdio>
#include <iostream>
#include <numeric>

#include "apps/commands/commands.h"
#include "apps/options.h"
#include "apps/precision.h"
#include "apps/predict_page.h"
#include "apps/prediction.h"
#include "apps/progress.h"
#include "data/atomic_file.h"
#include "data/csv.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

struct Options {
  CommonOptions common;
  ModelSource source;
  std::vector<std::string> paths;
  bool csv = false;
  bool logits = false;
  std::size_t top = 3;
  double unsure = 0;
  std::string tta = "none";
  std::string html;
  std::string decode = "exact";
  std::string precision = "fp32";
  std::int64_t max_pixels = 128'000'000;
};

// One image's answer: the best classes and how sure the model is of each.
struct Answer {
  std::string path;
  std::vector<std::int32_t> top;
  std::vector<double> probabilities;  // of all classes
  bool unsure = false;
};

void print_json(const Answer& a, const Options& o, const std::vector<std::string>& classes,
                std::span<const float> logits, Console& console) {
  nlohmann::json top = nlohmann::json::array();
  for (const std::int32_t c : a.top)
    top.push_back({{"class", classes[c]}, {"confidence", a.probabilities[c]}});
  nlohmann::json json = {{"path", a.path},
                         {"class", classes[a.top[0]]},
                         {"confidence", a.probabilities[a.top[0]]},
                         {"top", top}};
  if (o.unsure > 0) json["unsure"] = a.unsure;
  if (o.logits) json["logits"] = std::vector<float>(logits.begin(), logits.end());
  // A path need not be UTF-8.
  console.result(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string confidence_text(double p) {
  char text[16];
  std::snprintf(text, sizeof text, "%.4f", p);
  return text;
}

void print_csv(const Answer& a, const Options& o, const std::vector<std::string>& classes,
               std::span<const float> logits, Console& console) {
  std::string line;
  data::append_csv_field(line, a.path);
  for (std::size_t k = 0; k < std::min(o.top, classes.size()); ++k) {
    line += ',';
    data::append_csv_field(line, classes[a.top[k]]);
    line += ',' + confidence_text(a.probabilities[a.top[k]]);
  }
  if (o.logits)
    for (const float v : logits) {
      char text[32];
      std::snprintf(text, sizeof text, ",%.9g", static_cast<double>(v));
      line += text;
    }
  if (o.unsure > 0) line += a.unsure ? ",1" : ",0";
  console.result(line);
}

std::string csv_header(const Options& o, const std::vector<std::string>& classes) {
  std::string line = "path,class,confidence";
  for (std::size_t k = 2; k <= std::min(o.top, classes.size()); ++k)
    line += ",class_" + std::to_string(k) + ",confidence_" + std::to_string(k);
  if (o.logits)
    for (const std::string& name : classes) {
      line += ',';
      data::append_csv_field(line, "logit_" + name);
    }
  return o.unsure > 0 ? line + ",unsure" : line;
}

void print_row(const Answer& a, const std::vector<std::string>& classes, std::size_t width,
               Console& console) {
  std::string line = one_line(a.path) + std::string(width - std::min(width, a.path.size()), ' ');
  for (const std::int32_t c : a.top) {
    char text[16];
    std::snprintf(text, sizeof text, " %5.1f %%", 100 * a.probabilities[c]);
    line += "  " + classes[c] + text;
  }
  console.result(line + (a.unsure ? "  unsure" : ""));
}

// The paths to look at: those given, and for "-" the lines of standard input.
std::vector<std::string> all_paths(const std::vector<std::string>& given) {
  std::vector<std::string> paths;
  for (const std::string& path : given) {
    if (path != "-") {
      paths.push_back(path);
      continue;
    }
    for (std::string line; std::getline(std::cin, line);) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (!line.empty()) paths.push_back(line);
    }
  }
  return paths;
}

void write_page(const Options& o, const FoundModel& found, const data::Dataset& dataset, const Predictions& p,
                Console& console) {
  PredictPage page{.title = "What " + found.card.model + " answers",
                   .dataset = dataset,
                   .predictions = p,
                   .classes = found.card.classes,
                   .temperature = found.card.temperature,
                   .unsure_below = o.unsure,
                   .decode = {},
                   .workers = o.common.workers};
  page.decode.max_pixels = o.max_pixels;
  data::write_file_atomically(o.html, predict_page(page));
  console.say("wrote " + o.html);
}

int run(const Options& o) {
  Console console(o.common.quiet, o.common.json || o.csv);
  if (o.common.json && o.csv) throw InputError("--json and --csv are two forms of one result: choose one");
  const Device device = open_device(o.common, console);
  const FoundModel found = find_model(o.source);
  if (!found.note.empty()) console.say(found.note);
  const std::vector<std::string>& classes = found.card.classes;
  const data::Dataset dataset = data::open_files(all_paths(o.paths));
  for (const std::string& warning : dataset.warnings) console.warn(warning);
  if (dataset.items.empty()) throw InputError("no images there: name image files, or folders that hold some");
  const auto model = load_model(found, device);

  PredictOptions options;
  options.decode.mode = o.decode == "fast" ? data::DecodeMode::fast : data::DecodeMode::exact;
  options.decode.max_pixels = o.max_pixels;
  options.workers = o.common.workers;
  options.precision = precision_dtype(o.precision, device);
  options.mirrored_too = o.tta == "flip";
  Progress progress("predicting", static_cast<std::int64_t>(dataset.items.size()), console.quiet());
  options.progress = [&](std::int64_t done) { progress.update(done); };
  std::vector<std::int64_t> items(dataset.items.size());
  std::iota(items.begin(), items.end(), 0);
  const TolerantPredictions predicted = predict_items(*model, dataset, items, found.card, device, options);
  progress.finish();

  const Predictions& p = predicted.predictions;
  std::size_t width = 0;
  for (const std::int64_t item : p.items)
    width = std::max(width, dataset.display_path(dataset.items[item]).size());
  if (o.csv) console.result(csv_header(o, classes));
  std::size_t unsure = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    Answer a{.path = dataset.display_path(dataset.items[p.items[i]]),
             .top = top_classes(p.logits_of(i), o.top),
             .probabilities = softmax_of(p.logits_of(i), found.card.temperature)};
    a.unsure = a.probabilities[a.top[0]] < o.unsure;
    if (a.unsure) ++unsure;
    if (o.common.json)
      print_json(a, o, classes, p.logits_of(i), console);
    else if (o.csv)
      print_csv(a, o, classes, p.logits_of(i), console);
    else
      print_row(a, classes, width, console);
  }
  for (const std::string& file : predicted.left_out) console.warn("left out " + file);
  if (p.size() == 0) throw InputError("none of the images could be read");
  if (o.unsure > 0)
    console.say(std::to_string(unsure) + " of " + std::to_string(p.size()) +
                " answers are less sure than --unsure " + number_text(o.unsure));
  if (!o.html.empty()) write_page(o, found, dataset, p, console);
  if (!predicted.left_out.empty())
    console.warn(std::to_string(predicted.left_out.size()) + " of " + std::to_string(items.size()) +
                 " images could not be read and were left out");
  return 0;
}

}  // namespace

Command add_predict(CLI::App& app) {
  CLI::App* command = app.add_subcommand("predict", "says what is on images");
  const auto o = std::make_shared<Options>();
  command
      ->add_option("PATH", o->paths,
                   "image files, or folders that are searched through; -: a list of them on standard input")
      ->required();
  add_model_source(*command, o->source);
  command->add_option("--top", o->top, "classes to name for each image")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
  command->add_option("--unsure", o->unsure, "mark answers of a lower confidence than this, 0 to 1; 0: none")
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--html", o->html,
                      "write a page of thumbnails with their answers, the least sure first");
  command->add_option("--tta", o->tta, "flip: look at each image's mirror image too; takes twice as long")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "flip"}));
  command->add_flag("--csv", o->csv, "comma-separated values on standard output");
  command->add_flag("--logits", o->logits, "with --json and --csv: what the last layer says, in class order");
  command->add_option("--decode", o->decode, "exact, or fast: JPEGs may be decoded at a smaller scale")
      ->capture_default_str()
      ->check(CLI::IsMember({"exact", "fast"}));
  command
      ->add_option("--precision", o->precision,
                   "of activations; bf16 is the quicker on CPUs with bf16 instructions and on GPUs, and may "
                   "change the third digit of a confidence; fp16: CUDA devices only")
      ->capture_default_str()
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}));
  command->add_option("--max-pixels", o->max_pixels, "refuse larger images before decoding")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_common(*command, o->common);
  command->footer("Example: cairn predict --run runs/first photo.jpg holiday/");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
