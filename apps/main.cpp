#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <new>

#include "apps/commands/commands.h"
#include "apps/config_file.h"
#include "apps/console.h"
#include "apps/help_format.h"
#include "apps/help_pages.h"
#include "apps/plugins.h"
#include "apps/processes.h"
#include "kernels/cpu/waiting.h"
#include "kernels/error.h"

namespace {

constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

// Of several processes that fail alike, before they know of one another, the first says so.
int fail(int status, const std::string& message) {
  if (cairn::distributed::launch_of_environment().rank == 0)
    std::fprintf(stderr, "error: %s\n", cairn::app::one_line(message).c_str());
  return status;
}

int run(int argc, char** argv) {
  CLI::App app{"trains and uses image classifiers", "cairn"};
  app.formatter(cairn::app::make_help_formatter());
  app.require_subcommand(1);
  app.set_version_flag("--version", "cairn " CAIRN_VERSION);
  app.footer("Example: cairn train --data photos --out runs/first");
  cairn::app::load_plugins_of(argc, argv);
  const std::vector<cairn::app::Command> commands = cairn::app::add_commands(app);
  for (const cairn::app::Command& command : commands) {
    cairn::app::add_config_option(*command.app);
    command.app->get_help_ptr()->group(cairn::app::kGeneralGroup);
  }
  const auto print = [](const std::string& text) {
    std::fputs(text.c_str(), stdout);
    throw CLI::Success();
  };
  app.add_flag_callback(
      "--man", [&] { print(cairn::app::man_page(app)); }, "all of the help, as a man page");
  app.add_option_function<std::string>(
         "--completion", [&](const std::string&) { print(cairn::app::bash_completion(app)); },
         "completions for a shell, to be sourced")
      ->check(CLI::IsMember({"bash"}));
  try {
    std::vector<std::string> arguments = cairn::app::with_config_file(app, {argv + 1, argv + argc});
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
    app.parse(std::move(arguments));
  } catch (const CLI::Success& help) {  // --help, --version
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return fail(kWrongUse, cairn::app::usage_error(app, {argv + 1, argv + argc}, error));
  }
  for (const cairn::app::Command& command : commands) {
    if (!command.app->parsed()) continue;
    if (command.app->get_name() != "train") cairn::app::require_one_process(command.app->get_name());
    return command.run();
  }
  return kWrongUse;
}

}  // namespace

int main(int argc, char** argv) {
  cairn::kernels::adopt_short_waits(argv);
  try {
    return run(argc, argv);
  } catch (const cairn::InputError& error) {
    return fail(kWrongUse, error.what());
  } catch (const std::bad_alloc&) {
    return fail(kFailed, "out of memory: use a smaller --batch-size or --image-size");
  } catch (const std::exception& error) {
    return fail(kFailed, error.what());
  }
}
