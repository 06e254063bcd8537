#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

namespace cairn::app {

/// Options that every command has stand last in its help, under this heading.
inline constexpr const char* kGeneralGroup = "General";

/// What stands for an option's value: "--batch-size N", "--run RUN", "--config FILE"; empty for a flag.
std::string value_word(const CLI::Option& option);
/// The values that an option takes, where they can be listed.
std::vector<std::string> choices_of(const CLI::Option& option);
/// What an option does, its choices and its default: "images a step (default 32)".
std::string explained(const CLI::Option& option);

/// Writes what --help says, for a terminal of 100 columns.
std::shared_ptr<CLI::FormatterBase> make_help_formatter();

/// What is wrong with a command line that CLI11 refused, and what was meant, if that can be guessed.
std::string usage_error(const CLI::App& app, const std::vector<std::string>& arguments,
                        const CLI::ParseError& error);

}  // namespace cairn::app
