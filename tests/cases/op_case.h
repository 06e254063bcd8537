#pragma once
#include <functional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "engine/ops.h"
#include "tests/reference.h"

/// The table from which the op tests are made: for each op a file in this folder lists its cases; the drivers
/// in op_driver.h run each on every device and dtype against the double-precision reference.
namespace cairn::cases {

struct Input {
  enum class Fill {
    grid,  // distinct values in (-1.5, 1.5), none closer to 0 or to each other than a step: no kinks, no ties
    positive,  // the same in (0.25, 2)
  };
  Shape shape;
  Fill fill = Fill::grid;
  bool parameter = false;  // stays fp32 (fp64 in checks) whatever the compute dtype
  bool grad = true;
};

struct OpCase {
  std::string name;  // op, then what is special: "conv2d/stride2_pad1"
  std::vector<Input> inputs;
  std::function<Tensor(std::span<const Tensor>)> op;
  std::function<reference::Array(std::span<const reference::Array>)> reference;
  /// Length of the longest sum behind an output element or a gradient element; with the dtype it gives the
  /// tolerance.
  double reduction = 1;
};

/// For the test runner's messages.
inline void PrintTo(const OpCase& c, std::ostream* out) { *out << c.name; }

std::vector<OpCase> conv2d_cases();
std::vector<OpCase> linear_cases();
std::vector<OpCase> matmul_cases();
std::vector<OpCase> batch_norm_cases();
std::vector<OpCase> pointwise_cases();
std::vector<OpCase> reduce_cases();
std::vector<OpCase> pool_cases();
std::vector<OpCase> conv_pool_cases();
std::vector<OpCase> shape_cases();
std::vector<OpCase> loss_cases();
std::vector<OpCase> all_cases();

}  // namespace cairn::cases
