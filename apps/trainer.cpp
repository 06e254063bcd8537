#include "apps/trainer.h"

#include <chrono>
#include <cmath>

#include "apps/deferred_report.h"
#include "apps/exact_json.h"
#include "apps/line_file.h"
#include "apps/nonfinite.h"
#include "apps/process_clock.h"
#include "apps/processes.h"
#include "apps/profile.h"
#include "apps/progress.h"
#include "apps/report/tfevents.h"
#include "apps/state_writer.h"
#include "data/atomic_file.h"
#include "engine/device.h"
#include "engine/io/checkpoint.h"
#include "engine/io/weights.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string fixed(double value, int digits) {
  char text[40];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

class Trainer {
 public:
  explicit Trainer(const TrainSetup& setup);
  TrainResult run();

 private:
  void restore();
  void restore_guard(const nlohmann::json& progress);
  bool run_epoch(std::int64_t epoch, std::int64_t first_batch);
  void queue_step(const data::Batch& batch);
  void train_step(Place place, const data::Batch& batch);
  bool await_step(Place place);
  bool take_report(const std::optional<kernels::StepReport>& report);
  Nonfinite locate(Place place);
  void recover(Place place, std::int64_t steps);
  void rewind();
  void finish_profile();
  void finish_epoch(std::int64_t epoch);
  void log_metrics(const nlohmann::json& line);
  void write_events(const nlohmann::json& line);
  void save_weights(bool best, std::int64_t epoch);
  Scores scores_of(const Predictions& predictions) const;
  void save_state(std::int64_t epoch, std::int64_t batch);
  Stop stop_asked() const;
  void begin_agreement();
  Stop agreed_stop();
  Predictions predict(data::Loader* loader);
  bool steps_used_up() const { return o_.max_steps > 0 && optimizer_.steps() >= o_.max_steps; }

  const TrainSetup& setup_;
  const TrainOptions& o_;
  Console& console_;
  distributed::Communicator* const processes_;  // null: this one trains alone
  const bool writes_;                           // of several processes rank 0 alone
  ModelCard card_;
  std::unique_ptr<ResidentImages> resident_;  // of the training part, where the device keeps it
  const bool has_val_ = setup_.manifest.count(data::Part::val) > 0;
  std::unique_ptr<data::Loader> train_loader_,
      val_loader_;  // val: null where it has no batch for this process
  Learner learner_;
  nn::Module& model_;
  optim::Optimizer& optimizer_;
  DeferredReport reports_;
  std::unique_ptr<report::EventWriter> events_;  // for TensorBoard; null once it has no room
  LineFile metrics_;
  bool metrics_wait_ = false;  // for room on the disk
  std::unique_ptr<StateWriter> states_;
  distributed::Communicator::Pending agreement_;

  // Place in the run; what save_state() writes.
  double loss_sum_ = 0;  // over the images of this epoch whose loss has been read
  std::int64_t loss_images_ = 0;
  double best_score_ = -1;
  std::int64_t best_epoch_ = -1;
  Predictions best_predictions_;
  nlohmann::json epochs_ = nlohmann::json::array();

  float lr_factor_ = 1;  // halved by each rewind

  std::int64_t pending_images_ = 0;  // of the step whose report has not been read
  double last_loss_ = 0;
  kernels::StepReport bad_report_;  // of the step that was not taken
  int skipped_in_a_row_ = 0;
  GuessingWatch guessing_;
  float lr_ = 0;
  double train_seconds_ = 0, wait_seconds_ = 0;  // of this process
  double timed_seconds_ = 0;                     // of its steps after the third
  std::int64_t timed_images_ = 0, own_steps_ = 0;
  std::optional<Profile> profile_;  // while steps are recorded
  double epoch_seconds_ = 0, epoch_wait_ = 0;
  std::int64_t epoch_images_ = 0;
  TrainResult result_;
};

