// The program's step of training on the emulated device: graphs for whole batches, the same bits without.
#include "apps/train_step.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "apps/resident_images.h"
#include "kernels/device.h"
#include "kernels/emu/runtime.h"
#include "kernels/error.h"
#include "tests/emu/schedules.h"
#include "tests/emu/train/training.h"

namespace cairn {
namespace {

constexpr std::int64_t kImages = 4;

data::Batch batch_of(const TestBatch& from, bool mixed) {
  data::Batch batch;
  batch.size = from.images();
  batch.images = from.pixels.data();
  batch.labels = from.labels;
  if (mixed) {
    batch.labels2.assign(from.labels.rbegin(), from.labels.rend());
    batch.lambda.assign(from.labels.size(), 0.75f);
  }
  return batch;
}

app::TrainStepOptions step_options(DType precision, app::ResidentImages* resident = nullptr) {
  return {.precision = precision,
          .tf32 = false,
          .batch_size = kImages,
          .image_size = kSize,
          .normalization = {},
          .loss = {},
          .resident = resident};
}

// Whole batches, then among them a mixed one and an epoch's last, smaller one: each kind with its own labels.
TEST(GraphTrainStep, TakesEveryBatchToTheBitsOfDirectLaunches) {
  Training training("model_cnn", kEmulated, DType::f32, {.kind = optim::OptimizerKind::adam});
  Training direct("model_cnn", kEmulated, DType::f32, {.kind = optim::OptimizerKind::adam});
  app::Console console(true, false);
  app::TrainStep step(*training.model, *training.optimizer, training.step_counter, step_options(DType::f32),
                      kEmulated, console);
  emu::reset_call_counts();
  for (std::uint64_t i = 0; i < 9; ++i) {
    const bool mixed = i == 1 || i == 6;
    const TestBatch batch = make_batch(i == 7 ? kImages - 1 : kImages, i);
    const data::Batch sent = batch_of(batch, mixed);
    const float lr = 1e-3f / static_cast<float>(1 + i);
    const Tensor loss = step.run(sent, lr);

    direct.send_step_number();
    const Training::Inputs inputs = direct.upload(batch);
    CrossEntropyOptions options;
    if (mixed) {
      options.labels2 = from_values<std::int32_t>({kImages}, sent.labels2, kEmulated);
      options.lambda = from_values<float>({kImages}, sent.lambda, kEmulated);
    }
    const Tensor want = softmax_cross_entropy((*direct.model)(preprocess(inputs.images, DType::f32, {})),
                                              inputs.labels, options);
    direct.optimizer->zero_grad();
    want.backward();
    direct.optimizer->step(lr);
    ASSERT_EQ(loss.item(), want.item()) << "step " << i;
    ASSERT_EQ(training.parameters->values().to_vector<float>(),
              direct.parameters->values().to_vector<float>())
        << "step " << i;
  }
  EXPECT_EQ(emu::call_counts().graph_launches, 4);  // steps 3 to 5, and 8
}

constexpr std::int64_t kItems = 10, kImageBytes = kSize * kSize * 3;

// A loader's work: batches of ten images, in pinned memory that is written over as soon as nobody holds it.
class Source {
 public:
  Source() : set_(make_batch(kItems, 30)) {}

