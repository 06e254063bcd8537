#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "apps/console.h"
#include "apps/run_dir.h"
#include "engine/io/checkpoint.h"

namespace cairn::app {

/// Writes a run's states beside its training. At every instant a state that was reported as saved is whole on
/// the disk: the new one is written and synced under another name, the one before becomes state-STEP.state,
/// and only then are older ones removed.
class StateWriter {
 public:
  /// Keeps `keep` older states beside last.state. `resumed`: the state that the run went on from; empty: it
  /// begins. All that is referred to must outlive the writer.
  StateWriter(const RunDir& run, std::int64_t keep, const std::string& resumed, const nn::Module& model,
              const optim::Optimizer& optimizer, Console& console);
  /// Waits for the state that is being written.
  ~StateWriter();
  StateWriter(const StateWriter&) = delete;
  StateWriter& operator=(const StateWriter&) = delete;

  /// Copies the state and returns; a thread writes it. Waits first for the one before, if that is still being
  /// written.
  void save(nlohmann::json progress);
  /// A failure to write is warned of once, until a state is written again: training goes on, and the last
  /// state that was written stays. Cheap enough for every step.
  void report();
  /// Waits for the last state. Throws Error, naming the state that stays, where it could not be written.
  void finish();
  /// Waits for the state that is being written, whatever becomes of it.
  void wait();
  /// What to tell who has to stop: "; the state of step 40 stays: make room and go on with ...".
  std::string advice() const;

 private:
  void run();
  void write();
  std::string stays() const;

  const RunDir& run_;
  std::int64_t keep_;
  Console& console_;
  io::Checkpoint checkpoint_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false, end_ = false;
  nlohmann::json progress_;
  std::int64_t last_step_;          // of the newest whole state on the disk; -1: none
  bool last_is_whole_;              // that one is last.state
  std::string failure_;             // of the last write; empty: written
  std::atomic<bool> news_ = false;  // a write has ended since report()
  bool warned_ = false;             // of a failure that lasts
  std::thread thread_;
};

}  // namespace cairn::app
