#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace cairn::app {

/// Gives the subcommand its --config.
void add_config_option(CLI::App& command);

/// The arguments (without the program's name) with what --config FILE says put before what the person says.
/// FILE is TOML: `option = value` for any command that has the option, or under `[command]`. What stands on
/// the command line wins. Throws InputError for a file that cannot be read, a section that is no command, and
/// a key that is no option of the command.
std::vector<std::string> with_config_file(const CLI::App& app, std::vector<std::string> arguments);

/// The plugins that --config names for this command, which bring models that its other lines may name. None
/// where the command line has --plugin. Throws InputError for a file that cannot be read.
std::vector<std::string> plugins_of_config(const std::vector<std::string>& arguments);

}  // namespace cairn::app
