// The stand-in for the part of cuDNN that needs a GPU. Graphs, heuristics, plans and their workspaces are the
// real library's; handles are our own, and cudnnBackendExecute queues host arithmetic on the emulated stream.
// What to compute is read back from the finalised plan (its JSON, by cudnnBackendGetAttribute): dims,
// strides, padding, dilations, mode, alpha, beta, unique ids; and from the variant pack, which cuDNN does not
// let be read: its attributes are noted as they are set. Each execution is held against what the graph
// promised before it is queued: pointers, extents, alignments, overlaps, workspace.
#include <cudnn.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/emu/emu.h"
#include "kernels/emu/ledger.h"
#include "kernels/emu/runtime.h"
#include "kernels/emu/vendor/reference.h"

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace {
using namespace cairn::emu;

/// A function of the real library, which this object's own definitions hide from it.
template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

struct VariantPack {
  std::vector<std::int64_t> uids;
  std::vector<void*> pointers;
  void* workspace = nullptr;
};
std::mutex packs_mutex;
std::unordered_map<cudnnBackendDescriptor_t, VariantPack>& packs() {
  static auto& all = *new std::unordered_map<cudnnBackendDescriptor_t, VariantPack>;
  return all;
}

void note_variant_pack(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, std::int64_t count,
                       const void* values) {
  const std::lock_guard lock(packs_mutex);
  VariantPack& pack = packs()[d];
  if (name == CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS) {
    const auto* ids = static_cast<const std::int64_t*>(values);
    pack.uids.assign(ids, ids + count);
  } else if (name == CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS) {
    const auto* pointers = static_cast<void* const*>(values);
    pack.pointers.assign(pointers, pointers + count);
  } else {
    pack.workspace = *static_cast<void* const*>(values);
  }
}

// ---- what the plan says ----

Element element_of(const std::string& type) {
  if (type == "CUDNN_DATA_FLOAT") return Element::f32;
  if (type == "CUDNN_DATA_BFLOAT16") return Element::bf16;
  if (type == "CUDNN_DATA_HALF") return Element::f16;
  throw std::runtime_error("the emulated device computes no " + type);
}

struct GraphTensor {
  StridedTensor tensor;
  bool is_virtual = false;
  std::uintptr_t alignment = 1;  // that the graph promises
};

/// A plan's graph with the pointers of one execution.
struct Execution {
  nlohmann::json nodes;
  std::map<std::string, GraphTensor> tensors;
  std::map<std::string, DenseTensor> values;  // of virtual tensors
  std::string name;

  DenseTensor value(const nlohmann::json& node, const char* key) {
    const std::string id = node.at(key);
    const GraphTensor& t = tensors.at(id);
    return t.is_virtual ? values.at(id) : gather(t.tensor, name);
  }
  void land(const std::string& id, DenseTensor result) {
    const GraphTensor& t = tensors.at(id);
    if (t.is_virtual) {
      values[id] = std::move(result);
    } else {
      scatter(t.tensor, result, name);
    }
  }
  void run();
  /// What a run reads, writes and computes, to the ledger; false if that is all there is to do.
  bool note() const;
  /// In place of a run: zeros.
  void clear() const;

 private:
  void run_convolution(const nlohmann::json& node, ConvPass pass);
  void run_pointwise(const nlohmann::json& node);
};

std::array<std::int64_t, 2> pair_of(const nlohmann::json& node, const char* key) {
  return {node.at(key).at(0).get<std::int64_t>(), node.at(key).at(1).get<std::int64_t>()};
}

void Execution::run_convolution(const nlohmann::json& node, ConvPass pass) {
  const char* const x = pass == ConvPass::dgrad ? "dX" : "X";
  const char* const w = pass == ConvPass::wgrad ? "dW" : "W";
  const char* const y = pass == ConvPass::fprop ? "Y" : "dY";
  const char* const target = pass == ConvPass::fprop ? y : pass == ConvPass::dgrad ? x : w;
  const std::string target_id = node.at(target);
  const ConvGeometry geometry{pair_of(node, "stride"), pair_of(node, "pad"), pair_of(node, "dilation"),
                              node.at("mode") == "CUDNN_CONVOLUTION"};
  const auto alpha = node.at("alpha").get<float>(), beta = node.at("beta").get<float>();
  const auto input = [&](const char* key) { return key == target ? DenseTensor{} : value(node, key); };
  DenseTensor out{tensors.at(target_id).tensor.dims, {}};
  convolve(pass, geometry, input(x), input(w), input(y), out);
  if (beta != 0.0f) {
    const DenseTensor old = value(node, target);
    for (std::size_t i = 0; i < out.values.size(); ++i)
      out.values[i] = alpha * out.values[i] + beta * old.values[i];
  } else if (alpha != 1.0f) {
    for (float& v : out.values) v *= alpha;
  }
  land(target_id, std::move(out));
}

void Execution::run_pointwise(const nlohmann::json& node) {
  const std::string mode = node.at("pointwiseMode");
  DenseTensor x = value(node, "X");
  if (mode == "CUDNN_POINTWISE_RELU_FWD") {
    for (float& v : x.values) v = v < 0.0f ? 0.0f : v;
  } else if (mode == "CUDNN_POINTWISE_ADD") {
    const DenseTensor b = value(node, "B");
    const auto scale = node.at("alpha2").get<float>();
    const bool whole = b.dims == x.dims;
    if (!whole && b.dims != std::array<std::int64_t, 4>{1, x.dims[1], 1, 1})
      throw std::runtime_error("the emulated device adds whole tensors and biases only");
    const auto channels = static_cast<std::size_t>(x.dims[1]);
    for (std::size_t i = 0; i < x.values.size(); ++i)
      x.values[i] += scale * b.values[whole ? i : i % channels];
  } else {
    throw std::runtime_error("the emulated device has no " + mode);
  }
  land(node.at("Y"), std::move(x));
}

void Execution::run() {
  for (const nlohmann::json& node : nodes) {
    const std::string operation = node.at("operation");
    if (operation == "CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR") {
      run_convolution(node, ConvPass::fprop);
    } else if (operation == "CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR") {
      run_convolution(node, ConvPass::dgrad);
    } else if (operation == "CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR") {
      run_convolution(node, ConvPass::wgrad);
    } else if (operation == "CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR") {
      run_pointwise(node);
    } else {
      throw std::runtime_error("the emulated device has no " + operation);
    }
  }
}

/// Rows (axis 0) or columns (1) of the input that a filter meets: all but for strides beyond its length.
std::int64_t met(const nlohmann::json& node, int axis, const std::array<std::int64_t, 4>& x,
                 const std::array<std::int64_t, 4>& w, const std::array<std::int64_t, 4>& y) {
  const std::size_t at = static_cast<std::size_t>(axis) + 2;
  std::set<std::int64_t> rows;
  for (std::int64_t p = 0; p < y[at]; ++p)
    for (std::int64_t r = 0; r < w[at]; ++r) {
      const auto a = static_cast<std::size_t>(axis);
      const std::int64_t row =
          p * pair_of(node, "stride")[a] + r * pair_of(node, "dilation")[a] - pair_of(node, "pad")[a];
      if (row >= 0 && row < x[at]) rows.insert(row);
    }
  return static_cast<std::int64_t>(rows.size());
}

bool Execution::note() const {
  std::string what;
  std::int64_t read = 0, written = 0;
  double flops = 0;
  std::set<std::string> results;
  const auto bytes_of = [&](const std::string& id) {
    const StridedTensor& t = tensors.at(id).tensor;
    return t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3] * (t.type == Element::f32 ? 4 : 2);
  };
  std::map<std::string, std::int64_t> reads;  // by tensor, those in memory
  const auto reads_from = [&](const std::string& id, std::int64_t bytes) {
    if (!tensors.at(id).is_virtual) reads[id] = bytes;
  };
  for (const nlohmann::json& node : nodes) {
    const std::string operation = node.at("operation");
    if (operation == "CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR") {
      for (const char* key : {"X", "B"})
        if (node.contains(key) && node.at(key).is_string() &&
            tensors.contains(node.at(key).get<std::string>()))
          reads_from(node.at(key), bytes_of(node.at(key)));
      results.insert(node.at("Y"));
      continue;
    }
    const bool dgrad = operation == "CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR";
    const bool wgrad = operation == "CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR";
    const std::string x = node.at(dgrad ? "dX" : "X"), w = node.at(wgrad ? "dW" : "W"),
                      y = node.at(dgrad || wgrad ? "dY" : "Y");
    const std::string& result = dgrad ? x : wgrad ? w : y;
    const auto &xd = tensors.at(x).tensor.dims, &wd = tensors.at(w).tensor.dims,
               &yd = tensors.at(y).tensor.dims;
    const std::int64_t pixels = met(node, 0, xd, wd, yd) * met(node, 1, xd, wd, yd);
    reads_from(x, bytes_of(x) / (xd[2] * xd[3]) * pixels);
    reads_from(w, bytes_of(w));
    reads_from(y, bytes_of(y));
    if (node.at("beta").get<float>() == 0.0f) {
      reads.erase(result);
    } else {
      reads_from(result, bytes_of(result));
    }
    results.insert(result);
    flops +=
        2.0 * static_cast<double>(yd[0] * yd[1] * yd[2] * yd[3]) * static_cast<double>(wd[1] * wd[2] * wd[3]);
    const auto extent = [](const std::array<std::int64_t, 4>& d) {
      return std::to_string(d[1]) + 'x' + std::to_string(d[2]) + 'x' + std::to_string(d[3]);
    };
    what = std::string("conv ") +
           (dgrad   ? "dgrad "
            : wgrad ? "wgrad "
                    : "fprop ") +
           extent(xd) + ", " + std::to_string(wd[2]) + 'x' + std::to_string(wd[3]) + '/' +
           std::to_string(pair_of(node, "stride")[0]) + " -> " + extent(yd);
  }
  for (const auto& [id, bytes] : reads) read += bytes;
  for (const std::string& id : results)
    if (!tensors.at(id).is_virtual) written += bytes_of(id);
  return note_library_call(what, read, written, flops);
}

