#include "engine/op_check.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "engine/autograd.h"
#include "engine/backend.h"
#include "engine/device.h"
#include "kernels/backend.h"
#include "kernels/error.h"

namespace cairn {
namespace {

using Op = std::function<Tensor(std::span<const Tensor>)>;

double epsilon(DType t) {
  switch (t) {
    case DType::bf16:
      return 0x1p-7;
    case DType::f16:
      return 0x1p-10;
    case DType::f64:
      return 0x1p-40;  // another order of summation, and functions that are right to some units
    default:
      return 0x1p-23;
  }
}

// The output and the gradients of all inputs that want one, as doubles.
struct Answer {
  std::vector<std::string> names;
  std::vector<std::vector<double>> values;
};

Answer answer_of(const Op& f, std::span<const OpInput> inputs, std::span<const Tensor> tensors) {
  std::vector<Tensor> leaves;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    leaves.push_back(tensors[i].detach());
    leaves.back().set_requires_grad(inputs[i].wants_grad);
  }
  const Tensor y = f(leaves);
  Answer answer{{"output"}, {y.to_doubles()}};
  if (!y.requires_grad()) return answer;
  // Small whole numbers: exact in every dtype.
  std::vector<double> weights(static_cast<std::size_t>(y.numel()));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<double>(i * 7 % 5) - 1.5;
  y.backward(from_doubles(y.shape(), weights, y.dtype(), y.device()));
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!inputs[i].wants_grad) continue;
    answer.names.push_back("gradient of input " + std::to_string(i));
    const Tensor grad = leaves[i].grad();
    answer.values.push_back(grad.defined()
                                ? grad.to_doubles()
                                : std::vector<double>(static_cast<std::size_t>(leaves[i].numel()), 0.0));
  }
  return answer;
}

bool same_bits(const Answer& a, const Answer& b) {
  for (std::size_t i = 0; i < a.values.size(); ++i)
    if (a.values[i].size() != b.values[i].size() ||
        (!a.values[i].empty() &&
         std::memcmp(a.values[i].data(), b.values[i].data(), a.values[i].size() * sizeof(double)) != 0))
      return false;
  return a.values.size() == b.values.size();
}

// Empty, or what differs the most.
std::string difference(const std::string& what, const std::vector<double>& got,
                       const std::vector<double>& want, double tolerance) {
  if (got.size() != want.size())
    return what + " has " + std::to_string(got.size()) + " elements, expected " + std::to_string(want.size());
  double largest = 0;
  for (const double v : want) largest = std::max(largest, std::abs(v));
  const double allowed = tolerance * largest;
  std::size_t worst = 0;
  double worst_error = -1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::isnan(got[i]) != std::isnan(want[i]) ? HUGE_VAL
                         : std::isnan(want[i])                     ? 0
                                                                   : std::abs(got[i] - want[i]);
    if (error > worst_error) worst = i, worst_error = error;
  }
  if (got.empty() || worst_error <= allowed) return {};
  std::ostringstream text;
  text << what << " element " << worst << ": got " << got[worst] << ", want " << want[worst] << ", off by "
       << worst_error << ", allowed " << allowed;
  return text.str();
}

std::vector<Device> usable_devices() {
  (void)backend_parts();  // loads the CUDA backend where there is one
  std::vector<Device> devices{Device{}};
  for (const DeviceType type : {DeviceType::cuda, DeviceType::cuda_emu}) {
    std::string why;
    const kernels::DeviceApi* api = kernels::device_api(type);
    if (api && api->count(why) > 0) devices.push_back({type, 0});
  }
  return devices;
}

// What the emulated device's checks have found since the last call; nothing on other devices.
std::string found_defects() {
  static auto* const take =
      reinterpret_cast<CairnEmuTakeDefects*>(dlsym(RTLD_DEFAULT, "cairn_emu_take_defects"));
  if (!take) return {};
  std::array<char, 4096> text{};
  return take(text.data(), text.size()) == 0 ? std::string() : std::string(text.data());
}

class Checker {
 public:
  Checker(const Op& f, std::span<const OpInput> inputs, const OpCheckOptions& options)
      : f_(f), inputs_(inputs), options_(options) {}

