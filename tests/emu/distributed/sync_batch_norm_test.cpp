// Batch norm over the images of all ranks, on devices: that of one process with all images, the same
// statistics on all ranks, the same bits whatever runs when, launched or as a graph.
#include "engine/distributed/sync_batch_norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/autograd.h"
#include "engine/graph.h"
#include "engine/ops.h"
#include "kernels/philox.h"
#include "tests/emu/distributed/device_ranks.h"
#include "tests/emu/schedules.h"

namespace cairn::distributed {
namespace {

constexpr std::int64_t kRows = 6, kChannels = 16;
constexpr float kMomentum = 0.1f, kEps = 1e-5f;

std::vector<double> values(std::int64_t n, std::uint64_t stream) {
  std::vector<double> v;
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(n); ++i)
    v.push_back(static_cast<double>(uniform_below(philox(8, stream, i).v[0], 64)) / 16 - 1.9);
  return v;
}

/// y, the gradients of x, residual, gamma and beta, and the running statistics.
using Results = std::vector<std::vector<double>>;

/// Rows [begin, end) of a batch, whose gradients are those of sum(y * dy).
class Norm {
 public:
  Norm(std::int64_t begin, std::int64_t end, DType dtype, Device device)
      : x_(rows(1, begin, end, dtype, device)),
        residual_(rows(2, begin, end, dtype, device)),
        dy_(rows(3, begin, end, dtype, device)),
        bn_{parameter(4, device), parameter(5, device), parameter(6, device), parameter(7, device)} {
    for (Tensor* t : {&x_, &residual_, &bn_.gamma, &bn_.beta}) t->set_requires_grad();
  }
  /// Over the rows of all `processes`, or of this one where it is null.
  void run(Collective* processes) {
    y_ = processes ? sync_batch_norm(x_, bn_, residual_, Activation::relu, kMomentum, kEps, *processes)
                   : batch_norm(x_, bn_, residual_, Activation::relu, kMomentum, kEps);
    y_.backward(dy_);
  }
  Results results() const {
    Results all;
    for (const Tensor& t : {y_, x_.grad(), residual_.grad(), bn_.gamma.grad(), bn_.beta.grad(),
                            bn_.running_mean, bn_.running_var})
      all.push_back(t.to_doubles());
    return all;
  }

 private:
  static Tensor rows(std::uint64_t stream, std::int64_t begin, std::int64_t end, DType dtype, Device device) {
    const std::vector<double> all = values(end * kChannels, stream);
    return from_doubles({end - begin, kChannels},
                        std::vector<double>(all.begin() + begin * kChannels, all.end()), dtype, device);
  }
  static Tensor parameter(std::uint64_t stream, Device device) {
    return from_doubles({kChannels}, values(kChannels, stream), DType::f32, device);
  }
  Tensor x_, residual_, dy_;
  BatchNormTensors bn_;
  Tensor y_;
};

class SyncBatchNorm : public DeviceRanks {
 protected:
  /// What each rank has of a batch of `world` times kRows rows.
  static std::vector<Results> by_ranks(int world, DType dtype, int times = 1, bool graph = false) {
    std::vector<Results> all(static_cast<std::size_t>(world));
    run(world, [&](Communicator& processes, Device device) {
      const auto collective = make_collective(processes, device);
      const std::int64_t first = processes.rank() * kRows;
      Norm norm(first, first + kRows, dtype, device);
      norm.run(collective.get());  // gradients have their memory
      if (graph) {
        const Graph step(device, [&] { norm.run(collective.get()); });
        for (int i = 1; i < times; ++i) step.replay();
        all[static_cast<std::size_t>(processes.rank())] = norm.results();
        return;
      }
      for (int i = 1; i < times; ++i) norm.run(collective.get());
      all[static_cast<std::size_t>(processes.rank())] = norm.results();
    });
    return all;
  }
};

double distance(const std::vector<double>& got, const std::vector<double>& want) {
  double worst = got.size() == want.size() ? 0 : HUGE_VAL, scale = 0;
  for (const double w : want) scale = std::max(scale, std::abs(w));
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i)
    if (const double d = std::abs(got[i] - want[i]); !(d <= worst)) worst = d;  // a NaN is the worst
  return worst / scale;
}

TEST_F(SyncBatchNorm, IsThatOfOneProcess) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const int world : {1, 2, 4}) {
      Norm alone(0, world * kRows, dtype, Device{DeviceType::cuda_emu, 0});
      alone.run(nullptr);
      const Results want = alone.results();
      const std::vector<Results> got = by_ranks(world, dtype);
      Results whole = got[0];
      for (std::size_t rank = 1; rank < got.size(); ++rank) {
        for (const std::size_t rows : {0, 1, 2})  // y, dx, dresidual
          whole[rows].insert(whole[rows].end(), got[rank][rows].begin(), got[rank][rows].end());
        for (const std::size_t sum : {3, 4})
          std::transform(whole[sum].begin(), whole[sum].end(), got[rank][sum].begin(), whole[sum].begin(),
                         std::plus<>());
        for (const std::size_t same : {5, 6}) EXPECT_EQ(got[rank][same], got[0][same]) << "rank " << rank;
      }
      // fp32: some roundings of factors and sums; a 16-bit dx is rounded twice.
      const double rounding = dtype == DType::bf16 ? 0x1p-8 : dtype == DType::f16 ? 0x1p-11 : 0x1p-23;
      for (std::size_t i = 0; i < want.size(); ++i)
        EXPECT_LT(distance(whole[i], want[i]), 4 * (i < 3 ? rounding : 0x1p-23))
            << name_of(dtype) << ", " << world << " ranks, result " << i;
    }
}

TEST_F(SyncBatchNorm, IsTheSameBitsInEveryScheduleAndAsAGraph) {
  const std::vector<Results> want = by_ranks(2, DType::f32, 3);
  for (std::uint64_t seed = 0; seed <= schedules(); ++seed) {
    emu::set_schedule(seed == 0 ? emu::Schedule::late : emu::Schedule::random, seed);
    EXPECT_EQ(by_ranks(2, DType::f32, 3), want) << "schedule " << seed;
    EXPECT_EQ(by_ranks(2, DType::f32, 3, true), want) << "as a graph, schedule " << seed;
  }
}

// One that has no images of a batch computes on a stand-in, which nobody's statistics see.
TEST_F(SyncBatchNorm, OneThatDoesNotCountChangesNothing) {
  Norm alone(0, kRows, DType::f32, Device{DeviceType::cuda_emu, 0});
  alone.run(nullptr);
  const Results want = alone.results();
  run(2, [&](Communicator& processes, Device device) {
    const auto collective = make_collective(processes, device);
    collective->set_counts(processes.is_first());
    Norm norm(processes.rank() * kRows, (processes.rank() + 1) * kRows, DType::f32, device);
    norm.run(collective.get());
    const Results got = norm.results();
    for (const std::size_t i : {5, 6}) EXPECT_LT(distance(got[i], want[i]), 0x1p-22) << processes.rank();
    if (!processes.is_first()) return;
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_LT(distance(got[i], want[i]), 0x1p-21) << i;
  });
}

}  // namespace
}  // namespace cairn::distributed
