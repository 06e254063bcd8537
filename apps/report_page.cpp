#include "apps/report_page.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "apps/html.h"
#include "data/atomic_file.h"

namespace cairn::app {
namespace {

constexpr const char* kStyle = R"(
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .6rem;text-align:right;border:1px solid #8886}
td:first-child,th:first-child{text-align:left}.wide{overflow-x:auto}
svg{width:100%;max-width:40rem;height:auto}text{font-size:12px;fill:currentColor}
.a{stroke:#2a7de1;fill:none;stroke-width:2}.b{stroke:#d9822b;fill:none;stroke-width:2}.axis{stroke:#888}
)";

std::string number(double value, int digits = 3) {
  char text[40];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

struct Curve {
  const char* style;
  std::string name;
  std::vector<double> values;  // one an epoch
};

std::string chart(const std::string& title, const std::vector<Curve>& curves) {
  constexpr double kWidth = 600, kHeight = 220, kLeft = 50, kTop = 24, kBottom = 24;
  double low = 0, high = 0;
  std::size_t longest = 1;
  for (const Curve& c : curves) {
    for (const double v : c.values) high = std::max(high, v);
    longest = std::max(longest, c.values.size());
  }
  if (high <= low) high = low + 1;
  const double plot_w = kWidth - kLeft - 10, plot_h = kHeight - kTop - kBottom;
  const auto x = [&](std::size_t i) {
    return kLeft +
           (longest > 1 ? plot_w * static_cast<double>(i) / static_cast<double>(longest - 1) : plot_w / 2);
  };
  const auto y = [&](double v) { return kTop + plot_h * (1 - (v - low) / (high - low)); };
  std::string svg =
      "<h3>" + title + "</h3><svg viewBox=\"0 0 600 220\" role=\"img\" aria-label=\"" + title + "\">";
  svg += "<path class=\"axis\" fill=\"none\" d=\"M" + number(kLeft, 0) + " " + number(kTop, 0) + "V" +
         number(kTop + plot_h, 0) + "H" + number(kLeft + plot_w, 0) + "\"/>";
  svg += "<text x=\"4\" y=\"" + number(kTop + 8, 0) + "\">" + number(high) + "</text><text x=\"4\" y=\"" +
         number(kTop + plot_h, 0) + "\">0</text><text x=\"" + number(kLeft + plot_w - 70, 0) + "\" y=\"" +
         number(kHeight - 6, 0) + "\">epoch " + std::to_string(longest) + "</text>";
  double legend = kLeft + 10;
  for (const Curve& c : curves) {
    std::string points, dots;
    for (std::size_t i = 0; i < c.values.size(); ++i) {
      if (!std::isfinite(c.values[i])) continue;
      points += (points.empty() ? "M" : "L") + number(x(i), 1) + " " + number(y(c.values[i]), 1);
      dots += "<circle class=\"" + std::string(c.style) + "\" cx=\"" + number(x(i), 1) + "\" cy=\"" +
              number(y(c.values[i]), 1) + "\" r=\"2\"/>";
    }
    svg += "<path class=\"" + std::string(c.style) + "\" d=\"" + points + "\"/>" + dots;
    svg += "<path class=\"" + std::string(c.style) + "\" d=\"M" + number(legend, 0) + " 12h16\"/><text x=\"" +
           number(legend + 20, 0) + "\" y=\"16\">" + c.name + "</text>";
    legend += 40 + 8 * static_cast<double>(c.name.size());
  }
  return svg + "</svg>";
}

std::string curves_html(const RunDir& run) {
  Curve train{"a", "training", {}}, val{"b", "validation", {}}, balanced{"b", "balanced accuracy", {}},
      accuracy{"a", "accuracy", {}}, rate{"a", "learning rate", {}}, wait{"b", "share of time", {}};
  std::ifstream file(run.metrics());
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json entry = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!entry.is_object() || entry.value("kind", "") != "epoch") continue;
    train.values.push_back(entry.value("train_loss", 0.0));
    rate.values.push_back(entry.value("lr", 0.0));
    wait.values.push_back(entry.value("data_wait", 0.0));
    if (!entry.contains("val")) continue;
    val.values.push_back(entry["val"].value("loss", 0.0));
    balanced.values.push_back(entry["val"].value("balanced_accuracy", 0.0));
    accuracy.values.push_back(entry["val"].value("accuracy", 0.0));
  }
  std::string html = chart("Loss", {train, val});
  if (!val.values.empty()) html += chart("Validation", {accuracy, balanced});
  return html + chart("Learning rate", {rate}) + chart("Waiting for data", {wait});
}

std::string scores_html(const Scores& s, const ScoreIntervals& i, const std::vector<std::string>& classes) {
  const auto row = [](const std::string& name, double value, const Interval& interval) {
    return "<tr><td>" + name + "</td><td>" + number(value) + "</td><td>" + number(interval.low) + " to " +
           number(interval.high) + "</td></tr>";
  };
  std::string html = "<table><tr><th>test part, " + std::to_string(s.n) +
                     " images</th><th>value</th><th>95 % interval</th></tr>" +
                     row("balanced accuracy", s.balanced_accuracy, i.balanced_accuracy) +
                     row("macro F1", s.macro_f1, i.macro_f1) + row("accuracy", s.accuracy, i.accuracy) +
                     "<tr><td>accuracy of always answering the largest class</td><td>" +
                     number(s.majority_accuracy) + "</td><td></td></tr></table>";
  html +=
      "<h2>Classes</h2><table><tr><th>class</th><th>precision</th><th>recall</th><th>F1</th><th>images</th></"
      "tr>";
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const ClassScores& k = s.classes[c];
    html += "<tr><td>" + html_escaped(classes[c]) + "</td><td>" + number(k.precision) + "</td><td>" +
            number(k.recall) + "</td><td>" + number(k.f1) + "</td><td>" + std::to_string(k.support) +
            "</td></tr>";
  }
  html +=
      "</table><h2>Confusion matrix</h2><p>Rows: what the images are. Columns: what was answered.</p>"
      "<div class=\"wide\"><table><tr><th></th>";
  for (const std::string& name : classes) html += "<th>" + html_escaped(name) + "</th>";
  html += "</tr>";
  for (std::size_t r = 0; r < classes.size(); ++r) {
    html += "<tr><td>" + html_escaped(classes[r]) + "</td>";
    for (std::size_t c = 0; c < classes.size(); ++c) {
      const std::int64_t n = s.confusion[r * classes.size() + c];
      const double share =
          s.classes[r].support > 0 ? static_cast<double>(n) / static_cast<double>(s.classes[r].support) : 0;
      html += "<td style=\"background:rgba(" + std::string(r == c ? "42,125,225," : "217,130,43,") +
              number(0.7 * share, 2) + ")\">" + std::to_string(n) + "</td>";
    }
    html += "</tr>";
  }
  return html + "</table></div>";
}

}  // namespace

