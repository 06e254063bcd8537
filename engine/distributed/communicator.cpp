#include "engine/distributed/communicator.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "engine/distributed/job.h"

namespace cairn::distributed {
namespace {

constexpr int kControlTag = 1;
constexpr double kBeatS = 1;
// While nothing is under way, messages of others (a failure, a beat) may wait so long.
constexpr auto kIdle = std::chrono::milliseconds(10);
// While something is: short beside a step, and long enough to leave the processor to those that compute.
constexpr auto kBusy = std::chrono::microseconds(50);
// The thread itself did not run for so long (a suspended machine): then nobody else can be blamed.
constexpr double kSleptS = 5;
// Who waits for a rank that waits for another reports it so much later than who waits for the culprit itself.
constexpr double kGraceS = 2;
// A bound on what fail() and the end of the process wait for.
constexpr double kFarewellS = 1;
// Of a broadcast: large beside what a message costs, small beside a model.
constexpr std::size_t kPiece = std::size_t{16} << 20;

enum class Control : char { beat = 'b', failed = 'f', lost = 'l' };

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "a host without a name";
}

// A control message: kind, status, rank, text.
std::string encode(Control kind, const Failure& f) {
  return std::string(1, static_cast<char>(kind)) + std::to_string(f.status) + " " + std::to_string(f.rank) +
         " " + f.text;
}
Failure decode(const std::string& message) {
  Failure f;
  f.lost = message[0] == static_cast<char>(Control::lost);
  const std::size_t first = message.find(' '), second = message.find(' ', first + 1);
  f.status = std::atoi(message.c_str() + 1);
  f.rank = std::atoi(message.c_str() + first + 1);
  f.text = message.substr(second + 1);
  return f;
}

}  // namespace

Communicator::Communicator(const std::function<std::unique_ptr<Transport>()>& open,
                           CommunicatorOptions options)
    : options_(std::move(options)) {
  thread_ = std::thread([this, open] { run(open); });
  std::unique_lock lock(mutex_);
  to_caller_.wait(lock, [&] { return started_ || error_; });
  if (error_) {
    lock.unlock();
    thread_.join();
    std::rethrow_exception(error_);
  }
  lock.unlock();
  try {
    std::vector<std::string> hosts = gather(host_name());
    const std::lock_guard guard(mutex_);
    hosts_ = std::move(hosts);
  } catch (...) {
    {
      const std::lock_guard guard(mutex_);
      leaving_ = true;
    }
    to_thread_.notify_all();
    thread_.join();
    throw;
  }
}

Communicator::~Communicator() {
  {
    const std::lock_guard lock(mutex_);
    leaving_ = true;
  }
  to_thread_.notify_all();
  thread_.join();
}

int Communicator::local_rank() const {
  return static_cast<int>(std::count(hosts_.begin(), hosts_.begin() + rank_, host(rank_)));
}
int Communicator::local_world() const {
  return static_cast<int>(std::count(hosts_.begin(), hosts_.end(), host(rank_)));
}

Communicator::Pending Communicator::start(std::shared_ptr<Job> job, std::shared_ptr<const void> hold,
                                          bool patient) {
  job->hold = std::move(hold);
  job->sequence = next_sequence_++;
  job->patient = patient;
  job->since = now();
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(job);
  }
  to_thread_.notify_all();
  return job;
}

Communicator::Pending Communicator::start_sum(std::span<float> values, std::shared_ptr<const void> hold) {
  return start(std::make_shared<SumJob<float>>(values), std::move(hold));
}
Communicator::Pending Communicator::start_sum(std::span<double> values, std::shared_ptr<const void> hold) {
  return start(std::make_shared<SumJob<double>>(values), std::move(hold));
}

void Communicator::sum(std::span<double> values) {
  const auto copy = std::make_shared<std::vector<double>>(values.begin(), values.end());
  wait(start_sum(std::span<double>(*copy), copy));
  std::copy(copy->begin(), copy->end(), values.begin());
}

