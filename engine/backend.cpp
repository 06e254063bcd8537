#include "engine/backend.h"

#include <dlfcn.h>

#include <array>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>

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

/// The folder of the shared library (or program) that this code is in.
std::filesystem::path own_folder() {
  Dl_info info{};
  std::error_code error;
  if (!dladdr(reinterpret_cast<const void*>(&backend_parts), &info) || !info.dli_fname) return {};
  return std::filesystem::absolute(info.dli_fname, error).parent_path();
}

/// Opened for good: kernels that are queued may outlive any owner.
struct Library {
  void* handle = nullptr;
  bool exists = false;
  std::string error = {};
};
Library open_library(const std::string& name) {
  Library library;
  const std::filesystem::path file = own_folder() / ("libcairn_" + name + ".so");
  std::error_code error;
  library.exists = std::filesystem::exists(file, error);
  if (!library.exists) return library;
  library.handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library.handle) {
    const char* why = dlerror();
    library.error = why ? why : "the dynamic loader gave no reason";
  }
  return library;
}

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
  const Library library = open_library("cuda");
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
  const Library library = open_library(provider.file);
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

void load_fp64_kernels() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (kernels::relu_forward.filled(DeviceType::cpu, DType::f64)) return;
  const Library library = open_library("f64");
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