void Execution::clear() const {
  for (const nlohmann::json& node : nodes)
    for (const char* key : {"Y", "dX", "dW"}) {
      if (!node.contains(key) || (std::string(key) == "Y" && node.contains("dY"))) continue;
      const GraphTensor& t = tensors.at(node.at(key));
      const auto& d = t.tensor.dims;
      const std::int64_t bytes = d[0] * d[1] * d[2] * d[3] * (t.tensor.type == Element::f32 ? 4 : 2);
      if (!t.is_virtual) device_fill(t.tensor.data, 0, static_cast<std::size_t>(bytes));
    }
}

std::string plan_json(cudnnBackendDescriptor_t plan) {
  std::int64_t length = 0;
  if (cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0,
                               &length, nullptr) != CUDNN_STATUS_SUCCESS)
    throw std::runtime_error("the plan is not finalised");
  std::string text(static_cast<std::size_t>(length), '\0');
  cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, length,
                           &length, text.data());
  text.resize(text.find('\0') == std::string::npos ? text.size() : text.find('\0'));
  return text;
}

Execution read_back(cudnnBackendDescriptor_t plan, const VariantPack& pack) {
  const nlohmann::json graph = nlohmann::json::parse(plan_json(plan)).at("operationGraph");
  Execution e;
  e.nodes = graph.at("nodes");
  e.name = "cuDNN " + graph.at("finalizeMode").get<std::string>();
  for (const nlohmann::json& t : graph.at("tensors")) {
    const std::string uid = t.at("name");
    GraphTensor& tensor = e.tensors[uid];
    tensor.is_virtual = t.at("isVirtual");
    tensor.tensor.type = element_of(t.at("dataType"));
    tensor.tensor.dims = t.at("dim");
    tensor.tensor.strides = t.at("stride");
    if (tensor.is_virtual) continue;
    tensor.alignment = t.at("ptrAlignment").get<std::uintptr_t>();
    for (std::size_t i = 0; i < pack.uids.size() && i < pack.pointers.size(); ++i)
      if (std::to_string(pack.uids[i]) == uid) tensor.tensor.data = pack.pointers[i];
  }
  return e;
}

