#include "engine/shared_object.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>

namespace cairn {
namespace {

/// The folder of the shared library (or program) that this code is in.
std::filesystem::path own_folder() {
  Dl_info info{};
  std::error_code error;
  if (!dladdr(reinterpret_cast<const void*>(&open_shared_object), &info) || !info.dli_fname) return {};
  return std::filesystem::absolute(info.dli_fname, error).parent_path();
}

}  // namespace

SharedObject open_shared_object(const std::string& name, bool global) {
  SharedObject object;
  const std::filesystem::path file = own_folder() / ("libcairn_" + name + ".so");
  std::error_code error;
  object.exists = std::filesystem::exists(file, error);
  if (!object.exists) return object;
  object.handle = dlopen(file.c_str(), RTLD_NOW | RTLD_NODELETE | (global ? RTLD_GLOBAL : RTLD_LOCAL));
  if (!object.handle) {
    const char* why = dlerror();
    object.error = why ? why : "the dynamic loader gave no reason";
  }
  return object;
}

}  // namespace cairn
