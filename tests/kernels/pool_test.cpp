#include "kernels/pool.h"

#include <limits>

#include "tests/kernels/sums.h"

namespace cairn::kernels {
namespace {

using Values = std::vector<double>;

struct Case {
  Shape x;
  Pool2dGeometry g;
  Shape y() const {
    return {x[0], (x[1] + 2 * g.padding_h - g.kernel_h) / g.stride_h + 1,
            (x[2] + 2 * g.padding_w - g.kernel_w) / g.stride_w + 1, x[3]};
  }
  std::string name() const {
    return "x" + to_string(x) + " kernel " + std::to_string(g.kernel_h) + 'x' + std::to_string(g.kernel_w);
  }
};
Pool2dGeometry square(int kernel, int stride, int padding) {
  return {kernel, kernel, stride, stride, padding, padding};
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {{2, 12, 10, 64}, square(3, 2, 1)}, {{1, 11, 13, 5}, square(3, 2, 1)},
      {{2, 8, 6, 32}, square(2, 2, 0)},   {{1, 9, 7, 33}, square(2, 2, 0)},
      {{1, 1, 1, 3}, square(1, 1, 0)},    {{2, 7, 8, 17}, {3, 2, 1, 3, 1, 0}},
      {{1, 9, 9, 16}, square(2, 3, 1)},   {{1, 5, 5, 1}, square(5, 1, 2)},
      {{3, 30, 31, 24}, square(3, 2, 1)}, {{1, 1, 6, 7}, {1, 4, 1, 2, 0, 2}}};
  return all;
}

/// Calls f(output, input, place in the window) for every input inside every window.
template <class F>
void for_each_pair(const Case& c, F&& f) {
  const Shape y = c.y();
  for (std::int64_t i = 0; i < y.numel(); ++i) {
    const std::int64_t channel = i % y[3], q = i / y[3] % y[2], p = i / (y[3] * y[2]) % y[1];
    const std::int64_t n = i / (y[3] * y[2] * y[1]);
    for (int r = 0; r < c.g.kernel_h; ++r)
      for (int s = 0; s < c.g.kernel_w; ++s) {
        const std::int64_t h = p * c.g.stride_h - c.g.padding_h + r, w = q * c.g.stride_w - c.g.padding_w + s;
        if (h < 0 || w < 0 || h >= c.x[1] || w >= c.x[2]) continue;
        f(static_cast<std::size_t>(i),
          static_cast<std::size_t>(((n * c.x[1] + h) * c.x[2] + w) * c.x[3] + channel), r * c.g.kernel_w + s);
      }
  }
}

class PoolTest : public KernelTest {
 protected:
  double kept() const { return dtype() == DType::f64 ? 0x1p-50 : 0x1p-24; }
};

TEST_P(PoolTest, Max) {
  for (const Case& c : cases()) {
    // Few distinct values make ties, of which the first wins.
    Values x = random_values(dtype(), c.x, 1, -4, 4);
    for (double& v : x) v = std::round(v);
    const Values dy = random_values(dtype(), c.y(), 2), before = random_values(dtype(), c.x, 3);
    Values want(dy.size(), -std::numeric_limits<double>::infinity()), want_index(dy.size()),
        winner(dy.size());
    for_each_pair(c, [&](std::size_t o, std::size_t i, int place) {
      if (x[i] > want[o]) want[o] = x[i], want_index[o] = place, winner[o] = static_cast<double>(i);
    });
    const Buffer xb(dtype(), c.x, x), dyb(dtype(), c.y(), dy);
    Buffer y(dtype(), c.y()), bare(dtype(), c.y()), index(DType::u8, c.y());
    run(max_pool2d_forward, {xb.in(), y.view(), index.view(), c.g});
    run(max_pool2d_forward, {xb.in(), bare.view(), {}, c.g});
    expect_close(y, want, 0, 0, c.name());
    expect_close(index, want_index, 0, 0, c.name() + " index");
    EXPECT_TRUE(y.same_bits(bare)) << c.name() << ": the index changes the maxima";
    for (const Write write : {Write::assign, Write::add}) {
      Buffer dx(dtype(), c.x, before);
      run(max_pool2d_backward, {dyb.in(), index.in(), dx.view(), c.g, write});
      Values want_dx = write == Write::add ? before : Values(x.size(), 0.0);
      for (std::size_t o = 0; o < dy.size(); ++o) want_dx[static_cast<std::size_t>(winner[o])] += dy[o];
      expect_within(
          dx, want_dx,
          [&](std::size_t i) { return 2 * rounding_of(dtype()) * std::abs(want_dx[i]) + 32 * kept(); },
          c.name() + " dx");
    }
  }
}

TEST_P(PoolTest, MaxWithReluNamesNoWinnerWhereNothingIsAboveZero) {
  for (const Case& c : cases()) {
    Values x = random_values(dtype(), c.x, 4, -4, 2);  // many windows without a positive value
    for (double& v : x) v = std::round(v);
    const Buffer xb(dtype(), c.x, x);
    Buffer plain(dtype(), c.y()), places(DType::u8, c.y()), y(dtype(), c.y()), bare(dtype(), c.y()),
        index(DType::u8, c.y());
    run(max_pool2d_forward, {xb.in(), plain.view(), places.view(), c.g});
    run(max_pool2d_forward, {xb.in(), y.view(), index.view(), c.g, Activation::relu});
    run(max_pool2d_forward, {xb.in(), bare.view(), {}, c.g, Activation::relu});
    Values want = plain.values(), want_index = places.values();
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (!(want[i] > 0)) want_index[i] = kNoWinner;
      want[i] = std::max(want[i], 0.0);
    }
    expect_close(y, want, 0, 0, c.name());
    expect_close(index, want_index, 0, 0, c.name() + " index");
    EXPECT_TRUE(y.same_bits(bare)) << c.name() << ": the index changes the maxima";
    // What has no winner sends nothing back.
    const Values dy = random_values(dtype(), c.y(), 5);
    Values masked = dy;
    for (std::size_t i = 0; i < masked.size(); ++i)
      if (want_index[i] == kNoWinner) masked[i] = 0;
    const Buffer dyb(dtype(), c.y(), dy), maskedb(dtype(), c.y(), masked);
    Buffer dx(dtype(), c.x), want_dx(dtype(), c.x);
    run(max_pool2d_backward, {dyb.in(), index.in(), dx.view(), c.g});
    run(max_pool2d_backward, {maskedb.in(), places.in(), want_dx.view(), c.g});
    expect_close(dx, want_dx.values(), 0, 0, c.name() + " dx");
  }
}

