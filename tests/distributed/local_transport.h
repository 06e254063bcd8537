#pragma once
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "engine/distributed/communicator.h"
#include "engine/distributed/transport.h"

namespace cairn::distributed {

/// Messages between ranks that are threads of one process. Each is delivered at a random later look at it, so
/// that messages overtake one another as far as the contract allows. A link may be cut.
class LocalNet {
 public:
  explicit LocalNet(int world, unsigned seed = 1) : world_(world), random_(seed) {}
  int world() const { return world_; }

  void put(int from, int to, int tag, std::string message) {
    const std::lock_guard lock(mutex_);
    if (cut_[{from, to}]) return;
    boxes_[{from, to, tag}].push_back(std::move(message));
  }
  bool take(int from, int to, int tag, std::string& message) {
    const std::lock_guard lock(mutex_);
    const auto box = boxes_.find({from, to, tag});
    if (box == boxes_.end() || box->second.empty() || random_() % 4 == 0) return false;
    message = std::move(box->second.front());
    box->second.pop_front();
    return true;
  }
  bool look(int to, int tag, int& from, std::size_t& bytes) {
    const std::lock_guard lock(mutex_);
    for (int r = 0; r < world_; ++r) {
      const auto box = boxes_.find({r, to, tag});
      if (box == boxes_.end() || box->second.empty()) continue;
      from = r;
      bytes = box->second.front().size();
      return true;
    }
    return false;
  }
  void cut(int from, int to) {
    const std::lock_guard lock(mutex_);
    cut_[{from, to}] = true;
  }

 private:
  int world_;
  std::mutex mutex_;
  std::mt19937 random_;
  std::map<std::tuple<int, int, int>, std::deque<std::string>> boxes_;
  std::map<std::pair<int, int>, bool> cut_;
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(LocalNet& net, int rank) : net_(net), rank_(rank) {}
  int rank() const override { return rank_; }
  int world() const override { return net_.world(); }
  std::string library() const override { return "threads"; }
  Request send(int peer, int tag, const void* data, std::size_t bytes) override {
    net_.put(rank_, peer, tag, {static_cast<const char*>(data), bytes});
    receives_[++last_] = {};
    return last_;
  }
  Request receive(int peer, int tag, void* data, std::size_t bytes) override {
    receives_[++last_] = {peer, tag, data, bytes};
    return last_;
  }
  bool done(Request request) override {
    const Receive& r = receives_.at(request);
    if (r.data) {
      // Those posted before take the messages that came before.
      for (const auto& [other, o] : receives_)
        if (other < request && o.data && o.peer == r.peer && o.tag == r.tag) return false;
      std::string message;
      if (!net_.take(r.peer, rank_, r.tag, message)) return false;
      if (message.size() != r.bytes) throw Error("a message of another size");
      std::memcpy(r.data, message.data(), r.bytes);
    }
    receives_.erase(request);
    return true;
  }
  bool probe(int tag, int& peer, std::size_t& bytes) override { return net_.look(rank_, tag, peer, bytes); }
  void close() override {}

 private:
  struct Receive {
    int peer = 0, tag = 0;
    void* data = nullptr;
    std::size_t bytes = 0;
  };
  LocalNet& net_;
  int rank_;
  std::map<Request, Receive> receives_;
  Request last_ = 0;
};

/// Runs `body` as each rank on a thread of its own; the first exception is thrown on when all have ended. In
/// good order, unless the ranks are to fail.
inline void run_ranks(LocalNet& net, const CommunicatorOptions& options,
                      const std::function<void(Communicator&)>& body, bool good_order = true) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(net.world()));
  std::vector<std::thread> threads;
  for (int r = 0; r < net.world(); ++r)
    threads.emplace_back([&, r] {
      try {
        Communicator communicator([&net, r] { return std::make_unique<LocalTransport>(net, r); }, options);
        body(communicator);
        if (good_order) communicator.close();
      } catch (...) {
        errors[static_cast<std::size_t>(r)] = std::current_exception();
      }
    });
  for (std::thread& t : threads) t.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace cairn::distributed
