#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "apps/learner.h"
#include "kernels/philox.h"

/// What tests of training by several processes share: batches that are cut into parts, learners made alike,
/// and how far two of them may differ.
namespace cairn::app {

inline constexpr std::int64_t kBatch = 8;
inline constexpr int kClasses = 3;

// The spread of PyTorch against itself for one step's gradients, worst tensor: 7e-4 for ModelCNN; for
// ResNet-18, whose batch norms and ReLUs amplify rounding, 3e-3 (fp32 against double, 12 images of 224 x 224)
// to 6e-2 (channels_last against double). Seen here, 8 images of 64 x 64: 2e-6 and 8e-3.
inline double gradient_spread(const std::string& model) { return model == "model_cnn" ? 1e-5 : 2e-2; }

struct Case {
  std::string model;
  int world = 1;
  std::int64_t accumulate = 1;
  bool sync = true;
  std::string balance = "none";
  std::int64_t last = kBatch;  // images of the last step's batch
  float lr = 1e-3f;
};
inline void PrintTo(const Case& c, std::ostream* out) {
  *out << c.model << ", " << c.world << " processes, " << c.accumulate << " pieces, " << c.balance;
}

// A batch of all processes.
struct GlobalBatch {
  std::int64_t size = 0, image = 0;
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> labels, labels2;
  std::vector<float> lambda;

  data::Batch part(int rank, int world) const {
    const std::int64_t local = kBatch / world, begin = std::min(rank * local, size);
    data::Batch batch;
    batch.size = std::min(local, size - begin);
    batch.global_size = size;
    batch.images = pixels.data() + begin * image;
    const auto cut = [&](const auto& all) {
      using V = std::decay_t<decltype(all)>;
      return all.empty() ? V() : V(all.begin() + begin, all.begin() + begin + batch.size);
    };
    batch.labels = cut(labels);
    batch.labels2 = cut(labels2);
    batch.lambda = cut(lambda);
    return batch;
  }
};

inline GlobalBatch make_batch(std::int64_t size, std::int64_t side, std::uint64_t number, bool mixed) {
  GlobalBatch b{
      .size = size, .image = side * side * 3, .pixels = {}, .labels = {}, .labels2 = {}, .lambda = {}};
  b.pixels.resize(static_cast<std::size_t>(size * b.image));
  for (std::int64_t n = 0; n < size; ++n) {
    b.labels.push_back(static_cast<std::int32_t>((n * n + static_cast<std::int64_t>(number)) % kClasses));
    if (mixed) b.labels2.push_back(static_cast<std::int32_t>(n % kClasses));
    if (mixed) b.lambda.push_back(0.25f + 0.0625f * static_cast<float>(n));
  }
  for (std::size_t i = 0; i < b.pixels.size(); ++i) {
    const std::int32_t label = b.labels[i / static_cast<std::size_t>(b.image)];
    const std::uint32_t band = i / 24 % kClasses == static_cast<std::size_t>(label) ? 100 : 0;
    b.pixels[i] = static_cast<std::uint8_t>(band + uniform_below(philox(31, number, i).v[0], 150));
  }
  return b;
}

using Values = std::vector<std::vector<float>>;

inline Values values_of(const std::vector<nn::NamedTensor>& tensors) {
  Values values;
  for (const nn::NamedTensor& t : tensors) values.push_back(t.tensor.to_vector<float>());
  return values;
}

struct State {
  Values model, optimizer;
  std::int64_t steps = 0;
};

// What a test needs to make learners.
class Workshop {
 public:
  explicit Workshop(const Case& c) : console_(true, false) {
    dataset_.classes = {"a", "b", "c"};
    for (const int label : {0, 0, 0, 0, 0, 1, 1, 1, 2, 2}) {
      data::Item item;
      item.path = "i" + std::to_string(dataset_.items.size());
      item.label = label;
      manifest_.rows.push_back({.path = item.path,
                                .label = dataset_.classes[static_cast<std::size_t>(label)],
                                .part = data::Part::train,
                                .hash = item.path,
                                .duplicate_group = -1,
                                .copy = 0});
      dataset_.items.push_back(std::move(item));
    }
    options_.model = c.model;
    options_.image_size = c.model == "model_cnn" ? 32 : 64;
    options_.batch_size = kBatch;
    options_.precision = "fp32";
    options_.accumulate = c.accumulate;
    options_.sync_batch_norm = c.sync;
    options_.balance = c.balance;
    options_.epochs = 1;
    options_.resolve();
  }
  std::unique_ptr<Learner> learner(distributed::Communicator* processes, std::int64_t accumulate,
                                   Device device = {}, bool graphs = true) {
    TrainOptions o = options_;
    o.accumulate = accumulate;
    const LearnerSetup setup{.options = o,
                             .common = {},
                             .device = device,
                             .dataset = dataset_,
                             .manifest = manifest_,
                             .console = console_,
                             .resumed = false,
                             .profile = !graphs,
                             .processes = processes};
    auto learner = std::make_unique<Learner>(setup, nullptr, 100);
    learner->train();
    return learner;
  }
  std::int64_t side() const { return options_.image_size; }

 private:
  data::Dataset dataset_;
  data::Manifest manifest_;
  Console console_;
  TrainOptions options_;
};

inline State state_of(Learner& l) {
  return {values_of(l.model().named_tensors()), values_of(l.optimizer().state()), l.optimizer().steps()};
}
inline void set_state(Learner& l, const State& s) {
  const auto put = [](const std::vector<nn::NamedTensor>& tensors, const Values& values) {
    for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].tensor.copy_from<float>(values[i]);
  };
  put(l.model().named_tensors(), s.model);
  put(l.optimizer().state(), s.optimizer);
  l.optimizer().set_steps(s.steps);
}
inline Values gradients_of(Learner& l) {
  Values all;
  for (const nn::NamedTensor& p : l.model().named_parameters())
    all.push_back(p.tensor.grad_buffer().to_vector<float>());
  return all;
}

// |a - b| / |b| in the 2-norm.
inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

}  // namespace cairn::app
