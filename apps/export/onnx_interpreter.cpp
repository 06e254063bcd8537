#include "apps/export/onnx_interpreter.h"

#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <string_view>
#include <vector>

#include "apps/console.h"
#include "apps/export/onnx_proto.h"
#include "engine/autograd.h"
#include "engine/ops.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

using Inputs = std::vector<Tensor>;
using Op = std::function<Tensor(const onnx::NodeProto&, const Inputs&)>;

const onnx::AttributeProto& attribute(const onnx::NodeProto& node, std::string_view name) {
  for (const onnx::AttributeProto& a : node.attribute())
    if (a.name() == name) return a;
  throw Error("node '" + node.name() + "' (" + node.op_type() + ") has no attribute '" + std::string(name) +
              "'");
}

/// A square window with equal padding on all sides, which is all that is written.
Pool2dGeometry window(const onnx::NodeProto& node) {
  const auto two = [&](const char* name, int size) {
    const onnx::AttributeProto& a = attribute(node, name);
    if (a.ints_size() != size) throw Error("node '" + node.name() + "': " + name + " is not two-dimensional");
    return std::pair(static_cast<int>(a.ints(0)), static_cast<int>(a.ints(1)));
  };
  const auto [kernel_h, kernel_w] = two("kernel_shape", 2);
  const auto [stride_h, stride_w] = two("strides", 2);
  const auto [padding_h, padding_w] = two("pads", 4);
  return {kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w};
}

Tensor nhwc(const Tensor& x) { return permute(x, {0, 2, 3, 1}); }
Tensor nchw(const Tensor& x) { return permute(x, {0, 3, 1, 2}); }

Tensor cast_bytes(const onnx::NodeProto& node, const Inputs& in) {
  if (attribute(node, "to").i() != onnx::TensorProto::FLOAT)
    throw Error("node '" + node.name() + "' casts to another type than float");
  const std::vector<std::uint8_t> bytes = in[0].to_vector<std::uint8_t>();
  return from_values<float>(in[0].shape(), std::vector<float>(bytes.begin(), bytes.end()), in[0].device());
}

Tensor transpose(const onnx::NodeProto& node, const Inputs& in) {
  const onnx::AttributeProto& order = attribute(node, "perm");
  return permute(in[0], std::vector<int>(order.ints().begin(), order.ints().end()));
}

Tensor conv(const onnx::NodeProto& node, const Inputs& in) {
  const Pool2dGeometry w = window(node);
  const Conv2dGeometry geometry{w.stride_h, w.stride_w, w.padding_h, w.padding_w, 1, 1, 1};
  return nchw(conv2d(nhwc(in[0]), nhwc(in[1]), in.size() > 2 ? in[2] : Tensor(), geometry));
}

// (x - mean) / sqrt(var + eps) * gamma + beta, with arithmetic alone: the model's fused kernel is judged by
// it.
Tensor batch_norm_plain(const onnx::NodeProto&, const Inputs& in) {
  constexpr float kEps = 1e-5f;  // ONNX's default
  const auto channels = [&](const Tensor& t) { return reshape(t, {1, t.numel(), 1, 1}); };
  const Tensor deviation = sqrt(affine(channels(in[4]), 1.0f, kEps));
  return add(mul(div(sub(in[0], channels(in[3])), deviation), channels(in[1])), channels(in[2]));
}

const std::map<std::string, Op, std::less<>>& ops() {
  static const std::map<std::string, Op, std::less<>> table{
      {"Cast", cast_bytes},
      {"Sub", [](const onnx::NodeProto&, const Inputs& in) { return sub(in[0], in[1]); }},
      {"Div", [](const onnx::NodeProto&, const Inputs& in) { return div(in[0], in[1]); }},
      {"Add", [](const onnx::NodeProto&, const Inputs& in) { return add(in[0], in[1]); }},
      {"Relu", [](const onnx::NodeProto&, const Inputs& in) { return relu(in[0]); }},
      {"Softmax", [](const onnx::NodeProto&, const Inputs& in) { return softmax(in[0]); }},
      {"Transpose", transpose},
      {"Conv", conv},
      {"BatchNormalization", batch_norm_plain},
      {"MaxPool",
       [](const onnx::NodeProto& n, const Inputs& in) { return nchw(max_pool2d(nhwc(in[0]), window(n))); }},
      {"GlobalAveragePool",
       [](const onnx::NodeProto&, const Inputs& in) {
         return mean(in[0], {2, 3}, /*keepdim=*/true);
       }},
      {"Flatten",
       [](const onnx::NodeProto&, const Inputs& in) {
         return reshape(in[0], {in[0].size(0), in[0].numel() / in[0].size(0)});
       }},
      {"Gemm",
       [](const onnx::NodeProto& n, const Inputs& in) {
         if (attribute(n, "transB").i() != 1) throw Error("node '" + n.name() + "': transB is not 1");
         return linear(in[0], in[1], in[2]);
       }},
  };
  return table;
}

Tensor initializer(const onnx::TensorProto& t, Device device) {
  Shape shape;
  for (const std::int64_t d : t.dims()) shape[shape.rank++] = d;
  std::vector<float> values(t.raw_data().size() / sizeof(float));
  std::memcpy(values.data(), t.raw_data().data(), values.size() * sizeof(float));
  return from_values<float>(shape, values, device);
}

}  // namespace

struct OnnxInterpreter::Graph {
  onnx::ModelProto model;
  std::map<std::string, Tensor> constants;
  Device device;
};

OnnxInterpreter::OnnxInterpreter(const std::string& path, Device device) : graph_(std::make_unique<Graph>()) {
  graph_->device = device;
  std::ifstream file(path, std::ios::binary);
  if (!file || !graph_->model.ParseFromIstream(&file)) throw Error(path + " cannot be read back as ONNX");
  try {
    onnx::checker::check_model(graph_->model);
  } catch (const std::exception& error) {
    throw Error(path + " is not valid to ONNX's checker: " + one_line(error.what()));
  }
  for (const onnx::TensorProto& t : graph_->model.graph().initializer()) {
    if (t.dims_size() > kMaxRank || t.data_type() != onnx::TensorProto::FLOAT)
      throw Error(path + ": initializer '" + t.name() + "' is none that cairn writes");
    graph_->constants[t.name()] = initializer(t, device);
  }
}

OnnxInterpreter::~OnnxInterpreter() = default;

int OnnxInterpreter::nodes() const { return graph_->model.graph().node_size(); }

io::Metadata OnnxInterpreter::metadata() const {
  io::Metadata metadata;
  for (const onnx::StringStringEntryProto& p : graph_->model.metadata_props()) metadata[p.key()] = p.value();
  return metadata;
}

Tensor OnnxInterpreter::run(const Tensor& image) const {
  const NoGrad no_grad;
  const onnx::GraphProto& graph = graph_->model.graph();
  std::map<std::string, Tensor> values = graph_->constants;
  values[graph.input(0).name()] = image.to(graph_->device);
  for (const onnx::NodeProto& node : graph.node()) {
    const auto op = ops().find(node.op_type());
    if (op == ops().end()) throw Error("node '" + node.name() + "': no op " + node.op_type() + " here");
    Inputs inputs;
    for (const std::string& name : node.input()) {
      if (!values.contains(name)) throw Error("node '" + node.name() + "' lacks its input '" + name + "'");
      inputs.push_back(values.at(name));
    }
    values[node.output(0)] = op->second(node, inputs);
  }
  return values.at(graph.output(0).name());
}

}  // namespace cairn::app
