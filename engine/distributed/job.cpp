#include "engine/distributed/job.h"

#include <algorithm>
#include <utility>

namespace cairn::distributed {
namespace {

constexpr std::uint64_t kFirstTag = 16;  // those below are the communicator's own
constexpr std::uint64_t kTagsInTurn = 16'000;
constexpr std::uint64_t kPhases = 2;

}  // namespace

// Two jobs share a tag only 16,000 jobs apart, and then arrive in order.
int Communicator::Job::tag(int phase) const {
  return static_cast<int>(kFirstTag + sequence % kTagsInTurn * kPhases + static_cast<std::uint64_t>(phase));
}

void Communicator::Job::send(Transport& t, int peer, int phase, const void* data, std::size_t bytes) {
  if (bytes > 0) messages_.push_back({peer, false, t.send(peer, tag(phase), data, bytes)});
}

void Communicator::Job::receive(Transport& t, int peer, int phase, void* data, std::size_t bytes) {
  if (bytes > 0) messages_.push_back({peer, true, t.receive(peer, tag(phase), data, bytes)});
}

bool Communicator::Job::all_done(Transport& t) {
  if (std::erase_if(messages_, [&](const Message& m) { return t.done(m.request); }) > 0) moved_ = true;
  return messages_.empty();
}

std::vector<int> Communicator::Job::silent() const {
  std::vector<int> ranks;
  for (const Message& m : messages_)
    if (m.incoming) ranks.push_back(m.peer);
  return ranks;
}

// The slices depend on the number of values and processes alone. Whole cache lines, where there are enough.
template <class T>
std::span<T> SumJob<T>::slice(const Transport& t, int rank) const {
  constexpr std::size_t kLine = 64 / sizeof(T);
  const std::size_t lines = (values_.size() + kLine - 1) / kLine, world = static_cast<std::size_t>(t.world());
  const auto edge = [&](int r) {
    return std::min(lines * static_cast<std::size_t>(r) / world * kLine, values_.size());
  };
  return values_.subspan(edge(rank), edge(rank + 1) - edge(rank));
}

template <class T>
void SumJob<T>::add_up(const Transport& t) {
  const std::span<T> mine = slice(t, t.rank());
  // Values that stay in the first cache while all ranks' are added.
  constexpr std::size_t kBlock = 2048;
  double sums[kBlock];
  for (std::size_t begin = 0; begin < mine.size(); begin += kBlock) {
    const std::size_t n = std::min(kBlock, mine.size() - begin);
    std::fill_n(sums, n, 0.0);
    const T* other = theirs_.data();
    for (int r = 0; r < t.world(); ++r) {
      const T* from = mine.data() + begin;
      if (r != t.rank()) {
        from = other + begin;
        other += mine.size();
      }
      for (std::size_t i = 0; i < n; ++i) sums[i] += static_cast<double>(from[i]);
    }
    for (std::size_t i = 0; i < n; ++i) mine[begin + i] = static_cast<T>(sums[i]);
  }
}

template <class T>
bool SumJob<T>::advance(Transport& t) {
  const std::span<T> mine = slice(t, t.rank());
  if (phase_ == 0) {
    theirs_.resize(mine.size() * static_cast<std::size_t>(t.world() - 1));
    T* to = theirs_.data();
    for (int r = 0; r < t.world(); ++r) {
      if (r == t.rank()) continue;
      receive(t, r, 0, to, mine.size_bytes());
      to += mine.size();
      send(t, r, 0, slice(t, r).data(), slice(t, r).size_bytes());
    }
    phase_ = 1;
  }
  if (!all_done(t)) return false;
  if (phase_ == 1) {
    add_up(t);
    for (int r = 0; r < t.world(); ++r) {
      if (r == t.rank()) continue;
      receive(t, r, 1, slice(t, r).data(), slice(t, r).size_bytes());
      send(t, r, 1, mine.data(), mine.size_bytes());
    }
    phase_ = 2;
  }
  return all_done(t);
}

// In the second phase a rank may wait for another: who has not come is known to those in the first.
template <class T>
std::vector<int> SumJob<T>::missing() const {
  return phase_ == 1 ? silent() : std::vector<int>();
}

template class SumJob<float>;
template class SumJob<double>;

bool GatherJob::advance(Transport& t) {
  if (phase_ == 0) {
    size_ = mine_.size();
    sizes_.resize(static_cast<std::size_t>(t.world()));
    for (int r = 0; r < t.world(); ++r) {
      if (r == t.rank()) continue;
      receive(t, r, 0, &sizes_[static_cast<std::size_t>(r)], sizeof size_);
      send(t, r, 0, &size_, sizeof size_);
    }
    phase_ = 1;
  }
  if (!all_done(t)) return false;
  if (phase_ == 1) {
    parts_.resize(static_cast<std::size_t>(t.world()));
    for (int r = 0; r < t.world(); ++r) {
      std::string& part = parts_[static_cast<std::size_t>(r)];
      if (r == t.rank()) continue;
      part.resize(sizes_[static_cast<std::size_t>(r)]);
      receive(t, r, 1, part.data(), part.size());
      send(t, r, 1, mine_.data(), mine_.size());
    }
    phase_ = 2;
  }
  if (!all_done(t)) return false;
  parts_[static_cast<std::size_t>(t.rank())] = mine_;
  return true;
}

bool BroadcastJob::advance(Transport& t) {
  if (!std::exchange(posted_, true)) {
    if (t.rank() != 0) receive(t, 0, 0, bytes_.data(), bytes_.size());
    for (int r = 1; t.rank() == 0 && r < t.world(); ++r) send(t, r, 0, bytes_.data(), bytes_.size());
  }
  return all_done(t);
}

}  // namespace cairn::distributed
