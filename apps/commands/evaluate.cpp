#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "apps/commands/commands.h"
#include "apps/evaluation.h"
#include "apps/report_page.h"
#include "apps/run_dir.h"
#include "data/atomic_file.h"
#include "data/manifest.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

struct Options : EvaluateOptions {
  std::string compare;
  std::string report;
  std::string predictions;
};

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

report::ReportContent content_of(const Evaluation& e, const Options& o, Device device) {
  report::ReportContent content;
  content.title = e.found.card.model + " on " + e.data;
  content.judged_name = e.part == "all" ? "all of " + e.data : "the " + e.part + " part";
  content.dataset = &e.dataset;
  content.decode.max_pixels = o.max_pixels;
  content.workers = o.common.workers;
  content.judged = &e.predictions;
  content.card = e.found.card;
  content.model = e.model.get();
  content.device = device;
  return content;
}

// Where a run cannot be written to, its figures are still worth having.
void write_or_warn(Console& console, const std::string& what, const std::function<void()>& write) {
  try {
    write();
    console.say("wrote " + what);
  } catch (const Error& error) {
    console.warn(what + " was not written: " + error.what());
  }
}

// The folds together: each image as the models answered that were not trained on it.
void write_pooled_report(const Options& o, const std::vector<Evaluation>& evaluations, Device device,
                         Console& console) {
  const Evaluation& first = evaluations.front();
  std::vector<const Predictions*> predictions;
  for (const Evaluation& e : evaluations) {
    if (e.dataset.items.size() != first.dataset.items.size())
      throw InputError("the runs in " + o.source.run + " are not of one data set");
    predictions.push_back(&e.predictions);
  }
  const Predictions all = pooled(predictions);
  report::ReportContent content = content_of(first, o, device);
  content.judged = content.held_out = &all;
  content.judged_name = "every image, by the models that were not trained on it";
  content.card.temperature = 1;  // each model has its own
  content.model = nullptr;
  const std::string page = o.report.empty() ? o.source.run + "/report.html" : o.report;
  write_or_warn(console, page, [&] { data::write_file_atomically(page, report_page(content)); });
  const std::string suspects = o.source.run + "/label_errors.csv";
  write_or_warn(console, suspects, [&] { write_suspects(suspects, all, first.dataset); });
}

int evaluate_many(const Options& o, const std::vector<std::string>& runs, Device device, Console& console) {
  std::map<std::string, std::vector<double>> figures;
  nlohmann::json json = {{"runs", nlohmann::json::array()}};
  std::vector<Evaluation> evaluations;
  for (const std::string& run : runs) {
    EvaluateOptions one = o;
    one.source.run = run;
    const Evaluation& e = evaluations.emplace_back(evaluate(one, device, console));
    figures["accuracy"].push_back(e.scores.accuracy);
    figures["balanced_accuracy"].push_back(e.scores.balanced_accuracy);
    figures["macro_f1"].push_back(e.scores.macro_f1);
    json["runs"].push_back(evaluation_json(e));
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
  if (o.data.empty() && evaluations.front().part == "test")
    write_pooled_report(o, evaluations, device, console);
  if (o.common.json) console.result(json.dump());
  return 0;
}

void write_pages(const Options& o, const Evaluation& e, Device device, Console& console) {
  if (!o.predictions.empty()) data::write_file_atomically(o.predictions, predictions_csv(e));
  if (!o.report.empty()) {
    data::write_file_atomically(o.report, report_page(content_of(e, o, device)));
    console.say("wrote " + o.report);
  } else if (!o.source.run.empty() && o.data.empty() && e.part == "test") {
    const RunDir run = RunDir::open(o.source.run);
    const data::Manifest manifest = data::read_manifest(run.split());
    write_or_warn(console, run.report(), [&] {
      write_report({.run = run,
                    .dataset = e.dataset,
                    .manifest = manifest,
                    .device = device,
                    .workers = o.common.workers,
                    .test = o.decode == "exact" ? &e.predictions : nullptr,
                    .calibrate = false},
                   console);
    });
  }
}

int run(const Options& o) {
  Console console(o.common.quiet, o.common.json);
  const Device device = open_device(o.common, console);
  if (!o.source.run.empty()) {
    const std::vector<std::string> runs = runs_inside(o.source.run);
    if (!runs.empty()) {
      if (!o.compare.empty() || !o.predictions.empty())
        throw InputError("--compare and --predictions are for one run: name one of those in " + o.source.run);
      return evaluate_many(o, runs, device, console);
    }
  }
  const Evaluation e = evaluate(o, device, console);
  nlohmann::json json = evaluation_json(e);
  if (!o.common.json) {
    console.result("part " + e.part + " of " + e.data);
    console.result(scores_text(e.scores, e.intervals, e.found.card.classes));
  }
  if (!o.compare.empty()) {
    EvaluateOptions other = o;
    other.source = {};
    other.source.run = o.compare;
    const Comparison c = compare(e, evaluate(other, device, console));
    if (c.n < e.scores.n)
      console.warn("only " + std::to_string(c.n) + " of " + std::to_string(e.scores.n) +
                   " images are in part " + e.part + " of both runs: the others are not compared");
    json["compare"] = comparison_json(c);
    json["compare"]["run"] = o.compare;
    if (!o.common.json)
      console.result("\n" +
                     comparison_text(c, o.source.run.empty() ? o.source.weights : o.source.run, o.compare));
  }
  write_pages(o, e, device, console);
  if (o.common.json) console.result(json.dump());
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
  command->add_option("--compare", o->compare,
                      "another run, on the same files: who is right more often, and may that be chance");
  command->add_option("--report", o->report,
                      "write the page here (default: the run's report.html, for its own test part)");
  command->add_option("--predictions", o->predictions,
                      "write path,label,answer,confidence of each image here");
  command->add_option("--decode", o->decode, "exact, or fast: JPEGs may be decoded at a smaller scale")
      ->capture_default_str()
      ->check(CLI::IsMember({"exact", "fast"}));
  command->add_option("--max-pixels", o->max_pixels, "refuse larger images before decoding")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_common(*command, o->common);
  command->footer("Example: cairn evaluate --run runs/first --compare runs/second");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
