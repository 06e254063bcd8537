#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace cairn::app {

/// What --help says, as a man page (roff, man(7)) and as completions for bash: both are read off the same
/// options.
std::string man_page(const CLI::App& app);
std::string bash_completion(const CLI::App& app);

}  // namespace cairn::app
