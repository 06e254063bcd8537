#include "apps/report/run_events.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "apps/report/tfevents.h"
#include "apps/thumbnail.h"
#include "data/augment.h"
#include "data/encode.h"
#include "data/parallel.h"
#include "data/resize.h"
#include "kernels/error.h"

namespace cairn::report {
namespace {

constexpr const char* kWriter = "cairn-report";
constexpr int kPictureQuality = 90;
constexpr int kBatchColumns = 8, kBatchRows = 4, kMostBatchSide = 96;

data::Image blank(int width, int height) {
  return {width, height, std::vector<std::uint8_t>(std::size_t{3} * width * height, 255)};
}

void fill(data::Image& image, int left, int top, int side, const float (&color)[3]) {
  for (int y = top; y < top + side; ++y)
    for (int x = left; x < left + side; ++x)
      for (int c = 0; c < 3; ++c)
        image.rgb[3 * (static_cast<std::size_t>(y) * image.width + x) + c] =
            static_cast<std::uint8_t>(std::lround(color[c]));
}

// Each row's shares, white to blue on the diagonal and white to orange beside it.
data::Image confusion_picture(const app::Scores& scores) {
  const auto classes = static_cast<int>(scores.classes.size());
  const int cell = std::clamp(600 / std::max(classes, 1), 2, 40), gap = cell > 8 ? 1 : 0;
  data::Image image = blank(classes * cell, classes * cell);
  for (int r = 0; r < classes; ++r) {
    for (int c = 0; c < classes; ++c) {
      const auto n = static_cast<float>(scores.confusion[static_cast<std::size_t>(r) * classes + c]);
      const float share = n > 0 ? n / static_cast<float>(scores.classes[r].support) : 0;
      const float full[3] = {r == c ? 42.0f : 217.0f, r == c ? 125.0f : 130.0f, r == c ? 225.0f : 43.0f};
      float color[3];
      for (int k = 0; k < 3; ++k) color[k] = 245 + (full[k] - 245) * share;
      fill(image, c * cell, r * cell, cell - gap, color);
    }
  }
  return image;
}

// Images of the training part as its first epoch would see them, side by side; mixed pairs are shown unmixed.
data::Image batch_picture(const ReportContent& content) {
  const app::TrainOptions o = content.run->options();
  const std::vector<std::int64_t> items =
      data::part_items(*content.dataset, *content.manifest, data::Part::train);
  const auto augment = data::parse_augment(o.augment);
  const int side = static_cast<int>(o.image_size), source_side = data::augment_source_size(augment, side);
  const int shown = std::min(side, kMostBatchSide);
  const auto n = static_cast<int>(std::min<std::size_t>(items.size(), kBatchColumns * kBatchRows));
  data::Image picture =
      blank(kBatchColumns * shown, std::max(1, (n + kBatchColumns - 1) / kBatchColumns) * shown);
  data::parallel_for(n, content.workers, [&](std::int64_t i) {
    const std::int64_t item = items[items.size() * static_cast<std::size_t>(i) / static_cast<std::size_t>(n)];
    std::vector<std::uint8_t> source(std::size_t{3} * source_side * source_side),
        seen(std::size_t{3} * side * side);
    data::Image small = blank(shown, shown);
    try {
      const data::Image image = app::load_image(*content.dataset, item, content.decode);
      data::resize_image(image, app::parse_resize(o.resize), source_side, source.data());
    } catch (const InputError&) {  // gone since it was trained on: its place stays white
      return;
    }
    data::augment_image(augment, source.data(), seen.data(), side, {o.seed, 0, i});
    data::resize_bilinear(seen.data(), side, side, 0, 0, static_cast<float>(side), static_cast<float>(side),
                          small.rgb.data(), shown, shown);
    const std::size_t row = static_cast<std::size_t>(shown) * 3;
    const std::size_t left = static_cast<std::size_t>(i % kBatchColumns) * row;
    const auto top = static_cast<std::size_t>(i / kBatchColumns) * static_cast<std::size_t>(shown);
    for (std::size_t y = 0; y < static_cast<std::size_t>(shown); ++y)
      std::copy_n(small.rgb.begin() + static_cast<std::ptrdiff_t>(y * row), row,
                  picture.rgb.begin() + static_cast<std::ptrdiff_t>((top + y) * kBatchColumns * row + left));
  });
  return picture;
}

std::int64_t last_step(const app::RunDir& run) {
  std::int64_t step = 0;
  for (const nlohmann::json& entry : run.epochs())
    step = std::max(step, entry.value("step", std::int64_t{0}));
  return step;
}

void remove_earlier(const std::string& folder) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;  // it would be shown twice, no worse
    if (name.starts_with("events.out.tfevents.") && name.ends_with(std::string(".") + kWriter))
      std::filesystem::remove(it->path(), ignored);
  }
}

}  // namespace

void write_run_events(const ReportContent& content) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const std::int64_t step = last_step(*content.run);
  remove_earlier(content.run->path());
  EventWriter events(content.run->path(), now, kWriter);
  const auto picture = [&](const std::string& tag, const data::Image& image) {
    events.image(tag, step, now, image.width, image.height, data::encode_jpeg(image, kPictureQuality));
  };
  const app::Predictions& judged = *content.judged;
  if (judged.size() > 0) {
    picture("confusion/rows_true_columns_predicted",
            confusion_picture(app::score(judged.labels, judged.answers(), static_cast<int>(judged.classes))));
    std::vector<float> right, wrong;
    for (std::size_t i = 0; i < judged.size(); ++i) {
      const std::int32_t answer = judged.answer(i);
      const double p = app::softmax_of(judged.logits_of(i), content.card.temperature)[answer];
      (answer == judged.labels[i] ? right : wrong).push_back(static_cast<float>(p));
    }
    events.histogram("confidence/right_answers", step, now, right);
    events.histogram("confidence/wrong_answers", step, now, wrong);
  }
  picture("batch/training_part", batch_picture(content));
  for (const nn::NamedTensor& t : content.model->named_parameters())
    events.histogram("weights/" + t.name, step, now, t.tensor.to_vector<float>());
}

}  // namespace cairn::report
