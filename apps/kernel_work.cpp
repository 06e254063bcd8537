#include "apps/kernel_work.h"

#include <charconv>
#include <map>
#include <memory>
#include <sstream>

#include "apps/options.h"
#include "apps/precision.h"
#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/optim/optimizer.h"
#include "kernels/philox.h"
#include "models/registry.h"

namespace cairn::app {
namespace {

std::vector<std::int32_t> labels_of(std::int64_t n, std::int64_t classes) {
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) labels.push_back(static_cast<std::int32_t>(i % classes));
  return labels;
}

/// Model, optimiser and one batch of noise; what a step needs and changes.
struct Step {
  std::unique_ptr<nn::Module> model;
  std::unique_ptr<optim::FlatParameters> parameters;
  std::unique_ptr<optim::Optimizer> optimizer;
  Tensor counter, pixels, labels;
  DType dtype = DType::f32;

  void run() const {
    const Tensor loss = softmax_cross_entropy((*model)(preprocess(pixels, dtype)), labels);
    optimizer->zero_grad();
    optimizer->prepare(1e-4f);
    loss.backward(optimizer->guard().scale());
    optimizer->apply(loss);
  }
};

/// Values that are neither 0 nor equal in rows or columns; a fixed sequence.
Tensor noise(const Shape& shape, DType dtype, Device device, std::uint64_t seed = 1) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = 0.1 + 0.8 * static_cast<double>(uniform_float(philox(seed, 0, i).v[0]));
  return from_doubles(shape, values, dtype, device);
}

using Op = std::function<Tensor(const Tensor& x)>;
using OpMaker = Op (*)(const Shape& shape, DType dtype, Device device);

void require_rank(const Shape& shape, int rank, const char* form) {
  if (shape.rank != rank)
    throw InputError("--shape is " + to_string(shape) + ", expected " + form + " for this op");
}

Op with_batch_norm(const Shape& shape, Device device, Activation activation) {
  if (shape.rank != 2 && shape.rank != 4) require_rank(shape, 4, "N,H,W,C or N,C");
  const Shape c{shape[shape.rank - 1]};
  const BatchNormTensors bn{full(c, 1.0, DType::f32, device).set_requires_grad(),
                            full(c, 0.1, DType::f32, device).set_requires_grad(),
                            zeros(c, DType::f32, device), full(c, 1.0, DType::f32, device)};
  return [bn, activation](const Tensor& x) { return batch_norm(x, bn, {}, activation); };
}

/// A function of x alone.
template <Tensor (*kOp)(const Tensor&)>
Op plain(const Shape&, DType, Device) {
  return [](const Tensor& x) { return kOp(x); };
}
/// One of x and another tensor of its shape.
template <Tensor (*kOp)(const Tensor&, const Tensor&)>
Op with_second(const Shape& shape, DType dtype, Device device) {
  return
      [other = noise(shape, dtype, device, 2).set_requires_grad()](const Tensor& x) { return kOp(x, other); };
}

