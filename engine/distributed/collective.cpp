#include "engine/distributed/collective.h"

#include <exception>
#include <span>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "engine/device.h"
#include "kernels/collective.h"
#include "kernels/device.h"

namespace cairn::distributed {
namespace {

void require_summable(const Tensor& t) {
  if (t.dtype() != DType::f32 && t.dtype() != DType::f64)
    throw DTypeError(std::string("sum over processes: the tensor is ") + name_of(t.dtype()) +
                     ", expected fp32 or fp64");
}

/// On the CPU work is done when a call returns: what is handed to the communicator is there.
class HostCollective final : public Collective {
 public:
  explicit HostCollective(Communicator& communicator) : communicator_(communicator) {}
  int world() const override { return communicator_.world(); }
  void start_sum(const Tensor& t) override { pending_.push_back(start(t)); }
  void finish() override {
    for (const Communicator::Pending& p : pending_) communicator_.wait(p);
    pending_.clear();
  }
  void sum(const Tensor& t) override { communicator_.wait(start(t)); }

 private:
  Communicator::Pending start(const Tensor& t) {
    require_summable(t);
    const kernels::View v = t.inplace();
    const auto n = static_cast<std::size_t>(t.numel());
    if (t.dtype() == DType::f64)
      return communicator_.start_sum(std::span(static_cast<double*>(v.data), n), t.impl()->storage);
    return communicator_.start_sum(std::span(static_cast<float*>(v.data), n), t.impl()->storage);
  }
  Communicator& communicator_;
  std::vector<Communicator::Pending> pending_;
};

/// By the device's own library, on a queue of its own; events order it against the compute queue, also within
/// a captured graph. One queue carries all sums, so that every process has them in one order.
class DeviceCollective final : public Collective {
 public:
  DeviceCollective(Communicator& communicator, Device device, const kernels::CollectiveApi& api)
      : world_(communicator.world()), device_(device), api_(api) {
    std::string id(api.id_bytes, '\0');
    if (communicator.is_first()) check(api.make_id(id.data()));
    id = communicator.broadcast(id);
    check(device_api().create_queue(device.index, queue_));
    check(device_api().create_event(device.index, before_));
    check(device_api().create_event(device.index, after_));
    check(api.connect(device.index, communicator.rank(), world_, id.data(), group_));
  }
  // What fails here has nobody left to tell. After a failure the others do not come to the sums that are
  // under way, and neither the device nor NCCL may wait for them.
  ~DeviceCollective() override {
    if (std::uncaught_exceptions() > exceptions_) {
      static_cast<void>(api_.abandon(group_).ok());
    } else {
      static_cast<void>(device_api().synchronize(queue_).ok());
      static_cast<void>(api_.disconnect(group_).ok());
    }
    for (void* event : {before_, after_}) static_cast<void>(device_api().destroy_event(event).ok());
    static_cast<void>(device_api().destroy_queue(queue_).ok());
  }

  int world() const override { return world_; }
  void start_sum(const Tensor& t) override {
    require_summable(t);
    check(device_api().record_event(compute_queue(device_), before_));
    check(device_api().queue_wait_event(queue_, before_));
    check(api_.sum(group_, queue_, t.inplace().data, t.numel(), t.dtype()));
  }
  void finish() override {
    check(device_api().record_event(queue_, after_));
    check(device_api().queue_wait_event(compute_queue(device_), after_));
  }
  // Waits for what was started before, too: NCCL runs a group's calls in their order anyway.
  void sum(const Tensor& t) override {
    start_sum(t);
    finish();
  }

 private:
  const kernels::DeviceApi& device_api() const { return *kernels::device_api(device_.type); }
  int world_;
  Device device_;
  const kernels::CollectiveApi& api_;
  kernels::Queue queue_;
  void *before_ = nullptr, *after_ = nullptr, *group_ = nullptr;
  const int exceptions_ = std::uncaught_exceptions();
};

}  // namespace

std::unique_ptr<Collective> make_collective(Communicator& communicator, Device device) {
  if (device.type == DeviceType::cpu) return std::make_unique<HostCollective>(communicator);
  const BackendPart& part = collective_part();
  const kernels::CollectiveApi* api = kernels::collective_api(device.type);
  if (!api)
    throw Error("several processes on '" + to_string(device) + "' need NCCL: " + part.found +
                (part.advice.empty() ? "" : "; " + part.advice));
  return std::make_unique<DeviceCollective>(communicator, device, *api);
}

}  // namespace cairn::distributed
