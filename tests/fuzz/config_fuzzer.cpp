// A file of options (--config) on any bytes: arguments that the command line takes or refuses, or InputError.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "apps/config_file.h"
#include "kernels/error.h"

using namespace cairn::app;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("fuzz.toml", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size))
    std::abort();
  // One option of each kind that the program has.
  CLI::App app("cairn");
  CLI::App& train = *app.add_subcommand("train");
  int epochs = 0;
  double lr = 0;
  bool nesterov = false;
  std::string model;
  std::vector<std::string> plugin;
  std::vector<double> mean;
  train.add_option("--epochs", epochs);
  train.add_option("--lr", lr);
  train.add_flag("--nesterov", nesterov);
  train.add_option("--model", model)->check(CLI::IsMember({"resnet18", "model_cnn"}));
  train.add_option("--plugin", plugin)->allow_extra_args(false);
  train.add_option("--mean", mean)->expected(1, 3)->delimiter(',');
  add_config_option(train);
  try {
    const std::vector<std::string> given{"train", "--config", path};
    plugins_of_config(given);
    std::vector<std::string> arguments = with_config_file(app, given);
    if (arguments.size() < given.size() || arguments.front() != "train") std::abort();
    std::reverse(arguments.begin(), arguments.end());
    app.parse(std::move(arguments));
  } catch (const cairn::InputError&) {
  } catch (const CLI::ParseError&) {
  }
  return 0;
}