const std::map<std::string, OpMaker>& ops() {
  static const std::map<std::string, OpMaker> table = {
      {"relu", plain<&relu>},
      {"sigmoid", plain<&sigmoid>},
      {"tanh", plain<&tanh>},
      {"exp", plain<&exp>},
      {"sqrt", plain<&sqrt>},
      {"flatten", plain<&flatten>},
      {"global_avg_pool", plain<&global_avg_pool>},
      {"add", with_second<&add>},
      {"mul", with_second<&mul>},
      {"sum", [](const Shape&, DType, Device) -> Op { return [](const Tensor& x) { return sum(x); }; }},
      {"mean", [](const Shape&, DType, Device) -> Op { return [](const Tensor& x) { return mean(x); }; }},
      {"dropout",
       [](const Shape&, DType, Device) -> Op {
         return [](const Tensor& x) { return dropout(x, 0.5f, {}); };
       }},
      {"batch_norm", [](const Shape& s, DType, Device d) { return with_batch_norm(s, d, Activation::none); }},
      {"batch_norm_relu",
       [](const Shape& s, DType, Device d) { return with_batch_norm(s, d, Activation::relu); }},
      {"max_pool2d",
       [](const Shape& s, DType, Device) -> Op {
         require_rank(s, 4, "N,H,W,C");
         return [](const Tensor& x) { return max_pool2d(x, {}); };
       }},
      {"avg_pool2d",
       [](const Shape& s, DType, Device) -> Op {
         require_rank(s, 4, "N,H,W,C");
         return [](const Tensor& x) { return avg_pool2d(x, {}); };
       }},
      {"conv2d",
       [](const Shape& s, DType, Device d) -> Op {
         require_rank(s, 4, "N,H,W,C");
         const Tensor w = noise({s[3], 3, 3, s[3]}, DType::f32, d, 2).set_requires_grad();
         return [w](const Tensor& x) { return conv2d(x, w, {}, {.padding_h = 1, .padding_w = 1}); };
       }},
      {"linear",
       [](const Shape& s, DType, Device d) -> Op {
         require_rank(s, 2, "N,C");
         const Tensor w = noise({s[1], s[1]}, DType::f32, d, 2).set_requires_grad();
         return [w](const Tensor& x) { return linear(x, w); };
       }},
      {"softmax_cross_entropy",
       [](const Shape& s, DType, Device d) -> Op {
         require_rank(s, 2, "N,C");
         const Tensor labels = from_values<std::int32_t>({s[0]}, labels_of(s[0], s[1]), d);
         return [labels](const Tensor& x) { return softmax_cross_entropy(x, labels); };
       }},
  };
  return table;
}

}  // namespace

KernelWork training_step(const StepOptions& o, Device device) {
  const auto step = std::make_shared<Step>();
  step->dtype = precision_dtype(settled_precision(o.precision, device), device);
  step->model = models::make_model(
      o.model, {.classes = o.classes, .image_size = static_cast<int>(o.image_size), .seed = 1});
  step->model->to(device);
  step->counter = zeros({1}, DType::i64, device);
  step->model->set_random_state({.seed = 1, .step = step->counter});
  step->parameters = std::make_unique<optim::FlatParameters>(*step->model);
  const std::string optimizer =
      o.optimizer.empty() ? std::string(models::model_info(o.model).defaults.optimizer) : o.optimizer;
  step->optimizer = optim::make_optimizer(*step->parameters, {.kind = optim::parse_optimizer(optimizer)});
  if (step->dtype == DType::f16) step->optimizer->guard().scale_loss();
  const Shape image{o.batch_size, o.image_size, o.image_size, 3};
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(image.numel()));
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(philox(1, 0, i).v[0]);
  step->pixels = from_values<std::uint8_t>(image, pixels, device);
  step->labels = from_values<std::int32_t>({o.batch_size}, labels_of(o.batch_size, o.classes), device);
  const std::string size = std::to_string(o.image_size);
  return {"a training step of " + o.model + ", batch " + std::to_string(o.batch_size) + " of " + size + "x" +
              size + ", " + name_of(step->dtype) + ", " + optimizer,
          [step] { step->run(); }};
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const auto& [name, make] : ops()) names.push_back(name);
  return names;
}

KernelWork op_work(const std::string& name, const Shape& shape, DType dtype, Device device) {
  const auto found = ops().find(name);
  if (found == ops().end()) {
    std::string known;
    for (const std::string& op : op_names()) known += (known.empty() ? "" : ", ") + op;
    throw InputError("--op " + name + " is not known; one of " + known);
  }
  const Op op = found->second(shape, dtype, device);
  const Tensor x = noise(shape, dtype, device).set_requires_grad();
  const Tensor y = op(x);
  const Tensor dy = noise(y.shape(), y.dtype(), device, 3);
  return {name + " of " + to_string(shape) + ", " + name_of(dtype) + ", forward and backward", [op, x, dy] {
            Tensor leaf = x;
            leaf.zero_grad();
            op(x).backward(dy);
          }};
}

Shape parse_shape(const std::string& text) {
  Shape shape;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    std::int64_t n = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), n);
    if (error != std::errc() || end != part.data() + part.size() || n < 1 || shape.rank == kMaxRank)
      throw InputError("--shape is '" + text + "', expected one to four sizes, like 8,56,56,64");
    shape.dims[static_cast<std::size_t>(shape.rank++)] = n;
  }
  if (shape.rank == 0) throw InputError("--shape is empty, expected one to four sizes, like 8,56,56,64");
  return shape;
}

}  // namespace cairn::app
