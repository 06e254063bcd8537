#include "kernels/cuda/cudnn_graph.h"

#include <algorithm>
#include <array>
#include <optional>

namespace cairn::kernels::cudnn {
namespace {

cudnnDataType_t type_of(DType t) {
  return t == DType::bf16 ? CUDNN_DATA_BFLOAT16 : t == DType::f16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

std::string explain(cudnnStatus_t status, const std::string& call) {
  char details[512] = {};
  cudnnGetLastErrorString(details, sizeof details);
  return "cuDNN: " + call + ": " + cudnnGetErrorString(status) +
         (details[0] ? std::string(" (") + details + ")" : "");
}

/// dims as cuDNN counts them (N, C, H, W; filters K, C/groups, R, S) of memory that is NHWC (KRSC).
struct TensorShape {
  explicit TensorShape(const std::int64_t (&nhwc)[4])
      : dims{nhwc[0], nhwc[3], nhwc[1], nhwc[2]},
        strides{nhwc[1] * nhwc[2] * nhwc[3], 1, nhwc[2] * nhwc[3], nhwc[3]} {}
  std::array<std::int64_t, 4> dims, strides;
};

Descriptor make_tensor(std::int64_t uid, const TensorShape& shape, cudnnDataType_t type,
                       std::int64_t alignment, bool is_virtual = false) {
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, uid)
      .set(CUDNN_ATTR_TENSOR_DATA_TYPE, type)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, shape.dims)
      .set(CUDNN_ATTR_TENSOR_STRIDES, shape.strides)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment);
  if (is_virtual) d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
  d.finalize();
  return d;
}

/// All descriptors of a graph: operations refer to tensors, the graph to operations.
struct BuiltGraph {
  std::vector<Descriptor> parts;
  std::vector<cudnnBackendDescriptor_t> operations;
  std::optional<Descriptor> graph;

  const Descriptor& keep(Descriptor d) { return parts.emplace_back(std::move(d)); }
};

Descriptor make_convolution(const ConvGraph& g) {
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  const auto pair = [](const std::int32_t(&v)[2]) { return std::array<std::int64_t, 2>{v[0], v[1]}; };
  Descriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode)
      .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{2})
      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, pair(g.dilation))
      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, pair(g.stride))
      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, pair(g.padding))
      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, pair(g.padding))
      .finalize();
  return d;
}

struct ConvAttributes {
  cudnnBackendDescriptorType_t operation;
  cudnnBackendAttributeName_t conv, x, w, y, alpha, beta;
};
constexpr ConvAttributes attributes_of(Pass pass) {
  switch (pass) {
    case Pass::dgrad:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case Pass::wgrad:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    case Pass::fprop:
      break;
  }
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
}

Descriptor make_pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* b,
                          const Descriptor& y, BuiltGraph& built) {
  Descriptor config(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  config.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode)
      .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT)
      .finalize();
  Descriptor d(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, config).set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  if (b) d.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y).finalize();
  built.keep(std::move(config));
  return d;
}

/// y = relu(conv(x, w) + residual + bias): what lies between the operations is virtual and fp32.
BuiltGraph build(const ConvGraph& g) {
  constexpr std::int64_t kFirstVirtual = 100;
  BuiltGraph built;
  built.parts.reserve(32);  // references into it are kept
  const cudnnDataType_t type = type_of(g.type());
  const TensorShape y_shape(g.y);
  const bool fused = g.bias || g.residual || g.relu;

  const Descriptor& x = built.keep(make_tensor(kUidX, TensorShape(g.x), type, g.alignment));
  const Descriptor& w = built.keep(make_tensor(kUidW, TensorShape(g.w), type, g.alignment));
  const Descriptor* y = &built.keep(fused ? make_tensor(kFirstVirtual, y_shape, CUDNN_DATA_FLOAT, 16, true)
                                          : make_tensor(kUidY, y_shape, type, g.alignment));
  const ConvAttributes a = attributes_of(g.pass);
  const Descriptor& convolution = built.keep(make_convolution(g));
  Descriptor operation(a.operation);
  operation.set(a.conv, convolution)
      .set(a.x, x)
      .set(a.w, w)
      .set(a.y, *y)
      .set(a.alpha, 1.0)
      .set(a.beta, g.add ? 1.0 : 0.0)
      .finalize();
  built.operations.push_back(built.keep(std::move(operation)).raw());

  int left = (g.residual != 0) + (g.bias != 0) + (g.relu != 0);
  std::int64_t next_virtual = kFirstVirtual + 1;
  const auto append = [&](cudnnPointwiseMode_t mode, const Descriptor* b) {
    const bool last = --left == 0;
    const Descriptor& out =
        built.keep(last ? make_tensor(kUidY, y_shape, type, g.alignment)
                        : make_tensor(next_virtual++, y_shape, CUDNN_DATA_FLOAT, 16, true));
    built.operations.push_back(built.keep(make_pointwise(mode, *y, b, out, built)).raw());
    y = &out;
  };
  if (g.residual)
    append(CUDNN_POINTWISE_ADD, &built.keep(make_tensor(kUidResidual, y_shape, type, g.alignment)));
  if (g.bias) {
    const std::int64_t one_row[4] = {1, 1, 1, g.y[3]};
    append(CUDNN_POINTWISE_ADD, &built.keep(make_tensor(kUidBias, TensorShape(one_row), type, g.alignment)));
  }
  if (g.relu) append(CUDNN_POINTWISE_RELU_FWD, nullptr);

  built.graph.emplace(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  built.graph
      ->set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            static_cast<std::int64_t>(built.operations.size()), built.operations.data())
      .finalize();
  return built;
}