  OpCheckResult run() {
    load_fp64_kernels();
    in_double();
    for (const Device device : usable_devices())
      for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16})
        if (device.type != DeviceType::cpu || dtype != DType::f64) on_device(device, dtype);
    return std::move(result_);
  }

 private:
  void line(const std::string& text) { result_.text += "  " + text + "\n"; }
  void wrong(const std::string& text) {
    line("WRONG " + text);
    result_.ok = false;
  }

  void in_double() {
    std::vector<Tensor> tensors;
    for (const OpInput& input : inputs_) {
      tensors.push_back(input.value.detach());
      tensors.back().set_requires_grad(input.wants_grad);
    }
    if (options_.reference) {
      const std::string found =
          difference("output", f_(tensors).to_doubles(), options_.reference(tensors), 0x1p-40);
      if (!found.empty()) return wrong("against the reference, cpu fp64: " + found);
      line("ok    reference, cpu fp64");
    }
    const GradcheckResult r = gradcheck(f_, tensors, options_.gradcheck);
    if (!r.ok()) return wrong("gradient check, cpu fp64:\n" + r.message());
    std::ostringstream text;
    text << "ok    gradients, cpu fp64: " << r.checked << " elements against central differences, worst "
         << r.worst;
    line(text.str());
  }

  void on_device(Device device, DType dtype) {
    const std::string where = to_string(device) + " " + name_of(dtype);
    // Both sides see the inputs as the dtype holds them.
    std::vector<Tensor> exact, tensors;
    for (const OpInput& input : inputs_) {
      const DType as = input.parameter && dtype != DType::f64 ? DType::f32 : dtype;
      const std::vector<double> values =
          from_doubles(input.value.shape(), input.value.to_vector<double>(), as).to_doubles();
      exact.push_back(from_doubles(input.value.shape(), values, DType::f64));
      tensors.push_back(from_doubles(input.value.shape(), values, as, device));
    }
    (void)found_defects();
    Answer got, again;
    try {
      got = answer_of(f_, inputs_, tensors);
      again = answer_of(f_, inputs_, tensors);
    } catch (const DTypeError& error) {
      if (device.type == DeviceType::cpu && dtype == DType::f32) return wrong(where + ": " + error.what());
      return line("-     " + where + ": " + error.what());
    }
    const Answer want = answer_of(f_, inputs_, exact);
    bool ok = true;
    const auto say = [&](const std::string& text) {
      ok = false;
      wrong(where + ": " + text);
    };
    for (std::size_t i = 0; i < want.values.size(); ++i)
      if (const std::string found =
              difference(want.names[i], got.values[i], want.values[i], options_.roundings * epsilon(dtype));
          !found.empty())
        say(found);
    if (!same_bits(got, again)) say("two runs give different bits");
    if (const std::string defects = found_defects(); !defects.empty()) say(defects);
    if (ok) line("ok    " + where);
  }

  const Op& f_;
  std::span<const OpInput> inputs_;
  const OpCheckOptions& options_;
  OpCheckResult result_;
};

}  // namespace

OpInput op_input(const Shape& shape, double low, double high, std::uint64_t seed) {
  return {from_values<double>(shape, spaced_values(shape.numel(), low, high, seed)), false, true};
}
OpInput op_parameter(const Shape& shape, double low, double high, std::uint64_t seed) {
  return {from_values<double>(shape, spaced_values(shape.numel(), low, high, seed)), true, true};
}

OpCheckResult check_op(const Op& f, std::span<const OpInput> inputs, const OpCheckOptions& options) {
  setenv("CAIRN_ALLOCATOR", "direct", 0);  // read when a device's memory is first asked for
  return Checker(f, inputs, options).run();
}

void OpTest::run(const std::string& name, const Op& f, std::span<const OpInput> inputs,
                 const OpCheckOptions& options) {
  OpCheckResult result;
  try {
    result = check_op(f, inputs, options);
  } catch (const std::exception& error) {  // a device that a kernel left in error takes no more work
    result = {.text = std::string("  WRONG ") + error.what() + "; the rest was not run\n", .ok = false};
  }
  std::printf("%s: %s\n%s", name.c_str(), result.ok ? "ok" : "WRONG", result.text.c_str());
  failed_ |= !result.ok;
}

void OpTest::expect(bool ok, const std::string& what) {
  std::printf("%s: %s\n", what.c_str(), ok ? "ok" : "WRONG");
  failed_ |= !ok;
}

}  // namespace cairn
