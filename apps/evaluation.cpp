#include "apps/evaluation.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/data_options.h"
#include "apps/progress.h"
#include "apps/run_dir.h"
#include "data/csv.h"
#include "data/manifest.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

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

std::vector<std::int64_t> items_to_evaluate(const EvaluateOptions& o, const data::Dataset& dataset,
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

// The file whichever way it was named.
std::string whole_path(const Evaluation& e, std::size_t i) {
  const std::string path = e.dataset.display_path(e.dataset.items[e.predictions.items[i]]);
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(path, error);
  return error ? path : canonical.string();
}

}  // namespace

Evaluation evaluate(const EvaluateOptions& o, Device device, Console& console) {
  Evaluation e;
  e.found = find_model(o.source);
  if (!e.found.note.empty()) console.say(e.found.note);
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
  e.dataset = open_fixed_dataset(e.data, fixes, console);
  const std::vector<std::string>& classes = e.found.card.classes;
  rename_classes(e.dataset, classes);
  const std::vector<std::int64_t> items = items_to_evaluate(o, e.dataset, e.part);
  if (items.empty()) throw InputError("part " + e.part + " of " + e.data + " holds no image");
  e.model = load_model(e.found, device);
  PredictOptions options;
  options.decode.mode = o.decode == "fast" ? data::DecodeMode::fast : data::DecodeMode::exact;
  options.decode.max_pixels = o.max_pixels;
  options.workers = o.common.workers;
  Progress progress("evaluating", static_cast<std::int64_t>(items.size()), console.quiet());
  options.progress = [&](std::int64_t done) { progress.update(done); };
  TolerantPredictions predicted = predict_items(*e.model, e.dataset, items, e.found.card, device, options);
  progress.finish();
  for (const std::string& file : predicted.left_out) console.warn("left out " + file);
  e.predictions = std::move(predicted.predictions);
  if (e.predictions.size() == 0) throw InputError("no image of " + e.data + " could be read");
  e.left_out = static_cast<std::int64_t>(predicted.left_out.size());
  if (e.left_out > 0)
    console.warn(std::to_string(e.left_out) + " images could not be read and were left out");
  const std::vector<std::int32_t> answers = e.predictions.answers();
  e.scores = score(e.predictions.labels, answers, static_cast<int>(classes.size()));
  e.intervals = score_intervals(e.predictions.labels, answers, static_cast<int>(classes.size()));
  return e;
}

nlohmann::json evaluation_json(const Evaluation& e) {
  nlohmann::json json = scores_json(e.scores, e.intervals, e.found.card.classes);
  json["data"] = e.data;
  json["part"] = e.part;
  json["left_out"] = e.left_out;
  return json;
}

std::string predictions_csv(const Evaluation& e) {
  std::string text = "path,label,answer,confidence\n";
  const Predictions& p = e.predictions;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const std::int32_t answer = p.answer(i);
    data::append_csv_field(text, e.dataset.items[p.items[i]].path);
    for (const std::int32_t c : {p.labels[i], answer}) {
      text += ',';
      data::append_csv_field(text, e.dataset.classes[c]);
    }
    char confidence[24];
    std::snprintf(confidence, sizeof confidence, ",%.9f\n",
                  softmax_of(p.logits_of(i), e.found.card.temperature)[answer]);
    text += confidence;
  }
  return text;
}

Comparison compare(const Evaluation& first, const Evaluation& second) {
  const std::vector<std::string>& classes = first.found.card.classes;
  const auto number = [&](const std::string& name) {
    const auto at = std::find(classes.begin(), classes.end(), name);
    if (at == classes.end())
      throw InputError("the two runs have other classes: only one knows '" + name + "'");
    return static_cast<std::int32_t>(at - classes.begin());
  };
  std::map<std::string, std::size_t> place;  // in the second
  for (std::size_t i = 0; i < second.predictions.size(); ++i) place.emplace(whole_path(second, i), i);
  std::vector<std::int32_t> labels, a, b;
  for (std::size_t i = 0; i < first.predictions.size(); ++i) {
    const auto found = place.find(whole_path(first, i));
    if (found == place.end()) continue;
    labels.push_back(first.predictions.labels[i]);
    a.push_back(first.predictions.answer(i));
    b.push_back(number(second.found.card.classes[second.predictions.answer(found->second)]));
    place.erase(found);  // copies, as oversampling makes them, count once
  }
  if (labels.empty())
    throw InputError("no image is in both runs' part " + first.part +
                     ": train both with one --split, or give --data with images that neither was trained on");
  const auto n = static_cast<int>(classes.size());
  return {static_cast<std::int64_t>(labels.size()), paired_test(labels, a, b), score(labels, a, n),
          score(labels, b, n)};
}

nlohmann::json comparison_json(const Comparison& c) {
  return {{"n", c.n},
          {"first", summary_json(c.first)},
          {"second", summary_json(c.second)},
          {"both_right", c.test.both_right},
          {"only_first_right", c.test.only_first},
          {"only_second_right", c.test.only_second},
          {"both_wrong", c.test.both_wrong},
          {"p_value", c.test.p_value}};
}

std::string comparison_text(const Comparison& c, const std::string& first, const std::string& second) {
  char text[400];
  std::snprintf(text, sizeof text,
                "on %lld images of both: balanced accuracy %.3f and %.3f, accuracy %.3f and %.3f\n"
                "right: both %lld, only the first %lld, only the second %lld, neither %lld\n"
                "McNemar's exact test: p = %.4g; ",
                static_cast<long long>(c.n), c.first.balanced_accuracy, c.second.balanced_accuracy,
                c.first.accuracy, c.second.accuracy, static_cast<long long>(c.test.both_right),
                static_cast<long long>(c.test.only_first), static_cast<long long>(c.test.only_second),
                static_cast<long long>(c.test.both_wrong), c.test.p_value);
  constexpr double kUsualLevel = 0.05;
  const std::string verdict = c.test.p_value >= kUsualLevel ? "these images do not tell the two apart"
                                                            : "such a difference is unlikely to be chance";
  return "first: " + first + "\nsecond: " + second + "\n" + text + verdict;
}

Predictions pooled(const std::vector<const Predictions*>& predictions) {
  struct Sum {
    std::int32_t label = 0;
    std::vector<double> logits;
    double n = 0;
  };
  std::map<std::int64_t, Sum> sums;
  Predictions all;
  for (const Predictions* p : predictions) {
    all.classes = p->classes;
    for (std::size_t i = 0; i < p->size(); ++i) {
      Sum& sum = sums[p->items[i]];
      sum.label = p->labels[i];
      sum.logits.resize(static_cast<std::size_t>(p->classes));
      for (std::size_t c = 0; c < sum.logits.size(); ++c)
        sum.logits[c] += static_cast<double>(p->logits_of(i)[c]);
      ++sum.n;
    }
  }
  for (const auto& [item, sum] : sums) {
    all.items.push_back(item);
    all.labels.push_back(sum.label);
    for (const double v : sum.logits) all.logits.push_back(static_cast<float>(v / sum.n));
  }
  return all;
}

}  // namespace cairn::app