TEST_P(PoolTest, MaxOfNanAndInfinities) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const Shape xs{1, 4, 4, 1}, ys{1, 2, 2, 1};
  const Buffer x(dtype(), xs,
                 {1, nan, -infinity, -infinity,  //
                  9, 2, -infinity, -infinity,    //
                  infinity, 1, -1, -2,           //
                  1, infinity, -3, -4});
  Buffer y(dtype(), ys), index(DType::u8, ys);
  run(max_pool2d_forward, {x.in(), y.view(), index.view(), square(2, 2, 0)});
  expect_close(y, {nan, -infinity, infinity, -1}, 0, 0, "maxima");
  expect_close(index, {1, 0, 0, 0}, 0, 0, "places");
}

TEST_P(PoolTest, Average) {
  for (const Case& c : cases()) {
    for (const bool count_pad : {true, false}) {
      const Values x = random_values(dtype(), c.x, 1), dy = random_values(dtype(), c.y(), 2);
      const Values before = random_values(dtype(), c.x, 3);
      Values want(dy.size()), inside(dy.size()), want_dx(x.size());
      for_each_pair(c, [&](std::size_t o, std::size_t i, int) {
        want[o] += x[i];
        ++inside[o];
      });
      for (double& n : inside)
        if (count_pad) n = c.g.kernel_h * c.g.kernel_w;
      for (std::size_t o = 0; o < want.size(); ++o) want[o] = inside[o] > 0 ? want[o] / inside[o] : 0;
      for_each_pair(c, [&](std::size_t o, std::size_t i, int) { want_dx[i] += dy[o] / inside[o]; });
      const Buffer xb(dtype(), c.x, x), dyb(dtype(), c.y(), dy);
      Buffer y(dtype(), c.y());
      run(avg_pool2d_forward, {xb.in(), y.view(), c.g, count_pad});
      expect_close(y, want, 2 * rounding_of(dtype()), 32 * kept(), c.name());
      for (const Write write : {Write::assign, Write::add}) {
        Buffer dx(dtype(), c.x, before);
        run(avg_pool2d_backward, {dyb.in(), dx.view(), c.g, count_pad, write});
        expect_close(dx, write == Write::add ? added(want_dx, before) : want_dx, 2 * rounding_of(dtype()),
                     32 * kept(), c.name() + " dx");
      }
    }
  }
}

TEST_P(PoolTest, GlobalAverage) {
  for (const Shape& xs : {Shape{2, 7, 7, 512}, Shape{1, 1, 1, 3}, Shape{3, 13, 29, 70}, Shape{5, 2, 1, 1}}) {
    const Shape ys{xs[0], xs[3]};
    const std::int64_t pixels = xs[1] * xs[2];
    const Values x = random_values(dtype(), xs, 1), dy = random_values(dtype(), ys, 2);
    const Values before = random_values(dtype(), xs, 3);
    Values want(dy.size()), want_dx(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto n = static_cast<std::int64_t>(i) / (pixels * xs[3]);
      const auto o = static_cast<std::size_t>(n * xs[3] + static_cast<std::int64_t>(i) % xs[3]);
      want[o] += x[i] / static_cast<double>(pixels);
      want_dx[i] = dy[o] / static_cast<double>(pixels);
    }
    const Buffer xb(dtype(), xs, x), dyb(dtype(), ys, dy);
    Buffer y(dtype(), ys);
    run(global_avg_pool_forward, {xb.in(), y.view()});
    expect_close(y, want, 2 * rounding_of(dtype()), 32 * kept(), to_string(xs));
    for (const Write write : {Write::assign, Write::add}) {
      Buffer dx(dtype(), xs, before);
      run(global_avg_pool_backward, {dyb.in(), dx.view(), write});
      expect_close(dx, write == Write::add ? added(want_dx, before) : want_dx, 2 * rounding_of(dtype()),
                   4 * kept(), to_string(xs) + " dx");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, PoolTest, kernel_cases(), kernel_case_name);

}  // namespace
}  // namespace cairn::kernels
