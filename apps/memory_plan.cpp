#include "apps/memory_plan.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <unordered_map>
#include <unordered_set>

#include "apps/fine_tuning.h"
#include "apps/precision.h"
#include "apps/prediction.h"
#include "data/augment.h"
#include "data/available_memory.h"
#include "data/cache.h"
#include "data/sampler.h"
#include "engine/autograd.h"
#include "engine/graph.h"
#include "engine/layer_names.h"
#include "engine/tape_observer.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

constexpr const char* kParameters = "parameters and gradients";
constexpr const char* kOptimizer = "optimizer";
constexpr const char* kInput = "the batch";

/// Names what a dry run allocates by the layer that it is allocated for.
class Labels : public TapeObserver {
 public:
  Labels(DryRun& run, const nn::Module& model) : run_(run), names_(model) {}
  void recorded(const char* op, const Tensor&, std::span<const Tensor> inputs, const Node* node) override {
    const std::string layer = names_.name(op, inputs);
    run_.label_new(layer);
    if (node) layers_[node] = layer;
  }
  void before_backward(const Node& node) override { run_.begin_label(layers_[&node]); }
  void after_backward(const Node&) override { run_.begin_label({}); }

 private:
  DryRun& run_;
  LayerNames names_;
  std::unordered_map<const Node*, std::string> layers_;
};

struct Walk {
  std::int64_t parameters = 0, optimizer = 0, largest_parameter = 0;
  std::vector<DryRun::Holder> holders;
  MemoryStats stats;
};

std::unique_ptr<nn::Module> make_model(const LearnerSetup& setup) {
  auto model = models::make_model(setup.options.model, model_options(setup));
  static_cast<void>(freeze(*model, setup.options.freeze));
  model->to(setup.device);
  return model;
}

// As predict_loader() does it.
void evaluate(DryRun& run, nn::Module& model, const LearnerSetup& setup) {
  const Labels names(run, model);
  const NoGrad no_grad;
  model.eval();
  const std::int64_t s = setup.options.image_size;
  const Tensor images = empty({kPredictBatch, s, s, 3}, DType::u8, setup.device);
  static_cast<void>(model(preprocess(images, DType::f32)));
}

// Two steps as TrainStep makes them, so that what the first leaves in the allocator's cache counts once.
Walk walk_through(const LearnerSetup& setup, std::int64_t batch_size, bool evaluation) {
  const TrainOptions& o = setup.options;
  DryRun run(setup.device);
  run.begin_label(kParameters);
  const auto model = make_model(setup);
  const Tensor step = zeros({1}, DType::i64, setup.device);
  model->set_random_state({.seed = o.seed, .step = step});
  optim::FlatParameters parameters(*model);
  run.begin_label(kOptimizer);
  const std::int64_t before = run.stats().in_use;
  const auto optimizer = optim::make_optimizer(parameters, optimizer_options(o));
  Walk walk;
  walk.optimizer = run.stats().in_use - before;
  const auto float_bytes = [](const Tensor& t) {
    return t.numel() * static_cast<std::int64_t>(sizeof(float));
  };
  walk.parameters = float_bytes(parameters.values());
  for (const optim::FlatParameters::Slice& slice : parameters.slices())
    walk.largest_parameter = std::max(walk.largest_parameter, float_bytes(slice.parameter.tensor));
  run.begin_label(kInput);
  const std::int64_t s = o.image_size;
  const DType dtype = precision_dtype(o.precision, setup.device);
  const Tensor staged[] = {empty({batch_size, s, s, 3}, DType::u8, setup.device),
                           empty({batch_size, s, s, 3}, DType::u8, setup.device)};
  const Tensor x = empty({batch_size, s, s, 3}, dtype, setup.device);
  const Tensor labels = empty({batch_size}, DType::i32, setup.device);
  run.begin_label({});
  {
    const Labels names(run, *model);
    for (int i = 0; i < 2; ++i) {
      const Tensor loss = softmax_cross_entropy((*model)(x), labels);
      run.label_new("softmax_cross_entropy");
      optimizer->zero_grad();
      loss.backward();
      run.begin_label(kOptimizer);
      optimizer->apply(loss);
      run.begin_label({});
    }
  }
  if (evaluation) {
    evaluate(run, *model, setup);
  }
  walk.holders = run.peak_holders();
  walk.stats = run.stats();
  return walk;
}

// A captured step keeps its memory, so that a validation needs its own.
std::int64_t reserved_by_evaluation(const LearnerSetup& setup) {
  DryRun run(setup.device);
  const auto model = make_model(setup);
  const std::int64_t before = run.stats().reserved;
  evaluate(run, *model, setup);
  return run.stats().reserved - before;
}

std::int64_t resident_memory() {
  std::ifstream file("/proc/self/statm");
  std::int64_t size = 0, resident = 0;
  return file >> size >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
}