template <class Note>
std::vector<Note> notes_of(const Descriptor& engine, cudnnBackendAttributeName_t name,
                           cudnnBackendAttributeType_t type) {
  std::array<Note, 32> notes{};
  std::int64_t count = 0;
  check(cudnnBackendGetAttribute(engine.raw(), name, type, std::ssize(notes), &count, notes.data()),
        "reading an engine's notes");
  return {notes.begin(), notes.begin() + std::min<std::int64_t>(count, std::ssize(notes))};
}

}  // namespace

CudnnError::CudnnError(cudnnStatus_t s, const std::string& call)
    : std::runtime_error(explain(s, call)), status(s) {}

void check(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) throw CudnnError(status, call);
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  check(cudnnBackendCreateDescriptor(type, &raw_), "creating a descriptor");
}
void Descriptor::reset() {
  if (raw_) cudnnBackendDestroyDescriptor(raw_);
  raw_ = nullptr;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                            std::int64_t count, const void* values) {
  const cudnnStatus_t status = cudnnBackendSetAttribute(raw_, name, type, count, values);
  if (status != CUDNN_STATUS_SUCCESS) throw CudnnError(status, "setting attribute " + std::to_string(name));
  return *this;
}
Descriptor& Descriptor::finalize() {
  check(cudnnBackendFinalize(raw_), "finalising a descriptor");
  return *this;
}
std::int64_t Descriptor::get_int64(cudnnBackendAttributeName_t name) const {
  std::int64_t value = 0, count = 0;
  const cudnnStatus_t status = cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_INT64, 1, &count, &value);
  if (status != CUDNN_STATUS_SUCCESS) throw CudnnError(status, "reading attribute " + std::to_string(name));
  return value;
}
std::string Descriptor::get_text(cudnnBackendAttributeName_t name) const {
  std::int64_t count = 0;
  check(cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_CHAR, 0, &count, nullptr), "measuring a text");
  std::string text(static_cast<std::size_t>(count), '\0');
  check(cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_CHAR, count, &count, text.data()), "reading a text");
  text.resize(std::strlen(text.c_str()));
  return text;
}

DeviceDescription DeviceDescription::of_device(int index) {
  Descriptor d(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  const std::int32_t id = index;
  d.set(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &id).finalize();
  std::string json = d.get_text(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
  return {std::move(d), std::move(json)};
}

DeviceDescription DeviceDescription::of_json(const std::string& json) {
  Descriptor d(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  d.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::ssize(json), json.data()).finalize();
  return {std::move(d), json};
}

const char* name_of(Pass pass) {
  return pass == Pass::fprop ? "fprop" : pass == Pass::dgrad ? "dgrad" : "wgrad";
}

std::string to_string(const ConvGraph& g) {
  const auto list = [](const char* name, const std::int64_t(&v)[4]) {
    return std::string(" ") + name + cairn::to_string(Shape{v[0], v[1], v[2], v[3]});
  };
  const auto pair = [](const char* name, const std::int32_t(&v)[2]) {
    return std::string(" ") + name + ' ' + std::to_string(v[0]) + 'x' + std::to_string(v[1]);
  };
  std::string text = std::string(name_of(g.pass)) + ' ' + cairn::name_of(g.type()) + list("x", g.x) +
                     list("w", g.w) + list("y", g.y) + pair("stride", g.stride) + pair("padding", g.padding);
  if (g.dilation[0] != 1 || g.dilation[1] != 1) text += pair("dilation", g.dilation);
  if (g.tf32) text += " tf32";
  if (g.add) text += " add";
  if (g.residual) text += " +residual";
  if (g.bias) text += " +bias";
  if (g.relu) text += " +relu";
  if (g.alignment != 16) text += " alignment " + std::to_string(g.alignment);
  return text;
}

std::vector<std::int64_t> uids_of(const ConvGraph& graph) {
  std::vector<std::int64_t> uids = {kUidX, kUidW, kUidY};
  if (graph.residual) uids.push_back(kUidResidual);
  if (graph.bias) uids.push_back(kUidBias);
  return uids;
}

std::size_t workspace_limit(const ConvGraph& graph) {
  constexpr std::size_t kMiB = 1 << 20;
  if (graph.type() != DType::f32) return 64 * kMiB;
  std::int64_t elements = 0;
  for (const auto* d : {&graph.x, &graph.w, &graph.y}) elements += (*d)[0] * (*d)[1] * (*d)[2] * (*d)[3];
  // A quarter more than a copy: 3 channels are copied as 4.
  return std::max(512 * kMiB, static_cast<std::size_t>(elements) * sizeof(float) / 4 * 5);
}

void Plan::execute(cudnnHandle_t handle, std::span<const std::int64_t> uids, std::span<void* const> pointers,
                   void* workspace_memory) const {
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, uids)
      .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, std::ssize(pointers), pointers.data())
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace_memory)
      .finalize();
  check(cudnnBackendExecute(handle, descriptor.raw(), pack.raw()), "executing a plan");
}

