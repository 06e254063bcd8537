#include "apps/predict_page.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>

#include "apps/assets/assets.h"
#include "apps/html.h"
#include "apps/thumbnail.h"
#include "data/parallel.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

std::string shown(const std::string& text) { return html_escaped(valid_utf8(text)); }

std::string picture(const PredictPage& page, std::int64_t item) {
  try {
    return image_tag(thumbnail(load_image(page.dataset, item, page.decode)));
  } catch (const InputError& error) {  // gone since it was read
    return shown(error.what());
  }
}

}  // namespace

std::string predict_page(const PredictPage& page) {
  const Predictions& p = page.predictions;
  std::vector<double> confidence(p.size());
  for (std::size_t i = 0; i < p.size(); ++i)
    confidence[i] = softmax_of(p.logits_of(i), page.temperature)[p.answer(i)];
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return confidence[a] < confidence[b]; });

  std::vector<std::string> figures(p.size());
  data::parallel_for(static_cast<std::int64_t>(p.size()), page.workers, [&](std::int64_t k) {
    const std::size_t i = order[k];
    char sure[16];
    std::snprintf(sure, sizeof sure, " %.1f %%", 100 * confidence[i]);
    figures[i] =
        "<figure>" +
        (static_cast<std::size_t>(k) < kMostPagePictures ? picture(page, p.items[i]) : std::string()) +
        "<figcaption>" + shown(page.classes[p.answer(i)]) + sure + "<br>" +
        shown(page.dataset.display_path(page.dataset.items[p.items[i]])) + "</figcaption></figure>";
  });

  // -1: unsure; the classes behind it, in their order.
  std::map<std::int32_t, std::vector<std::size_t>> groups;
  for (const std::size_t i : order) groups[confidence[i] < page.unsure_below ? -1 : p.answer(i)].push_back(i);
  std::string html =
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>" +
      shown(page.title) + "</title><style>" + std::string(assets::page_css) + "</style></head><body><h1>" +
      shown(page.title) + "</h1><p>" + std::to_string(p.size()) +
      " images, in each class the least sure first.</p>";
  for (const auto& [answer, members] : groups) {
    html += "<h2>" + (answer < 0 ? std::string("Unsure") : shown(page.classes[answer])) + " (" +
            std::to_string(members.size()) + ")</h2><div class=\"group\">";
    for (const std::size_t i : members) html += figures[i];
    html += "</div>";
  }
  return html + "</body></html>\n";
}

}  // namespace cairn::app
