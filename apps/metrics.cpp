#include "apps/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace cairn::app {
namespace {

constexpr double kZ95 = 1.959963984540054;  // the normal distribution's 97.5 % quantile

std::vector<std::int64_t> count_confusion(std::span<const std::int32_t> labels,
                                          std::span<const std::int32_t> predictions, int classes) {
  if (labels.size() != predictions.size())
    throw Error("[score] " + std::to_string(labels.size()) + " labels, " +
                std::to_string(predictions.size()) + " predictions");
  std::vector<std::int64_t> confusion(static_cast<std::size_t>(classes) * classes);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    for (const std::int32_t c : {labels[i], predictions[i]})
      if (c < 0 || c >= classes)
        throw Error("[score] class " + std::to_string(c) + " of " + std::to_string(classes));
    ++confusion[static_cast<std::size_t>(labels[i]) * classes + predictions[i]];
  }
  return confusion;
}

Scores score_confusion(std::vector<std::int64_t> confusion, int classes) {
  Scores s;
  std::int64_t right = 0, most = 0;
  int with_label = 0, with_either = 0;
  for (int c = 0; c < classes; ++c) {
    std::int64_t support = 0, said = 0;
    for (int k = 0; k < classes; ++k) {
      support += confusion[static_cast<std::size_t>(c) * classes + k];
      said += confusion[static_cast<std::size_t>(k) * classes + c];
    }
    const std::int64_t hit = confusion[static_cast<std::size_t>(c) * classes + c];
    ClassScores k;
    k.support = support;
    k.precision = said > 0 ? static_cast<double>(hit) / static_cast<double>(said) : 0;
    k.recall = support > 0 ? static_cast<double>(hit) / static_cast<double>(support) : 0;
    k.f1 = support + said > 0 ? 2.0 * static_cast<double>(hit) / static_cast<double>(support + said) : 0;
    s.n += support;
    right += hit;
    most = std::max(most, support);
    if (support > 0) {
      ++with_label;
      s.balanced_accuracy += k.recall;
    }
    if (support + said > 0) {
      ++with_either;
      s.macro_f1 += k.f1;
    }
    s.classes.push_back(k);
  }
  if (s.n > 0) {
    s.accuracy = static_cast<double>(right) / static_cast<double>(s.n);
    s.majority_accuracy = static_cast<double>(most) / static_cast<double>(s.n);
    s.balanced_accuracy /= with_label;
    s.macro_f1 /= with_either;
  }
  s.confusion = std::move(confusion);
  return s;
}

// The 2.5 and 97.5 percentiles, interpolated linearly between order statistics as NumPy does.
Interval percentiles(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    const double place = q * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {at(0.025), at(0.975)};
}

std::string percent(double x) {
  char text[16];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * x);
  return text;
}

std::string with_interval(double x, const Interval& i) {
  char text[64];
  std::snprintf(text, sizeof text, "%.3f  (95 %%: %.3f to %.3f)", x, i.low, i.high);
  return text;
}

std::string padded(const std::string& text, std::size_t width, bool right = false) {
  // UTF-8: continuation bytes take no column.
  const auto columns = static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  const std::string space(columns < width ? width - columns : 0, ' ');
  return right ? space + text : text + space;
}

}  // namespace

Scores score(std::span<const std::int32_t> labels, std::span<const std::int32_t> predictions, int classes) {
  return score_confusion(count_confusion(labels, predictions, classes), classes);
}