  /// `number` decides which images; `without`: pixels left out, as the device has them.
  data::Batch batch(std::int64_t number, std::int64_t size = kImages,
                    const app::ResidentImages* without = nullptr, bool hold = true) {
    if (free_.empty()) memory_.push_back(app::pinned_memory(kEmulated, kImages * kImageBytes));
    std::uint8_t* const pixels = free_.empty() ? memory_.back().get() : free_.back();
    if (!free_.empty()) free_.pop_back();
    data::Batch batch;
    batch.size = size;
    batch.images = pixels;
    for (std::int64_t n = 0; n < size; ++n) {
      const std::int64_t item = (3 * number + n * n) % kItems;  // some twice
      batch.indices.push_back(item);
      batch.labels.push_back(set_.labels[static_cast<std::size_t>(item)]);
      std::uint8_t* const to = pixels + n * kImageBytes;
      if (without && without->holds(item)) {
        std::memset(to, 0x33, kImageBytes);
        ++left_out_;
      } else {
        std::memcpy(to, set_.pixels.data() + item * kImageBytes, kImageBytes);
      }
    }
    const auto let_go = [this, pixels](const void*) {
      std::memset(pixels, 0x5A, kImages * kImageBytes);
      free_.push_back(pixels);
    };
    batch.hold = std::shared_ptr<const void>(pixels, let_go);
    if (!hold) batch.hold = nullptr;
    return batch;
  }
  std::size_t buffers() const { return memory_.size(); }
  std::int64_t left_out() const { return left_out_; }

 private:
  TestBatch set_;
  std::vector<std::shared_ptr<std::uint8_t[]>> memory_;
  std::vector<std::uint8_t*> free_;
  std::int64_t left_out_ = 0;
};

class Trained {
 public:
  explicit Trained(bool resident, DType dtype = DType::f32, const char* model = "")
      : training_(
            *model
                ? models::make_model(
                      model,
                      {.classes = kClasses, .image_size = static_cast<int>(kSize), .seed = 20, .dropout = {}})
                : small_net(),
            kEmulated, dtype, {.kind = optim::OptimizerKind::adam}) {
    std::vector<std::int64_t> items;
    for (std::int64_t i = 0; i < kItems; ++i) items.push_back(i);
    if (resident) resident_.emplace(kEmulated, items, kSize);
    step_.emplace(*training_.model, *training_.optimizer, training_.step_counter,
                  step_options(dtype, resident ? &*resident_ : nullptr), kEmulated, console_);
  }
  Tensor step(std::int64_t number, std::int64_t size = kImages, bool hold = true) {
    return step_->run(source_.batch(number, size, resident_ ? &*resident_ : nullptr, hold),
                      1e-3f / static_cast<float>(1 + number));
  }
  std::vector<float> parameters() const { return training_.parameters->values().to_vector<float>(); }
  const Source& source() const { return source_; }

 private:
  Source source_;  // outlives what holds its memory
  Training training_;
  app::Console console_{true, false};
  std::optional<app::ResidentImages> resident_;
  std::optional<app::TrainStep> step_;
};

class Uploads : public NoReportsTest {
 protected:
  void TearDown() override {
    emu::set_schedule(emu::Schedule::eager);
    NoReportsTest::TearDown();
  }
};

// Each image goes up once, with the first batch that has it; later batches carry none, and the bits are those
// of batches sent whole.
TEST_F(Uploads, ResidentImagesTrainToTheSameBits) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    Trained sent(false, dtype), resident(true, dtype);
    for (std::int64_t i = 0; i < 9; ++i) {
      const std::int64_t size = i == 6 ? kImages - 1 : kImages;
      ASSERT_EQ(resident.step(i, size).item(), sent.step(i, size).item()) << name_of(dtype) << " step " << i;
      ASSERT_EQ(resident.parameters(), sent.parameters()) << name_of(dtype) << " step " << i;
    }
    EXPECT_GT(resident.source().left_out(), 15);
  }
}

TEST_F(Uploads, StayWhereThereIsRoom) {
  const std::vector<std::int64_t> items = {4, 7, 4};
  EXPECT_EQ(app::ResidentImages::make(Device{}, items, kSize), nullptr);
  const auto images = app::ResidentImages::make(kEmulated, items, kSize);
  ASSERT_NE(images, nullptr);
  EXPECT_EQ(images->bytes(), 2 * kImageBytes);
  EXPECT_FALSE(images->holds(7));
  EXPECT_THROW((void)images->holds(5), Error);
  // A quarter of the device and more.
  std::vector<std::int64_t> many(1 << 20);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::int64_t>(i);
  EXPECT_EQ(app::ResidentImages::make(kEmulated, many, 96), nullptr);
}

