#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "models/registry.h"

/// Counts the changes of what a plugin sees of libcairn: a plugin of another number is refused before any of
/// its code runs.
#ifndef CAIRN_PLUGIN_INTERFACE  // a test takes another
#define CAIRN_PLUGIN_INTERFACE 1
#endif
#define CAIRN_PLUGIN_JOIN_(a, b) a##b
#define CAIRN_PLUGIN_JOIN(a, b) CAIRN_PLUGIN_JOIN_(a, b)
#define CAIRN_PLUGIN_SYMBOL CAIRN_PLUGIN_JOIN(cairn_plugin_interface_, CAIRN_PLUGIN_INTERFACE)

/// Defined by libcairn under the number it serves; a plugin of another one does not link with it.
extern "C" const char CAIRN_PLUGIN_SYMBOL;
extern "C" {
/// What a plugin exports.
struct CairnPlugin {
  const char* interface;  // of the libcairn it was built for
  unsigned long long layout;
};
}

namespace cairn::models {

/// Sizes of what plugin and library both handle: they differ where the headers or the C++ library do.
inline constexpr unsigned long long kPluginLayout =
    ((sizeof(nn::Module) * 1009 + sizeof(TensorImpl)) * 1009 + sizeof(kernels::KernelSlot<int>)) * 1009 +
    sizeof(ModelInfo) + sizeof(std::string);

/// A model for `cairn train --model NAME` from outside the engine. Put one beside the model, and
/// CAIRN_PLUGIN() once into the plugin:
///   const cairn::models::RegisterModel kModel{{.name = "my_model", .summary = "...", .head = "fc",
///       .defaults = cairn::models::resnet_defaults(), .make = &make_my_model}};
struct RegisterModel {
  explicit RegisterModel(const ModelInfo& info) noexcept;  // load_plugin() throws what register_model() does
};

/// Loads a shared object for good: its models are in all_models() from then on, its kernels in their slots.
/// Answers the absolute path; loading a file again does nothing. Throws InputError, in one line, for a file
/// that is missing, no shared object, no plugin of cairn or one built for another cairn.
std::string load_plugin(const std::string& path);

}  // namespace cairn::models

/// Makes a shared object a plugin; once, outside any namespace, in one of its files.
#define CAIRN_PLUGIN()                              \
  extern "C" __attribute__((visibility("default"))) \
  const CairnPlugin cairn_plugin = {&CAIRN_PLUGIN_SYMBOL, ::cairn::models::kPluginLayout}
