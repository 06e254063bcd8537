#include "apps/export/onnx_model.h"

#include <cstring>
#include <map>

#include "apps/export/onnx_proto.h"
#include "engine/nn/layout.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

using Ints = std::vector<std::int64_t>;

// What ONNX 1.8 and every runtime since reads.
constexpr std::int64_t kIrVersion = 7, kOpset = 13;

/// Appends nodes one behind another; a value is named after the node that makes it.
class Graph {
 public:
  Graph(onnx::GraphProto& graph, const nn::Module& model) : graph_(graph) {
    for (nn::NamedTensor& t : model.named_tensors()) {
      const std::string name = t.name;
      tensors_.emplace(name, std::move(t));
    }
  }

  bool has(const std::string& tensor) const { return tensors_.contains(tensor); }

  /// Adds the node and returns its output. `inputs` are values or initializers.
  onnx::NodeProto& node(const char* op, const std::string& name, const std::vector<std::string>& inputs) {
    onnx::NodeProto& n = *graph_.add_node();
    n.set_op_type(op);
    n.set_name(name);
    for (const std::string& input : inputs) n.add_input(input);
    n.add_output(name + "_out");
    return n;
  }
  static std::string output(const onnx::NodeProto& n) { return n.output(0); }

  static onnx::NodeProto& ints(onnx::NodeProto& n, const char* name, const Ints& values) {
    onnx::AttributeProto& a = *n.add_attribute();
    a.set_name(name);
    a.set_type(onnx::AttributeProto::INTS);
    for (const std::int64_t v : values) a.add_ints(v);
    return n;
  }
  static onnx::NodeProto& integer(onnx::NodeProto& n, const char* name, std::int64_t value) {
    onnx::AttributeProto& a = *n.add_attribute();
    a.set_name(name);
    a.set_type(onnx::AttributeProto::INT);
    a.set_i(value);
    return n;
  }

  /// The model's tensor in PyTorch's order, which is ONNX's too.
  std::string parameter(const std::string& name) {
    const nn::NamedTensor& t = tensors_.at(name);
    const Shape shape = nn::file_shape(t.tensor.shape(), t.layout);
    Ints dims;
    for (int i = 0; i < shape.rank; ++i) dims.push_back(shape[i]);
    constant(name, dims, nn::to_file_order<float>(t.tensor.to_vector<float>(), t.tensor.shape(), t.layout));
    return name;
  }
  std::string constant(const std::string& name, const Ints& dims, const std::vector<float>& values) {
    onnx::TensorProto& t = *graph_.add_initializer();
    t.set_name(name);
    t.set_data_type(onnx::TensorProto::FLOAT);
    for (const std::int64_t d : dims) t.add_dims(d);
    std::string& raw = *t.mutable_raw_data();  // little-endian, as every machine that cairn runs on
    raw.resize(values.size() * sizeof(float));
    std::memcpy(raw.data(), values.data(), raw.size());
    return name;
  }

  std::string conv(const std::string& layer, const std::string& x, std::int64_t kernel, std::int64_t stride) {
    std::vector<std::string> inputs{x, parameter(layer + ".weight")};
    if (has(layer + ".bias")) inputs.push_back(parameter(layer + ".bias"));
    onnx::NodeProto& n = node("Conv", layer, inputs);
    const std::int64_t padding = kernel / 2;
    ints(n, "kernel_shape", {kernel, kernel});
    ints(n, "strides", {stride, stride});
    return output(ints(n, "pads", {padding, padding, padding, padding}));
  }
  std::string batch_norm(const std::string& layer, const std::string& x) {
    std::vector<std::string> inputs{x};
    for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"})
      inputs.push_back(parameter(layer + part));
    return output(node("BatchNormalization", layer, inputs));  // epsilon: 1e-5, ONNX's default and PyTorch's
  }
  std::string relu(const std::string& name, const std::string& x) { return output(node("Relu", name, {x})); }
  std::string max_pool(const std::string& name, const std::string& x, std::int64_t kernel,
                       std::int64_t padding) {
    onnx::NodeProto& n = node("MaxPool", name, {x});
    ints(n, "kernel_shape", {kernel, kernel});
    ints(n, "strides", {2, 2});
    return output(ints(n, "pads", {padding, padding, padding, padding}));
  }
  std::string flatten(const std::string& x) {
    return output(integer(node("Flatten", "flatten", {x}), "axis", 1));
  }
  std::string linear(const std::string& layer, const std::string& x) {
    onnx::NodeProto& n = node("Gemm", layer, {x, parameter(layer + ".weight"), parameter(layer + ".bias")});
    return output(integer(n, "transB", 1));
  }

 private:
  onnx::GraphProto& graph_;
  std::map<std::string, nn::NamedTensor> tensors_;
};

