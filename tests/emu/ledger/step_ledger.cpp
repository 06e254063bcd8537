#include "tests/emu/ledger/step_ledger.h"

#include <map>
#include <memory>
#include <stdexcept>

#include "apps/train_step.h"
#include "engine/device.h"
#include "engine/optim/parameters.h"
#include "models/registry.h"
#include "tests/emu/ops/device.h"

namespace cairn {
namespace {

constexpr std::int64_t kClasses = 7, kImageSize = 224;
constexpr int kWarmSteps = 3;  // kernel by kernel; the fourth is captured
constexpr double kPasses = 14;

/// Without values: only what moves is wanted.
struct CountingOnly {
  CountingOnly() { emu::set_counting_only(true); }
  ~CountingOnly() { emu::set_counting_only(false); }
};

class Run {
 public:
  Run(std::string_view name, DType dtype, std::int64_t images)
      : images_(images),
        pixels_(static_cast<std::size_t>(images * kImageSize * kImageSize * 3)),
        model_(models::make_model(name, {.classes = kClasses, .image_size = static_cast<int>(kImageSize)})) {
    const models::TrainingDefaults& defaults = models::model_info(name).defaults;
    model_->to(kEmulated);
    steps_ = zeros({1}, DType::i64, kEmulated);
    model_->set_random_state({.seed = 1, .step = steps_});
    parameters_ = std::make_unique<optim::FlatParameters>(*model_);
    optimizer_ =
        optim::make_optimizer(*parameters_, {.kind = optim::parse_optimizer(defaults.optimizer),
                                             .weight_decay = static_cast<float>(defaults.weight_decay)});
    step_ = std::make_unique<app::TrainStep>(
        *model_, *optimizer_, steps_,
        app::TrainStepOptions{.precision = dtype,
                              .batch_size = images,
                              .image_size = kImageSize,
                              .normalization = {},
                              .loss = {.label_smoothing = static_cast<float>(defaults.label_smoothing)}},
        kEmulated, console_);
    for (int i = 0; i <= kWarmSteps; ++i) step();
  }
  void step() {
    data::Batch batch;
    batch.size = images_;
    batch.images = pixels_.data();
    batch.labels.assign(static_cast<std::size_t>(images_), 0);
    (void)step_->run(batch, 1e-3f);
    synchronize(kEmulated);
  }

 private:
  std::int64_t images_;
  std::vector<std::uint8_t> pixels_;
  app::Console console_{true, false};
  std::unique_ptr<nn::Module> model_;
  Tensor steps_;
  std::unique_ptr<optim::FlatParameters> parameters_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::unique_ptr<app::TrainStep> step_;
};

std::vector<emu::LedgerEntry> counted(std::string_view model, DType dtype, std::int64_t images) {
  const CountingOnly scope;
  Run run(model, dtype, images);
  emu::begin_ledger();
  run.step();
  return emu::end_ledger();
}

double moved(const emu::LedgerEntry& e) { return static_cast<double>(e.read + e.written); }
bool is_convolution(const emu::LedgerEntry& e, const char* pass) {
  return e.name.starts_with(std::string("conv ") + pass);
}

}  // namespace

double StepLedger::bytes_per_image() const {
  double sum = 0;
  for (const Operation& o : operations) sum += o.bytes_per_image;
  return sum;
}
double StepLedger::bytes_per_step() const {
  double sum = 0;
  for (const Operation& o : operations) sum += o.bytes_per_step;
  return sum;
}
double StepLedger::bytes(std::int64_t images) const {
  return bytes_per_image() * static_cast<double>(images) + bytes_per_step();
}
double StepLedger::floor(std::int64_t images) const {
  return kPasses * static_cast<double>(convolution_outputs * images) * static_cast<double>(size_of(dtype));
}

StepLedger step_ledger(std::string_view model, DType dtype) {
  // ModelCNN's 51 million parameters take the time; a ResNet's last layers have 49 rows an image.
  const std::int64_t fewer_images = model == "model_cnn" ? 2 : 4;
  const auto few = counted(model, dtype, fewer_images), more = counted(model, dtype, 2 * fewer_images);
  const double images_between = static_cast<double>(fewer_images);
  if (few.size() != more.size()) throw std::runtime_error("a step's operations depend on the batch");
  StepLedger ledger{.model = std::string(model), .dtype = dtype, .operations = {}};
  for (std::size_t i = 0; i < more.size(); ++i) {
    if (few[i].kind != more[i].kind) throw std::runtime_error("a step's operations depend on the batch");
    const double slope = (moved(more[i]) - moved(few[i])) / images_between;
    ledger.operations.push_back({.counted = more[i],
                                 .bytes_per_image = slope,
                                 .bytes_per_step = moved(more[i]) - 2 * images_between * slope,
                                 .flops_per_image = (more[i].flops - few[i].flops) / images_between});
    // What a convolution writes forward is its output, which has no fixed part.
    if (is_convolution(more[i], "fprop"))
      ledger.convolution_outputs +=
          more[i].written / (2 * fewer_images) / static_cast<std::int64_t>(size_of(dtype));
  }
  return ledger;
}

std::int64_t memory_held(std::string_view model, DType dtype, std::int64_t images) {
  const CountingOnly scope;
  release_cached_memory(kEmulated);
  const std::int64_t before = memory_stats(kEmulated).reserved;
  const Run run(model, dtype, images);
  return memory_stats(kEmulated).reserved - before;
}

std::vector<StepRow> rows_of(const StepLedger& ledger) {
  std::map<std::string, std::vector<emu::LedgerEntry>> entries;
  std::map<std::string, StepRow> rows;
  for (const StepLedger::Operation& o : ledger.operations) {
    const bool kernel = o.counted.kind == emu::LedgerEntry::Kind::kernel;
    const std::string name = kernel ? emu::short_kernel_name(o.counted.name) : o.counted.name;
    entries[name].push_back(o.counted);
    StepRow& row = rows[name];
    row.name = name;
    row.bytes_per_image += o.bytes_per_image;
    row.bytes_per_step += o.bytes_per_step;
  }
  std::vector<StepRow> out;
  for (auto& [name, row] : rows) {
    row.counted = emu::ledger_rows(entries[name]).at(0);
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace cairn
