// Waits of the host code that a whole training hides behind others, each by itself: queued work runs as late
// as CUDA's rules allow, or in a random order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "apps/deferred_report.h"
#include "apps/upload_queue.h"
#include "kernels/device.h"
#include "kernels/emu/runtime.h"
#include "tests/emu/train/training.h"

namespace cairn {
namespace {

class HostPaths : public NoReportsTest {
 protected:
  void TearDown() override {
    emu::set_schedule(emu::Schedule::eager);
    NoReportsTest::TearDown();
  }
};

// Pinned memory holds poison until the copy has run.
TEST_F(HostPaths, ADeferredReportIsThatOfTheStepBefore) {
  emu::set_schedule(emu::Schedule::late);
  const Tensor report = zeros({sizeof(kernels::StepReport)}, DType::u8, kEmulated);
  const auto loss_of = [](const std::optional<kernels::StepReport>& r) {
    return r ? std::optional(r->loss) : std::nullopt;
  };
  app::DeferredReport deferred(kEmulated);
  EXPECT_FALSE(deferred.take());
  for (int step = 0; step < 5; ++step) {
    kernels::StepReport now{};
    now.loss = static_cast<float>(step);
    std::vector<std::uint8_t> bytes(sizeof now);
    std::memcpy(bytes.data(), &now, sizeof now);
    report.copy_from<std::uint8_t>(bytes);
    EXPECT_EQ(loss_of(deferred.exchange(report)), step > 0 ? std::optional(now.loss - 1) : std::nullopt);
  }
  EXPECT_EQ(loss_of(deferred.take()), 4.0f);
}

constexpr std::size_t kBytes = 5000;

// Whoever holds the source may write over it as soon as it is let go.
TEST_F(HostPaths, AnUploadQueueIsDestroyedBehindItsCopies) {
  const Tensor to = zeros({static_cast<std::int64_t>(kBytes)}, DType::u8, kEmulated);
  synchronize(kEmulated);
  emu::set_schedule(emu::Schedule::late);
  const std::shared_ptr<std::uint8_t[]> memory = app::pinned_memory(kEmulated, kBytes);
  std::memset(memory.get(), 7, kBytes);
  {
    app::UploadQueue uploads(kEmulated);
    uploads.copy(to.inplace().data, memory.get(), kBytes);
    uploads.publish(std::shared_ptr<const void>(
        memory.get(), [&](const void*) { std::memset(memory.get(), 0x5A, kBytes); }));
  }
  EXPECT_EQ(to.to_vector<std::uint8_t>(), std::vector<std::uint8_t>(kBytes, 7));
}

// Memory from the cache may still be read by what the compute queue has before it.
TEST_F(HostPaths, StagingMemoryIsWrittenBehindItsLastOwnersReaders) {
  constexpr std::int64_t kSide = 32, kPixels = kSide * kSide * 3;
  const std::vector<std::uint8_t> pixels(kPixels, 9);
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    emu::set_schedule(emu::Schedule::random, seed);
    // Whichever block the pixels get, its reader is looked at.
    const Tensor read[] = {empty({kPixels}, DType::u8, kEmulated), empty({kPixels}, DType::u8, kEmulated)};
    app::UploadQueue uploads(kEmulated);
    {
      const Tensor owners[] = {full({kPixels}, 3, DType::u8, kEmulated),
                               full({kPixels}, 3, DType::u8, kEmulated)};
      for (int i = 0; i < 2; ++i)
        check(kernels::device_api(DeviceType::cuda_emu)
                  ->copy(read[i].queue(), read[i].inplace().data, owners[i].view().data, kPixels,
                         kernels::CopyKind::device_to_device));
    }
    app::StagedPixels staged(uploads, 1, kSide);
    data::Batch batch;
    batch.size = 1;
    batch.images = pixels.data();
    (void)staged.stage(batch);
    for (const Tensor& r : read)
      EXPECT_EQ(r.to_vector<std::uint8_t>(), std::vector<std::uint8_t>(kPixels, 3)) << seed;
  }
}

TEST_F(HostPaths, CachedMemoryIsGivenBackBeforeTheDeviceIsFull) {
  release_cached_memory(kEmulated);
  constexpr std::int64_t kMiB = 1 << 20;
  emu::set_memory_limit(emu::device_bytes_in_use() + 3 * kMiB);
  { const Tensor cached = empty({2 * kMiB}, DType::u8, kEmulated); }
  EXPECT_NO_THROW((void)empty({2 * kMiB + kMiB / 2}, DType::u8, kEmulated));
  EXPECT_THROW((void)empty({4 * kMiB}, DType::u8, kEmulated), Error);
  emu::set_memory_limit(0);
}

/// Two layers, of which a step may leave the second out.
struct Branches : nn::Module {
  Branches() {
    nn::Initializer init(3);
    const nn::LinearOptions options{.in_features = 8, .out_features = 8};
    first = &make<nn::Linear>("first", init, options);
    second = &make<nn::Linear>("second", init, options);
  }
  Tensor forward(const Tensor& x) override { return both ? (*second)((*first)(x)) : (*first)(x); }
  nn::Linear *first, *second;
  bool both = true;
};

TEST_F(HostPaths, AParameterThatAStepLeftOutStays) {
  auto module = std::make_unique<Branches>();
  Branches& branches = *module;
  Training training(std::move(module), kEmulated, DType::f32,
                    {.kind = optim::OptimizerKind::sgd, .momentum = 0.0f});
  const Tensor x = full({3, 8}, 0.5, DType::f32, kEmulated);
  const auto step = [&] {
    const Tensor loss = softmax_cross_entropy(
        branches(x), from_values<std::int32_t>({3}, std::vector<std::int32_t>{0, 1, 2}, kEmulated), {});
    training.optimizer->zero_grad();
    loss.backward();
    training.optimizer->step(0.5f);
  };
  step();
  const std::vector<float> second = branches.second->bias().to_vector<float>();
  const std::vector<float> first = branches.first->bias().to_vector<float>();
  branches.both = false;
  step();
  EXPECT_EQ(branches.second->bias().to_vector<float>(), second);
  EXPECT_NE(branches.first->bias().to_vector<float>(), first);
}

}  // namespace
}  // namespace cairn
