// What it costs several processes to add up a model's gradients, with nothing else to do: run it under
// mpirun, rank 0 prints one JSON object. In buckets of the training's size, all under way at once.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine/distributed/communicator.h"
#include "engine/distributed/gradient_exchange.h"

namespace cairn::distributed {
namespace {

int run(std::int64_t bytes, int rounds) {
  Communicator processes(&open_mpi, {});
  const auto values =
      std::make_shared<std::vector<float>>(static_cast<std::size_t>(bytes) / sizeof(float), 1.0f);
  const std::size_t bucket = GradientExchange::kBucketBytes / sizeof(float);
  const auto exchange = [&](std::size_t n) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<Communicator::Pending> jobs;
    for (std::size_t i = 0; i < n; i += bucket)
      jobs.push_back(processes.start_sum(std::span(*values).subspan(i, std::min(bucket, n - i)), values));
    for (const Communicator::Pending& job : jobs) processes.wait(job);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  std::vector<double> whole, small;
  for (int i = 0; i <= rounds; ++i) {
    processes.barrier();
    const double t = exchange(values->size()), s = exchange(static_cast<std::size_t>(processes.world()) * 16);
    if (i == 0) continue;  // connections are made in the first
    whole.push_back(t);
    small.push_back(s);
  }
  const auto median = [](std::vector<double>& v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
  };
  const nlohmann::json result = {{"processes", processes.world()},
                                 {"library", processes.library()},
                                 {"bytes", bytes},
                                 {"exchange_s", median(whole)},
                                 {"best_exchange_s", *std::min_element(whole.begin(), whole.end())},
                                 {"latency_s", median(small)}};
  if (processes.is_first()) std::printf("%s\n", result.dump().c_str());
  processes.close();
  return 0;
}

}  // namespace
}  // namespace cairn::distributed

int main(int argc, char** argv) {
  CLI::App app("time to add up gradients over processes; run under mpirun");
  std::int64_t bytes = 4 * 11'180'103;  // of ResNet-18 with 7 classes
  int rounds = 20;
  app.add_option("--bytes", bytes)->capture_default_str();
  app.add_option("--rounds", rounds)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return cairn::distributed::run(bytes, rounds);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