Trainer::Trainer(const TrainSetup& setup)
    : setup_(setup),
      o_(setup.options),
      console_(setup.console),
      processes_(setup.processes),
      writes_(!processes_ || processes_->is_first()),
      card_(card_of(setup)),
      resident_(make_resident_images(setup)),
      train_loader_(make_loader(setup, data::Part::train, true, resident_.get())),
      learner_(setup, resident_.get(), train_loader_->batches_per_epoch()),
      model_(learner_.model()),
      optimizer_(learner_.optimizer()),
      reports_(setup.device),
      guessing_(setup.dataset.classes.size()) {
  optimizer_.guard().hold(true);
  if (has_val_) val_loader_ = make_loader(setup, data::Part::val, false);
  if (writes_) events_ = std::make_unique<report::EventWriter>(setup.run.path(), wall_seconds());
  if (!setup.progress.is_null()) restore();
  if (processes_) share_state(*processes_, model_, optimizer_);
  if (!writes_) return;
  metrics_ = LineFile(setup.run.metrics());
  states_ =
      std::make_unique<StateWriter>(setup.run, o_.keep, setup.resumed_state, model_, optimizer_, console_);
}

void Trainer::restore() {
  if (writes_) io::load_checkpoint(setup_.resumed_state, model_, optimizer_);
  const nlohmann::json& p = setup_.progress;
  loss_sum_ = p.at("loss_sum").get<double>();
  loss_images_ = p.at("loss_images").get<std::int64_t>();
  best_score_ = p.at("best_score").get<double>();
  best_epoch_ = p.at("best_epoch").get<std::int64_t>();
  epochs_ = p.at("epochs");
  lr_factor_ = p.value("lr_factor", 1.0f);
  restore_guard(p);
  if (writes_) setup_.run.cut_metrics(optimizer_.steps());
}

void Trainer::restore_guard(const nlohmann::json& progress) {
  if (!optimizer_.guard().scale().defined()) return;
  const nlohmann::json& state = progress.at("loss_scale");
  optimizer_.guard().restore({.scale = state.at("scale").get<float>(),
                              .good_steps = state.at("good_steps").get<std::int32_t>(),
                              .skipped_steps = state.at("skipped_steps").get<std::int32_t>()});
}

void Trainer::save_state(std::int64_t epoch, std::int64_t batch) {
  if (!writes_) return;
  nlohmann::json progress = {{"options", to_json(o_)},
                             {"classes", card_.classes},
                             {"manifest", exact_json(setup_.manifest_text)},
                             {"fixes", exact_json(setup_.fixes_text)},
                             {"threads", compute_threads()},
                             {"processes", processes_ ? processes_->world() : 1},
                             {"device", to_string(setup_.device)},
                             {"precision", o_.precision},
                             {"epoch", epoch},
                             {"batch", batch},
                             {"loss_sum", loss_sum_},
                             {"loss_images", loss_images_},
                             {"best_score", best_score_},
                             {"best_epoch", best_epoch_},
                             {"lr_factor", lr_factor_},
                             {"epochs", epochs_}};
  if (optimizer_.guard().scale().defined()) {
    const optim::StepGuard::State state = optimizer_.guard().read();
    progress["loss_scale"] = {
        {"scale", state.scale}, {"good_steps", state.good_steps}, {"skipped_steps", state.skipped_steps}};
  }
  states_->save(std::move(progress));
}

// False for a step that was not taken, nor were those queued behind it.
bool Trainer::take_report(const std::optional<kernels::StepReport>& report) {
  if (!report) return true;
  if (report->outcome == kernels::StepOutcome::nonfinite) {
    bad_report_ = *report;
    return false;
  }
  skipped_in_a_row_ = 0;
  last_loss_ = static_cast<double>(report->loss);
  loss_sum_ += last_loss_ * static_cast<double>(pending_images_);
  loss_images_ += pending_images_;
  if (guessing_.add(last_loss_)) console_.warn(guessing_.warning());
  return true;
}

// At the end of the steps that are recorded, or of a run that has fewer.
void Trainer::finish_profile() {
  profile_->events = profiler::stop();
  const std::string table = profile_table(*profile_);
  data::write_file_atomically(setup_.run.profile_table(), table);
  data::write_file_atomically(setup_.run.profile_trace(), profile_trace(*profile_));
  console_.say("\n" + table + "profile of " + std::to_string(profile_->steps) +
               " steps: " + setup_.run.profile_table() +
               ", for chrome://tracing and Perfetto: " + setup_.run.profile_trace());
  profile_.reset();
}

