#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <vector>

namespace cairn::app {

/// A subcommand and what it does once its options are parsed; run() returns the exit status.
struct Command {
  CLI::App* app;
  std::function<int()> run;
};

Command add_doctor(CLI::App& app);
Command add_evaluate(CLI::App& app);
Command add_export(CLI::App& app);
Command add_find_lr(CLI::App& app);
Command add_inspect(CLI::App& app);
Command add_kernels(CLI::App& app);
Command add_new_op(CLI::App& app);
Command add_predict(CLI::App& app);
Command add_serve(CLI::App& app);
Command add_split(CLI::App& app);
Command add_train(CLI::App& app);

inline std::vector<Command> add_commands(CLI::App& app) {
  return {add_train(app),  add_evaluate(app), add_find_lr(app), add_predict(app),
          add_serve(app),  add_export(app),   add_split(app),   add_inspect(app),
          add_new_op(app), add_kernels(app),  add_doctor(app)};
}

}  // namespace cairn::app
