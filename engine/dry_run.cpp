#include "engine/dry_run.h"

#include <algorithm>
#include <map>
#include <utility>

namespace cairn {
namespace {

thread_local DryRun* current_run = nullptr;

// Addresses that no process can have: not canonical on x86-64. Nothing is read or written there.
constexpr std::uintptr_t kFirst = std::uintptr_t{1} << 60, kEnd = std::uintptr_t{1} << 61;
constexpr std::uintptr_t kReserved = kFirst + (kEnd - kFirst) / 2;  // from here on: for the allocator's arena
constexpr std::size_t kAlignment = std::size_t{2} << 20;            // the most that a device gives
thread_local std::uintptr_t next_address = kFirst;

kernels::Status allocate_nothing(int, std::size_t bytes, void** out) {
  const std::size_t rounded = (std::max(bytes, std::size_t{1}) + kAlignment - 1) / kAlignment * kAlignment;
  if (rounded < bytes || rounded > kReserved - next_address)
    return kernels::Status::error("no room in the dry run", kernels::Status::Code::out_of_memory);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is all that it is
  *out = reinterpret_cast<void*>(next_address);
  next_address += rounded;
  return {};
}

// With an arena where the device has one.
const kernels::DeviceApi& api_of_nothing(Device device) {
  const auto make = [](bool reserves) {
    kernels::DeviceApi a{};
    a.allocate = &allocate_nothing;
    a.release = [](int, void*) { return kernels::Status(); };
    if (!reserves) return a;
    a.reserve = [](int, void*& begin, std::size_t& bytes) {
      // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is all that it is
      begin = reinterpret_cast<void*>(kReserved);
      bytes = kEnd - kReserved;
    };
    a.discard = [](int, void*, std::size_t) {};
    return a;
  };
  static const kernels::DeviceApi plain = make(false), reserving = make(true);
  const kernels::DeviceApi* real = kernels::device_api(device.type);
  return real && real->reserve ? reserving : plain;
}

}  // namespace

DryRun::DryRun(Device device)
    : device_(device), before_(std::exchange(current_run, this)), allocator_(device, api_of_nothing(device)) {
  next_address = kFirst;
}
DryRun::~DryRun() { current_run = before_; }
DryRun* DryRun::current() { return current_run; }

void* DryRun::allocate(std::size_t bytes, Device device) {
  if (device != device_) {
    void* memory = nullptr;
    check(allocate_nothing(0, bytes, &memory));
    return memory;
  }
  const std::int64_t before = allocator_.stats().in_use;
  void* memory = allocator_.allocate(bytes);
  const MemoryStats stats = allocator_.stats();
  live_[memory] = blocks_.size();
  blocks_.push_back({label_, std::exchange(kind_, Kind::tensor), stats.in_use - before});
  if (stats.in_use > peak_) {
    peak_ = stats.in_use;
    at_peak_.clear();
    for (std::size_t i = 0; i < blocks_.size(); ++i)
      if (blocks_[i].live) at_peak_.push_back(i);
  }
  return memory;
}

bool DryRun::release(void* memory) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  if (address < kFirst || address >= kEnd) return false;
  DryRun* const run = current_run;
  if (!run) return true;  // a tensor that outlived it
  if (const auto found = run->live_.find(memory); found != run->live_.end()) {
    run->blocks_[found->second].live = false;
    run->live_.erase(found);
    run->allocator_.release(memory);
  }
  return true;
}

void DryRun::label_new(const std::string& label) {
  for (; labelled_ < blocks_.size(); ++labelled_)
    if (blocks_[labelled_].label.empty()) blocks_[labelled_].label = label;
}

std::vector<DryRun::Holder> DryRun::peak_holders() const {
  std::map<std::pair<std::string, Kind>, std::int64_t> sums;
  for (const std::size_t i : at_peak_) sums[{blocks_[i].label, blocks_[i].kind}] += blocks_[i].bytes;
  std::vector<Holder> holders;
  for (const auto& [key, bytes] : sums) holders.push_back({key.first, key.second, bytes});
  std::stable_sort(holders.begin(), holders.end(),
                   [](const Holder& a, const Holder& b) { return a.bytes > b.bytes; });
  return holders;
}

}  // namespace cairn
