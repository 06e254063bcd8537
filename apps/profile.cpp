#include "apps/profile.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <tuple>

namespace cairn::app {
namespace {

struct Row {
  std::string pass, layer, kernel;
  double seconds = 0;
  KernelWork work;
};

void add(Row& row, const KernelEvent& e) {
  row.seconds += e.seconds;
  row.work.bytes += e.work.bytes;
  row.work.flops += e.work.flops;
}

std::string rate(double amount, double seconds) {
  char text[32];
  if (amount <= 0 || seconds <= 0) return "-";
  std::snprintf(text, sizeof text, "%.1f", amount / seconds / 1e9);
  return text;
}

std::string line(const Row& row, const Profile& p) {
  const auto n = static_cast<double>(std::max<std::int64_t>(p.steps, 1));
  char text[320];
  std::snprintf(text, sizeof text, "%-10s %-24s %-26s %9.3f %6.1f %9.2f %9.3f %9s %8s\n", row.pass.c_str(),
                row.layer.c_str(), row.kernel.c_str(), 1e3 * row.seconds / n,
                100 * row.seconds / std::max(p.seconds, 1e-12), row.work.bytes / n / 1e6,
                row.work.flops / n / 1e9, rate(row.work.flops, row.seconds).c_str(),
                rate(row.work.bytes, row.seconds).c_str());
  return text;
}

}  // namespace

std::string profile_table(const Profile& p) {
  std::vector<Row> rows, passes;
  const auto find = [](std::vector<Row>& in, const Row& wanted) -> Row& {
    const auto it = std::find_if(in.begin(), in.end(), [&](const Row& r) {
      return std::tie(r.pass, r.layer, r.kernel) == std::tie(wanted.pass, wanted.layer, wanted.kernel);
    });
    return it != in.end() ? *it : in.emplace_back(wanted);
  };
  Row kernels{.pass = "kernels", .layer = {}, .kernel = {}, .seconds = 0, .work = {}};
  for (const KernelEvent& e : p.events) {
    add(find(rows, {.pass = e.pass, .layer = e.layer, .kernel = e.kernel, .seconds = 0, .work = {}}), e);
    add(find(passes, {.pass = e.pass, .layer = {}, .kernel = {}, .seconds = 0, .work = {}}), e);
    add(kernels, e);
  }
  char head[320];
  std::snprintf(head, sizeof head, "%-10s %-24s %-26s %9s %6s %9s %9s %9s %8s\n", "pass", "layer", "kernel",
                "ms/step", "%", "MB", "GFLOP", "GFLOP/s", "GB/s");
  std::string text = head;
  for (const Row& row : rows) text += line(row, p);
  text += '\n';
  for (const Row& row : passes) text += line(row, p);
  text += line(kernels, p);
  Row rest{.pass = "the rest", .layer = {}, .kernel = {}, .seconds = p.seconds - kernels.seconds, .work = {}};
  text += line(rest, p);
  return text;
}

std::string profile_trace(const Profile& p) {
  nlohmann::json events = nlohmann::json::array();
  for (const KernelEvent& e : p.events)
    events.push_back({{"name", e.layer.empty() ? std::string(e.kernel) : e.layer + " " + e.kernel},
                      {"cat", e.pass.empty() ? "step" : e.pass},
                      {"ph", "X"},
                      {"ts", 1e6 * e.begin_s},
                      {"dur", 1e6 * e.seconds},
                      {"pid", 1},
                      {"tid", 1},
                      {"args",
                       {{"kernel", e.kernel},
                        {"layer", e.layer},
                        {"bytes", e.work.bytes},
                        {"flops", e.work.flops},
                        {"GB/s", e.work.bytes / std::max(e.seconds, 1e-12) / 1e9},
                        {"GFLOP/s", e.work.flops / std::max(e.seconds, 1e-12) / 1e9}}}});
  return nlohmann::json{{"traceEvents", events}, {"displayTimeUnit", "ms"}}.dump();
}

}  // namespace cairn::app