void Communicator::wait(const Pending& job) {
  std::unique_lock lock(mutex_);
  urgent_ = !job->patient;
  to_caller_.wait(lock, [&] { return job->finished || error_; });
  urgent_ = false;
  if (!job->finished) std::rethrow_exception(error_);
}

Communicator::Pending Communicator::start_gather(std::string_view mine) {
  return start(std::make_shared<GatherJob>(mine));
}

std::vector<std::string> Communicator::gathered(const Pending& job) {
  wait(job);
  return static_cast<GatherJob&>(*job).take();
}

std::vector<std::string> Communicator::gather(std::string_view mine) {
  return gathered(start(std::make_shared<GatherJob>(mine), {}, /*patient=*/true));
}

std::string Communicator::broadcast(std::string_view text) {
  return std::move(gather(is_first() ? text : std::string_view()).front());
}

void Communicator::broadcast(std::span<std::byte> bytes) {
  for (std::size_t begin = 0; begin < bytes.size(); begin += kPiece) {
    const std::span<std::byte> piece = bytes.subspan(begin, std::min(kPiece, bytes.size() - begin));
    const auto copy = std::make_shared<std::vector<std::byte>>(piece.begin(), piece.end());
    wait(start(std::make_shared<BroadcastJob>(*copy), copy, /*patient=*/true));
    std::copy(copy->begin(), copy->end(), piece.begin());
  }
}

bool Communicator::fail(int status, const std::string& text) {
  const double until = now() + kFarewellS;
  std::unique_lock lock(mutex_);
  to_all_.push_back(encode(Control::failed, {.rank = rank_, .lost = false, .status = status, .text = text}));
  to_thread_.notify_all();
  const auto known = [&] {
    return std::any_of(failures_.begin(), failures_.end(),
                       [&](const Failure& f) { return f.rank == 0 && f.text == text; });
  };
  while (!ended_ && now() < until && !(rank_ != 0 && known()))
    to_caller_.wait_for(lock, std::chrono::milliseconds(20));
  return known();
}

void Communicator::close() {
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
  }
  barrier();
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  to_thread_.notify_all();
  std::unique_lock lock(mutex_);
  to_caller_.wait(lock, [&] { return ended_; });
  if (error_) std::rethrow_exception(error_);
}

// ---- the thread ----