std::vector<Descriptor> propose(const Descriptor& graph, const DeviceDescription& device,
                                cudnnBackendHeurMode_t mode) {
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph)
      .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode)
      .set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device.descriptor());
  if (cudnnBackendFinalize(heuristic.raw()) != CUDNN_STATUS_SUCCESS) return {};
  std::int64_t count = 0;
  check(cudnnBackendGetAttribute(heuristic.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
        "counting engine configurations");
  std::vector<Descriptor> configs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < count; ++i)
    raw.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).raw());
  if (count > 0)
    check(cudnnBackendGetAttribute(heuristic.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                   CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count, raw.data()),
          "reading engine configurations");
  configs.erase(configs.begin() + std::min<std::int64_t>(count, std::ssize(configs)), configs.end());
  return configs;
}

EngineNotes examine(const Descriptor& config) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  const cudnnBackendDescriptor_t raw = engine.raw();
  std::int64_t count = 0;
  cudnnBackendDescriptor_t out = raw;
  check(cudnnBackendGetAttribute(config.raw(), CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &count, &out),
        "reading a configuration's engine");
  EngineNotes notes;
  notes.engine = engine.get_int64(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
  for (const auto note : notes_of<cudnnBackendNumericalNote_t>(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                               CUDNN_TYPE_NUMERICAL_NOTE)) {
    notes.tensor_core |= note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    notes.deterministic &= note != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    notes.reduced_precision |= note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
                               note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    notes.large_winograd |=
        note == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 || note == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
  }
  for (const auto note : notes_of<cudnnBackendBehaviorNote_t>(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                                              CUDNN_TYPE_BEHAVIOR_NOTE))
    notes.runtime_compiled |= note == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
  return notes;
}

std::optional<Plan> finalize_plan(const Descriptor& config, const EngineNotes& notes,
                                  const DeviceDescription& device) {
  Descriptor d(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  d.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config)
      .set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device.descriptor());
  if (cudnnBackendFinalize(d.raw()) != CUDNN_STATUS_SUCCESS) return std::nullopt;
  const auto workspace = static_cast<std::size_t>(d.get_int64(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE));
  return Plan{std::move(d), workspace, notes, {}};
}

Plan choose_plan(const ConvGraph& graph, const DeviceDescription& device, std::size_t limit) {
  const BuiltGraph built = build(graph);
  const bool strict_fp32 = graph.type() == DType::f32 && !graph.tf32;
  std::optional<Plan> second;  // right, but without tensor cores
  std::size_t least_workspace = SIZE_MAX;
  int proposed = 0, unfit = 0, refused = 0;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    for (const Descriptor& config : propose(*built.graph, device, mode)) {
      ++proposed;
      const EngineNotes notes = examine(config);
      const bool wanted_math = !(strict_fp32 && (notes.tensor_core || notes.large_winograd));
      const bool preferred = strict_fp32 || notes.tensor_core;
      if (!notes.deterministic || notes.reduced_precision || notes.runtime_compiled || !wanted_math ||
          (!preferred && second)) {
        ++unfit;
        continue;
      }
      std::optional<Plan> plan = finalize_plan(config, notes, device);
      if (!plan) {
        ++refused;
        continue;
      }
      least_workspace = std::min(least_workspace, plan->workspace);
      if (plan->workspace > limit) continue;
      if (!preferred) {
        second = std::move(plan);
        continue;
      }
      plan->json = plan->descriptor.get_text(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
      return std::move(*plan);
    }
  }
  if (second) {
    second->json = second->descriptor.get_text(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
    return std::move(*second);
  }
  throw CudnnError(
      CUDNN_STATUS_NOT_SUPPORTED,
      "no plan for " + to_string(graph) + " (" + std::to_string(proposed) + " proposed, " +
          std::to_string(unfit) + " not deterministic or of the wrong precision, " + std::to_string(refused) +
          " refused" +
          (least_workspace == SIZE_MAX
               ? ""
               : ", the others need " + std::to_string(least_workspace >> 20) + " MiB of workspace or more") +
          ")");
}

Plan load_plan(const std::string& json, const EngineNotes& notes, const DeviceDescription& device) {
  Descriptor d(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  // The device first: cuDNN 9.19 crashes on a plan's JSON without one.
  d.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device.descriptor())
      .set(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::ssize(json), json.data())
      .finalize();
  const auto workspace = static_cast<std::size_t>(d.get_int64(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE));
  return Plan{std::move(d), workspace, notes, json};
}

}  // namespace cairn::kernels::cudnn
