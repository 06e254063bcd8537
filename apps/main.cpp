#include <CLI/CLI.hpp>
#include <cstdio>
#include <new>

#include "apps/commands/commands.h"
#include "apps/console.h"
#include "apps/plugins.h"
#include "kernels/error.h"

namespace {

constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

int fail(int status, const std::string& message) {
  std::fprintf(stderr, "error: %s\n", cairn::app::one_line(message).c_str());
  return status;
}

int run(int argc, char** argv) {
  CLI::App app{"cairn trains and uses image classifiers", "cairn"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "cairn " CAIRN_VERSION);
  app.footer("Example: cairn train --data photos --out runs/first");
  cairn::app::load_plugins_of(argc, argv);
  const std::vector<cairn::app::Command> commands = cairn::app::add_commands(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help, --version
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-')
      return fail(kWrongUse, "there is no command '" + std::string(argv[1]) + "'; see cairn --help");
    std::string command = "cairn";
    for (const CLI::App* sub : app.get_subcommands()) command += " " + sub->get_name();
    return fail(kWrongUse, std::string(error.what()) + "; see " + command + " --help");
  }
  for (const cairn::app::Command& command : commands)
    if (command.app->parsed()) return command.run();
  return kWrongUse;
}

}  // namespace

int main(int argc, char** argv) {
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