// ---- what an execution has to hold ----

/// Memory that an execution names.
struct Range {
  std::string what;
  std::uintptr_t begin, end;
  bool written;
};

/// One pointer for each tensor of the graph, and none for anything else.
void check_pointers(const Execution& e, const VariantPack& pack) {
  if (pack.uids.size() != pack.pointers.size())
    throw std::runtime_error("the variant pack has " + std::to_string(pack.pointers.size()) +
                             " pointers for " + std::to_string(pack.uids.size()) + " unique ids");
  for (std::size_t i = 0; i < pack.uids.size(); ++i) {
    const auto found = e.tensors.find(std::to_string(pack.uids[i]));
    if (found == e.tensors.end() || found->second.is_virtual)
      throw std::runtime_error("the variant pack names tensor " + std::to_string(pack.uids[i]) +
                               ", which the graph does not read or write");
    if (std::ranges::count(pack.uids, pack.uids[i]) != 1)
      throw std::runtime_error("the variant pack names tensor " + std::to_string(pack.uids[i]) + " twice");
  }
  for (const auto& [uid, t] : e.tensors)
    if (!t.is_virtual && !t.tensor.data) throw std::runtime_error("the variant pack has no tensor " + uid);
}

/// Aligned as the graph promised, and all of it, from the first element to the last that dims and strides
/// reach, in one allocation that lives.
Range check_range(const std::string& what, const void* data, std::size_t bytes, std::uintptr_t alignment) {
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  if (begin % alignment != 0)
    throw std::runtime_error(what + " is not aligned to " + std::to_string(alignment) + " bytes");
  if (bytes > 0 && !device_range_valid(data, bytes))
    throw std::runtime_error(what + " of " + std::to_string(bytes) +
                             " bytes does not lie in one allocation of the device");
  return {what, begin, begin + bytes, false};
}

