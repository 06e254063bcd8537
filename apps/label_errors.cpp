#include "apps/label_errors.h"

#include <algorithm>
#include <cstdio>

#include "data/csv.h"

namespace cairn::app {

std::vector<LabelSuspect> rank_label_suspects(const Predictions& predictions) {
  const auto classes = static_cast<std::size_t>(predictions.classes);
  // Of each class: its mean probability over the images labelled with it.
  std::vector<double> threshold(classes), images(classes);
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    const std::int32_t label = predictions.labels[i];
    threshold[label] += softmax_of(predictions.logits_of(i))[label];
    ++images[label];
  }
  for (std::size_t c = 0; c < classes; ++c) threshold[c] = images[c] > 0 ? threshold[c] / images[c] : 2;

  std::vector<LabelSuspect> suspects;
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    const std::vector<double> p = softmax_of(predictions.logits_of(i));
    const auto label = static_cast<std::size_t>(predictions.labels[i]);
    LabelSuspect s{.index = i, .confidence = p[label]};
    double other = -1, confident = -1;
    std::size_t counted = label;  // the class that confident learning counts the image to
    for (std::size_t c = 0; c < classes; ++c) {
      if (c != label && p[c] > other) {
        other = p[c];
        s.suggested = static_cast<std::int32_t>(c);
      }
      if (p[c] >= threshold[c] && p[c] > confident) {
        confident = p[c];
        counted = c;
      }
    }
    s.margin = s.confidence - std::max(other, 0.0);
    s.likely = counted != label;
    suspects.push_back(s);
  }
  std::stable_sort(suspects.begin(), suspects.end(), [](const LabelSuspect& a, const LabelSuspect& b) {
    return a.likely != b.likely ? a.likely : a.margin < b.margin;
  });
  return suspects;
}

std::string label_suspects_csv(const std::vector<LabelSuspect>& suspects, const Predictions& predictions,
                               const data::Dataset& dataset) {
  std::string text = "path,label,suggested,confidence,margin,likely\n";
  for (const LabelSuspect& s : suspects) {
    data::append_csv_field(text, dataset.items[predictions.items[s.index]].path);
    text += ',';
    data::append_csv_field(text, dataset.classes[predictions.labels[s.index]]);
    text += ',';
    data::append_csv_field(text, dataset.classes[s.suggested]);
    char figures[48];
    std::snprintf(figures, sizeof figures, ",%.6f,%.6f,%d\n", s.confidence, s.margin, s.likely ? 1 : 0);
    text += figures;
  }
  return text;
}

}  // namespace cairn::app