// Batches that the loader fills, and on the CPU the decoded images that it keeps.
std::int64_t loaded_images(const LearnerSetup& setup, std::int64_t batch_size) {
  const TrainOptions& o = setup.options;
  const std::int64_t image = o.image_size * o.image_size * 3;
  const data::LoaderOptions defaults;
  std::int64_t bytes = (defaults.prefetch + UploadQueue::kInFlight) * batch_size * image +
                       defaults.prefetch * kPredictBatch * image;
  if (!o.cache_file.empty()) return bytes;
  const auto kept = [&](data::Part part, std::int64_t side) {
    const auto items = data::part_items(setup.dataset, setup.manifest, part);
    const auto distinct =
        static_cast<std::int64_t>(std::unordered_set<std::int64_t>(items.begin(), items.end()).size());
    return std::min(distinct * side * side * 3, data::default_cache_bytes());
  };
  const data::Augment augment = data::parse_augment(o.augment);
  bytes += kept(data::Part::train, data::augment_source_size(augment, static_cast<int>(o.image_size)));
  return bytes + kept(data::Part::val, o.image_size);
}

std::int64_t free_device_memory(Device device) {
  compute_queue(device);  // loads the backend
  const kernels::DeviceApi& api = *kernels::device_api(device.type);
  if (!api.free_memory) return data::available_memory();
  std::size_t bytes = 0;
  check(api.free_memory(device.index, bytes));
  return static_cast<std::int64_t>(bytes);
}

std::string count_text(std::int64_t images) {
  return images == 1 ? "1 image" : std::to_string(images) + " images";
}

}  // namespace

MemoryPlan plan_memory(const LearnerSetup& setup, std::int64_t batch_size) {
  const bool on_host = setup.device.type == DeviceType::cpu;
  MemoryPlan plan;
  plan.batch_size = batch_size;
  const bool graphs = Graph::supported(setup.device);
  Walk walk = walk_through(setup, batch_size, !graphs);
  // Afterwards: kernels that a library makes at run time are there now.
  plan.program = on_host ? resident_memory() : 0;
  plan.available = free_device_memory(setup.device);
  plan.parameters = plan.gradients = walk.parameters;
  plan.optimizer = walk.optimizer;
  for (const DryRun::Holder& h : walk.holders) {
    if (h.kind == DryRun::Kind::workspace)
      plan.workspaces += h.bytes;
    else if (h.label != kParameters && h.label != kOptimizer)
      plan.activations += h.bytes;
  }
  plan.reserve = walk.stats.reserved - plan.parameters - plan.gradients - plan.optimizer - plan.workspaces -
                 plan.activations;
  if (graphs) plan.reserve += reserved_by_evaluation(setup);
  // The copy, and the largest tensor twice more while it is put into the file's order.
  plan.state = walk.parameters + walk.optimizer + (on_host ? 2 * walk.largest_parameter : 0);
  if (on_host) plan.images = loaded_images(setup, batch_size);
  plan.holders = std::move(walk.holders);
  return plan;
}

std::int64_t largest_batch(const LearnerSetup& setup, std::int64_t most) {
  const MemoryPlan one = plan_memory(setup, 1);
  if (!one.fits() || most < 1) return 0;
  std::int64_t batch = std::min<std::int64_t>(most, 8);
  MemoryPlan some = plan_memory(setup, batch);
  for (; batch > 1 && !some.fits(); some = plan_memory(setup, batch)) batch /= 2;
  if (batch == 1 || batch == most) return batch;
  // Nearly all of it grows with the batch, workspaces not evenly: along the line, then back until it fits.
  const double room = static_cast<double>(some.available - some.needed());
  const double slope =
      static_cast<double>(some.needed() - one.needed()) / static_cast<double>(some.batch_size - 1);
  const double more = std::min(room / std::max(slope, 1.0), static_cast<double>(most - batch));
  std::int64_t aim = batch + static_cast<std::int64_t>(more);
  while (aim > batch && !plan_memory(setup, aim).fits()) aim = std::max(batch, aim * 19 / 20);
  return aim;
}

std::int64_t choose_batch_size(const LearnerSetup& setup, std::int64_t epoch_images) {
  std::int64_t batch = kAutoMost;
  while (batch > 1 && batch * kAutoSteps > epoch_images) batch /= 2;
  for (; batch >= 1; batch /= 2)
    if (plan_memory(setup, batch).fits()) return batch;
  require_room(plan_memory(setup, 1), setup);
  return 1;
}

