#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/nn/module.h"
#include "engine/tensor.h"

namespace cairn {

struct GradcheckOptions {
  double step = 1e-6;       // h of the central difference, in units of the inputs
  double tolerance = 1e-6;  // |analytic - numeric| <= tolerance * max(1, |numeric|)
  std::uint64_t seed = 1;   // of the weights that turn the output into a scalar
};

/// One element whose gradients disagree.
struct GradcheckFailure {
  std::size_t input;
  std::int64_t element;
  double analytic;
  double numeric;
  /// The slopes from the left and from the right differ: the point is a kink (ReLU at 0, a tie of maxima),
  /// where neither value is wrong. Move the input.
  bool kink;
  std::string name = {};   // of a module's parameter; empty for inputs
  std::string index = {};  // of the element: "[0,2,1]"
};

struct GradcheckResult {
  std::int64_t checked = 0;
  double worst = 0;  // largest |analytic - numeric| / max(1, |numeric|)
  std::vector<GradcheckFailure> failures;
  bool ok() const { return failures.empty(); }
  /// One line a failure: "input 0 element 5: analytic 0.25, numeric 0.5, at [1,2] (a kink: ...)".
  std::string message() const;
};

/// Compares the gradients that backward() gives for sum(weights * f(inputs)), weights drawn at random, with
/// central differences, element by element, for every input that requires a gradient. All in double: inputs
/// must be fp64 leaves on a device with fp64 kernels; the CPU's are loaded here (load_fp64_kernels).
/// f must be a function: called twice with the same inputs it must give the same bits, so a stochastic op is
/// checked under a fixed key; a difference throws Error. Throws DTypeError for inputs or an output that are
/// not fp64.
GradcheckResult gradcheck(const std::function<Tensor(std::span<const Tensor>)>& f,
                          std::span<const Tensor> inputs, const GradcheckOptions& options = {});

/// The same for a module on the CPU: the gradients of x (fp64) and of every parameter. Turns the module's
/// parameters and buffers into fp64, for good; it keeps its mode (training or evaluation), and a stochastic
/// layer has the mask of its random state.
GradcheckResult gradcheck(nn::Module& module, const Tensor& x, const GradcheckOptions& options = {});

/// n doubles for a check: spaced evenly over [low, high], in a shuffled order, so that no two are equal and
/// none is closer than half a step to the middle, where many functions have their kink.
std::vector<double> spaced_values(std::int64_t n, double low, double high, std::uint64_t seed = 1);

}  // namespace cairn