/// The tensor that a node writes: the one under the key that stands for its result.
std::string result_of(const nlohmann::json& node) {
  const std::string operation = node.at("operation");
  return node.at(operation.find("BACKWARD_DATA") != std::string::npos     ? "dX"
                 : operation.find("BACKWARD_FILTER") != std::string::npos ? "dW"
                                                                          : "Y");
}

void check_execution(const Execution& e, const VariantPack& pack, std::int64_t workspace_bytes) {
  check_pointers(e, pack);
  std::vector<Range> ranges;
  for (const auto& [uid, t] : e.tensors)
    if (!t.is_virtual)
      ranges.push_back(check_range("tensor " + uid, t.tensor.data, bytes_of(t.tensor), t.alignment));
  for (const nlohmann::json& node : e.nodes)
    for (Range& r : ranges) r.written |= r.what == "tensor " + result_of(node);
  if (workspace_bytes > 0) {
    // cuDNN's kernels use accesses of up to 16 bytes there.
    ranges.push_back(
        check_range("the workspace", pack.workspace, static_cast<std::size_t>(workspace_bytes), 16));
    ranges.back().written = true;
  }
  for (const Range& a : ranges)
    for (const Range& b : ranges)
      if (&a != &b && a.written && a.begin < b.end && b.begin < a.end)
        throw std::runtime_error(a.what + " is written and overlaps " + b.what);
}

/// A workspace is written as a library may: nothing survives in it. It has to be there still when the work
/// runs.
void use_workspace(void* workspace, std::int64_t bytes, const std::string& who) {
  if (bytes == 0) return;
  if (!device_range_valid(workspace, static_cast<std::size_t>(bytes)))
    throw std::runtime_error(who + ": the workspace was freed before the work that uses it ran");
  device_fill(workspace, 0xFF, static_cast<std::size_t>(bytes));
}

}  // namespace

extern "C" {

cudnnStatus_t CUDNNWINAPI cudnnCreate(cudnnHandle_t* handle) {
  *handle = new cudnnContext;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t CUDNNWINAPI cudnnDestroy(cudnnHandle_t handle) {
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t CUDNNWINAPI cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t CUDNNWINAPI cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                                   cudnnBackendAttributeName_t name,
                                                   cudnnBackendAttributeType_t type, int64_t count,
                                                   const void* values) {
  static const auto set = real<decltype(cudnnBackendSetAttribute)>("cudnnBackendSetAttribute");
  // The emulated device has no number that cuDNN could ask the driver about: its profile is its description.
  if (name == CUDNN_ATTR_DEVICEPROP_DEVICE_ID) {
    const std::string& json = device_profile().json;
    return set(descriptor, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
               static_cast<std::int64_t>(json.size()), json.data());
  }
  const cudnnStatus_t status = set(descriptor, name, type, count, values);
  if (status == CUDNN_STATUS_SUCCESS &&
      (name == CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS || name == CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS ||
       name == CUDNN_ATTR_VARIANT_PACK_WORKSPACE))
    note_variant_pack(descriptor, name, count, values);
  return status;
}

cudnnStatus_t CUDNNWINAPI cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  static const auto destroy = real<decltype(cudnnBackendDestroyDescriptor)>("cudnnBackendDestroyDescriptor");
  {
    const std::lock_guard lock(packs_mutex);
    packs().erase(descriptor);
  }
  return destroy(descriptor);
}

cudnnStatus_t CUDNNWINAPI cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                              cudnnBackendDescriptor_t variant_pack) {
  try {
    VariantPack pack;
    {
      const std::lock_guard lock(packs_mutex);
      pack = packs().at(variant_pack);
    }
    const auto execution = std::make_shared<Execution>(read_back(plan, pack));
    std::int64_t bytes = 0, got = 0;
    cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &got,
                             &bytes);
    check_execution(*execution, pack, bytes);
    const cudaError_t queued = enqueue_library_call(
        handle->stream, execution->name.c_str(), [execution, workspace = pack.workspace, bytes] {
          Execution copy = *execution;  // a captured graph runs it more than once
          try {
            if (!copy.note()) return copy.clear();
            use_workspace(workspace, bytes, copy.name);
            copy.run();
          } catch (const std::exception& e) {
            std::fprintf(stderr, "emulated device: %s failed: %s\n", copy.name.c_str(), e.what());
          }
        });
    return queued == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED_CUDART;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "emulated device: cudnnBackendExecute: %s\n", e.what());
    return CUDNN_STATUS_BAD_PARAM;
  }
}

}  // extern "C"