Interval wilson_interval(std::int64_t k, std::int64_t n) {
  if (n <= 0) return {0, 1};
  const auto total = static_cast<double>(n);
  const double p = static_cast<double>(k) / total, z2 = kZ95 * kZ95;
  const double centre = (p + z2 / (2 * total)) / (1 + z2 / total);
  const double half = kZ95 / (1 + z2 / total) * std::sqrt(p * (1 - p) / total + z2 / (4 * total * total));
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

ScoreIntervals score_intervals(std::span<const std::int32_t> labels,
                               std::span<const std::int32_t> predictions, int classes, std::uint64_t seed,
                               int resamples) {
  const Scores all = score(labels, predictions, classes);
  ScoreIntervals result;
  result.accuracy = wilson_interval(std::llround(all.accuracy * static_cast<double>(all.n)), all.n);
  if (all.n == 0 || resamples < 1) return {result.accuracy, {0, 1}, {0, 1}};
  std::vector<double> balanced, f1;
  const auto n = static_cast<std::uint32_t>(labels.size());
  for (int r = 0; r < resamples; ++r) {
    std::vector<std::int64_t> confusion(static_cast<std::size_t>(classes) * classes);
    for (std::uint32_t i = 0; i < n; ++i) {
      const Philox4x32 words =
          philox(seed, philox_stream(kStreamBootstrap, static_cast<std::uint64_t>(r)), i / 4);
      const std::uint32_t pick = uniform_below(words.v[i % 4], n);
      ++confusion[static_cast<std::size_t>(labels[pick]) * classes + predictions[pick]];
    }
    const Scores s = score_confusion(std::move(confusion), classes);
    balanced.push_back(s.balanced_accuracy);
    f1.push_back(s.macro_f1);
  }
  result.balanced_accuracy = percentiles(balanced);
  result.macro_f1 = percentiles(f1);
  return result;
}

nlohmann::json summary_json(const Scores& s) {
  return {{"accuracy", s.accuracy},
          {"balanced_accuracy", s.balanced_accuracy},
          {"macro_f1", s.macro_f1},
          {"n", s.n}};
}

nlohmann::json scores_json(const Scores& s, const ScoreIntervals& intervals,
                           const std::vector<std::string>& names) {
  nlohmann::json result = summary_json(s);
  const auto pair = [](const Interval& i) { return nlohmann::json{i.low, i.high}; };
  result["majority_accuracy"] = s.majority_accuracy;
  result["intervals"] = {{"accuracy", pair(intervals.accuracy)},
                         {"balanced_accuracy", pair(intervals.balanced_accuracy)},
                         {"macro_f1", pair(intervals.macro_f1)}};
  result["classes"] = nlohmann::json::array();
  result["confusion"] = nlohmann::json::array();  // rows true, columns predicted
  for (std::size_t c = 0; c < names.size(); ++c) {
    const ClassScores& k = s.classes[c];
    result["classes"].push_back({{"name", names[c]},
                                 {"precision", k.precision},
                                 {"recall", k.recall},
                                 {"f1", k.f1},
                                 {"n", k.support}});
    const auto row = s.confusion.begin() + static_cast<std::ptrdiff_t>(c * names.size());
    result["confusion"].push_back(
        std::vector<std::int64_t>(row, row + static_cast<std::ptrdiff_t>(names.size())));
  }
  return result;
}

std::string scores_text(const Scores& s, const ScoreIntervals& intervals,
                        const std::vector<std::string>& names) {
  std::size_t width = 5;
  for (const std::string& name : names) width = std::max(width, name.size());
  std::string text = "balanced accuracy  " + with_interval(s.balanced_accuracy, intervals.balanced_accuracy) +
                     "\nmacro F1           " + with_interval(s.macro_f1, intervals.macro_f1) +
                     "\naccuracy           " + with_interval(s.accuracy, intervals.accuracy) +
                     "\nmajority class     " + percent(s.majority_accuracy) +
                     " accuracy, by always answering it; " + std::to_string(s.n) + " images\n\n";
  text += padded("class", width) + "  precision  recall     F1  images\n";
  for (std::size_t c = 0; c < names.size(); ++c) {
    char row[64];
    std::snprintf(row, sizeof row, "  %9.3f  %6.3f  %5.3f  %6lld", s.classes[c].precision,
                  s.classes[c].recall, s.classes[c].f1, static_cast<long long>(s.classes[c].support));
    text += padded(names[c], width) + row + "\n";
  }
  constexpr std::size_t kMostColumns = 20;  // more would not fit a terminal
  if (names.size() > kMostColumns) return text + "\nconfusion matrix: see --json";
  text += "\nconfusion (rows true, columns predicted, in the same order)\n";
  for (std::size_t c = 0; c < names.size(); ++c) {
    text += padded(names[c], width);
    for (std::size_t k = 0; k < names.size(); ++k)
      text += padded(std::to_string(s.confusion[c * names.size() + k]), 6, true);
    text += c + 1 < names.size() ? "\n" : "";
  }
  return text;
}

}  // namespace cairn::app
