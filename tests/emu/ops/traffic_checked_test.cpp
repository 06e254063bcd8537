// What the kernels move, counted by the emulated device: each operand once, in whole 32-byte sectors, and
// shared memory without bank conflicts. Nothing here speaks of time.
#include <gtest/gtest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/tensor.h"
#include "kernels/dropout.h"
#include "kernels/pointwise.h"
#include "kernels/reduce.h"
#include "tests/emu/ops/device.h"

namespace cairn {
namespace {

using kernels::Write;

struct Moved {
  std::int64_t loaded = 0, stored = 0;  // bytes
  emu::Traffic loads, stores;
  emu::SharedTraffic shared;
};

template <class F>
Moved moved_by(F&& f) {
  emu::reset_counters();
  f();
  synchronize(kEmulated);
  Moved m;
  for (const emu::KernelCounters& k : emu::counters()) {
    m.loaded += k.loads.bytes;
    m.stored += k.stores.bytes;
    for (const auto& [sum, part] : {std::pair{&m.loads, &k.loads}, {&m.stores, &k.stores}}) {
      sum->sectors += part->sectors;
      sum->ideal_sectors += part->ideal_sectors;
    }
    m.shared.waves += k.shared.waves;
    m.shared.ideal_waves += k.shared.ideal_waves;
  }
  return m;
}

// Of n elements: `reads` operands, one result, all in whole sectors.
void expect_each_once(const Moved& m, std::int64_t bytes, int reads, const char* what) {
  EXPECT_EQ(m.loaded, reads * bytes) << what;
  EXPECT_EQ(m.stored, bytes) << what;
  EXPECT_EQ(m.loads.sectors, m.loads.ideal_sectors) << what;
  EXPECT_EQ(m.stores.sectors, m.stores.ideal_sectors) << what;
}

class EmulatedTraffic : public NoReportsTest, public testing::WithParamInterface<DType> {
 protected:
  static constexpr std::int64_t kElements = 1 << 14;
  DType dtype() const { return GetParam(); }
  std::int64_t bytes() const { return kElements * static_cast<std::int64_t>(size_of(dtype())); }
  Tensor filled(const Shape& shape) const { return full(shape, 0.5, dtype(), kEmulated); }
};

TEST_P(EmulatedTraffic, ElementwiseOpsMoveEachOperandOnce) {
  const Tensor x = filled({kElements}), y = filled({kElements});
  const kernels::Queue& q = x.queue();
  expect_each_once(moved_by([&] {
                     call(kernels::relu_forward, q, {x.view(), y.inplace()});
                   }),
                   bytes(), 1, "relu");
  expect_each_once(moved_by([&] {
                     call(kernels::relu_backward, q, {x.view(), x.view(), y.inplace(), Write::add});
                   }),
                   bytes(), 3, "relu, adding its gradient");
  expect_each_once(
      moved_by([&] {
        call(kernels::binary_forward, q, {kernels::BinaryOp::add, x.view(), x.view(), y.inplace()});
      }),
      bytes(), 2, "add");
  expect_each_once(moved_by([&] {
                     call(kernels::dropout, q, {x.view(), y.inplace(), 0.5f, 1, 2, {}});
                   }),
                   bytes(), 1, "dropout");
  expect_each_once(moved_by([&] { call(kernels::cast, q, {x.view(), y.inplace()}); }), bytes(), 1, "copy");
}

TEST_P(EmulatedTraffic, ARepeatedOperandIsReadInWholeSectors) {
  const Tensor x = filled({kElements / 64, 64}), b = filled({1, 64}), y = filled({kElements / 64, 64});
  const Moved m = moved_by([&] {
    call(kernels::binary_forward, x.queue(), {kernels::BinaryOp::add, x.view(), b.view(), y.inplace()});
  });
  EXPECT_EQ(m.stored, bytes());
  EXPECT_EQ(m.stores.sectors, m.stores.ideal_sectors);
  EXPECT_EQ(m.loads.sectors, m.loads.ideal_sectors);
}

TEST_P(EmulatedTraffic, ATransposeMovesWholeSectorsWithoutBankConflicts) {
  const Tensor x = filled({4, 64, 64});
  const Moved m = moved_by([&] { (void)permute(x, {0, 2, 1}); });
  expect_each_once(m, bytes(), 1, "transpose");
  EXPECT_EQ(m.shared.waves, m.shared.ideal_waves);
}

TEST_P(EmulatedTraffic, AReductionReadsOnce) {
  for (const auto& [from, to] : {std::pair<Shape, Shape>{{kElements / 64, 64}, {1, 64}},
                                 {{16, kElements / 16}, {16, 1}},
                                 {{kElements}, {1}}}) {
    const Tensor x = filled(from), y = empty(to, dtype(), kEmulated);
    const Moved m = moved_by([&] {
      call(kernels::reduce, x.queue(), {kernels::ReduceOp::sum, x.view(), y.inplace()});
    });
    EXPECT_EQ(m.loads.sectors, m.loads.ideal_sectors) << to_string(from);
    EXPECT_LE(m.loaded, bytes() + bytes() / 16) << to_string(from);  // and the partial results of the splits
    EXPECT_EQ(m.shared.waves, m.shared.ideal_waves) << to_string(from);
  }
}

INSTANTIATE_TEST_SUITE_P(CudaEmu, EmulatedTraffic, testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& p) { return std::string(name_of(p.param)); });

}  // namespace
}  // namespace cairn
