#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/commands/commands.h"
#include "apps/kernel_work.h"
#include "apps/options.h"
#include "apps/plugins.h"
#include "apps/precision.h"
#include "apps/run_dir.h"
#include "engine/benchmark.h"
#include "engine/kernel_table.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  StepOptions step;
  std::vector<std::string> plugin;
  std::string run, op, shape = "4,28,28,64";
  std::vector<std::string> gpus;
  bool lines = false;
};

/// The options of a run, but for its batch and image size where other ones were asked for: a whole batch of
/// large images takes the emulated device hours.
void adopt_run(Options& o, const CLI::App& command) {
  if (o.run.empty()) return;
  const RunDir run = RunDir::open(o.run);
  TrainOptions trained = run.options();
  if (o.plugin.empty()) load_plugins(trained.plugin);
  o.step.model = trained.model;
  o.step.optimizer = trained.optimizer;
  o.step.classes = static_cast<std::int64_t>(run.card().classes.size());
  if (command.count("--precision") == 0) o.step.precision = trained.precision;
}

/// The emulated device's counters live in checked kernels, which a program of their own is linked with. A
/// plugin's kernels are linked into no program: the loader takes them along.
[[noreturn]] void become_checked_program(const std::vector<std::string>& plugins, Console& console) {
  const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
  const fs::path program = here / "cairn-checked";
  if (!fs::exists(program))
    throw Error("the program with checked kernels, " + program.string() +
                ", is not there: cmake --build --preset cuda-emu --target cairn_cli_checked");
  std::string preload;
  if (const char* before = std::getenv("LD_PRELOAD")) preload = before;
  for (const std::string& plugin : plugins) {
    const fs::path kernels =
        fs::absolute(plugin).parent_path() / (fs::path(plugin).stem().string() + "_emu_checked.so");
    if (fs::exists(kernels))
      preload += (preload.empty() ? "" : ":") + kernels.string();
    else
      console.say("there is no " + kernels.string() + ": CUDA kernels of " + plugin +
                  " are there once it is built against a cairn of the "
                  "preset cuda-emu (docs/custom-ops.md); --plugin names that one");
  }
  if (!preload.empty()) setenv("LD_PRELOAD", preload.c_str(), 1);
  std::vector<std::string> words;  // of the command line, as it was typed
  std::ifstream line("/proc/self/cmdline", std::ios::binary);
  for (std::string word; std::getline(line, word, '\0');) words.push_back(word);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execv(program.c_str(), arguments.data());
  throw Error("cannot start " + program.string());
}

json traffic_json(const kernels::Traffic& t) {
  return {{"requests", t.requests},
          {"bytes", t.bytes},
          {"sectors", t.sectors},
          {"ideal_sectors", t.ideal_sectors}};
}

json to_json(const kernels::KernelCounters& k, const std::vector<const kernels::GpuModel*>& gpus) {
  json out = {
      {"kernel", k.kernel},
      {"launches", k.launches},
      {"blocks", k.blocks},
      {"threads", k.threads},
      {"loads", traffic_json(k.loads)},
      {"stores", traffic_json(k.stores)},
      {"shared",
       {{"requests", k.shared.requests}, {"waves", k.shared.waves}, {"ideal_waves", k.shared.ideal_waves}}},
      {"atomics", k.atomics},
      {"atomic_serial", k.atomic_serial},
      {"shared_atomics", k.shared_atomics},
      {"divergent_requests", k.divergent_requests},
      {"estimates", json::object()}};
  for (const kernels::GpuModel* gpu : gpus) {
    const kernels::Estimate e = kernels::estimate(k, *gpu);
    json& row = out["estimates"][std::string(gpu->id)] = {{"least_us", e.least()}, {"set_by", e.limit()}};
    if (const kernels::KernelCode* code = kernels::ptxas_of(k.kernel, gpu->architecture)) {
      row["registers"] = code->registers;
      row["spilled_bytes"] = code->spills;
      row["occupancy"] = e.occupancy;
      row["if_loads_wait_us"] = e.waiting;
    }
  }
  return out;
}

/// The lines that move the most, kernel by kernel.
std::string lines_of(const std::vector<kernels::KernelCounters>& kernels) {
  std::string text;
  for (const kernels::KernelCounters& k : kernels) {
    text += "\n" + k.kernel + "\n";
    for (const kernels::LineCounters& l : k.lines) {
      const auto part = [&](const char* name, const kernels::Traffic& t) {
        if (t.requests == 0) return std::string();
        return std::string(", ") + name + " " + number_text(static_cast<double>(t.bytes) / 1e6) + " MB in " +
               number_text(static_cast<double>(t.sectors) / static_cast<double>(t.requests)) +
               " sectors a request";
      };
      text += "  " + l.location + part("loads", l.loads) + part("stores", l.stores);
      if (l.shared.requests > 0)
        text += ", shared memory " +
                number_text(static_cast<double>(l.shared.waves) / static_cast<double>(l.shared.requests)) +
                " passes a request";
      if (l.atomics > 0) text += ", " + std::to_string(l.atomics) + " atomics";
      text += "\n";
    }
  }
  return text;
}

