// Trains ResNet-18 on a folder with one folder of images a class: load, model, loop, save.
//   train_minimal DATA WEIGHTS.safetensors [EPOCHS] [IMAGE_SIZE]
#include <cstdio>
#include <numeric>
#include <span>
#include <string>

#include "data/loader.h"
#include "engine/io/weights.h"
#include "engine/ops.h"
#include "engine/optim/optimizer.h"
#include "engine/optim/schedule.h"
#include "kernels/error.h"
#include "models/registry.h"

using namespace cairn;

static void train(const std::string& folder, const std::string& weights, int epochs, int image_size) {
  // Load: images come decoded, resized, augmented and shuffled from worker threads.
  const data::Dataset dataset = data::open_dataset(folder);
  data::LoaderOptions load;
  load.items.resize(dataset.items.size());
  std::iota(load.items.begin(), load.items.end(), 0);
  load.image_size = image_size;
  load.augment = data::Augment::light;
  load.sampler.batch_size = 32;
  load.sampler.balance = data::Balance::oversample;
  data::Loader loader(dataset, load);

  // Model, its parameters in one buffer, an optimiser over that buffer, a learning rate for each step.
  const Device device = parse_device("auto");
  const auto classes = static_cast<std::int64_t>(dataset.classes.size());
  const auto model = models::make_model("resnet18", {.classes = classes, .image_size = image_size});
  model->to(device);
  optim::FlatParameters parameters(*model);
  const auto optimizer =
      optim::make_optimizer(parameters, {.kind = optim::OptimizerKind::adamw, .weight_decay = 0.01f});
  const std::int64_t steps = epochs * loader.batches_per_epoch();
  const optim::Schedule schedule{.kind = optim::ScheduleKind::cosine,
                                 .base_lr = 1e-3f,
                                 .warmup_steps = steps / 20,
                                 .total_steps = steps};

  for (int epoch = 0; epoch < epochs; ++epoch) {
    loader.start_epoch(epoch);
    double total = 0;
    for (data::Batch batch; loader.next(batch);) {
      const auto bytes = static_cast<std::size_t>(batch.size * image_size * image_size * 3);
      const Tensor pixels = from_values<std::uint8_t>({batch.size, image_size, image_size, 3},
                                                      std::span(batch.images, bytes), device);
      const Tensor labels = from_values<std::int32_t>({batch.size}, batch.labels, device);
      optimizer->zero_grad();
      const Tensor logits = (*model)(preprocess(pixels, DType::f32));
      const Tensor loss = softmax_cross_entropy(logits, labels);
      loss.backward();
      optimizer->step(schedule.lr(optimizer->steps()));
      total += loss.item();
    }
    std::printf("epoch %d: loss %.4f\n", epoch + 1, total / static_cast<double>(loader.batches_per_epoch()));
  }

  // Save: safetensors under torchvision's names.
  io::save_weights(*model, weights, {{"model", "resnet18"}});
}

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: train_minimal DATA WEIGHTS.safetensors [EPOCHS] [IMAGE_SIZE]\n");
    return 2;
  }
  train(argv[1], argv[2], argc > 3 ? std::stoi(argv[3]) : 10, argc > 4 ? std::stoi(argv[4]) : 224);
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "train_minimal: %s\n", e.what());
  return 1;
}
