#include "apps/processes.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>

#include "data/hash.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

// So much later than the first the last process comes to a failure that all meet.
constexpr auto kSameFailure = std::chrono::milliseconds(300);
constexpr auto kFarewell = std::chrono::seconds(5);

// For mpirun to notice by itself that a host is gone, and end the job.
constexpr auto kLaunchersTime = std::chrono::seconds(10);

std::atomic<bool> own_failure = false;

struct CurrentRun {
  std::mutex mutex;
  std::string path;
};
CurrentRun& current_run() {
  static auto& run = *new CurrentRun;
  return run;
}

std::string advice() {
  CurrentRun& run = current_run();
  const std::lock_guard lock(run.mutex);
  return run.path.empty() ? "" : "; go on with: cairn train --resume " + run.path;
}

void print_error(const std::string& text) { std::fprintf(stderr, "error: %s\n", one_line(text).c_str()); }

// On the communicator's thread: the others wait in the middle of a step, or in a library's call, and cannot
// be brought back from there. States are replaced whole, so nothing is lost.
[[noreturn]] void end_process(const distributed::Communicator& processes,
                              const distributed::Failure& failure) {
  const std::string who = processes.name_of(failure.rank);
  if (!failure.lost && processes.is_first()) {
    // What all fail of, this one is about to say itself.
    std::this_thread::sleep_for(kSameFailure);
    if (own_failure.load()) std::this_thread::sleep_for(kFarewell);
  }
  if (failure.lost)
    print_error(who + " " + failure.text + advice());
  else if (processes.is_first())
    print_error(who + " failed: " + failure.text);
  std::fflush(nullptr);
  // Beyond a dead link mpirun has a daemon, and finds out that it is gone only as long as it has nothing to
  // send there: the end of this process would be that.
  if (failure.lost && processes.host(failure.rank) != processes.host(processes.rank()))
    std::this_thread::sleep_for(kLaunchersTime);
  std::_Exit(failure.status);
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}
template <class T>
std::vector<T> values_of(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace

std::unique_ptr<distributed::Communicator> join_processes(double peer_timeout_s) {
  if (distributed::launch_of_environment().world <= 1) return nullptr;
  constexpr double kStepsTimeout = 10;
  // The handler may be called before the constructor has returned.
  static distributed::Communicator* joined = nullptr;
  auto processes = std::make_unique<distributed::Communicator>(
      &distributed::open_mpi,
      distributed::CommunicatorOptions{.peer_timeout_s = peer_timeout_s,
                                       .step_timeout_s = kStepsTimeout * peer_timeout_s,
                                       .on_failure = [](const distributed::Failure& failure) {
                                         if (joined) end_process(*joined, failure);
                                       }});
  joined = processes.get();
  if (processes->world() <= 1) return nullptr;
  return processes;
}

void name_run(const std::string& path) {
  CurrentRun& run = current_run();
  const std::lock_guard lock(run.mutex);
  run.path = path;
}

void require_one_process(const std::string& command) {
  const int world = distributed::launch_of_environment().world;
  if (world > 1)
    throw InputError("cairn " + command + " is the work of one process, and " + std::to_string(world) +
                     " were started: leave out mpirun, which is for cairn train");
}

int run_as_process(distributed::Communicator& processes, const std::function<int()>& work) {
  const auto failed = [&](int status, const std::string& text) {
    own_failure = true;
    const bool told = processes.fail(status, text);
    if (!told) print_error(processes.is_first() ? text : processes.name_of(processes.rank()) + ": " + text);
    std::fflush(nullptr);
    // MPI is not taken down in good order, since others may not be there to do the same.
    std::_Exit(status);
  };
  try {
    const int status = work();
    processes.close();
    return status;
  } catch (const InputError& error) {
    failed(kWrongUse, error.what());
  } catch (const std::bad_alloc&) {
    failed(kFailed, "out of memory: use a smaller --batch-size or --image-size, or --accumulate");
  } catch (const std::exception& error) {
    failed(kFailed, error.what());
  }
  return kFailed;
}

std::vector<std::int64_t> own_batches(const std::vector<std::int64_t>& items, std::int64_t batch, int rank,
                                      int world) {
  std::vector<std::int64_t> own;
  const auto size = static_cast<std::int64_t>(items.size());
  for (std::int64_t begin = rank * batch; begin < size; begin += world * batch)
    own.insert(own.end(), items.begin() + begin, items.begin() + std::min(begin + batch, size));
  return own;
}

Predictions gather_predictions(distributed::Communicator& processes, const Predictions& own) {
  const auto items = processes.gather(bytes_of(own.items));
  const auto labels = processes.gather(bytes_of(own.labels));
  const auto logits = processes.gather(bytes_of(own.logits));
  struct Part {
    std::vector<std::int64_t> items;
    std::vector<std::int32_t> labels;
    std::vector<float> logits;
  };
  std::vector<Part> parts;
  std::size_t total = 0;
  for (std::size_t r = 0; r < items.size(); ++r) {
    parts.push_back(
        {values_of<std::int64_t>(items[r]), values_of<std::int32_t>(labels[r]), values_of<float>(logits[r])});
    total += parts.back().items.size();
  }
  Predictions all;
  all.classes = own.classes;
  constexpr auto kBatch = static_cast<std::size_t>(kPredictBatch);
  const auto classes = static_cast<std::ptrdiff_t>(own.classes);
  for (std::size_t b = 0; all.items.size() < total; ++b) {
    const Part& part = parts[b % parts.size()];
    const std::size_t first = std::min(b / parts.size() * kBatch, part.items.size());
    const auto begin = static_cast<std::ptrdiff_t>(first);
    const auto end = static_cast<std::ptrdiff_t>(std::min(first + kBatch, part.items.size()));
    all.items.insert(all.items.end(), part.items.begin() + begin, part.items.begin() + end);
    all.labels.insert(all.labels.end(), part.labels.begin() + begin, part.labels.begin() + end);
    all.logits.insert(all.logits.end(), part.logits.begin() + begin * classes,
                      part.logits.begin() + end * classes);
  }
  return all;
}

void share_state(distributed::Communicator& processes, nn::Module& model, optim::Optimizer& optimizer) {
  std::vector<nn::NamedTensor> tensors = model.named_tensors();
  for (const nn::NamedTensor& t : optimizer.state()) tensors.push_back(t);
  for (const nn::NamedTensor& t : tensors) {
    std::vector<float> values = t.tensor.to_vector<float>();
    processes.broadcast(std::as_writable_bytes(std::span(values)));
    if (!processes.is_first()) t.tensor.copy_from<float>(values);
  }
  optimizer.set_steps(std::stoll(processes.broadcast(std::to_string(optimizer.steps()))));
  optimizer.buffers().accept();  // what a step that is not taken goes back to
}

void require_same_weights(distributed::Communicator& processes, const nn::Module& model) {
  std::string hashes;
  for (const nn::NamedTensor& t : model.named_tensors()) {
    const std::vector<float> values = t.tensor.to_vector<float>();
    hashes += data::content_hash(
        {reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(float)});
  }
  const std::string hash =
      data::content_hash({reinterpret_cast<const std::uint8_t*>(hashes.data()), hashes.size()});
  const std::vector<std::string> all = processes.gather(hash);
  for (std::size_t r = 1; r < all.size(); ++r)
    if (all[r] != all[0])
      throw Error(processes.name_of(static_cast<int>(r)) + " holds other weights than " +
                  processes.name_of(0) +
                  ": the processes do not compute alike; use machines of one kind, and one build of cairn");
}

void require_same_setting(distributed::Communicator& processes, const std::string& name,
                          const std::string& setting) {
  const std::vector<std::string> all = processes.gather(setting);
  for (std::size_t r = 1; r < all.size(); ++r)
    if (all[r] != all[0])
      throw InputError(name + " is " + all[r] + " for " + processes.name_of(static_cast<int>(r)) + ", " +
                       all[0] + " for " + processes.name_of(0) + ": it has to be the same for all");
}

}  // namespace cairn::app
