#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>

#include "apps/commands/commands.h"
#include "apps/data_options.h"
#include "apps/metrics.h"
#include "apps/options.h"
#include "apps/prediction.h"
#include "apps/progress.h"
#include "apps/run_dir.h"
#include "data/manifest.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

struct Options {
  CommonOptions common;
  ModelSource source;
  std::string data;
  std::string part;
  std::string decode = "exact";
  std::int64_t max_pixels = 128'000'000;
};

struct Evaluation {
  Scores scores;
  ScoreIntervals intervals;
  std::vector<std::string> classes;
  std::string data, part;
  std::int64_t left_out = 0;
};

// The data set's class numbers become the model's.
void rename_classes(data::Dataset& dataset, const std::vector<std::string>& classes) {
  std::vector<std::int32_t> number(dataset.classes.size());
  for (std::size_t c = 0; c < number.size(); ++c) {
    const auto found = std::find(classes.begin(), classes.end(), dataset.classes[c]);
    if (found == classes.end())
      throw InputError("class '" + dataset.classes[c] + "' of " + dataset.root +
                       " is not one that the model knows");
    number[c] = static_cast<std::int32_t>(found - classes.begin());
  }
  for (data::Item& item : dataset.items) item.label = number[item.label];
  dataset.classes = classes;
}

std::vector<std::int64_t> items_to_evaluate(const Options& o, const data::Dataset& dataset,
                                            const std::string& part) {
  std::vector<std::int64_t> items;
  if (part == "all") {
    items.resize(dataset.items.size());
    std::iota(items.begin(), items.end(), 0);
    return items;
  }
  const data::Part wanted = data::parse_part(part);
  if (!o.source.run.empty()) {
    const data::Manifest manifest = data::read_manifest(RunDir::open(o.source.run).split());
    data::check_disjoint(manifest);
    return data::part_items(dataset, manifest, wanted);
  }
  for (std::size_t i = 0; i < dataset.items.size(); ++i)
    if (dataset.items[i].part == part) items.push_back(static_cast<std::int64_t>(i));
  return items;
}

Evaluation evaluate(const Options& o, Device device, Console& console) {
  const FoundModel found = find_model(o.source);
  if (!found.note.empty()) console.say(found.note);
  Evaluation e;
  e.data = o.data;
  e.part = o.part;
  // A run's own data is judged by its test part; other data, of which the run has seen nothing, as a whole.
  if (e.part.empty()) e.part = o.data.empty() ? "test" : "all";
  if (e.data.empty()) {
    if (o.source.run.empty()) throw InputError("--data is missing: which images to evaluate on");
    e.data = RunDir::open(o.source.run).options().data;
  }
  // The run's own data is seen as the run saw it.
  const std::string fixes =
      o.data.empty() ? read_fixes(RunDir::open(o.source.run).fixes(), /*may_be_absent=*/true) : "";
  data::Dataset dataset = open_fixed_dataset(e.data, fixes, console);
  rename_classes(dataset, found.card.classes);
  const std::vector<std::int64_t> items = items_to_evaluate(o, dataset, e.part);
  if (items.empty()) throw InputError("part " + e.part + " of " + e.data + " holds no image");
  const auto model = load_model(found, device);
  PredictOptions options;
  options.decode.mode = o.decode == "fast" ? data::DecodeMode::fast : data::DecodeMode::exact;
  options.decode.max_pixels = o.max_pixels;
  options.workers = o.common.workers;
  Progress progress("evaluating", static_cast<std::int64_t>(items.size()), console.quiet());
  options.progress = [&](std::int64_t done) { progress.update(done); };
  const TolerantPredictions predicted = predict_items(*model, dataset, items, found.card, device, options);
  progress.finish();
  for (const std::string& file : predicted.left_out) console.warn("left out " + file);
  const Predictions& p = predicted.predictions;
  if (p.size() == 0) throw InputError("no image of " + e.data + " could be read");
  e.left_out = static_cast<std::int64_t>(predicted.left_out.size());
  if (e.left_out > 0)
    console.warn(std::to_string(e.left_out) + " images could not be read and were left out");
  const auto classes = static_cast<int>(found.card.classes.size());
  const std::vector<std::int32_t> answers = p.answers();
  e.scores = score(p.labels, answers, classes);
  e.intervals = score_intervals(p.labels, answers, classes);
  e.classes = found.card.classes;
  return e;
}

