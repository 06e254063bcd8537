#pragma once
#include <atomic>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/learner.h"
#include "apps/metrics.h"
#include "apps/prediction.h"
#include "apps/run_dir.h"

namespace cairn::app {

/// What a run is made of. The references must outlive the training.
struct TrainSetup : LearnerSetup {
  std::string manifest_text;  // split.csv, kept in the state
  std::string fixes_text;     // fixes.csv, kept in the state; may be empty
  const RunDir& run;
  /// The state to go on from and the progress that it holds; empty and null: begin at the beginning.
  std::string resumed_state;
  nlohmann::json progress;
  /// Set by a signal handler: finish the step, save, stop. May be null.
  const std::atomic<int>* stop_signal = nullptr;
  /// So long after the process began: the same. 0: never.
  double time_limit_s = 0;
  /// Called after each epoch but the last with its number, counted from 1, and what the best one so far
  /// answered on the validation part; empty where that was before a resume, or there is none. May be null.
  std::function<void(std::int64_t epoch, const Predictions& best)> after_epoch{};
};

/// Why a run ended before its time.
enum class Stop : std::uint8_t { none, signal, time_limit };

struct TrainResult {
  std::optional<double> images_per_s;  // of training steps after the first three
  double first_step_s = 0;             // since process start
  double data_wait = 0;                // share of the training time
  std::int64_t epochs = 0;
  std::int64_t steps = 0;
  double train_loss = 0;         // mean of the last epoch
  std::int64_t best_epoch = -1;  // counted from 1
  Stop stopped = Stop::none;     // val and test are absent where it was stopped
  std::optional<Scores> val, test;
  Predictions test_predictions;
};

/// Trains, writes the run directory but for the report, reads the test part once at the end. Of several
/// processes rank 0 alone writes, and all get the same result. A state that cannot be written between is
/// warned of, and training goes on. Throws Error for a step whose loss or gradients are no numbers, as
/// --on-nonfinite says, and where the last state or an epoch's weights cannot be written.
TrainResult train(const TrainSetup& setup);

/// `train --json`.
nlohmann::json result_json(const TrainResult& result);

}  // namespace cairn::app