void Trainer::queue_step(const data::Batch& batch) {
  lr_ = lr_factor_ * learner_.schedule().lr(optimizer_.steps());
  static_cast<void>(learner_.step().run(batch, lr_));
}

// The report that comes back is of the step before.
void Trainer::train_step(Place place, const data::Batch& batch) {
  queue_step(batch);
  if (!take_report(reports_.exchange(optimizer_.guard().report()))) {
    static_cast<void>(reports_.take());
    recover({place.epoch, place.batch - 1}, 2);
    queue_step(batch);
    static_cast<void>(reports_.exchange(optimizer_.guard().report()));
  }
  pending_images_ = batch.global_size;
}

// Waits for the last step queued, which is of `place`; false where it was not taken.
bool Trainer::await_step(Place place) {
  if (take_report(reports_.take())) return true;
  recover(place, 1);
  return false;
}

// Of several processes what the first has found in its part of the batch.
Nonfinite Trainer::locate(Place place) {
  Nonfinite found = locate_nonfinite(setup_, learner_.step(), place);
  if (processes_) {
    for (const std::string& of_rank : processes_->gather((found.in_module ? "m" : "-") + found.where))
      if (of_rank.size() > 1) return {.where = of_rank.substr(1), .in_module = of_rank[0] == 'm'};
  }
  if (found.where.empty())
    found.where = "a place that a second run of the step does not show: suspect the machine's memory";
  return found;
}

// The step of `place` was not taken, nor were the others of the last `steps`: the model is as it was before.
void Trainer::recover(Place place, std::int64_t steps) {
  optimizer_.withdraw(steps);
  const OnNonfinite policy = parse_on_nonfinite(o_.on_nonfinite);
  const std::int64_t step = optimizer_.steps() + 1;
  const Nonfinite found = locate(place);
  const std::string what = describe_nonfinite(step, place, bad_report_, found);
  const std::string advice = nonfinite_advice(o_, optimizer_.guard().scale().defined());
  const bool hopeless = policy == OnNonfinite::skip
                            ? ++skipped_in_a_row_ > kMostSkippedInARow || found.in_module
                        : policy == OnNonfinite::rewind ? lr_factor_ <= std::ldexp(1.0f, -kMostRewinds)
                                                        : true;
  if (!hopeless) {
    console_.warn(what + (policy == OnNonfinite::skip ? "; the batch is left out"
                                                      : "; back to the last state, and on at half the rate"));
    if (policy == OnNonfinite::rewind) rewind();
  }
  // Behind a rewind, which cuts off what was logged since the state.
  log_metrics({{"kind", "nonfinite"},
               {"step", optimizer_.steps()},
               {"epoch", place.epoch + 1},
               {"batch", place.batch + 1},
               {"where", found.where},
               {"policy", o_.on_nonfinite}});
  if (!hopeless) return;
  if (found.in_module) throw Error(what + (states_ ? states_->advice() : "") + "; what may help: " + advice);
  save_state(place.epoch, place.batch);
  if (states_) states_->finish();
  if (processes_) processes_->barrier();  // or another's end would come between, and be told as well
  throw Error(what + "; the step was not taken and the state before it is saved: go on with cairn train " +
              "--resume " + setup_.run.path() +
              (policy == OnNonfinite::stop ? " and --on-nonfinite skip, or with " : " and ") + advice +
              " --accept-changes");
}

void Trainer::rewind() {
  std::string progress;
  if (states_) {
    states_->wait();
    progress = io::load_checkpoint(setup_.run.state(), model_, optimizer_);
  }
  if (processes_) {
    share_state(*processes_, model_, optimizer_);
    progress = processes_->broadcast(progress);
  }
  restore_guard(nlohmann::json::parse(progress));
  lr_factor_ *= 0.5f;
  if (!writes_) return;
  setup_.run.cut_metrics(optimizer_.steps());
  metrics_ = LineFile(setup_.run.metrics());
}

