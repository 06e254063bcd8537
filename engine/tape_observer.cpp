#include "engine/tape_observer.h"

#include <utility>

namespace cairn {
namespace {
thread_local TapeObserver* observer = nullptr;
}

TapeObserver::TapeObserver() : before_(std::exchange(observer, this)) {}
TapeObserver::~TapeObserver() { observer = before_; }
TapeObserver* TapeObserver::current() { return observer; }

}  // namespace cairn