nlohmann::json to_json(const Evaluation& e) {
  nlohmann::json json = scores_json(e.scores, e.intervals, e.classes);
  json["data"] = e.data;
  json["part"] = e.part;
  json["left_out"] = e.left_out;
  return json;
}

// The runs of `train --folds --seeds` in this folder, by name; empty for a run directory.
std::vector<std::string> runs_inside(const std::string& path) {
  namespace fs = std::filesystem;
  std::vector<std::string> runs;
  std::error_code error;
  if (fs::exists(path + "/config.json", error)) return runs;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error))
    if (it->path().filename().string().starts_with("fold-") && fs::exists(it->path() / "config.json", error))
      runs.push_back(it->path().string());
  std::sort(runs.begin(), runs.end());
  return runs;
}

struct Spread {
  double mean = 0;
  double deviation = 0;  // of the sample, 0 for one run
};
Spread spread_of(const std::vector<double>& values) {
  Spread s;
  const auto n = static_cast<double>(values.size());
  for (const double v : values) s.mean += v / n;
  for (const double v : values) s.deviation += (v - s.mean) * (v - s.mean);
  s.deviation = n > 1 ? std::sqrt(s.deviation / (n - 1)) : 0;
  return s;
}

int evaluate_many(const Options& o, const std::vector<std::string>& runs, Device device, Console& console) {
  std::map<std::string, std::vector<double>> figures;
  nlohmann::json json = {{"runs", nlohmann::json::array()}};
  for (const std::string& run : runs) {
    Options one = o;
    one.source.run = run;
    const Evaluation e = evaluate(one, device, console);
    figures["accuracy"].push_back(e.scores.accuracy);
    figures["balanced_accuracy"].push_back(e.scores.balanced_accuracy);
    figures["macro_f1"].push_back(e.scores.macro_f1);
    json["runs"].push_back(to_json(e));
    json["runs"].back()["run"] = run;
  }
  for (const auto& [name, values] : figures) {
    const Spread s = spread_of(values);
    json[name] = {{"mean", s.mean}, {"standard_deviation", s.deviation}};
    if (!o.common.json) {
      char line[96];
      std::snprintf(line, sizeof line, "%-18s %.3f +- %.3f over %zu runs", name.c_str(), s.mean, s.deviation,
                    values.size());
      console.result(line);
    }
  }
  if (o.common.json) console.result(json.dump());
  return 0;
}

int run(const Options& o) {
  Console console(o.common.quiet, o.common.json);
  const Device device = open_device(o.common, console);
  if (!o.source.run.empty()) {
    const std::vector<std::string> runs = runs_inside(o.source.run);
    if (!runs.empty()) return evaluate_many(o, runs, device, console);
  }
  const Evaluation e = evaluate(o, device, console);
  if (o.common.json) {
    console.result(to_json(e).dump());
  } else {
    console.result("part " + e.part + " of " + e.data);
    console.result(scores_text(e.scores, e.intervals, e.classes));
  }
  return 0;
}

}  // namespace

Command add_evaluate(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("evaluate", "measures a model: accuracies, per-class figures, intervals");
  const auto o = std::make_shared<Options>();
  add_model_source(*command, o->source);
  command->add_option("--data", o->data, "images to evaluate on (default: the run's)");
  command->add_option("--part", o->part, "train, val, test or all (default: test; with --data all)")
      ->check(CLI::IsMember({"train", "val", "test", "all"}));
  command->add_option("--decode", o->decode, "exact, or fast: JPEGs may be decoded at a smaller scale")
      ->capture_default_str()
      ->check(CLI::IsMember({"exact", "fast"}));
  command->add_option("--max-pixels", o->max_pixels, "refuse larger images before decoding")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_common(*command, o->common);
  command->footer("Example: cairn evaluate --run runs/first --part test");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