void write_report(const RunDir& run, const TrainResult& result, const std::vector<std::string>& classes) {
  const nlohmann::json options = to_json(run.options());
  std::string html =
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>cairn: " +
      html_escaped(run.path()) + "</title><style>" + kStyle + "</style></head><body><h1>" +
      html_escaped(options.at("model").get<std::string>()) + " on " +
      html_escaped(options.at("data").get<std::string>()) + "</h1>";
  html += "<p>" + std::to_string(result.epochs) + " epochs, " + std::to_string(result.steps) +
          " steps, best epoch " + std::to_string(result.best_epoch) + ".</p>";
  if (result.test)
    html += scores_html(*result.test,
                        score_intervals(result.test_predictions.labels, result.test_predictions.answers(),
                                        static_cast<int>(classes.size())),
                        classes);
  html += "<h2>Curves</h2>" + curves_html(run) + "<h2>Options</h2><table>";
  for (const auto& [name, value] : options.items())
    html += "<tr><td>--" + name + "</td><td>" +
            html_escaped(value.is_string() ? value.get<std::string>() : value.dump()) + "</td></tr>";
  html += "</table><p>cairn " CAIRN_VERSION "</p></body></html>\n";
  data::write_file_atomically(run.report(), html);
}

}  // namespace cairn::app
