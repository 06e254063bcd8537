#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "kernels/emu/emu.h"
#include "kernels/error.h"

namespace cairn::emu {
namespace {

/// Where the profiles lie: where the variable says, in share/ of an installation, or beside the sources.
std::filesystem::path profile_folder() {
  if (const char* folder = std::getenv("CAIRN_EMU_PROFILES")) return folder;
  Dl_info library{};
  if (dladdr(reinterpret_cast<const void*>(&device_profiles), &library) && library.dli_fname) {
    std::error_code error;
    const auto installed = std::filesystem::weakly_canonical(
        std::filesystem::path(library.dli_fname).parent_path() / CAIRN_EMU_INSTALLED_PROFILES, error);
    if (!error && std::filesystem::is_directory(installed, error)) return installed;
  }
  return CAIRN_EMU_PROFILE_DIR;
}

DeviceProfile load(const std::string& id) {
  const auto file = profile_folder() / (id + ".json");
  std::ifstream in(file);
  if (!in) {
    std::string known;
    for (const std::string& p : device_profiles()) known += (known.empty() ? "" : ", ") + p;
    throw InputError("[emulated device] no profile '" + id + "' in " + profile_folder().string() +
                     "; CAIRN_EMU_DEVICE may be one of: " + known);
  }
  try {
    DeviceProfile p;
    p.id = id;
    p.json.assign(std::istreambuf_iterator<char>(in), {});
    const auto json = nlohmann::json::parse(p.json);
    p.name = json.at("deviceName");
    p.compute_capability = json.at("deviceVer").get<int>() / 10;
    p.total_global_mem = json.at("totalGlobalMem");
    p.max_shared_memory_per_block = json.at("maxSharedMemoryPerBlock");
    p.max_shared_memory_per_block_optin = json.at("maxSharedMemoryPerBlockOptin");
    p.reserved_shared_memory_per_block = json.at("reservedSharedMemoryPerBlock");
    p.shared_memory_per_multiprocessor = json.at("sharedMemPerMultiprocessor");
    p.l2_cache_bytes = json.at("l2CacheSize");
    for (std::size_t i = 0; i < 3; ++i) {
      p.max_grid_size[i] = json.at("maxGridSize").at(i);
      p.max_block_size[i] = json.at("maxBlockSize").at(i);
    }
    p.max_threads_per_block = json.at("maxThreadsPerBlock");
    p.max_threads_per_multiprocessor = json.at("maxThreadsPerSM");
    p.max_blocks_per_multiprocessor = json.at("maxCtasPerSM");
    p.registers_per_block = json.at("regsPerBlock");
    p.registers_per_multiprocessor = json.at("maxRegistersPerSM");
    p.multiprocessors = json.at("multiProcessorCount");
    return p;
  } catch (const nlohmann::json::exception& e) {
    throw InputError("[emulated device] profile " + file.string() + " cannot be used: " + e.what());
  }
}

std::unique_ptr<DeviceProfile>& current() {
  static auto& profile = *new std::unique_ptr<DeviceProfile>;
  return profile;
}

}  // namespace

const DeviceProfile& device_profile() {
  if (!current()) {
    const char* wanted = std::getenv("CAIRN_EMU_DEVICE");
    set_device_profile(wanted ? wanted : "sm90_H100");
  }
  return *current();
}

void set_device_profile(const std::string& id) { current() = std::make_unique<DeviceProfile>(load(id)); }

std::vector<std::string> device_profiles() {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(profile_folder(), error))
    if (entry.path().extension() == ".json") out.push_back(entry.path().stem().string());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace cairn::emu
