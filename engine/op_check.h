#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/gradcheck.h"

namespace cairn {

/// What an op is checked with. `value` is fp64 on the CPU. A parameter (weight, bias, gamma) stays fp32 where
/// the op computes in 16 bits, as layers have it; every other input has the compute dtype.
struct OpInput {
  Tensor value;
  bool parameter = false;
  bool wants_grad = true;
};
/// Values spread over [low, high], no two equal, none 0: see spaced_values.
OpInput op_input(const Shape& shape, double low = -2, double high = 2, std::uint64_t seed = 1);
OpInput op_parameter(const Shape& shape, double low = -2, double high = 2, std::uint64_t seed = 2);

struct OpCheckOptions {
  /// Allowed error of an output or gradient element in units of the dtype's epsilon (2^-23, 2^-7, 2^-10)
  /// times the largest magnitude in that tensor: how many roundings lie between input and output. An
  /// elementwise kernel that computes in float has one, and half a unit for the function itself in fp32; a
  /// sum of n terms has about sqrt(n) in fp32.
  double roundings = 4;
  /// The definition, in double: an independent formula the op is held against; may be empty, then the op in
  /// double on the CPU stands for it.
  std::function<std::vector<double>(std::span<const Tensor>)> reference = {};
  GradcheckOptions gradcheck = {};
};

struct OpCheckResult {
  std::string text;  // a line for each device and dtype, and one for each thing found wrong
  bool ok = true;
};

/// All that can be checked of an op without writing a test for each device:
///  - in double on the CPU: the reference's values, and every gradient against central differences;
///  - on each device of this process (CPU, GPU or emulated device), for each dtype that the op has a kernel
///  for: values
///    and gradients against those in double of the same rounded inputs, and the same bits when run twice;
///  - on a device that checks its kernels: no defect was seen.
/// f must be a function, as for gradcheck. Call it before anything else touches the device: memory is then
/// allocated tensor by tensor, so that overruns are seen.
OpCheckResult check_op(const std::function<Tensor(std::span<const Tensor>)>& f,
                       std::span<const OpInput> inputs, const OpCheckOptions& options = {});

/// For main() of a test: prints each check and answers the exit status, 0 or 1.
class OpTest {
 public:
  void run(const std::string& name, const std::function<Tensor(std::span<const Tensor>)>& f,
           std::span<const OpInput> inputs, const OpCheckOptions& options = {});
  /// Counts and prints a check of one's own.
  void expect(bool ok, const std::string& what);
  int status() const { return failed_ ? 1 : 0; }

 private:
  bool failed_ = false;
};

}  // namespace cairn
