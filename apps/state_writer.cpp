#include "apps/state_writer.h"

#include <exception>

#include "apps/run_state.h"
#include "kernels/error.h"

namespace cairn::app {

StateWriter::StateWriter(const RunDir& run, std::int64_t keep, const std::string& resumed,
                         const nn::Module& model, const optim::Optimizer& optimizer, Console& console)
    : run_(run),
      keep_(keep),
      console_(console),
      checkpoint_(model, optimizer),
      last_step_(resumed.empty() ? -1 : optimizer.steps()),
      last_is_whole_(resumed == run.state()),
      thread_([this] { StateWriter::run(); }) {}

StateWriter::~StateWriter() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StateWriter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return busy_ || end_; });
    if (!busy_) return;
    lock.unlock();
    std::string failure;
    try {
      write();
    } catch (const std::exception& error) {
      failure = error.what();
    }
    lock.lock();
    failure_ = std::move(failure);
    if (failure_.empty()) {
      last_step_ = checkpoint_.steps();
      last_is_whole_ = true;
    }
    busy_ = false;
    news_ = true;
    changed_.notify_all();
  }
}

void StateWriter::write() {
  // The text is made here too: a manifest of many images takes its time.
  const std::string progress = progress_.dump();
  const std::int64_t step = checkpoint_.steps();
  checkpoint_.write(run_.state(), progress, [&] {
    if (keep_ > 0 && last_is_whole_ && last_step_ != step) keep_as_older(run_, last_step_);
  });
  remove_old_states(run_, keep_, step);
}

// Between writes what write() touches belongs to the thread of the training.
void StateWriter::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !busy_; });
}

std::string StateWriter::stays() const {
  return last_step_ < 0 ? "no state has been saved so far"
                        : "the state of step " + std::to_string(last_step_) + " stays";
}

std::string StateWriter::advice() const {
  return "; " + stays() +
         (last_step_ < 0 ? "" : ": make room and go on with: cairn train --resume " + run_.path());
}

void StateWriter::save(nlohmann::json progress) {
  wait();
  report();
  checkpoint_.take();
  progress_ = std::move(progress);
  {
    const std::lock_guard lock(mutex_);
    busy_ = true;
  }
  changed_.notify_all();
}

void StateWriter::report() {
  if (!news_.exchange(false)) return;
  const std::lock_guard lock(mutex_);
  if (failure_.empty()) {
    if (warned_) console_.say("states are written again, now of step " + std::to_string(last_step_));
    warned_ = false;
  } else if (!warned_) {
    console_.warn(failure_ + "; training goes on and " + stays() +
                  ": make room, the next one is tried in turn");
    warned_ = true;
  }
}

void StateWriter::finish() {
  wait();
  if (!failure_.empty()) throw Error(failure_ + advice());
}

}  // namespace cairn::app