// models/resnet.cpp
std::string resnet(Graph& g, std::string x, bool relu_on_logits) {
  x = g.relu("relu", g.batch_norm("bn1", g.conv("conv1", x, 7, 2)));
  x = g.max_pool("maxpool", x, 3, 1);
  for (int stage = 1; stage <= 4; ++stage)
    for (int block = 0;; ++block) {
      const std::string name = "layer" + std::to_string(stage) + '.' + std::to_string(block);
      if (!g.has(name + ".conv1.weight")) break;
      const std::int64_t stride = stage > 1 && block == 0 ? 2 : 1;
      std::string shortcut = x;
      if (g.has(name + ".downsample.0.weight"))
        shortcut = g.batch_norm(name + ".downsample.1", g.conv(name + ".downsample.0", x, 1, stride));
      x = g.relu(name + ".relu1", g.batch_norm(name + ".bn1", g.conv(name + ".conv1", x, 3, stride)));
      x = g.batch_norm(name + ".bn2", g.conv(name + ".conv2", x, 3, 1));
      x = g.relu(name + ".relu2", Graph::output(g.node("Add", name + ".add", {x, shortcut})));
    }
  x = g.linear("fc", g.flatten(Graph::output(g.node("GlobalAveragePool", "avgpool", {x}))));
  return relu_on_logits ? g.relu("relu_on_logits", x) : x;
}

// models/model_cnn.cpp; dropout is the identity here.
std::string model_cnn(Graph& g, std::string x) {
  for (const int position : {0, 4, 8}) {
    const auto layer = [&](int i) { return "features." + std::to_string(position + i); };
    x = g.max_pool(layer(2), g.relu(layer(1), g.conv(layer(0), x, 3, 1)), 2, 0);
  }
  return g.linear("classifier.4", g.relu("classifier.2", g.linear("classifier.1", g.flatten(x))));
}

std::string model_graph(Graph& g, const std::string& name, const std::string& x) {
  if (name == "resnet18" || name == "resnet34") return resnet(g, x, false);
  if (name == "resnet_classes") return resnet(g, x, true);
  if (name == "model_cnn") return model_cnn(g, x);
  throw InputError("model " + name +
                   " has no ONNX graph in apps/export/onnx_model.cpp: use --format safetensors");
}

void describe_value(onnx::ValueInfoProto& value, const std::string& name, int type, const Ints& dims) {
  value.set_name(name);
  onnx::TypeProto_Tensor& tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  tensor.mutable_shape()->add_dim()->set_dim_param("N");
  for (const std::int64_t d : dims) tensor.mutable_shape()->add_dim()->set_dim_value(d);
}

// uint8 [N,S,S,3] -> fp32 [N,3,S,S], (x / 255 - mean) / std.
std::string preprocessing(Graph& g, const Normalization& n, const std::string& image) {
  std::vector<float> shift, scale;
  for (int c = 0; c < 3; ++c) {
    shift.push_back(static_cast<float>(255.0 * static_cast<double>(n.mean[c])));
    scale.push_back(static_cast<float>(255.0 * static_cast<double>(n.std[c])));
  }
  std::string x = Graph::output(
      Graph::integer(g.node("Cast", "preprocess.cast", {image}), "to", onnx::TensorProto::FLOAT));
  x = Graph::output(g.node("Sub", "preprocess.shift", {x, g.constant("preprocess.mean_of_255", {3}, shift)}));
  x = Graph::output(g.node("Div", "preprocess.scale", {x, g.constant("preprocess.std_of_255", {3}, scale)}));
  return Graph::output(Graph::ints(g.node("Transpose", "preprocess.nchw", {x}), "perm", {0, 3, 1, 2}));
}

void check_size(const nn::Module& model) {
  std::uint64_t bytes = 0;
  for (const nn::NamedTensor& t : model.named_tensors())
    bytes += static_cast<std::uint64_t>(t.tensor.numel()) * sizeof(float);
  constexpr std::uint64_t kMost = (std::uint64_t{1} << 31) - (1 << 20);  // protobuf's limit, and room
  if (bytes > kMost)
    throw InputError("the model's " + std::to_string(bytes >> 20) +
                     " MiB are more than the 2 GiB that an ONNX file can hold: use --format safetensors");
}

}  // namespace

std::string onnx_model(const nn::Module& model, const ModelCard& card, const io::Metadata& metadata,
                       bool softmax) {
  check_size(model);
  onnx::ModelProto proto;
  proto.set_ir_version(kIrVersion);
  proto.set_producer_name("cairn");
  proto.set_producer_version(CAIRN_VERSION);
  onnx::OperatorSetIdProto& opset = *proto.add_opset_import();
  opset.set_domain("");
  opset.set_version(kOpset);
  onnx::GraphProto& graph = *proto.mutable_graph();
  graph.set_name(card.model);
  const std::int64_t side = card.image_size;
  describe_value(*graph.add_input(), "image", onnx::TensorProto::UINT8, {side, side, 3});
  Graph g(graph, model);
  std::string y = model_graph(g, card.model, preprocessing(g, card.normalization, "image"));
  if (softmax) y = Graph::output(Graph::integer(g.node("Softmax", "softmax", {y}), "axis", 1));
  const std::string output = softmax ? "probabilities" : "logits";
  graph.mutable_node(graph.node_size() - 1)->set_output(0, output);
  describe_value(*graph.add_output(), output, onnx::TensorProto::FLOAT,
                 {static_cast<std::int64_t>(card.classes.size())});
  for (const auto& [key, value] : metadata) {
    onnx::StringStringEntryProto& entry = *proto.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }
  std::string bytes;
  if (!proto.SerializeToString(&bytes)) throw Error("protobuf could not write the model");
  return bytes;
}

}  // namespace cairn::app
