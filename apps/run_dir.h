#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/model_card.h"
#include "apps/options.h"
#include "apps/run_lock.h"

namespace cairn::app {

/// The folder of a run and the names in it. Files are replaced in one step; metrics.jsonl and train.log grow
/// line by line. Copies share the lock.
class RunDir {
 public:
  /// Throws InputError if it is there and holds more than what a run leaves that fails before its first step.
  static void require_free(const std::string& path);
  /// Makes it and locks it, in place of a run that never trained. Throws InputError if require_free() does or
  /// another process trains there, Error if it cannot be made.
  static RunDir create(const std::string& path);
  /// To read from. Throws InputError if there is no run.
  static RunDir open(const std::string& path);
  /// To go on with: locks it, and removes what a killed process left half-written. Throws InputError if there
  /// is no run, or if another process trains it.
  static RunDir open_to_resume(const std::string& path);

  /// Names alone, for a process that neither reads nor writes there: of several, rank 0 does.
  static RunDir of_rank_0(const std::string& path) { return RunDir(path); }

  const std::string& path() const { return path_; }
  std::string config() const { return path_ + "/config.json"; }
  std::string split() const { return path_ + "/split.csv"; }
  std::string fixes() const { return path_ + "/fixes.csv"; }
  std::string metrics() const { return path_ + "/metrics.jsonl"; }
  std::string log() const { return path_ + "/train.log"; }
  std::string label_errors() const { return path_ + "/label_errors.csv"; }
  std::string profile_table() const { return path_ + "/profile.txt"; }
  std::string profile_trace() const { return path_ + "/profile.json"; }
  std::string report() const { return path_ + "/report.html"; }
  std::string last_weights() const { return path_ + "/checkpoints/last.safetensors"; }
  std::string best_weights() const { return path_ + "/checkpoints/best.safetensors"; }
  std::string checkpoints() const { return path_ + "/checkpoints"; }
  std::string state() const { return path_ + "/checkpoints/last.state"; }

  /// config.json: {"options": {...}, "card": {...}, "version", "threads", ...}.
  void write_config(const TrainOptions& options, const ModelCard& card, const nlohmann::json& extra) const;
  TrainOptions options() const;
  ModelCard card() const;
  /// The rest of config.json: version, device, threads, ...
  nlohmann::json environment() const;

  /// The `epoch` objects of metrics.jsonl; lines that are none, or damaged, are passed over.
  std::vector<nlohmann::json> epochs() const;
  /// Takes what came after `steps` out of metrics.jsonl, for going on from there.
  void cut_metrics(std::int64_t steps) const;

 private:
  explicit RunDir(std::string path) : path_(std::move(path)) {}
  nlohmann::json read_config() const;
  std::string path_;
  std::shared_ptr<RunLock> lock_;  // of those that train
};

}  // namespace cairn::app