// True at its end, false where training has to stop within it.
bool Trainer::run_epoch(std::int64_t epoch, std::int64_t first_batch) {
  learner_.train();
  const std::int64_t batches = train_loader_->batches_per_epoch();
  const std::string title = "epoch " + std::to_string(epoch + 1) + "/" + std::to_string(*o_.epochs);
  Progress progress(title, batches, console_.quiet());
  epoch_seconds_ = 0;
  epoch_images_ = 0;
  const double waited_before = train_loader_->wait_seconds();
  data::Batch batch;
  for (std::int64_t b = first_batch; b < batches; ++b) {
    const Clock::time_point begin = Clock::now();
    if (!train_loader_->next(batch)) throw Error("the loader ended before the epoch: please report this");
    const Place place{epoch, b};
    if (setup_.profile && own_steps_ == kProfileFrom) {
      profiler::start();
      profile_.emplace();
    }
    const Clock::time_point step_begin = Clock::now();
    begin_agreement();
    train_step(place, batch);
    if (profile_) {
      profile_->seconds += seconds_since(step_begin);
      if (++profile_->steps == kProfileSteps) finish_profile();
    }
    const bool stop = agreed_stop() != Stop::none;
    const bool last = b + 1 == batches || steps_used_up() || stop;
    const bool save = o_.checkpoint_every_steps > 0 && optimizer_.steps() % o_.checkpoint_every_steps == 0;
    bool taken = true;
    if (last || save || own_steps_ == 0 || o_.log_every_steps > 0) taken = await_step(place);
    if (own_steps_ == 0) {
      synchronize(setup_.device);
      result_.first_step_s = seconds_since_process_start();
    }
    ++own_steps_;
    const double seconds = seconds_since(begin);
    epoch_seconds_ += seconds;
    epoch_images_ += batch.global_size;
    if (own_steps_ > 3) {
      timed_seconds_ += seconds;
      timed_images_ += batch.global_size;
    }
    epoch_wait_ = train_loader_->wait_seconds() - waited_before;
    if (taken && o_.log_every_steps > 0 && optimizer_.steps() % o_.log_every_steps == 0)
      log_metrics({{"kind", "step"},
                   {"step", optimizer_.steps()},
                   {"epoch", epoch + 1},
                   {"loss", last_loss_},
                   {"lr", lr_}});
    progress.update(b + 1, ", loss " + fixed(last_loss_, 3) + ", " +
                               fixed(static_cast<double>(epoch_images_) / epoch_seconds_, 0) +
                               " images/s, data wait " + fixed(100 * epoch_wait_ / epoch_seconds_, 0) + " %");
    if (states_) states_->report();
    if (stop) {
      save_state(epoch, b + 1);
      return false;
    }
    if (taken && save && !last) save_state(epoch, b + 1);
    if (steps_used_up()) break;
  }
  return true;
}

Scores Trainer::scores_of(const Predictions& p) const {
  return score(p.labels, p.answers(), static_cast<int>(p.classes));
}

Stop Trainer::stop_asked() const {
  if (setup_.stop_signal && setup_.stop_signal->load() != 0) return Stop::signal;
  if (setup_.time_limit_s > 0 && seconds_since_process_start() >= setup_.time_limit_s)
    return Stop::time_limit;
  return Stop::none;
}

// What the processes know of a reason to stop goes round while they compute, so that all stop after the same
// step.
void Trainer::begin_agreement() {
  if (processes_) agreement_ = processes_->start_gather(std::string(1, static_cast<char>(stop_asked())));
}

// Of several processes the first rank's that has a reason.
Stop Trainer::agreed_stop() {
  if (!processes_) return stop_asked();
  for (const std::string& of_rank : processes_->gathered(agreement_))
    if (const auto stop = static_cast<Stop>(of_rank[0]); stop != Stop::none) return stop;
  return Stop::none;
}

