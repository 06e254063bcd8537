#include "apps/prediction.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <numeric>

#include "data/parallel.h"
#include "engine/autograd.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

struct DecodedBatch {
  std::vector<std::uint8_t> pixels;  // [items, S, S, 3]
  std::vector<std::int64_t> items;
  std::vector<std::string> left_out;
};

DecodedBatch decode_batch(const data::Dataset& dataset, std::span<const std::int64_t> items,
                          const ModelCard& card, const PredictOptions& options) {
  const auto size = static_cast<int>(card.image_size);
  const std::size_t bytes = static_cast<std::size_t>(size) * size * 3;
  const data::ResizeMode mode = parse_resize(card.resize);
  data::DecodeOptions decode = options.decode;
  decode.target_size = size;
  DecodedBatch batch;
  batch.pixels.resize(items.size() * bytes);
  std::vector<std::string> reasons(items.size());
  data::parallel_for(static_cast<std::int64_t>(items.size()), options.workers, [&](std::int64_t i) {
    const data::Item& item = dataset.items[items[i]];
    try {
      const data::Image image =
          data::decode_image(dataset.read_bytes(item), decode, dataset.display_path(item));
      data::resize_image(image, mode, size, batch.pixels.data() + i * bytes);
    } catch (const Error& error) {  // memory running out is no damage: it goes on
      reasons[i] = error.what();
    }
  });
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!reasons[i].empty()) {
      batch.left_out.push_back(reasons[i]);
      continue;
    }
    if (batch.items.size() < i)
      std::copy_n(batch.pixels.begin() + static_cast<std::ptrdiff_t>(i * bytes), bytes,
                  batch.pixels.begin() + static_cast<std::ptrdiff_t>(batch.items.size() * bytes));
    batch.items.push_back(items[i]);
  }
  return batch;
}

void append(Predictions& predictions, const Tensor& logits) {
  const std::vector<float> values = logits.to_vector<float>();
  predictions.logits.insert(predictions.logits.end(), values.begin(), values.end());
}

}  // namespace

std::int32_t Predictions::answer(std::size_t i) const {
  const std::span<const float> row = logits_of(i);
  return static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

std::vector<std::int32_t> Predictions::answers() const {
  std::vector<std::int32_t> result;
  for (std::size_t i = 0; i < size(); ++i) result.push_back(answer(i));
  return result;
}

double Predictions::mean_loss() const {
  double sum = 0;
  for (std::size_t i = 0; i < size(); ++i)
    sum -= std::log(std::max(softmax_of(logits_of(i))[labels[i]], 1e-300));
  return size() > 0 ? sum / static_cast<double>(size()) : 0;
}

bool Predictions::all_zero() const {
  return std::all_of(logits.begin(), logits.end(), [](float v) { return v == 0; });
}

std::vector<double> softmax_of(std::span<const float> logits, double temperature) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  double sum = 0;
  for (const float v : logits)
    sum += p.emplace_back(std::exp((static_cast<double>(v) - largest) / temperature));
  for (double& v : p) v /= sum;
  return p;
}

std::vector<std::int32_t> top_classes(std::span<const float> logits, std::size_t k) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return logits[a] > logits[b]; });
  order.resize(std::min(k, order.size()));
  return order;
}

Tensor forward_images(nn::Module& model, const std::uint8_t* images, std::int64_t n, std::int64_t size,
                      DType dtype, const Normalization& normalization, Device device, bool mirrored) {
  const std::span<const std::uint8_t> pixels(images, static_cast<std::size_t>(n * size * size * 3));
  Tensor flip;
  if (mirrored)
    flip = from_values<std::uint8_t>({n}, std::vector<std::uint8_t>(static_cast<std::size_t>(n), 1), device);
  return model(
      preprocess(from_values<std::uint8_t>({n, size, size, 3}, pixels, device), dtype, normalization, flip));
}

Predictions predict_loader(nn::Module& model, data::Loader& loader, const ModelCard& card, Device device) {
  const NoGrad no_grad;
  model.eval();
  Predictions result;
  result.classes = static_cast<std::int64_t>(card.classes.size());
  loader.start_epoch(0);
  for (data::Batch batch; loader.next(batch);) {
    append(result, forward_images(model, batch.images, batch.size, card.image_size, DType::f32,
                                  card.normalization, device));
    result.items.insert(result.items.end(), batch.indices.begin(), batch.indices.end());
    result.labels.insert(result.labels.end(), batch.labels.begin(), batch.labels.end());
  }
  return result;
}

TolerantPredictions predict_items(nn::Module& model, const data::Dataset& dataset,
                                  std::span<const std::int64_t> items, const ModelCard& card, Device device,
                                  const PredictOptions& options) {
  const NoGrad no_grad;
  model.eval();
  TolerantPredictions result;
  Predictions& p = result.predictions;
  p.classes = static_cast<std::int64_t>(card.classes.size());
  const auto decode_from = [&](std::size_t begin) {
    const std::size_t n = std::min<std::size_t>(kPredictBatch, items.size() - begin);
    return std::async(std::launch::async, [&, part = items.subspan(begin, n)] {
      return decode_batch(dataset, part, card, options);
    });
  };
  if (items.empty()) return result;
  std::future<DecodedBatch> next = decode_from(0);
  for (std::size_t begin = 0; begin < items.size(); begin += kPredictBatch) {
    const DecodedBatch batch = next.get();
    if (begin + kPredictBatch < items.size()) next = decode_from(begin + kPredictBatch);
    result.left_out.insert(result.left_out.end(), batch.left_out.begin(), batch.left_out.end());
    if (!batch.items.empty()) {
      const auto forward = [&](bool mirrored) {
        return forward_images(model, batch.pixels.data(), static_cast<std::int64_t>(batch.items.size()),
                              card.image_size, options.precision, card.normalization, device, mirrored);
      };
      Tensor logits = forward(false);
      if (options.mirrored_too) logits = affine(add(logits, forward(true)), 0.5f);
      append(p, logits);
      for (const std::int64_t item : batch.items) {
        p.items.push_back(item);
        p.labels.push_back(dataset.items[item].label);
      }
    }
    if (options.progress)
      options.progress(static_cast<std::int64_t>(std::min<std::size_t>(begin + kPredictBatch, items.size())));
  }
  return result;
}

}  // namespace cairn::app
