#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/distributed/transport.h"
#include "kernels/error.h"

namespace cairn::distributed {

/// Another process of the job failed, or nothing is heard of it any more. The message names its rank and
/// host.
class PeerError : public Error {
 public:
  using Error::Error;
};

struct Failure {
  int rank = 0;       // of the process that failed
  bool lost = false;  // it was not heard of, or did not come; else it says so itself, in `text`
  int status = 1;     // with which it ends
  std::string text;   // one line, without the rank
};

struct CommunicatorOptions {
  /// Processes beat each second; one that is silent for so long is taken for dead.
  double peer_timeout_s = 60;
  /// One that beats, but does not come to a step of the training for so long, hangs.
  double step_timeout_s = 600;
  /// Called once, from the communicator's own thread, when another process fails or is lost; may end the
  /// process. Empty: whoever waits gets a PeerError.
  std::function<void(const Failure&)> on_failure;
};

/// The processes that train one model together, from the side of one of them. A thread of its own carries all
/// messages, so that sums travel while the caller computes. Each process must make the same calls in the same
/// order; sums are added in the order of ranks, in double, and rounded once, so that all receive the same
/// bits however messages are timed. Used by one thread.
class Communicator {
 public:
  class Job;
  using Pending = std::shared_ptr<Job>;

  /// `open` is called on the new thread. Throws what it throws, and PeerError where not all processes come.
  Communicator(const std::function<std::unique_ptr<Transport>()>& open, CommunicatorOptions options);
  /// Without close() the connection is left as it is: the launcher then ends the job.
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int world() const { return world_; }
  bool is_first() const { return rank_ == 0; }
  const std::string& library() const { return library_; }
  const std::string& host(int rank) const { return hosts_.at(static_cast<std::size_t>(rank)); }
  /// "rank 1 on node7"
  std::string name_of(int rank) const { return "rank " + std::to_string(rank) + " on " + host(rank); }
  /// How many processes of this host have a lower rank, and how many it has.
  int local_rank() const;
  int local_world() const;

  /// Begins to add up `values` over the processes, in place; nobody may touch them until wait(). `hold` keeps
  /// their memory, which messages may reach even after a failure.
  Pending start_sum(std::span<float> values, std::shared_ptr<const void> hold);
  Pending start_sum(std::span<double> values, std::shared_ptr<const void> hold);
  /// Throws PeerError, and Error where the transport failed.
  void wait(const Pending& job);
  /// At once.
  void sum(std::span<double> values);

  /// Begins to hand every process's `mine` to all.
  Pending start_gather(std::string_view mine);
  /// What start_gather() brought: by rank.
  std::vector<std::string> gathered(const Pending& job);
  /// Where one process may be busy for long (it reads a data set), the others wait as long as it beats.
  std::vector<std::string> gather(std::string_view mine);
  /// Rank 0's text.
  std::string broadcast(std::string_view text);
  /// Rank 0's bytes, in place.
  void broadcast(std::span<std::byte> bytes);
  /// Returns once all are here.
  void barrier() { gather({}); }

  /// Tells all others that this process ends, and why; they get a PeerError. Returns within a second, with
  /// true if rank 0 has told the same of itself.
  bool fail(int status, const std::string& text);
  /// The end in good order: all processes call it. A second call does nothing.
  void close();

 private:
  struct Incoming;
  Pending start(std::shared_ptr<Job> job, std::shared_ptr<const void> hold = {}, bool patient = false);
  void run(const std::function<std::unique_ptr<Transport>()>& open);
  void serve();
  bool advance_jobs();
  void beat();
  bool receive_control();
  void send_control(int peer, std::string message);
  void watch();
  void lose(int rank, const std::string& why);
  void report(const Failure& failure);
  void stop_with(std::exception_ptr error);

  CommunicatorOptions options_;
  int rank_ = 0, world_ = 1;
  std::string library_;
  std::vector<std::string> hosts_;
  std::uint64_t next_sequence_ = 0;

  // The thread's own.
  std::unique_ptr<Transport> transport_;
  std::vector<Pending> active_;
  struct Outgoing {
    Transport::Request request;
    std::string message;
  };
  std::map<int, std::vector<Outgoing>> outgoing_;  // control messages under way, by peer
  double last_beat_ = 0, last_round_ = 0;
  std::vector<double> heard_;  // of each rank, seconds

  std::mutex mutex_;
  std::condition_variable to_thread_, to_caller_;
  std::vector<Pending> posted_;
  std::vector<std::string> to_all_;  // control messages
  bool started_ = false, closing_ = false, ended_ = false, leaving_ = false;
  std::exception_ptr error_;
  std::vector<Failure> failures_;
  std::atomic<bool> urgent_ = false;  // the caller waits for what is under way
  std::thread thread_;
};

}  // namespace cairn::distributed
