#include "engine/backend.h"

#include <dlfcn.h>

#include <array>
#include <map>
#include <mutex>

#include "engine/shared_object.h"
#include "kernels/backend.h"
#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/pointwise.h"
#include "kernels/without.h"

namespace cairn {
namespace {

constexpr std::size_t kTextBytes = 1024;

struct Provider {
  const char* name;
  const char* file;  // libcairn_FILE.so, and the name in CAIRN_WITHOUT
  const char* advice;
};
constexpr std::array<Provider, 2> kProviders = {{
    {"cuDNN", "cudnn",
     "install cuDNN 9 for this CUDA version (NVIDIA's repository: apt-get install cudnn9-cuda-13), so that "
     "the "
     "dynamic loader finds libcudnn.so.9"},
    {"cuBLASLt", "cublaslt",
     "install cuBLAS for this CUDA version (NVIDIA's repository: apt-get install libcublas-13-0), so that "
     "the "
     "dynamic loader finds libcublasLt"},
}};

struct Loaded {
  std::vector<BackendPart> parts;
  CairnCudaSelfTest* self_test = nullptr;
};

BackendPart load_kernels(Loaded& loaded) {
  BackendPart part{.name = "kernels"};
  if (kernels::device_api(DeviceType::cuda_emu)) {
    part.found = "this build holds the emulated device instead";
    part.advice = "scripts/build cuda";
    return part;
  }
  const SharedObject library = open_shared_object("cuda");
  part.in_build = library.exists;
  if (!library.exists) {
    part.found = "no CUDA backend in this build";
    part.advice = "needs CUDA's toolkit, then: scripts/build cuda";
  } else if (!library.handle) {
    part.found = "the CUDA backend cannot be loaded: " + library.error;
    part.advice = "build it again: scripts/build cuda";
  } else {
    part.works = kernels::device_api(DeviceType::cuda) != nullptr;
    part.found = part.works ? "loaded" : "libcairn_cuda.so holds no device: it is of another version";
    part.advice = "build it again: scripts/build cuda";
    loaded.self_test = reinterpret_cast<CairnCudaSelfTest*>(dlsym(library.handle, "cairn_cuda_self_test"));
  }
  return part;
}

BackendPart load_provider(const Provider& provider, bool wanted) {
  BackendPart part{.name = provider.name};
  if (!wanted) {
    part.found = "only with a CUDA backend";
    return part;
  }
  if (kernels::without(provider.file)) {
    part.found = part.name + " is left out, as CAIRN_WITHOUT says";
    return part;
  }
  const SharedObject library = open_shared_object(provider.file);
  part.in_build = library.exists;
  part.advice = provider.advice;
  if (!library.exists) {
    part.found = "built without " + part.name + ", whose headers were not there";
    part.advice += ", and build again";
  } else if (!library.handle) {
    part.found = part.name + " cannot be loaded: " + library.error;
  } else {
    const auto start = reinterpret_cast<CairnProviderStart*>(dlsym(library.handle, "cairn_provider_start"));
    std::array<char, kTextBytes> text{};
    part.works = start && start(text.data(), text.size()) == 0;
    part.found = start ? text.data() : "libcairn_" + std::string(provider.file) + ".so is of another version";
  }
  return part;
}

Loaded load() {
  Loaded loaded;
  loaded.parts.push_back(load_kernels(loaded));
  const bool cuda = kernels::device_api(DeviceType::cuda) || kernels::device_api(DeviceType::cuda_emu);
  for (const Provider& provider : kProviders) loaded.parts.push_back(load_provider(provider, cuda));
  return loaded;
}

const Loaded& loaded() {
  static const Loaded& once = *new Loaded(load());
  return once;
}

}  // namespace

const std::vector<BackendPart>& backend_parts() { return loaded().parts; }

const BackendPart& collective_part() {
  static const BackendPart& once = *new BackendPart([] {
    loaded();  // its devices
    constexpr Provider kNccl = {"NCCL", "nccl",
                                "install NCCL 2 for this CUDA version (NVIDIA's repository: apt-get install "
                                "libnccl2 libnccl-dev), so that the dynamic loader finds libnccl.so.2"};
    return load_provider(kNccl,
                         kernels::device_api(DeviceType::cuda) || kernels::device_api(DeviceType::cuda_emu));
  }());
  return once;
}

void load_fp64_kernels() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (kernels::relu_forward.filled(DeviceType::cpu, DType::f64)) return;
  const SharedObject library = open_shared_object("f64");
  if (!library.handle)
    throw Error("the kernels in double cannot be loaded: " +
                (library.exists ? library.error : "there is no libcairn_f64.so beside libcairn.so") +
                "; build or install cairn again");
}

std::string device_fault(Device device) {
  if (device.type != DeviceType::cuda || !loaded().self_test) return {};
  static std::mutex mutex;
  static auto& results = *new std::map<int, std::string>;
  const std::lock_guard lock(mutex);
  const auto [it, fresh] = results.try_emplace(device.index);
  if (fresh) {
    std::array<char, kTextBytes> text{};
    if (loaded().self_test(device.index, text.data(), text.size()) != 0) it->second = text.data();
  }
  return it->second;
}

std::string slow_kernels_warning(DeviceType type) {
  if (type == DeviceType::cpu) return {};
  std::string warning;
  for (std::size_t i = 0; i < kProviders.size(); ++i) {
    const BackendPart& part = backend_parts()[i + 1];
    if (part.works) continue;
    warning += (warning.empty() ? "" : "; ") + part.found + ": " +
               (part.name == "cuDNN" ? "plain convolutions" : "plain matrix products") +
               " are used, many times slower" + (part.advice.empty() ? "" : " (" + part.advice + ")");
  }
  return warning;
}

}  // namespace cairn
