#pragma once
#include <CLI/CLI.hpp>

namespace cairn::bench {

/// The options of a step that the programs have in common; `o` has fields of these names.
template <class Options>
void add_step_options(CLI::App& app, Options& o) {
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"fp32", "bf16"}))->capture_default_str();
  app.add_option("--batch-size", o.batch_size)->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--image-size", o.image_size)->check(CLI::Range(8, 2048))->capture_default_str();
  app.add_option("--steps", o.steps)->check(CLI::Range(1, 100000))->capture_default_str();
}

}  // namespace cairn::bench
