// Launches: limits of the device profile, order of the blocks, the operating-system threads that run them.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>

#include "kernels/emu/checks.h"
#include "kernels/emu/counters.h"
#include "kernels/emu/fault.h"
#include "kernels/emu/heap.h"
#include "kernels/emu/ledger.h"
#include "kernels/emu/recorder.h"
#include "kernels/emu/report.h"
#include "kernels/emu/runtime.h"
#include "kernels/emu/worker.h"
#include "kernels/error.h"

namespace cairn::emu {
namespace {

struct Settings {
  Order order = Order::forward;
  std::uint64_t seed = 0;
  std::uint64_t launches = 0;  // random orders differ from launch to launch, and repeat from run to run
  int host_threads = 1;

  Settings() {
    if (const char* text = std::getenv("CAIRN_EMU_ORDER")) {
      const std::string wanted = text;
      const std::string kind = wanted.substr(0, wanted.find(':'));
      if (kind == "reverse") {
        order = Order::reverse;
      } else if (kind == "random") {
        order = Order::random;
      } else if (kind != "forward") {
        throw InputError("[emulated device] CAIRN_EMU_ORDER is '" + wanted +
                         "'; it may be forward, reverse, random:SEED");
      }
      if (kind.size() < wanted.size()) seed = std::strtoull(wanted.c_str() + kind.size() + 1, nullptr, 10);
    }
    if (const char* text = std::getenv("CAIRN_EMU_THREADS")) host_threads = std::max(1, std::atoi(text));
  }
};
Settings& settings() {
  static auto& s = *new Settings;
  return s;
}

/// Operating-system threads that help with a grid's blocks. Never joined: they wait until the process ends.
class Helpers {
 public:
  void run(int helpers, const std::function<void()>& work) {
    {
      const std::lock_guard lock(mutex_);
      while (count_ < helpers) {
        std::thread([this, index = count_] { loop(index); }).detach();
        ++count_;
      }
      work_ = &work;
      wanted_ = helpers;
      left_ = helpers;
      ++generation_;
    }
    wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return left_ == 0; });
  }

 private:
  void loop(int index) {
    install_fault_stack();
    std::uint64_t seen = 0;
    for (;;) {
      const std::function<void()>* work = nullptr;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (index >= wanted_) continue;
        work = work_;
      }
      (*work)();
      const std::lock_guard lock(mutex_);
      if (--left_ == 0) done_.notify_one();
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void()>* work_ = nullptr;
  std::uint64_t generation_ = 0;
  int count_ = 0, wanted_ = 0, left_ = 0;
};
Helpers& helpers() {
  static auto& h = *new Helpers;
  return h;
}

std::mutex& device_mutex() {
  static auto& m = *new std::mutex;
  return m;
}

struct LimitBreach {
  cudaError_t error = cudaSuccess;
  std::string message;
};

LimitBreach check_limits(const KernelCall& call, dim3 grid, dim3 block, std::size_t dynamic_shared) {
  const DeviceProfile& p = device_profile();
  const auto breach = [](cudaError_t error, const char* what, std::uint64_t value, std::uint64_t most,
                         const char* least = "at most ") {
    return LimitBreach{error, std::string(what) + " is " + std::to_string(value) + "; the device allows " +
                                  least + std::to_string(most)};
  };
  const std::uint64_t grid_size[3] = {grid.x, grid.y, grid.z};
  const std::uint64_t block_size[3] = {block.x, block.y, block.z};
  constexpr const char* kGrid[3] = {"grid x", "grid y", "grid z"};
  constexpr const char* kBlock[3] = {"block x", "block y", "block z"};
  for (std::size_t i = 0; i < 3; ++i) {
    if (grid_size[i] == 0 || grid_size[i] > static_cast<std::uint64_t>(p.max_grid_size[i]))
      return breach(cudaErrorInvalidConfiguration, kGrid[i], grid_size[i], p.max_grid_size[i], "1 to ");
    if (block_size[i] == 0 || block_size[i] > static_cast<std::uint64_t>(p.max_block_size[i]))
      return breach(cudaErrorInvalidConfiguration, kBlock[i], block_size[i], p.max_block_size[i], "1 to ");
  }
  const std::uint64_t threads = block_size[0] * block_size[1] * block_size[2];
  if (threads > static_cast<std::uint64_t>(p.max_threads_per_block))
    return breach(cudaErrorInvalidConfiguration, "threads of a block", threads, p.max_threads_per_block);
  std::size_t fixed = 0;
  if (const KernelLibrary* library = library_of(reinterpret_cast<std::uintptr_t>(call.function())))
    for (const Range& r : shared_variables(*library, call.function())) fixed += r.end - r.begin;
  if (fixed > p.max_shared_memory_per_block)
    return breach(cudaErrorInvalidValue, "static shared memory", fixed, p.max_shared_memory_per_block);
  if (fixed + dynamic_shared > p.max_shared_memory_per_block_optin)
    return breach(cudaErrorInvalidValue, "static and dynamic shared memory", fixed + dynamic_shared,
                  p.max_shared_memory_per_block_optin);
  return {};
}

}  // namespace

