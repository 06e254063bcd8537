#include "apps/plugins.h"

#include <algorithm>
#include <string_view>

#include "apps/config_file.h"
#include "kernels/error.h"
#include "models/plugin.h"

namespace cairn::app {

void load_plugins_of(int argc, char** argv) {
  constexpr std::string_view flag = "--plugin";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--") return;
    if (argument == flag) {
      if (i + 1 == argc)
        throw InputError("--plugin is followed by the path of a shared object, e.g. build/libmyop.so");
      models::load_plugin(argv[++i]);
    } else if (argument.starts_with("--plugin=")) {
      models::load_plugin(std::string(argument.substr(flag.size() + 1)));
    }
  }
  for (const std::string& path : plugins_of_config({argv + std::min(argc, 1), argv + argc}))
    models::load_plugin(path);
}

void load_plugins(std::vector<std::string>& paths) {
  for (std::string& path : paths) path = models::load_plugin(path);
}

void load_plugins(std::vector<std::string>&& paths) { load_plugins(paths); }

}  // namespace cairn::app
