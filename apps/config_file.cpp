#include "apps/config_file.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <string_view>

#include "apps/help_format.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

constexpr std::string_view kConfig = "--config";

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    if (command->get_name() == name) return command;
  return nullptr;
}

/// FILE of `--config FILE` or `--config=FILE`; empty: none.
std::string config_path(const std::vector<std::string>& arguments) {
  std::string path;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    if (arguments[i] == "--") break;
    if (arguments[i] == kConfig && i + 1 < arguments.size()) path = arguments[i + 1];
    if (arguments[i].starts_with(std::string(kConfig) + "=")) path = arguments[i].substr(kConfig.size() + 1);
  }
  return path;
}

std::vector<CLI::ConfigItem> items_of(const std::string& path) {
  std::ifstream file(path);
  try {
    if (!file || file.peek() == std::ifstream::traits_type::eof())
      throw InputError("it cannot be read, or is empty");
    return CLI::ConfigTOML().from_config(file);
  } catch (const std::exception& error) {
    throw InputError("--config " + path + ": " + error.what());
  }
}

bool given(const std::vector<std::string>& arguments, const std::string& option) {
  return std::any_of(arguments.begin(), arguments.end(),
                     [&](const std::string& a) { return a == option || a.starts_with(option + "="); });
}

std::string joined(const std::vector<std::string>& values) {
  std::string text;
  for (const std::string& v : values) text += (text.empty() ? "" : ",") + v;
  return text;
}

}  // namespace

void add_config_option(CLI::App& command) {
  command
      .add_option_function<std::string>(
          std::string(kConfig), [](const std::string&) {},
          "TOML file of these options, KEY = VALUE; the command line wins")
      ->type_name("FILE")
      ->group(kGeneralGroup);
}

std::vector<std::string> plugins_of_config(const std::vector<std::string>& arguments) {
  const std::string path = config_path(arguments);
  std::vector<std::string> plugins;
  if (path.empty() || given(arguments, "--plugin")) return plugins;
  for (const CLI::ConfigItem& item : items_of(path))
    if (item.name == "plugin" && (item.parents.empty() || item.parents[0] == arguments[0]))
      plugins.insert(plugins.end(), item.inputs.begin(), item.inputs.end());
  return plugins;
}

std::vector<std::string> with_config_file(const CLI::App& app, std::vector<std::string> arguments) {
  const CLI::App* command = arguments.empty() ? nullptr : find_command(app, arguments[0]);
  const std::string path = command ? config_path(arguments) : "";
  if (path.empty()) return arguments;
  const std::vector<CLI::ConfigItem> items = items_of(path);
  std::vector<std::string> from_file;
  std::set<std::string> seen;
  for (const CLI::ConfigItem& item : items) {
    if (item.name == "++" || item.name == "--") continue;  // where a section begins and ends
    if (!item.parents.empty() && (item.parents.size() > 1 || !find_command(app, item.parents[0])))
      throw InputError("--config " + path + ": [" + item.parents[0] + "] is no command; see cairn --help");
    if (!item.parents.empty() && item.parents[0] != command->get_name()) continue;
    const std::string option = "--" + item.name;
    const CLI::Option* known = command->get_option_no_throw(option);
    if (!known || option == kConfig || option == "--help")
      throw InputError("--config " + path + ": '" + item.name + "' is no option of cairn " +
                       command->get_name() + "; see cairn " + command->get_name() + " --help");
    if (!seen.insert(item.fullname()).second)
      throw InputError("--config " + path + ": '" + item.name + "' stands there twice");
    if (given(arguments, option)) continue;
    // A list is one value of options that take several at once, and the option repeated of the others.
    if (known->get_delimiter() != '\0')
      from_file.push_back(option + "=" + joined(item.inputs));
    else
      for (const std::string& value : item.inputs) from_file.push_back(option + "=" + value);
  }
  arguments.insert(arguments.begin() + 1, from_file.begin(), from_file.end());
  return arguments;
}

}  // namespace cairn::app