void set_order(Order order, std::uint64_t seed) {
  const std::lock_guard lock(device_mutex());
  settings().order = order;
  settings().seed = seed;
  settings().launches = 0;
}

void set_host_threads(int threads) {
  const std::lock_guard lock(device_mutex());
  settings().host_threads = std::max(1, threads);
}

cudaError_t launch(const KernelCall& call, dim3 grid, dim3 block, std::size_t dynamic_shared,
                   cudaStream_t stream) {
  const char* name = kernel_name(call.function());
  const LimitBreach breach = check_limits(call, grid, block, dynamic_shared);
  if (breach.error != cudaSuccess) {
    add_report({.defect = Defect::invalid_launch,
                .kernel = name,
                .message = breach.message + " (" + device_profile().id + ")"});
    return breach.error;
  }
  return enqueue_kernel(stream, name, [=] { run_grid(call, grid, block, dynamic_shared); });
}

void run_grid(const KernelCall& call, dim3 grid_size, dim3 block, std::size_t dynamic_shared) {
  const std::lock_guard lock(device_mutex());
  install_fault_handler();
  Grid grid;
  grid.call = &call;
  grid.library = library_of(reinterpret_cast<std::uintptr_t>(call.function()));
  grid.name = kernel_name(call.function());
  grid.size = grid_size;
  grid.block = block;
  grid.dynamic_shared = dynamic_shared;
  grid.blocks = std::uint64_t{grid_size.x} * grid_size.y * grid_size.z;
  grid.threads = block.x * block.y * block.z;
  grid.checked = grid.library && grid.library->checked;
  if (grid.library) grid.own_shared = shared_variables(*grid.library, call.function());
  grid.order = settings().order;
  if (grid.order == Order::reverse) {
    grid.first_block = grid.blocks - 1;
    grid.block_stride = grid.blocks - 1;
  } else if (grid.order == Order::random) {
    std::mt19937_64 random(settings().seed * 0x9E3779B97F4A7C15u + settings().launches);
    grid.seed = random();
    grid.first_block = random() % grid.blocks;
    do {
      grid.block_stride = random() % grid.blocks + 1;
    } while (std::gcd(grid.block_stride, grid.blocks) != 1);
  }
  ++settings().launches;
  if (recording()) record_launch(call, grid_size, block, dynamic_shared);
  count_launch(grid);
  if (grid.checked) checks_begin_grid(grid);

  const std::uint64_t blocks_to_run = counting_only() && !ledger_open() ? 1 : grid.blocks;
  std::atomic<std::uint64_t> next{0};
  const std::function<void()> work = [&grid, &next, blocks_to_run] {
    Worker& w = this_worker();
    w.begin_grid(grid);
    __extension__ using Wide = unsigned __int128;
    for (std::uint64_t i = next++; i < blocks_to_run; i = next++) {
      const auto block_number = static_cast<std::uint64_t>(
          (static_cast<Wide>(i) * grid.block_stride + grid.first_block) % grid.blocks);
      if (grid.checked) checks_begin_block(w, block_number);
      w.run_block(block_number);
      if (grid.checked) checks_end_block(w);
    }
  };
  const bool alone = grid.checked || grid.order != Order::forward;
  const auto workers =
      alone ? 1 : static_cast<int>(std::min<std::uint64_t>(settings().host_threads, grid.blocks));
  if (workers == 1) {
    work();
  } else {
    helpers().run(workers - 1, work);
  }
  if (grid.checked) checks_end_grid();
  close_pages();
}

}  // namespace cairn::emu