int run(Options o, const CLI::App& command) {
  Console console(o.common.quiet, o.common.json);
  std::vector<const kernels::GpuModel*> gpus;
  for (const std::string& id : o.gpus) gpus.push_back(kernels::find_gpu(id));
  if (o.run.empty() && o.step.model.empty() && o.op.empty())
    throw InputError("nothing to count: name a --run, a --model or an --op; see cairn kernels --help");
  const Device device = parse_device(o.common.device);
  const kernels::MeasureApi* measure = kernels::measure_api(device.type);
  if (!measure || !measure->counters)
    throw InputError("--device " + o.common.device +
                     " counts nothing: the emulated device does (--device cuda-emu, preset cuda-emu)");
  if (!measure->counts_traffic()) {
    std::vector<std::string> plugins = o.plugin;
    if (plugins.empty() && !o.run.empty()) plugins = RunDir::open(o.run).options().plugin;
    become_checked_program(plugins, console);
  }
  (void)open_device(o.common, console);
  adopt_run(o, command);
  const KernelWork work =
      o.op.empty() ? training_step(o.step, device)
                   : op_work(o.op, parse_shape(o.shape),
                             precision_dtype(settled_precision(o.step.precision, device), device), device);
  const Timing timing = benchmark(device, work.run);
  if (o.common.json) {
    json kernels = json::array();
    for (const kernels::KernelCounters& k : timing.kernels) kernels.push_back(to_json(k, gpus));
    console.result(json{{"what", work.what}, {"emulated", true}, {"kernels", kernels}}.dump());
    return 0;
  }
  console.result(work.what +
                 ", counted on the emulated device; convolutions and matrix products of cuDNN and "
                 "cuBLASLt are not (CAIRN_WITHOUT=cudnn,cublaslt runs plain kernels in their place)\n");
  console.result(kernel_table(timing.kernels, gpus));
  if (o.lines) console.result(lines_of(timing.kernels));
  return 0;
}

}  // namespace

Command add_kernels(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "kernels",
      "what CUDA kernels move, counted on the emulated device, and an estimate of their time on a GPU");
  const auto o = std::make_shared<Options>();
  o->common.device = "cuda-emu";
  command->add_option("--run", o->run, "a training step of this run's model and optimiser");
  command->add_option("--model", o->step.model, "a training step of this model")
      ->check(CLI::IsMember(model_names()));
  command->add_option("--op", o->op, "this op of the engine, forward and backward")
      ->check(CLI::IsMember(op_names()));
  command->add_option("--shape", o->shape, "of the op's input: N,H,W,C or what it takes")
      ->capture_default_str();
  command
      ->add_option("--plugin", o->plugin,
                   "shared object with models of your own (docs/custom-ops.md); in place of the run's")
      ->allow_extra_args(false);
  command->add_option("--batch-size", o->step.batch_size, "images of the step")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  command->add_option("--image-size", o->step.image_size, "side of its images")
      ->capture_default_str()
      ->check(CLI::Range(8, 1024));
  command->add_option("--precision", o->step.precision, "of activations")
      ->capture_default_str()
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}));
  std::vector<std::string> ids;
  for (const kernels::GpuModel& gpu : kernels::gpu_models()) ids.emplace_back(gpu.id);
  command->add_option("--gpu", o->gpus, "GPU to estimate for; may be repeated (default: sm90_H100)")
      ->check(CLI::IsMember(ids))
      ->allow_extra_args(false);
  command->add_flag("--lines", o->lines, "source lines too");
  add_common(*command, o->common);
  command->footer(
      "Needs a build of the emulated device with checked kernels: scripts/build cuda-emu && cmake --build "
      "--preset "
      "cuda-emu --target cairn_cli_checked. Takes seconds to minutes: keep batch and images small.\n"
      "Example: cairn kernels --op batch_norm_relu --shape 4,28,28,128 --gpu sm90_H100 --gpu sm75_T4");
  return {command, [o, command] {
            if (o->gpus.empty()) o->gpus.emplace_back("sm90_H100");
            return run(*o, *command);
          }};
}

}  // namespace cairn::app
