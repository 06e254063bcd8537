#pragma once
#include <string>
#include <vector>

namespace cairn::app {

/// Loads what --plugin names among the arguments, before the options are read: --model and --help then know
/// what the plugins bring. Throws InputError in one line.
void load_plugins_of(int argc, char** argv);
/// Loads them, and turns each path into an absolute one, for config.json.
void load_plugins(std::vector<std::string>& paths);
void load_plugins(std::vector<std::string>&& paths);

}  // namespace cairn::app