void Communicator::run(const std::function<std::unique_ptr<Transport>()>& open) {
  try {
    transport_ = open();
    rank_ = transport_->rank();
    world_ = transport_->world();
    library_ = transport_->library();
    heard_.assign(static_cast<std::size_t>(world_), now());
    last_round_ = now();
    {
      const std::lock_guard lock(mutex_);
      started_ = true;
    }
    to_caller_.notify_all();
    serve();
    const std::lock_guard lock(mutex_);
    ended_ = true;
  } catch (...) {
    stop_with(std::current_exception());
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  to_caller_.notify_all();
}

void Communicator::stop_with(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = std::move(error);
  to_caller_.notify_all();
}

void Communicator::serve() {
  double leave_at = 0;
  for (;;) {
    bool closing = false;
    {
      std::unique_lock lock(mutex_);
      if (active_.empty() && posted_.empty() && to_all_.empty()) to_thread_.wait_for(lock, kIdle);
      active_.insert(active_.end(), posted_.begin(), posted_.end());
      posted_.clear();
      for (std::string& message : std::exchange(to_all_, {}))
        for (int r = 0; r < world_; ++r)
          if (r != rank_) send_control(r, message);
      closing = closing_;
      if (leaving_ && leave_at == 0) leave_at = now() + kFarewellS;
    }
    const bool moved = advance_jobs();
    beat();
    const bool told = receive_control();
    for (auto& [peer, messages] : outgoing_)
      std::erase_if(messages, [&](const Outgoing& m) { return transport_->done(m.request); });
    if (closing && active_.empty()) {
      transport_->close();
      return;
    }
    const bool quiet =
        std::all_of(outgoing_.begin(), outgoing_.end(), [](const auto& o) { return o.second.empty(); });
    // What is under way reads and writes memory of the caller's: the transport ends first.
    if (leave_at > 0 && (quiet || now() > leave_at)) return;
    watch();
    if (active_.empty() || moved || told) continue;
    // Where the caller has nothing left to compute, its processor is free.
    if (urgent_)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(kBusy);
  }
}

bool Communicator::advance_jobs() {
  bool moved = false;
  std::vector<Pending> finished;
  std::erase_if(active_, [&](const Pending& job) {
    const bool done = job->advance(*transport_);
    moved |= job->moved() || done;
    if (done) finished.push_back(job);
    return done;
  });
  if (finished.empty()) return moved;
  {
    const std::lock_guard lock(mutex_);
    for (const Pending& job : finished) job->finished = true;
  }
  to_caller_.notify_all();
  return true;
}

// Each rank watches the one before it.
void Communicator::beat() {
  if (world_ == 1 || now() - last_beat_ < kBeatS) return;
  last_beat_ = now();
  const int next = (rank_ + 1) % world_;
  if (outgoing_[next].empty()) send_control(next, encode(Control::beat, {}));
}

void Communicator::send_control(int peer, std::string message) {
  std::vector<Outgoing>& messages = outgoing_[peer];
  messages.push_back({0, std::move(message)});
  // Short strings live within the object, which must not move while it is sent from.
  messages.back().message.reserve(64);
  messages.back().request =
      transport_->send(peer, kControlTag, messages.back().message.data(), messages.back().message.size());
}

bool Communicator::receive_control() {
  int peer = 0;
  std::size_t bytes = 0;
  bool any = false;
  while (transport_->probe(kControlTag, peer, bytes)) {
    std::string message(bytes, '\0');
    const Transport::Request request = transport_->receive(peer, kControlTag, message.data(), bytes);
    while (!transport_->done(request)) std::this_thread::yield();
    heard_[static_cast<std::size_t>(peer)] = now();
    if (message.empty() || message[0] == static_cast<char>(Control::beat)) continue;
    any = true;
    report(decode(message));
  }
  return any;
}

void Communicator::watch() {
  if (world_ == 1) return;
  const double time = now();
  if (time - std::exchange(last_round_, time) > kSleptS) {
    std::fill(heard_.begin(), heard_.end(), time);
    for (const Pending& job : active_) job->since = time;
  }
  const int before = (rank_ + world_ - 1) % world_;
  const auto seconds = [](double s) { return std::to_string(static_cast<int>(s)) + " s"; };
  if (time - heard_[static_cast<std::size_t>(before)] > options_.peer_timeout_s)
    lose(before, "has not been heard of for " + seconds(options_.peer_timeout_s) +
                     ": it hangs, its machine is down or the network is cut");
  for (const Pending& job : active_) {
    if (job->patient || time - job->since < options_.step_timeout_s) continue;
    const std::vector<int> missing = job->missing();
    if (missing.empty() && time - job->since < options_.step_timeout_s + kGraceS) continue;
    lose(missing.empty() ? before : missing.front(),
         "is alive, but has not come to this step for " + seconds(options_.step_timeout_s) + ": it hangs");
  }
}

void Communicator::lose(int rank, const std::string& why) {
  const Failure failure{.rank = rank, .lost = true, .status = 1, .text = why};
  for (int r = 0; r < world_; ++r)
    if (r != rank_ && r != rank) send_control(r, encode(Control::lost, failure));
  report(failure);
}

void Communicator::report(const Failure& failure) {
  std::string who = "rank " + std::to_string(failure.rank);
  {
    const std::lock_guard lock(mutex_);
    failures_.push_back(failure);
    to_caller_.notify_all();
    if (failures_.size() > 1) return;
    if (!hosts_.empty()) who = name_of(failure.rank);  // known from the first exchange on
  }
  if (options_.on_failure) options_.on_failure(failure);
  stop_with(std::make_exception_ptr(PeerError(who + (failure.lost ? " " : ": ") + failure.text)));
}

}  // namespace cairn::distributed