// Each process's part of the batches, put together.
Predictions Trainer::predict(data::Loader* loader) {
  Predictions own;
  own.classes = static_cast<std::int64_t>(card_.classes.size());
  if (loader) own = predict_loader(model_, *loader, card_, setup_.device);
  return processes_ ? gather_predictions(*processes_, own) : own;
}

// Lines that find no room wait for it; training goes on.
void Trainer::log_metrics(const nlohmann::json& line) {
  if (!writes_) return;
  const std::string failure = metrics_.append(line.dump());
  if (!failure.empty() && !metrics_wait_)
    console_.warn(failure + "; training goes on, and its lines wait for room");
  metrics_wait_ = !failure.empty();
}

// The line of metrics.jsonl as TensorBoard's scalars.
void Trainer::write_events(const nlohmann::json& line) try {
  if (!events_) return;
  const double now = wall_seconds();
  const auto scalar = [&](const std::string& tag, const nlohmann::json& value) {
    events_->scalar(tag, optimizer_.steps(), now, value.get<float>());
  };
  scalar("loss/train", line.at("train_loss"));
  for (const char* name : {"lr", "images_per_s", "data_wait"})
    scalar(std::string("train/") + name, line.at(name));
  if (!line.contains("val")) return;
  scalar("loss/val", line.at("val").at("loss"));
  for (const char* name : {"accuracy", "balanced_accuracy", "macro_f1"})
    scalar(std::string("val/") + name, line.at("val").at(name));
} catch (const Error& error) {
  console_.warn(std::string(error.what()) + "; training goes on without TensorBoard's file");
  events_.reset();
}

// What a run is for: without room for it there is no going on, but back from the state that stays.
void Trainer::save_weights(bool best, std::int64_t epoch) {
  if (!writes_) return;
  io::Metadata metadata = card_metadata(card_);
  metadata["epoch"] = std::to_string(epoch + 1);
  const auto write = [&] {
    io::save_weights(model_, setup_.run.last_weights(), metadata);
    if (best) io::save_weights(model_, setup_.run.best_weights(), metadata);
  };
  try {
    return write();
  } catch (const Error&) {
    states_->wait();  // a state that does not fit takes room while it is being written
  }
  try {
    write();
  } catch (const Error& error) {
    throw Error(error.what() + states_->advice());
  }
}

void Trainer::finish_epoch(std::int64_t epoch) {
  train_seconds_ += epoch_seconds_;
  wait_seconds_ += epoch_wait_;
  // The next epoch's first batches are loaded while this one is validated.
  if (epoch + 1 < *o_.epochs && !steps_used_up()) train_loader_->start_epoch(epoch + 1);
  const double train_loss = loss_images_ > 0 ? loss_sum_ / static_cast<double>(loss_images_) : 0;
  nlohmann::json line = {
      {"kind", "epoch"},
      {"epoch", epoch + 1},
      {"step", optimizer_.steps()},
      {"train_loss", train_loss},
      {"lr", lr_},
      {"images_per_s", static_cast<double>(epoch_images_) / std::max(epoch_seconds_, 1e-9)},
      {"data_wait", epoch_wait_ / std::max(epoch_seconds_, 1e-9)},
      {"seconds", epoch_seconds_}};
  if (optimizer_.guard().scale().defined()) {
    const optim::StepGuard::State state = optimizer_.guard().read();
    line["loss_scale"] = state.scale;
    line["skipped_steps"] = state.skipped_steps;
  }
  if (guessing_.end_epoch(train_loss)) console_.warn(guessing_.warning());
  std::string text = "epoch " + std::to_string(epoch + 1) + "/" + std::to_string(*o_.epochs) + ": loss " +
                     fixed(train_loss, 4);
  bool best = true;  // without a validation part the last epoch is
  // Judged and written as --ema says, trained on and saved for resuming as the steps left it.
  std::optional<optim::AverageInPlace> average(optimizer_);
  if (has_val_) {
    Predictions predictions = predict(val_loader_.get());
    const Scores scores = scores_of(predictions);
    line["val"] = summary_json(scores);
    line["val"]["loss"] = predictions.mean_loss();
    best = scores.balanced_accuracy > best_score_;
    if (best) best_score_ = scores.balanced_accuracy;
    text += ", validation: balanced accuracy " + fixed(scores.balanced_accuracy, 3) + ", macro F1 " +
            fixed(scores.macro_f1, 3) + ", accuracy " + fixed(scores.accuracy, 3);
    if (predictions.all_zero())
      console_.warn(
          "every logit of every validation image is 0: the ReLU behind the last layer has died and no "
          "gradient flows; lower --lr, lengthen --warmup-epochs, or use --model resnet18");
    if (best) best_predictions_ = std::move(predictions);
  }
  if (best) best_epoch_ = epoch + 1;
  line["best"] = best;
  text += "; " + fixed(line["images_per_s"].get<double>(), 1) + " images/s, data wait " +
          fixed(100 * line["data_wait"].get<double>(), 0) + " %" + (best && has_val_ ? ", best so far" : "");
  console_.say(text);
  epochs_.push_back(line);
  result_.train_loss = train_loss;
  loss_sum_ = 0;
  loss_images_ = 0;

  save_weights(best, epoch);
  average.reset();
  if (processes_) require_same_weights(*processes_, model_);
  log_metrics(line);
  write_events(line);
  save_state(epoch + 1, 0);
  if (setup_.after_epoch && epoch + 1 < *o_.epochs && !steps_used_up())
    setup_.after_epoch(epoch + 1, best_predictions_);
}

