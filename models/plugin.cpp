#include "models/plugin.h"

#include <dlfcn.h>

#include <exception>
#include <filesystem>
#include <utility>

#include "kernels/error.h"

extern "C" {
const char CAIRN_PLUGIN_SYMBOL = 0;
}

namespace cairn::models {
namespace {

[[noreturn]] void other_cairn(const std::string& path, const std::string& what) {
  throw InputError(path + " was built for another cairn (" + what + "): build it again with this one");
}

// The number in "undefined symbol: cairn_plugin_interface_7"; empty where the loader complains of something
// else.
std::string wanted_interface(const std::string& error) {
  constexpr std::string_view prefix = "cairn_plugin_interface_";
  const std::size_t at = error.find(prefix);
  if (at == std::string::npos) return {};
  const std::size_t begin = at + prefix.size();
  return error.substr(begin, error.find_first_not_of("0123456789", begin) - begin);
}

// What went wrong while a plugin's constructors ran: nothing may be thrown through the dynamic loader.
std::string& registration_error() {
  static std::string& text = *new std::string;
  return text;
}

}  // namespace

RegisterModel::RegisterModel(const ModelInfo& info) noexcept {
  try {
    register_model(info);
  } catch (const std::exception& error) {
    registration_error() = error.what();
  }
}

std::string load_plugin(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    throw InputError("there is no plugin " + path +
                     ": give the path of a shared object, e.g. build/libmyop.so");
  const std::string file = std::filesystem::canonical(path, error).string();
  // All symbols now: what does not fit is refused before the plugin's constructors run.
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!handle) {
    const char* text = dlerror();
    const std::string why = text ? text : "the dynamic loader gave no reason";
    if (const std::string wanted = wanted_interface(why); !wanted.empty())
      other_cairn(file,
                  "plugin interface " + wanted + ", here it is " + std::to_string(CAIRN_PLUGIN_INTERFACE));
    if (why.find("undefined symbol: _ZN") != std::string::npos) other_cairn(file, why);
    throw InputError("cannot load the plugin: " + why);
  }
  if (const std::string what = std::exchange(registration_error(), {}); !what.empty())
    throw InputError(file + ": " + what);
  const auto* plugin = static_cast<const CairnPlugin*>(dlsym(handle, "cairn_plugin"));
  if (!plugin) throw InputError(file + " is no plugin of cairn: it lacks CAIRN_PLUGIN() (models/plugin.h)");
  if (plugin->interface != &CAIRN_PLUGIN_SYMBOL)
    throw InputError(file + " is linked with a libcairn of its own: build it against " +
                     "the one that this program uses");
  if (plugin->layout != kPluginLayout) other_cairn(file, "its types have other sizes");
  return file;
}

}  // namespace cairn::models
