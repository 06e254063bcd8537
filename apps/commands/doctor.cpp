#include <algorithm>
#include <cstdio>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <vector>

#include <jpeglib.h>
#include <zlib.h>
#include <nlohmann/json.hpp>

#include "apps/assets/assets.h"
#include "apps/commands/commands.h"
#include "apps/options.h"
#include "apps/self_test.h"
#include "engine/backend.h"
#include "engine/device.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/device.h"

#ifdef CAIRN_HAVE_WEBP
#include <webp/decode.h>
#endif

namespace cairn::app {
namespace {

struct Finding {
  std::string what;
  std::string found;
  bool works;
  std::string advice;       // what to do where it does not
  bool trustworthy = true;  // false: it is there, and computes what is wrong
};

Finding cpu_finding() {
  const kernels::CpuInfo& cpu = kernels::cpu_info();
  return {"processor", cpu.model + ", " + std::to_string(cpu.cores) + " cores, " + kernels::describe_isa(cpu),
          true, ""};
}

Finding precision_finding() {
  const bool native = fast_dtype({DeviceType::cpu, 0}) == DType::bf16;
  return {"precision on the CPU",
          native ? "bf16 (--precision auto), fp32" : "fp32 (--precision auto), bf16 works but is slow", true,
          ""};
}

Finding onednn_finding() {
  const dnnl_version_t* v = dnnl_version();
  return {"oneDNN",
          std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch), true,
          ""};
}

Finding webp_finding() {
#ifdef CAIRN_HAVE_WEBP
  const int v = WebPGetDecoderVersion();
  return {"libwebp",
          std::to_string(v >> 16) + "." + std::to_string(v >> 8 & 255) + "." + std::to_string(v & 255), true,
          ""};
#else
  return {"libwebp", "not in this build", false,
          "sudo apt-get install libwebp-dev, then scripts/build: WebP images are refused without it"};
#endif
}

// A part of the CUDA backend that was loaded is named with its version; else why not, and what helps.
Finding backend_finding(const BackendPart& part) {
  return {
      "CUDA backend, " + part.name, part.found, part.works,
      part.works || !part.advice.empty() ? part.advice : "needs CUDA's toolkit, then: scripts/build cuda"};
}

Finding onnx_finding() {
#ifdef CAIRN_HAVE_ONNX
  return {"libonnx", "in this build: cairn export writes ONNX", true, ""};
#else
  return {"libonnx", "not in this build", false,
          "sudo apt-get install libonnx-dev libprotobuf-dev, then scripts/build: cairn export --format onnx "
          "needs it"};
#endif
}

Finding httplib_finding() {
#ifdef CAIRN_HAVE_HTTPLIB
  return {"cpp-httplib", "in this build: cairn serve answers", true, ""};
#else
  return {"cpp-httplib", "not in this build", false,
          "sudo apt-get install libcpp-httplib-dev, then scripts/build: cairn serve needs it"};
#endif
}

Finding charts_finding() {
  if (!assets::chart_js.empty()) return {"Chart.js", "in this build: reports draw their curves", true, ""};
  return {
      "Chart.js", "not in this build", false,
      "sudo apt-get install libjs-chart.js, then scripts/build: reports show curves as tables without it"};
}

// The ops of a step, forward and backward, against plain arithmetic.
Finding ops_finding(Device device) {
  const std::string fault = self_test(device);
  if (fault.empty())
    return {"ops on " + to_string(device),
            "convolution, batch norm, pooling, linear, loss: as they should be", true, ""};
  return {"ops on " + to_string(device), fault, false,
          "do not trust results of " + to_string(device) +
              (device.type == DeviceType::cpu ? ": update" : ": use --device cpu, update the driver or") +
              " the libraries above, and report it with this output",
          false};
}

// Each device with its launch self-test.
Finding device_finding(DeviceType type) {
  const std::string name = name_of(type);
  const kernels::DeviceApi* api = kernels::device_api(type);
  if (!api) return {name, "not in this build", false, "needs CUDA's toolkit, then: scripts/build " + name};
  std::string why;
  const int count = api->count(why);
  if (count == 0) return {name, "no working device", false, why};
  std::string found, faults;
  for (int i = 0; i < count; ++i) {
    found += (i > 0 ? "; " : "") + api->describe(i);
    const std::string fault = device_fault({type, i});
    if (!fault.empty()) faults += (faults.empty() ? "" : "; ") + to_string(Device{type, i}) + ": " + fault;
  }
  if (faults.empty()) return {name, found + ": the launch self-test passed", true, ""};
  return {name, found, false, faults};
}

// Libraries that are compiled in are named by their headers' version, the others by what was loaded.
std::vector<Finding> examine() {
  const std::string jpeg = "API " + std::to_string(JPEG_LIB_VERSION);
  const std::string turbo =
#ifdef LIBJPEG_TURBO_VERSION_NUMBER
      "turbo " + std::to_string(LIBJPEG_TURBO_VERSION_NUMBER / 1000000) + "." +
      std::to_string(LIBJPEG_TURBO_VERSION_NUMBER / 1000 % 1000) + "." +
      std::to_string(LIBJPEG_TURBO_VERSION_NUMBER % 1000) + ", ";
#else
      "";
#endif
  const bool is_turbo = !turbo.empty();
  std::vector<Finding> findings = {
      cpu_finding(),
      precision_finding(),
      {"compute threads", std::to_string(compute_threads()) + " (OpenMP; --threads N, OMP_NUM_THREADS)", true,
       ""},
      onednn_finding(),
      {"Highway", CAIRN_HIGHWAY_VERSION, true, ""},
      {"libjpeg", turbo + jpeg, is_turbo,
       "sudo apt-get install libjpeg-dev (libjpeg-turbo): other ones are slower"},
      webp_finding(),
      onnx_finding(),
      httplib_finding(),
      charts_finding(),
      {"zlib", zlibVersion(), true, ""}};
  for (const BackendPart& part : backend_parts()) findings.push_back(backend_finding(part));
  findings.push_back(ops_finding({DeviceType::cpu, 0}));
  for (const DeviceType type : {DeviceType::cuda, DeviceType::cuda_emu}) {
    findings.push_back(device_finding(type));
    const kernels::DeviceApi* api = kernels::device_api(type);
    std::string why;
    const int count = findings.back().works && api ? api->count(why) : 0;
    for (int i = 0; i < count; ++i) findings.push_back(ops_finding({type, i}));
  }
  return findings;
}

int run(const CommonOptions& o) {
  Console console(o.quiet, o.json);
  const std::vector<Finding> findings = examine();
  const int status =
      std::all_of(findings.begin(), findings.end(), [](const Finding& f) { return f.trustworthy; }) ? 0 : 1;
  if (o.json) {
    nlohmann::json json = {{"version", CAIRN_VERSION}, {"findings", nlohmann::json::array()}};
    for (const Finding& f : findings)
      json["findings"].push_back(
          {{"what", f.what}, {"found", f.found}, {"works", f.works}, {"advice", f.advice}});
    console.result(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return status;
  }
  console.result("cairn " CAIRN_VERSION);
  for (const Finding& f : findings) {
    char name[40];
    std::snprintf(name, sizeof name, "%-24s", f.what.c_str());
    console.result(std::string(f.works ? "  ok  " : "  --  ") + name + f.found);
    if (!f.works) console.result("        " + one_line(f.advice));
  }
  return status;
}

}  // namespace

Command add_doctor(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("doctor", "says what this machine offers, and what to do about the rest");
  const auto o = std::make_shared<CommonOptions>();
  add_output(*command, *o);
  command->footer("Example: cairn doctor");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
