#pragma once
#include <string>
#include <vector>

#include "apps/prediction.h"

namespace cairn::app {

struct PredictPage {
  std::string title;
  const data::Dataset& dataset;
  const Predictions& predictions;
  const std::vector<std::string>& classes;
  double temperature = 1;
  double unsure_below = 0;
  data::DecodeOptions decode;
  int workers = 0;
};

inline constexpr std::size_t kMostPagePictures = 2000;  // some 5 KB each

/// One self-contained HTML file: thumbnails with their answers, class by class, in each the least sure first;
/// a class of its own for those less sure than unsure_below. Beyond kMostPagePictures only the least sure
/// have one.
std::string predict_page(const PredictPage& page);

}  // namespace cairn::app