TrainResult Trainer::run() {
  std::int64_t epoch = 0, batch = 0;
  if (!setup_.progress.is_null()) {
    epoch = setup_.progress.at("epoch").get<std::int64_t>();
    // Fewer than there were, if changes were accepted.
    batch = std::min(setup_.progress.at("batch").get<std::int64_t>(), train_loader_->batches_per_epoch());
  }
  const auto stale = [&] { return o_.patience > 0 && epoch - best_epoch_ >= o_.patience && has_val_; };
  if (epoch < *o_.epochs) train_loader_->start_epoch(epoch, batch);
  if (setup_.progress.is_null() && o_.on_nonfinite == "rewind") save_state(epoch, batch);
  for (; epoch < *o_.epochs && !steps_used_up() && !(epoch > 0 && batch == 0 && stale());
       ++epoch, batch = 0) {
    const bool whole = run_epoch(epoch, batch);
    if (profile_) finish_profile();
    if (whole) finish_epoch(epoch);
    // A stop that comes while the last epoch is validated changes nothing.
    begin_agreement();
    const Stop stop = agreed_stop();
    if (!whole || (stop != Stop::none && epoch + 1 < *o_.epochs && !steps_used_up())) {
      result_.stopped = stop;
      break;
    }
  }
  if (states_) states_->finish();
  if (result_.stopped == Stop::none && epoch < *o_.epochs && !steps_used_up())
    console_.say("stopped early: no better epoch than " + std::to_string(best_epoch_) + " in the last " +
                 std::to_string(o_.patience));
  result_.epochs = static_cast<std::int64_t>(epochs_.size());
  result_.steps = optimizer_.steps();
  result_.best_epoch = best_epoch_;
  if (!epochs_.empty()) result_.train_loss = epochs_.back().at("train_loss").get<double>();
  result_.data_wait = train_seconds_ > 0 ? wait_seconds_ / train_seconds_ : 0;
  if (own_steps_ >= 4) result_.images_per_s = static_cast<double>(timed_images_) / timed_seconds_;
  if (result_.stopped != Stop::none) return result_;

  if (writes_) io::load_weights(model_, setup_.run.best_weights());
  if (processes_) share_state(*processes_, model_, optimizer_);
  if (has_val_) result_.val = scores_of(predict(val_loader_.get()));
  if (setup_.manifest.count(data::Part::test) > 0) {
    const auto loader = make_loader(setup_, data::Part::test, false);
    result_.test_predictions = predict(loader.get());
    result_.test = scores_of(result_.test_predictions);
  }
  return result_;
}

}  // namespace

TrainResult train(const TrainSetup& setup) { return Trainer(setup).run(); }

}  // namespace cairn::app
