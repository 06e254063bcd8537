#include "apps/report_page.h"

#include <algorithm>
#include <set>

#include "apps/assets/assets.h"
#include "apps/calibration.h"
#include "apps/html.h"
#include "apps/label_errors.h"
#include "apps/report/run_events.h"
#include "apps/thumbnail.h"
#include "data/atomic_file.h"
#include "engine/io/safetensors.h"
#include "engine/io/weights.h"

namespace cairn::app {
namespace {

Predictions predict_part(const FinishedRun& f, const ModelCard& card, nn::Module& model, data::Part part,
                         const data::DecodeOptions& decode) {
  const std::vector<std::int64_t> items = data::part_items(f.dataset, f.manifest, part);
  PredictOptions options;
  options.decode = decode;
  options.workers = f.workers;
  return predict_items(model, f.dataset, items, card, f.device, options).predictions;
}

// Images that occur several times, as oversampling has them, count once.
Predictions together(const Predictions& a, const Predictions& b) {
  Predictions all;
  all.classes = std::max(a.classes, b.classes);
  std::set<std::int64_t> seen;
  for (const Predictions* p : {&a, &b}) {
    for (std::size_t i = 0; i < p->size(); ++i) {
      if (!seen.insert(p->items[i]).second) continue;
      all.items.push_back(p->items[i]);
      all.labels.push_back(p->labels[i]);
      all.logits.insert(all.logits.end(), p->logits_of(i).begin(), p->logits_of(i).end());
    }
  }
  return all;
}

std::string title_of(const ModelCard& card, const RunDir& run) {
  return card.model + " on " + run.options().data;
}

void keep_temperature(const std::string& weights, const nn::Module& model, double temperature) {
  io::Metadata metadata = io::open_safetensors(weights).metadata;
  const std::string text = nlohmann::json(temperature).dump();
  if (metadata.contains("temperature") ? metadata["temperature"] == text : temperature == 1) return;
  metadata["temperature"] = text;
  io::save_weights(model, weights, metadata);
}

}  // namespace

std::string report_page(const report::ReportContent& content) {
  const auto script = [](std::string_view text) { return "<script>" + std::string(text) + "</script>"; };
  return "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width,initial-scale=1\"><title>cairn: " +
         html_escaped(valid_utf8(content.title)) + "</title><style>" + std::string(assets::page_css) +
         std::string(assets::report_css) +
         "</style></head><body><h1></h1><noscript>This page needs JavaScript; nothing is fetched from "
         "anywhere.</noscript><main></main><script type=\"application/json\" id=\"report\">" +
         script_json(report_json(content)) + "</script>" + script(assets::chart_js) +
         script(assets::fixes_js) + script(assets::charts_js) + script(assets::report_js) +
         "</body></html>\n";
}

void write_suspects(const std::string& path, const Predictions& held_out, const data::Dataset& dataset) {
  data::write_file_atomically(path, label_suspects_csv(rank_label_suspects(held_out), held_out, dataset));
}

void write_interim_report(const UnfinishedRun& u, const Predictions& validation,
                          report::TrainingPlace place) {
  report::ReportContent content;
  content.title = title_of(u.card, u.run);
  content.judged_name = "the validation part";
  content.dataset = &u.dataset;
  content.judged = &validation;
  content.card = u.card;
  content.run = &u.run;
  content.manifest = &u.manifest;
  content.training = place;
  data::write_file_atomically(u.run.report(), report_page(content));
}

void write_report(const FinishedRun& f, Console& console) {
  ModelSource source;
  source.run = f.run.path();
  FoundModel found = find_model(source);
  const auto model = load_model(found, f.device);
  data::DecodeOptions decode;
  decode.max_pixels = f.run.options().max_pixels;
  const Predictions val = predict_part(f, found.card, *model, data::Part::val, decode);
  const Predictions test = f.test ? *f.test : predict_part(f, found.card, *model, data::Part::test, decode);
  if (f.calibrate) {
    found.card.temperature = fit_temperature(val);
    keep_temperature(found.weights, *model, found.card.temperature);
  }

  const Predictions held_out = together(val, test);
  report::ReportContent content;
  content.title = title_of(found.card, f.run);
  content.judged_name = test.size() > 0 ? "the test part" : "the validation part (there is no test part)";
  content.dataset = &f.dataset;
  content.decode = decode;
  content.workers = f.workers;
  content.judged = test.size() > 0 ? &test : &val;
  content.held_out = &held_out;
  content.validation = &val;
  content.card = found.card;
  content.model = model.get();
  content.device = f.device;
  content.run = &f.run;
  content.manifest = &f.manifest;
  data::write_file_atomically(f.run.report(), report_page(content));
  write_suspects(f.run.label_errors(), held_out, f.dataset);
  report::write_run_events(content);
  const std::vector<LabelSuspect> suspects = rank_label_suspects(held_out);
  const auto likely =
      std::count_if(suspects.begin(), suspects.end(), [](const LabelSuspect& k) { return k.likely; });
  // A model that disagrees with more is no judge of labels; the report says so.
  constexpr double kMostToMention = 0.3;
  if (likely > 0 && static_cast<double>(likely) < kMostToMention * static_cast<double>(held_out.size()))
    console.say(std::to_string(likely) + " of " + std::to_string(held_out.size()) +
                " held-out images may have a wrong label: the report shows them");
}

}  // namespace cairn::app
