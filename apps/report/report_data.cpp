#include "apps/report/report_data.h"

#include <algorithm>
#include <map>
#include <set>

#include "apps/calibration.h"
#include "apps/label_errors.h"
#include "apps/report/class_maps.h"
#include "apps/thumbnail.h"
#include "data/parallel.h"
#include "kernels/error.h"

namespace cairn::report {
namespace {

using app::Calibration;
using app::Predictions;
using nlohmann::json;

constexpr std::size_t kMostMistakes = 48, kMostSuspects = 100, kMostInCell = 12, kMostMaps = 12;
constexpr std::size_t kMostMatrixClasses =
    60;  // a wider matrix is no picture: the page lists the confused pairs

json calibration_json(const Calibration& c) {
  json bins = json::array();
  for (const app::ReliabilityBin& b : c.bins)
    bins.push_back({{"n", b.n}, {"confidence", b.confidence}, {"accuracy", b.accuracy}});
  return {{"bins", bins}, {"ece", c.ece}, {"loss", c.loss}};
}

// Thumbnails that the page asks for, each once, in order of asking.
class Thumbnails {
 public:
  explicit Thumbnails(std::size_t most) : most_(most) {}
  /// False where there is no room for another one.
  bool want(std::int64_t item) {
    if (wanted_.contains(item)) return true;
    if (order_.size() >= most_) return false;
    wanted_.insert(item);
    order_.push_back(item);
    return true;
  }
  const std::vector<std::int64_t>& items() const { return order_; }

 private:
  std::size_t most_;
  std::set<std::int64_t> wanted_;
  std::vector<std::int64_t> order_;
};

class Builder {
 public:
  explicit Builder(const ReportContent& content)
      : content_(content),
        temperature_(content.card.temperature),
        thumbnails_(content.training ? 0 : kMostThumbnails) {}

  json build() {
    json page = {{"title", content_.title}, {"version", CAIRN_VERSION}, {"model", content_.card.model}};
    page["classes"] = content_.card.classes;
    if (content_.training)
      page["training"] = {{"epoch", content_.training->epoch}, {"epochs", content_.training->epochs}};
    if (content_.run) {
      page["curves"] = curves_json(*content_.run);
      page["options"] = to_json(content_.run->options());
      page["environment"] = content_.run->environment();
      page["command"] = repeat_command(*content_.run);
    }
    if (content_.manifest) page["parts"] = parts();
    if (content_.judged && content_.judged->size() > 0) add_figures(page);
    if (content_.held_out) page["suspects"] = suspects();
    if (content_.validation && content_.validation->size() > 0)
      page["calibration"] = {
          {"temperature", temperature_},
          {"validation", content_.validation->size()},
          {"fitted", calibration_json(calibration_of(*content_.validation, temperature_))}};
    if (content_.judged && content_.judged->size() > 0 && !content_.training) {
      page["calibration"]["before"] = calibration_json(calibration_of(*content_.judged, 1));
      page["calibration"]["after"] = calibration_json(calibration_of(*content_.judged, temperature_));
      page["calibration"]["temperature"] = temperature_;
      if (content_.model) page["maps"] = maps();
    }
    page["images"] = images();
    return page;
  }

 private:
  json parts() const {
    const data::Manifest& m = *content_.manifest;
    json counts = json::object();
    for (const data::Part part : {data::Part::train, data::Part::val, data::Part::test}) {
      std::map<std::string, std::int64_t> of_class;
      for (const data::ManifestRow& row : m.rows)
        if (row.part == part) ++of_class[row.label];
      json row = json::array();
      for (const std::string& name : content_.card.classes) row.push_back(of_class[name]);
      counts[std::string(part_name(part))] = row;
    }
    std::set<std::int64_t> groups;
    for (const data::ManifestRow& row : m.rows)
      if (row.duplicate_group >= 0) groups.insert(row.duplicate_group);
    return {{"counts", counts},
            {"leaks", data::find_leaks(m)},
            {"leaks_by_design", m.protocol == data::Protocol::oversample_first},
            {"duplicate_groups", groups.size()}};
  }

