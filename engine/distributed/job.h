#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/distributed/communicator.h"

namespace cairn::distributed {

/// One piece of work of the communicator's thread: messages to and from all others under tags of its own.
class Communicator::Job {
 public:
  virtual ~Job() = default;
  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// Posts what can be posted and looks what has come; true once all is done.
  virtual bool advance(Transport& transport) = 0;
  /// The ranks whose own part has not come, while that is what is waited for.
  virtual std::vector<int> missing() const = 0;
  /// What is under way moved since the last call.
  bool moved() { return std::exchange(moved_, false); }

  std::uint64_t sequence = 0;
  bool patient = false;                // waits for as long as the others beat
  double since = 0;                    // when it was posted
  bool finished = false;               // under the communicator's mutex
  std::shared_ptr<const void> hold{};  // the memory that its messages reach

 protected:
  struct Message {
    int peer;
    bool incoming;
    Transport::Request request;
  };
  int tag(int phase) const;
  void send(Transport& t, int peer, int phase, const void* data, std::size_t bytes);
  void receive(Transport& t, int peer, int phase, void* data, std::size_t bytes);
  bool all_done(Transport& t);
  std::vector<int> silent() const;

 private:
  std::vector<Message> messages_;
  bool moved_ = false;
};

/// values = the sum of all ranks' values. Each rank adds up one slice of them, in the order of ranks, and
/// hands it to the others: every link carries 2 (N - 1) / N of the values, whatever N is.
template <class T>
class SumJob final : public Communicator::Job {
 public:
  explicit SumJob(std::span<T> values) : values_(values) {}
  bool advance(Transport& transport) override;
  std::vector<int> missing() const override;

 private:
  std::span<T> slice(const Transport& t, int rank) const;
  void add_up(const Transport& t);
  std::span<T> values_;
  std::vector<T> theirs_;  // [world - 1][slice], by rank
  int phase_ = 0;
};
extern template class SumJob<float>;
extern template class SumJob<double>;

/// Every rank's bytes to all: first how many, then they.
class GatherJob final : public Communicator::Job {
 public:
  explicit GatherJob(std::string_view mine) : mine_(mine) {}
  bool advance(Transport& transport) override;
  std::vector<int> missing() const override { return silent(); }
  std::vector<std::string> take() { return std::move(parts_); }

 private:
  std::string mine_;
  std::uint64_t size_ = 0;
  std::vector<std::uint64_t> sizes_;
  std::vector<std::string> parts_;
  int phase_ = 0;
};

/// Rank 0's bytes to all, whose number all know.
class BroadcastJob final : public Communicator::Job {
 public:
  explicit BroadcastJob(std::span<std::byte> bytes) : bytes_(bytes) {}
  bool advance(Transport& transport) override;
  std::vector<int> missing() const override { return silent(); }

 private:
  std::span<std::byte> bytes_;
  bool posted_ = false;
};

}  // namespace cairn::distributed