void require_room(const MemoryPlan& plan, const LearnerSetup& setup) {
  if (plan.fits()) return;
  const std::int64_t most = largest_batch(setup, plan.batch_size - 1);
  const std::string side = std::to_string(setup.options.image_size);
  throw InputError(
      "a batch of " + count_text(plan.batch_size) + " of " + side + " x " + side + " would take " +
      memory_text(plan.needed()) + " and " + memory_text(plan.available) + " are free on " +
      to_string(setup.device) + " (the largest: " + holders_text(plan) + "); " +
      (most > 0 ? "use --batch-size " + std::to_string(most) + " or less, --batch-size auto, or a"
                : "not even one fits beside a validation of " + std::to_string(kPredictBatch) +
                      " at once: use a") +
      " smaller --image-size");
}

void offer_auto_batch(CLI::App& command) {
  command.get_option("--batch-size")
      ->description("images a step; auto: a power of two that fits into memory, up to " +
                    std::to_string(kAutoMost) + " and a sixteenth of an epoch")
      ->transform(CLI::Validator(
          [](std::string& text) {
            if (text == "0") return "0 is no batch size: a number, or auto";
            if (text == "auto") text = "0";
            return "";
          },
          "", "auto"));
}

MemoryPlan prepare_memory(LearnerSetup& setup) {
  TrainOptions& o = setup.options;
  const bool open = o.batch_size == 0;
  MemoryPlan plan;
  try {
    if (open) o.batch_size = choose_batch_size(setup, epoch_images(setup));
    plan = plan_memory(setup, o.batch_size);
  } catch (const InputError&) {
    throw;
  } catch (const Error& error) {
    if (open) o.batch_size = TrainOptions().batch_size;
    plan.batch_size = o.batch_size;
    setup.console.warn("the memory is not planned: " + std::string(error.what()));
    return plan;
  }
  if (open) setup.console.say("--batch-size auto: " + std::to_string(o.batch_size));
  setup.console.say(plan_text(plan));
  require_room(plan, setup);
  return plan;
}

std::string out_of_memory_text(const MemoryPlan& plan, const std::string& what) {
  const std::string planned = plan.holders.empty() ? ""
                                                   : "; the plan was " + memory_text(plan.peak()) +
                                                         ", the largest: " + holders_text(plan);
  return what + planned + "; try --batch-size " +
         std::to_string(std::max<std::int64_t>(plan.batch_size / 2, 1)) +
         ", a smaller --image-size or --precision bf16, or end what else takes memory";
}

std::string memory_text(std::int64_t bytes) {
  char text[32];
  const auto b = static_cast<double>(bytes);
  if (b >= 0x1p30)
    std::snprintf(text, sizeof text, "%.1f GiB", b / 0x1p30);
  else
    std::snprintf(text, sizeof text, "%.0f MiB", b / 0x1p20);
  return text;
}

std::string plan_text(const MemoryPlan& plan) {
  std::string text = "memory: " + memory_text(plan.peak()) + " at the peak, " +
                     memory_text(plan.available + plan.program) + " to be had";
  const std::pair<const char*, std::int64_t> parts[] = {
      {"parameters", plan.parameters},   {"gradients", plan.gradients},   {"optimizer", plan.optimizer},
      {"activations", plan.activations}, {"workspaces", plan.workspaces}, {"kept for reuse", plan.reserve},
      {"images", plan.images},           {"checkpoint", plan.state},      {"the program", plan.program}};
  const char* separator = ": ";
  for (const auto& [name, bytes] : parts) {
    if (bytes < 1 << 19) continue;
    text += separator + std::string(name) + " " + memory_text(bytes);
    separator = ", ";
  }
  return text;
}

std::string holders_text(const MemoryPlan& plan) {
  constexpr std::size_t kNamed = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(kNamed, plan.holders.size()); ++i) {
    const DryRun::Holder& h = plan.holders[i];
    text += (i > 0 ? ", " : "") + h.label + (h.kind == DryRun::Kind::workspace ? "'s workspace " : " ") +
            memory_text(h.bytes);
  }
  return text;
}

nlohmann::json plan_json(const MemoryPlan& plan) {
  nlohmann::json json = {{"batch_size", plan.batch_size},
                         {"parameters", plan.parameters},
                         {"gradients", plan.gradients},
                         {"optimizer", plan.optimizer},
                         {"activations", plan.activations},
                         {"workspaces", plan.workspaces},
                         {"reserve", plan.reserve},
                         {"images", plan.images},
                         {"checkpoint", plan.state},
                         {"program", plan.program},
                         {"peak", plan.peak()},
                         {"available", plan.available},
                         {"largest", nlohmann::json::array()}};
  constexpr std::size_t kListed = 20;
  for (std::size_t i = 0; i < std::min(kListed, plan.holders.size()); ++i)
    json["largest"].push_back({{"holder", plan.holders[i].label},
                               {"workspace", plan.holders[i].kind == DryRun::Kind::workspace},
                               {"bytes", plan.holders[i].bytes}});
  return json;
}

}  // namespace cairn::app