  double confidence(const Predictions& p, std::size_t i) const {
    return app::softmax_of(p.logits_of(i), temperature_)[p.answer(i)];
  }

  json entry(const Predictions& p, std::size_t i) const {
    return {{"item", p.items[i]},
            {"label", p.labels[i]},
            {"answer", p.answer(i)},
            {"confidence", confidence(p, i)}};
  }

  void add_figures(json& page) {
    const Predictions& p = *content_.judged;
    const std::vector<std::int32_t> answers = p.answers();
    const auto classes = static_cast<int>(content_.card.classes.size());
    const app::Scores scores = app::score(p.labels, answers, classes);
    page["judged"] = content_.judged_name;
    page["scores"] =
        app::scores_json(scores, app::score_intervals(p.labels, answers, classes), content_.card.classes);
    if (content_.card.classes.size() > kMostMatrixClasses) page["scores"].erase("confusion");

    // Wrong answers by falling confidence: the first are the mistakes gallery.
    std::vector<std::size_t> wrong;
    for (std::size_t i = 0; i < p.size(); ++i)
      if (answers[i] != p.labels[i]) wrong.push_back(i);
    std::vector<double> sure(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) sure[i] = confidence(p, i);
    std::stable_sort(wrong.begin(), wrong.end(),
                     [&](std::size_t a, std::size_t b) { return sure[a] > sure[b]; });
    if (!content_.training) {
      page["mistakes"] = json::array();
      page["mistakes_in_all"] = wrong.size();
      for (const std::size_t i : wrong)
        if (page["mistakes"].size() < kMostMistakes && thumbnails_.want(p.items[i]))
          page["mistakes"].push_back(entry(p, i));
    }

    // What the cells of the matrix open: wrong answers first, so that room is left for them.
    std::map<std::pair<std::int32_t, std::int32_t>, json> cells;
    const auto put = [&](std::size_t i) {
      json& cell = cells.try_emplace({p.labels[i], answers[i]}, json::array()).first->second;
      if (cell.size() < kMostInCell && thumbnails_.want(p.items[i])) cell.push_back(entry(p, i));
    };
    for (const std::size_t i : wrong) put(i);
    for (std::size_t i = 0; i < p.size(); ++i)
      if (answers[i] == p.labels[i]) put(i);
    page["cells"] = json::array();
    for (const auto& [place, list] : cells)
      page["cells"].push_back(
          {{"label", place.first},
           {"answer", place.second},
           {"n", scores.confusion[static_cast<std::size_t>(place.first) * classes + place.second]},
           {"images", list}});
  }

  json suspects() {
    const Predictions& p = *content_.held_out;
    const std::vector<app::LabelSuspect> ranked = rank_label_suspects(p);
    json list = json::array();
    std::size_t likely = 0;
    for (const app::LabelSuspect& s : ranked) {
      if (!s.likely) break;
      ++likely;
      if (list.size() >= kMostSuspects || !thumbnails_.want(p.items[s.index])) continue;
      list.push_back({{"item", p.items[s.index]},
                      {"label", p.labels[s.index]},
                      {"suggested", s.suggested},
                      {"confidence", s.confidence},
                      {"margin", s.margin}});
    }
    return {{"list", list}, {"likely", likely}, {"looked_at", p.size()}};
  }

  // Right answers of as many classes as there is room for, then the worst mistakes.
  json maps() {
    const Predictions& p = *content_.judged;
    std::vector<std::int64_t> items;
    std::set<std::int32_t> shown;
    for (std::size_t i = 0; i < p.size() && items.size() < kMostMaps / 2; ++i)
      if (p.answer(i) == p.labels[i] && shown.insert(p.labels[i]).second) items.push_back(p.items[i]);
    std::vector<std::size_t> wrong;
    for (std::size_t i = 0; i < p.size(); ++i)
      if (p.answer(i) != p.labels[i]) wrong.push_back(i);
    std::stable_sort(wrong.begin(), wrong.end(),
                     [&](std::size_t a, std::size_t b) { return confidence(p, a) > confidence(p, b); });
    for (const std::size_t i : wrong)
      if (items.size() < kMostMaps) items.push_back(p.items[i]);
    json list = json::array();
    for (const ClassMap& map : class_maps(*content_.model, content_.card, *content_.dataset, items,
                                          content_.decode, content_.device))
      list.push_back({{"path", content_.dataset->items[map.item].path},
                      {"label", content_.dataset->items[map.item].label},
                      {"answer", map.answer},
                      {"seen", app::data_address(app::thumbnail(map.seen))},
                      {"overlay", app::data_address(app::thumbnail(map.overlay))}});
    return list;
  }

