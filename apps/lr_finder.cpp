#include "apps/lr_finder.h"

#include <algorithm>
#include <cmath>

#include "apps/assets/assets.h"
#include "apps/html.h"
#include "apps/progress.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

constexpr double kSmoothing = 0.9;   // about the last ten steps
constexpr double kExploded = 4;      // times the least loss: further steps say nothing
constexpr std::size_t kWarmUp = 10;  // losses that the average does not rest on yet

std::string axis_label(double lr) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", lr);
  return text;
}

}  // namespace

void judge(LrSearch& search) {
  double average = 0;
  for (std::size_t i = 0; i < search.points.size(); ++i) {
    LrPoint& p = search.points[i];
    average = kSmoothing * average + (1 - kSmoothing) * p.loss;
    p.smoothed = average / (1 - std::pow(kSmoothing, static_cast<double>(i + 1)));
  }
  search.steepest = search.at_minimum = search.suggested = 0;
  if (search.points.size() <= kWarmUp) return;
  const auto begin = search.points.begin() + static_cast<std::ptrdiff_t>(kWarmUp);
  const auto least = std::min_element(
      begin, search.points.end(), [](const LrPoint& a, const LrPoint& b) { return a.smoothed < b.smoothed; });
  if (least == begin) return;
  search.at_minimum = least->lr;
  double steepest_slope = 0;
  for (auto p = begin; p != least; ++p) {
    const double slope = (p[1].smoothed - p[0].smoothed) / std::log(p[1].lr / p[0].lr);
    if (slope < steepest_slope) {
      steepest_slope = slope;
      search.steepest = p->lr;
    }
  }
  search.suggested = std::min(search.at_minimum / 10, search.steepest);
}

LrSearch find_lr(const LearnerSetup& setup, const LrRange& range) {
  if (!(range.from > 0 && range.from < range.to && range.to < 1e6))
    throw InputError("the rates go from " + number_text(range.from) + " to " + number_text(range.to) +
                     ": expected two positive ones, the second above the first");
  if (range.steps < 20 || range.steps > 100'000)
    throw InputError("--steps is " + std::to_string(range.steps) + ", expected 20 to 100000");
  const auto resident = make_resident_images(setup);
  const auto loader = make_loader(setup, data::Part::train, true, resident.get());
  Learner learner(setup, resident.get(), loader->batches_per_epoch());
  learner.train();
  LrSearch search;
  Progress progress("searching", range.steps, setup.console.quiet());
  data::Batch batch;
  double least = HUGE_VAL;
  std::int64_t epoch = 0;
  loader->start_epoch(epoch);
  for (int i = 0; i < range.steps; ++i) {
    while (!loader->next(batch)) loader->start_epoch(++epoch);
    const double lr =
        range.from * std::pow(range.to / range.from, static_cast<double>(i) / (range.steps - 1));
    const float loss = learner.step().run(batch, static_cast<float>(lr)).to_vector<float>()[0];
    if (!std::isfinite(loss)) break;
    search.points.push_back({.lr = lr, .loss = static_cast<double>(loss)});
    judge(search);
    const double smoothed = search.points.back().smoothed;
    progress.update(i + 1, ", rate " + axis_label(lr) + ", loss " + number_text(smoothed));
    if (search.points.size() > kWarmUp && smoothed > kExploded * least) break;
    least = std::min(least, smoothed);
  }
  return search;
}

std::string lr_page(const LrSearch& search, const std::string& title) {
  nlohmann::json labels = nlohmann::json::array(), losses = labels, smoothed = labels;
  for (const LrPoint& p : search.points) {
    labels.push_back(axis_label(p.lr));
    losses.push_back(p.loss);
    smoothed.push_back(p.smoothed);
  }
  const auto marked = std::find_if(search.points.begin(), search.points.end(),
                                   [&](const LrPoint& p) { return p.lr >= search.suggested; });
  nlohmann::json chart = {
      {"title", "Loss while the learning rate rises"},
      {"labels", labels},
      {"xTitle", "learning rate"},
      {"yTitle", "loss"},
      {"series",
       {{{"label", "smoothed"}, {"data", smoothed}}, {{"label", "of each batch"}, {"data", losses}}}}};
  std::string words = "The loss never fell: try a lower --from, or look at the data.";
  if (search.suggested > 0) {
    chart["marked"] = axis_label(marked->lr);
    // What explodes leaves the picture, or nothing else would be seen.
    double highest = 0;
    for (const LrPoint& p : search.points)
      if (p.lr <= search.at_minimum) highest = std::max(highest, p.smoothed);
    chart["max"] = std::ceil(15 * highest) / 10;
    words = "Suggested: --lr " + axis_label(search.suggested) + ". The loss falls fastest at " +
            axis_label(search.steepest) + " and is least at " + axis_label(search.at_minimum) + ".";
  }
  const auto script = [](std::string_view text) { return "<script>" + std::string(text) + "</script>"; };
  return "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width,initial-scale=1\"><title>cairn: " +
         html_escaped(title) + "</title><style>" + std::string(assets::page_css) +
         std::string(assets::report_css) + "</style></head><body><h1>Learning rate for " +
         html_escaped(title) + "</h1><p>" + html_escaped(words) +
         "</p><noscript>The curve needs JavaScript; nothing is fetched from "
         "anywhere.</noscript><main></main>" +
         "<script type=\"application/json\" id=\"curve\">" + script_json(chart) + "</script>" +
         script(assets::chart_js) + script(assets::charts_js) +
         script(
             "if (typeof Chart !== 'undefined') chartColors();"
             "drawChart(document.querySelector('main'), "
             "JSON.parse(document.getElementById('curve').textContent));") +
         "</body></html>\n";
}

}  // namespace cairn::app