TEST_F(Uploads, NoScheduleOfStreamsChangesABit) {
  for (const bool resident : {false, true}) {
    const auto run = [&](bool hold) {
      Trained steps(resident);
      for (std::int64_t i = 0; i < 7; ++i) (void)steps.step(i, i == 5 ? kImages - 1 : kImages, hold);
      return steps.parameters();
    };
    emu::set_schedule(emu::Schedule::eager);
    const auto want = run(true);
    emu::set_schedule(emu::Schedule::late);
    EXPECT_EQ(run(true), want);
    EXPECT_NE(run(false), want) << "memory given back too early has to be noticed";
    for (std::uint64_t seed = 1; seed <= schedules(); ++seed) {
      emu::set_schedule(emu::Schedule::random, seed);
      EXPECT_EQ(run(true), want) << (resident ? "resident, " : "sent, ") << seed;
    }
  }
}

// The host is two batches ahead at most, and waits for the uploads alone: it holds three buffers with the one
// that it fills.
TEST_F(Uploads, HoldsThreeBuffersAtMost) {
  emu::set_schedule(emu::Schedule::late);
  Trained steps(false);
  for (std::int64_t i = 0; i < 7; ++i) (void)steps.step(i);
  EXPECT_LE(steps.source().buffers(), 3u);
}

TEST_F(Uploads, WarmStepsAllocateNothingAndWaitForNothing) {
  for (const bool resident : {false, true}) {
    Trained steps(resident);
    for (std::int64_t i = 0; i < 12; ++i) (void)steps.step(i);
    emu::reset_call_counts();
    for (std::int64_t i = 12; i < 15; ++i) (void)steps.step(i);
    const emu::CallCounts counts = emu::call_counts();
    EXPECT_EQ(counts.allocations, 0);
    EXPECT_EQ(counts.frees, 0);
    EXPECT_EQ(counts.synchronizations, 0);
    EXPECT_EQ(counts.graph_launches, 3);
    EXPECT_EQ(counts.launches, 3);    // from pixels to the model's input
    EXPECT_EQ(counts.copies, 3 * 4);  // pixels or places, labels, step number, the optimiser's scalars
  }
}

std::vector<std::string> ranges;  // as they were opened, with their depth
int depth = 0;

// A profiler sees phases, modules under their names, and the backward ops.
TEST_F(Uploads, AProfilerSeesNamedRanges) {
  const kernels::DeviceApi* const own = kernels::device_api(DeviceType::cuda_emu);
  kernels::DeviceApi watched = *own;
  watched.push_range = [](const char* name) { ranges.push_back(std::to_string(depth++) + ' ' + name); };
  watched.pop_range = [] { --depth; };
  Trained steps(false);
  ranges.clear();
  kernels::register_device_api(DeviceType::cuda_emu, &watched);
  (void)steps.step(0);
  kernels::register_device_api(DeviceType::cuda_emu, own);
  EXPECT_EQ(depth, 0);
  const std::vector<std::string> forward = {"0 load",
                                            "0 forward",
                                            "1 model",
                                            "2 conv",
                                            "2 bn",
                                            "2 relu",
                                            "2 pool",
                                            "2 dropout",
                                            "2 flatten",
                                            "2 fc",
                                            "2 to_fp32",
                                            "0 backward",
                                            "1 softmax_cross_entropy"};
  EXPECT_EQ(std::vector<std::string>(ranges.begin(), ranges.begin() + 13), forward);
  EXPECT_EQ(std::count(ranges.begin(), ranges.end(), "1 conv2d"), 1);
  EXPECT_EQ(ranges.back(), "0 optimizer");
}

}  // namespace
}  // namespace cairn
