#include "apps/learner.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "apps/fine_tuning.h"
#include "apps/precision.h"
#include "apps/prediction.h"
#include "apps/processes.h"
#include "data/cache.h"
#include "data/sampler.h"
#include "engine/device.h"
#include "engine/io/safetensors.h"
#include "engine/io/weights.h"
#include "engine/nn/layers.h"

namespace cairn::app {

void adopt_normalization(TrainOptions& o, Console& console) {
  if (o.init.empty() || !o.mean.empty() || !o.std.empty()) return;
  ModelCard card;
  card.normalization = imagenet_normalization();
  std::string source = "no word of it in the file, so ImageNet's";
  if (std::filesystem::path(o.init).extension() == ".safetensors") {
    const io::Metadata metadata = io::open_safetensors(o.init).metadata;
    if (metadata.contains("mean") && metadata.contains("std")) source = "as the file says";
    read_card(metadata, o.init, card);
  }
  o.mean.assign(std::begin(card.normalization.mean), std::end(card.normalization.mean));
  o.std.assign(std::begin(card.normalization.std), std::end(card.normalization.std));
  const auto three = [](const std::vector<double>& v) {
    return number_text(v[0]) + "," + number_text(v[1]) + "," + number_text(v[2]);
  };
  console.say("normalisation for " + o.init + ": --mean " + three(o.mean) + " --std " + three(o.std) + " (" +
              source + ")");
}

ModelCard card_of(const LearnerSetup& setup) {
  const TrainOptions& o = setup.options;
  return {.model = o.model,
          .classes = setup.dataset.classes,
          .image_size = o.image_size,
          .resize = o.resize,
          .normalization = make_normalization(o.mean, o.std)};
}

models::ModelOptions model_options(const LearnerSetup& setup) {
  const TrainOptions& o = setup.options;
  models::ModelOptions options{.classes = static_cast<std::int64_t>(setup.dataset.classes.size()),
                               .image_size = static_cast<int>(o.image_size),
                               .seed = o.seed,
                               .dropout = {}};
  if (o.dropout) options.dropout = static_cast<float>(*o.dropout);
  return options;
}

optim::OptimizerOptions optimizer_options(const TrainOptions& o) {
  return {.kind = optim::parse_optimizer(o.optimizer),
          .weight_decay = static_cast<float>(*o.weight_decay),
          .momentum = static_cast<float>(o.momentum),
          .nesterov = o.nesterov,
          .clip_norm = static_cast<float>(o.clip_norm),
          .ema_decay = static_cast<float>(o.ema)};
}

std::int64_t epoch_images(const LearnerSetup& setup) {
  const std::vector<std::int64_t> items = data::part_items(setup.dataset, setup.manifest, data::Part::train);
  std::vector<std::int32_t> labels;
  for (const std::int64_t item : items) labels.push_back(setup.dataset.items[item].label);
  data::SamplerOptions options;
  options.balance = data::parse_balance(setup.options.balance);
  const auto classes = static_cast<int>(setup.dataset.classes.size());
  return data::Sampler(items, std::move(labels), classes, options).epoch_images();
}

std::unique_ptr<data::Loader> make_loader(const LearnerSetup& setup, data::Part part, bool training,
                                          ResidentImages* resident) {
  const TrainOptions& o = setup.options;
  data::LoaderOptions options;
  options.items = data::part_items(setup.dataset, setup.manifest, part);
  options.sampler.seed = o.seed;
  options.sampler.batch_size = training ? o.batch_size : kPredictBatch;
  if (const distributed::Communicator* p = setup.processes; p && training) {
    options.sampler.rank = p->rank();
    options.sampler.world = p->world();
  } else if (p) {
    options.items = own_batches(options.items, kPredictBatch, p->rank(), p->world());
    if (options.items.empty()) return nullptr;
  }
  options.sampler.shuffle = training && !o.no_shuffle;
  if (training) options.sampler.balance = data::parse_balance(o.balance);
  options.image_size = static_cast<int>(o.image_size);
  options.resize = parse_resize(o.resize);
  const bool fast = training && o.decode == "fast";
  options.decode.mode = fast ? data::DecodeMode::fast : data::DecodeMode::exact;
  options.decode.max_pixels = o.max_pixels;
  if (training) {
    options.augment = data::parse_augment(o.augment);
    options.allocate = [device = setup.device](std::size_t bytes) { return pinned_memory(device, bytes); };
    options.prefetch += UploadQueue::kInFlight;
  }
  if (training && resident) {
    options.without_pixels = [resident](std::int64_t item) { return resident->holds(item); };
    options.cache_bytes = 0;  // each image is decoded once as it is
  }
  options.workers = setup.common.workers;
  // The test part is read once: it has no use for a cache.
  if (!o.cache_file.empty() && part != data::Part::test)
    options.cache_file = o.cache_file + (training ? "" : ".val");
  if (const distributed::Communicator* p = setup.processes) {
    if (!options.cache_file.empty()) options.cache_file += ".rank" + std::to_string(p->rank());
    if (options.cache_bytes < 0) options.cache_bytes = data::default_cache_bytes() / p->local_world();
  }
  return std::make_unique<data::Loader>(setup.dataset, std::move(options));
}

std::unique_ptr<ResidentImages> make_resident_images(const LearnerSetup& setup) {
  if (data::parse_augment(setup.options.augment) != data::Augment::none) return nullptr;
  const auto items = data::part_items(setup.dataset, setup.manifest, data::Part::train);
  auto resident = ResidentImages::make(setup.device, items, setup.options.image_size);
  if (resident)
    setup.console.say("the training images (" + std::to_string(resident->bytes() >> 20) +
                      " MiB) stay on the device");
  return resident;
}

void check_parts_of_batch(const TrainOptions& o, int world) {
  const std::int64_t parts = world * o.accumulate;
  const auto times = [](std::int64_t n, const char* what) { return std::to_string(n) + " " + what; };
  const std::string of = times(world, "processes") + " with --accumulate " + std::to_string(o.accumulate);
  if (o.batch_size % parts != 0)
    throw InputError("--batch-size is " + std::to_string(o.batch_size) + ", expected a multiple of " +
                     std::to_string(parts) + " for " + of);
  // Or the pairs would be others than one process mixes.
  if (world > 1 && o.augment == "standard" && o.batch_size / world % 2 != 0)
    throw InputError("--batch-size is " + std::to_string(o.batch_size) + ", expected a multiple of " +
                     std::to_string(2 * world) +
                     ": --augment standard mixes pairs of images, and there are " +
                     times(world, "processes"));
}

Learner::Learner(const LearnerSetup& setup, ResidentImages* resident, std::int64_t batches) {
  build_model(setup);
  if (setup.processes) join_processes(setup);
  build_optimizer(setup, batches);  // which keeps the places of what join_processes() packs
  build_step(setup, resident);
}

void Learner::build_model(const LearnerSetup& setup) {
  const TrainOptions& o = setup.options;
  model_ = models::make_model(o.model, model_options(setup));
  if (!o.init.empty() && !setup.resumed) {
    const std::string head(models::model_info(o.model).head);
    const io::LoadReport report = io::load_weights(*model_, o.init, {.head = head, .allow_missing = false});
    setup.console.say("weights of " + o.init + ": " + report.summary());
  }
  frozen_batch_norms_ = freeze(*model_, o.freeze);
  model_->to(setup.device);
  step_counter_ = zeros({1}, DType::i64, setup.device);
  random_ = {.seed = o.seed, .step = step_counter_};
  if (const distributed::Communicator* p = setup.processes)
    random_.first_image = p->rank() * (o.batch_size / p->world());
  model_->set_random_state(random_);
  parameters_ = std::make_unique<optim::FlatParameters>(*model_);
  scale_rates(*parameters_, o.lr_scale);
}

void Learner::build_optimizer(const LearnerSetup& setup, std::int64_t batches) {
  const TrainOptions& o = setup.options;
  optimizer_ = optim::make_optimizer(*parameters_, optimizer_options(o));
  const std::int64_t all = *o.epochs * batches;
  schedule_.kind = optim::parse_schedule(o.schedule);
  schedule_.base_lr = static_cast<float>(*o.lr);
  schedule_.warmup_steps = std::llround(*o.warmup_epochs * static_cast<double>(batches));
  schedule_.total_steps = o.max_steps > 0 ? std::min(o.max_steps, all) : all;
  const std::int64_t step_epochs =
      o.step_epochs > 0 ? o.step_epochs : std::max<std::int64_t>(1, *o.epochs / 3);
  schedule_.decay_every = step_epochs * batches;
  schedule_.gamma = static_cast<float>(o.step_gamma);
}

// Gradients are summed over the processes; so are the statistics of batch norms, or else what the processes
// have learned of them is averaged after each step.
void Learner::join_processes(const LearnerSetup& setup) {
  collective_ = distributed::make_collective(*setup.processes, setup.device);
  gradients_ = std::make_unique<distributed::GradientExchange>(*parameters_, *collective_);
  std::vector<nn::BatchNorm2d*> trained;
  model_->apply([&](const std::string&, nn::Module& m) {
    const bool frozen =
        std::find(frozen_batch_norms_.begin(), frozen_batch_norms_.end(), &m) != frozen_batch_norms_.end();
    if (auto* bn = dynamic_cast<nn::BatchNorm2d*>(&m); bn && !frozen) trained.push_back(bn);
  });
  if (setup.options.sync_batch_norm) {
    for (nn::BatchNorm2d* bn : trained) bn->synchronize(collective_.get());
  } else {
    std::vector<Tensor> statistics;
    for (const nn::BatchNorm2d* bn : trained)
      for (const Tensor& t : {bn->tensors().running_mean, bn->tensors().running_var}) statistics.push_back(t);
    statistics_ = optim::pack(statistics);
  }
}

void Learner::train() {
  model_->train();
  hold_frozen(frozen_batch_norms_);
}

void Learner::build_step(const LearnerSetup& setup, ResidentImages* resident) {
  const TrainOptions& o = setup.options;
  TrainStepOptions step{.precision = precision_dtype(o.precision, setup.device),
                        .tf32 = o.precision == "tf32",
                        .batch_size = o.batch_size / (setup.processes ? setup.processes->world() : 1),
                        .image_size = o.image_size,
                        .normalization = make_normalization(o.mean, o.std),
                        .loss = {},
                        .resident = resident,
                        .graphs = !setup.profile,
                        .pieces = o.accumulate,
                        .random = random_,
                        .processes = {.communicator = setup.processes,
                                      .collective = collective_.get(),
                                      .gradients = gradients_.get(),
                                      .averaged = statistics_}};
  step.loss.label_smoothing = static_cast<float>(*o.label_smoothing);
  if (o.loss == "focal") step.loss.focal_gamma = static_cast<float>(o.focal_gamma);
  const data::Balance balance = data::parse_balance(o.balance);
  if (balance == data::Balance::inverse || balance == data::Balance::effective) {
    std::vector<std::int64_t> counts(setup.dataset.classes.size());
    for (const std::int64_t item : data::part_items(setup.dataset, setup.manifest, data::Part::train))
      ++counts[setup.dataset.items[item].label];
    step.loss.class_weights = from_values<float>({static_cast<std::int64_t>(counts.size())},
                                                 data::class_weights(balance, counts), setup.device);
  }
  step_ = std::make_unique<TrainStep>(*model_, *optimizer_, step_counter_, step, setup.device, setup.console);
}

}  // namespace cairn::app
