#include "engine/profiler.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <thread>

namespace cairn::profiler {
namespace {

using Clock = std::chrono::steady_clock;

struct Recording {
  std::thread::id thread;
  Clock::time_point begin;
  std::vector<std::string> names;
  std::vector<KernelEvent> events;
};
Recording& current() {
  static auto& recording = *new Recording;
  return recording;
}

bool mine() { return on() && current().thread == std::this_thread::get_id(); }

// What apps/train_step.cpp calls the parts of a step; every other name is a module's.
constexpr std::array<std::string_view, 4> kPasses{"load", "forward", "backward", "optimizer"};
bool is_pass(std::string_view name) {
  return std::find(kPasses.begin(), kPasses.end(), name) != kPasses.end();
}

std::string pass() {
  for (const std::string& name : current().names)
    if (is_pass(name)) return name;
  return {};
}

}  // namespace

void start() {
  Recording& r = current();
  r = {.thread = std::this_thread::get_id(), .begin = Clock::now(), .names = {}, .events = {}};
  recording = true;
}

std::vector<KernelEvent> stop() {
  recording = false;
  return std::exchange(current().events, {});
}

void push(const char* name) {
  if (mine()) current().names.emplace_back(name);
}
void pop() {
  if (mine() && !current().names.empty()) current().names.pop_back();
}

std::string layer() {
  std::string path;
  if (!mine()) return path;
  for (const std::string& name : current().names) {
    if (name.empty() || name == "model" || is_pass(name)) continue;
    path += (path.empty() ? "" : ".") + name;
  }
  return path;
}

double now() { return std::chrono::duration<double>(Clock::now() - current().begin).count(); }

void add(const char* kernel, double begin_s, const KernelWork& work) {
  if (!mine()) return;
  current().events.push_back({.kernel = kernel,
                              .pass = pass(),
                              .layer = layer(),
                              .begin_s = begin_s,
                              .seconds = now() - begin_s,
                              .work = work});
}

}  // namespace cairn::profiler