  json images() const {
    const std::vector<std::int64_t>& items = thumbnails_.items();
    std::vector<std::string> addresses(items.size());
    data::parallel_for(static_cast<std::int64_t>(items.size()), content_.workers, [&](std::int64_t i) {
      try {
        addresses[i] =
            app::data_address(app::thumbnail(app::load_image(*content_.dataset, items[i], content_.decode)));
      } catch (const InputError&) {  // gone since it was read: the page shows its path alone
      }
    });
    json result = json::object();
    for (std::size_t i = 0; i < items.size(); ++i)
      result[std::to_string(items[i])] = {{"path", content_.dataset->items[items[i]].path},
                                          {"src", addresses[i]}};
    return result;
  }

  const ReportContent& content_;
  double temperature_;
  Thumbnails thumbnails_;
};

std::string shell_quoted(const std::string& text) {
  if (!text.empty() &&
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,") ==
          std::string::npos)
    return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string option_text(const json& value) {
  return value.is_string() ? shell_quoted(value.get<std::string>()) : value.dump();
}

// " --NAME VALUE": texts of a list each with the option's name, numbers with commas between.
std::string option_words(const std::string& name, const json& value) {
  const std::string flag = " --" + name;
  if (value.is_boolean()) return value.get<bool>() ? flag : flag + "=false";
  if (!value.is_array()) return flag + " " + option_text(value);
  std::string words, numbers;
  for (const json& v : value) {
    if (v.is_string())
      words += flag + " " + option_text(v);
    else
      numbers += (numbers.empty() ? "" : ",") + option_text(v);
  }
  return numbers.empty() ? words : flag + " " + numbers;
}

}  // namespace

json report_json(const ReportContent& content) { return Builder(content).build(); }

json curves_json(const app::RunDir& run) {
  json columns = {{"epoch", json::array()}};
  for (const json& entry : run.epochs()) {
    columns["epoch"].push_back(entry.value("epoch", 0));
    for (const char* name : {"train_loss", "lr", "data_wait", "images_per_s", "best"})
      columns[name].push_back(entry.value(name, json()));
    const json val = entry.value("val", json::object());
    for (const char* name : {"loss", "accuracy", "balanced_accuracy", "macro_f1"})
      columns[std::string("val_") + name].push_back(val.value(name, json()));
  }
  return columns;
}

std::string repeat_command(const app::RunDir& run) {
  const json options = to_json(run.options());
  app::TrainOptions defaults;
  defaults.model = options.at("model").get<std::string>();
  defaults.protocol = options.at("protocol").get<std::string>();
  defaults.resolve();
  const json usual = to_json(defaults);
  std::string command = "cairn train --data " + option_text(options.at("data")) + " --model " +
                        option_text(options.at("model")) + " --seed " + option_text(options.at("seed"));
  for (const auto& [name, value] : options.items()) {
    if (name == "data" || name == "out" || name == "model" || name == "seed" || name == "split" ||
        name == "fixes" || value.is_null())
      continue;
    if (usual.contains(name) && value == usual.at(name)) continue;
    command += option_words(name, value);
  }
  command += " --split " + shell_quoted(run.split());  // the folds' splits follow from no option
  if (!run.options().fixes.empty()) command += " --fixes " + shell_quoted(run.fixes());
  const json environment = run.environment();
  if (environment.contains("threads")) command += " --threads " + environment.at("threads").dump();
  return command;
}

}  // namespace cairn::report
