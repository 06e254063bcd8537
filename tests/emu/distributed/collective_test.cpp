// Sums over ranks by NCCL's calls, on its stand-in: the same bits as the communicator's, whatever order
// queued work runs in; and what goes wrong is noticed.
#include "engine/distributed/collective.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cmath>

#include "engine/autograd.h"
#include "engine/backend.h"
#include "engine/distributed/gradient_exchange.h"
#include "engine/graph.h"
#include "engine/nn/layers.h"
#include "engine/ops.h"
#include "kernels/collective.h"
#include "kernels/philox.h"
#include "tests/emu/distributed/device_ranks.h"
#include "tests/emu/schedules.h"

namespace cairn::distributed {
namespace {

using testing::HasSubstr;

template <class T>
std::vector<T> random_values(std::int64_t n, int rank) {
  std::vector<T> values;
  for (std::int64_t i = 0; i < n; ++i)
    values.push_back(static_cast<T>(std::ldexp(
        uniform_below(philox(3, static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(i)).v[0],
                      1 << 20),
        static_cast<int>(i % 9) - 20)));
  return values;
}

// Several sums under way, as gradients' are, and one that is waited for.
template <class T>
std::vector<std::vector<T>> sums_on(Communicator& processes, Device device) {
  const auto collective = make_collective(processes, device);
  std::vector<Tensor> tensors;
  for (const std::int64_t n : {1, 7, 1000, 1 << 14})
    tensors.push_back(from_values<T>({n}, random_values<T>(n, processes.rank()), device));
  for (const Tensor& t : tensors) collective->start_sum(t);
  const Tensor alone = from_values<T>({33}, random_values<T>(33, processes.rank() + 9), device);
  collective->sum(alone);
  const Tensor twice = add(alone, alone);
  collective->finish();
  tensors.push_back(twice);
  std::vector<std::vector<T>> values;
  for (const Tensor& t : tensors) values.push_back(t.to_vector<T>());
  return values;
}

using Sums = DeviceRanks;

TEST_F(Sums, AreTheBitsOfTheCpusWhateverRunsWhen) {
  for (const int world : {1, 2, 4}) {
    std::vector<std::vector<float>> want;
    run(world, [&](Communicator& processes, Device) {
      const auto values = sums_on<float>(processes, Device{});
      if (processes.is_first()) want = values;
    });
    for (std::uint64_t seed = 0; seed <= schedules(); ++seed) {
      emu::set_schedule(seed == 0 ? emu::Schedule::late : emu::Schedule::random, seed);
      run(world, [&](Communicator& processes, Device device) {
        EXPECT_EQ(sums_on<float>(processes, device), want) << world << " ranks, schedule " << seed;
      });
    }
    emu::set_schedule(emu::Schedule::eager);
    run(world, [&](Communicator& processes, Device device) {
      EXPECT_EQ(sums_on<float>(processes, device), want) << world << " ranks";
      const Tensor t = from_values<double>({3}, std::vector<double>{1e-17, 0.1, 1}, device);
      const auto collective = make_collective(processes, device);
      collective->sum(t);
      EXPECT_EQ(t.to_vector<double>()[0], 1e-17 * world);
    });
  }
}

// What a replay reads is what is in memory then; the sums before, between and behind are direct ones.
TEST_F(Sums, GoIntoAGraph) {
  for (std::uint64_t seed = 0; seed <= schedules() / 4; ++seed) {
    if (seed > 0) emu::set_schedule(emu::Schedule::random, seed);
    run(2, [](Communicator& processes, Device device) {
      const auto collective = make_collective(processes, device);
      const auto rank = static_cast<float>(processes.rank() + 1);
      const Tensor x = full({5}, rank, DType::f32, device), y = full({5}, 1.0, DType::f32, device);
      Tensor z;
      const auto work = [&] {
        collective->start_sum(x);
        z = add(y, y);  // beside it
        collective->start_sum(y);
        collective->finish();
        z = add(z, x);
      };
      work();
      EXPECT_EQ(z.to_vector<float>(), std::vector<float>(5, 2.0f + 3));
      const Graph graph(device, work);
      EXPECT_EQ(x.to_vector<float>(), std::vector<float>(5, 3.0f));  // nothing ran
      graph.replay();                                                // x = 6, y = 4, z = 2 * 2 + 6
      EXPECT_EQ(z.to_vector<float>(), std::vector<float>(5, 10.0f));
      graph.replay();  // x = 12, y = 8, z = 2 * 4 + 12
      EXPECT_EQ(z.to_vector<float>(), std::vector<float>(5, 20.0f));
      collective->sum(y);
      EXPECT_EQ(y.to_vector<float>(), std::vector<float>(5, 16.0f));
    });
  }
}

// Whole numbers, so that every order of addition and every kernel gives the same.
std::unique_ptr<nn::Module> whole_numbers() {
  nn::Initializer init(1);
  auto net = std::make_unique<nn::Sequential>();
  for (const char* name : {"a", "b", "c"})
    net->add<nn::Linear>(name, init, nn::LinearOptions{.in_features = 16, .out_features = 16});
  std::uint64_t number = 0;
  for (const nn::NamedTensor& p : net->named_parameters()) {
    std::vector<float> values(static_cast<std::size_t>(p.tensor.numel()));
    for (float& v : values) v = static_cast<float>(uniform_below(philox(5, 0, ++number).v[0], 5)) - 2;
    p.tensor.copy_from<float>(values);
  }
  return net;
}

struct Exchanged {
  std::vector<float> mean;  // of the ranks' gradients
  std::int64_t buckets = 0;
};
Exchanged exchange_on(Communicator& processes, Device device) {
  const auto net = whole_numbers();
  net->to(device);
  optim::FlatParameters parameters(*net);
  const auto collective = make_collective(processes, device);
  GradientExchange exchange(parameters, *collective, 512);
  std::vector<float> images;
  for (std::uint64_t i = 0; i < 4 * 16; ++i)
    images.push_back(static_cast<float>(
                         uniform_below(philox(6, static_cast<std::uint64_t>(processes.rank()), i).v[0], 5)) -
                     2);
  for (int step = 0; step < 2; ++step) {
    parameters.zero_grad();
    const Tensor loss = sum((*net)(from_values<float>({4, 16}, images, device)));
    exchange.backward(loss, full(loss.shape(), 1.0 / processes.world(), DType::f32, device));
  }
  return {.mean = parameters.grads().to_vector<float>(), .buckets = exchange.buckets()};
}

using Exchange = DeviceRanks;

TEST_F(Exchange, GivesTheMeanThatTheCpusGives) {
  for (const int world : {2, 4}) {
    std::vector<float> want;
    run(world, [&](Communicator& processes, Device) {
      const Exchanged e = exchange_on(processes, Device{});
      EXPECT_GE(e.buckets, 3);
      if (processes.is_first()) want = e.mean;
    });
    for (std::uint64_t seed = 0; seed <= schedules(); ++seed) {
      if (seed > 0) emu::set_schedule(emu::Schedule::random, seed);
      run(world, [&](Communicator& processes, Device device) {
        EXPECT_EQ(exchange_on(processes, device).mean, want) << world << " ranks, schedule " << seed;
      });
    }
    emu::set_schedule(emu::Schedule::eager);
  }
}

// A launch at once shows the order in which work is queued; a random one, that the sums' queue and the
// computing one do not wait for each other. Rank 0's alone, so that names tell whose an operation is.
TEST_F(Exchange, SendsBucketsWhileBackwardStillRuns) {
  const auto recorded = [](std::uint64_t seed) {
    if (seed > 0) emu::set_schedule(emu::Schedule::random, seed);
    emu::record_execution(true);
    run(1, [](Communicator& processes, Device device) { (void)exchange_on(processes, device); });
    emu::record_execution(false);
    return emu::executed_operations();
  };
  const auto is_sum = [](const std::string& name) { return name == "ncclAllReduce: sum"; };
  // Kernels that run between the first step's first sum and its last.
  const auto between = [&](const std::vector<std::string>& all, std::ptrdiff_t buckets) {
    std::ptrdiff_t sums = 0, kernels = 0;
    for (const std::string& name : all) {
      sums += is_sum(name);
      if (sums == buckets) break;
      kernels += sums > 0 && !name.starts_with("nccl");
    }
    return kernels;
  };
  const std::vector<std::string> direct = recorded(0);
  const std::ptrdiff_t buckets = std::count_if(direct.begin(), direct.end(), is_sum) / 2;
  EXPECT_GE(buckets, 3);
  const std::ptrdiff_t queued = between(direct, buckets);
  EXPECT_GT(queued, 0);
  const auto first = [&](const std::vector<std::string>& all) {
    return std::find_if(all.begin(), all.end(), is_sum) - all.begin();
  };
  // With an allocation a tensor each free waits for the device, and so for the sums.
  if (emu::checked()) return;
  bool beside = false;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) beside |= first(recorded(seed)) > first(direct);
  EXPECT_TRUE(beside) << "what computes waits for the first bucket's sum";
}

// Without the wait for what computes the values the sum takes whatever is there: a report wherever accesses
// are checked, and wrong values in some schedule.
TEST_F(Sums, WithoutAWaitAreFound) {
  std::atomic<bool> wrong = false;
  bool reported = false;
  emu::print_reports(false);
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    emu::set_schedule(emu::Schedule::random, seed);
    run(2, [&](Communicator& processes, Device device) {
      const auto collective = make_collective(processes, device);  // loads NCCL
      const kernels::CollectiveApi* api = kernels::collective_api(device.type);
      const kernels::DeviceApi& runtime = *kernels::device_api(device.type);
      std::string id(api->id_bytes, '\0');
      if (processes.is_first()) check(api->make_id(id.data()));
      id = processes.broadcast(id);
      void* group = nullptr;
      ASSERT_TRUE(api->connect(device.index, processes.rank(), 2, id.data(), group).ok());
      kernels::Queue queue;
      ASSERT_TRUE(runtime.create_queue(device.index, queue).ok());
      const Tensor x = full({64}, 1.0, DType::f32, device);
      const Tensor y = add(x, x);
      ASSERT_TRUE(api->sum(group, queue, y.inplace().data, 64, DType::f32).ok());
      ASSERT_TRUE(runtime.synchronize(queue).ok());
      if (y.to_vector<float>() != std::vector<float>(64, 4.0f)) wrong = true;
      processes.barrier();
      ASSERT_TRUE(api->disconnect(group).ok());
      ASSERT_TRUE(runtime.destroy_queue(queue).ok());
    });
    for (const emu::Report& r : emu::take_reports()) reported |= r.defect == emu::Defect::stream_order;
  }
  emu::print_reports(true);
  EXPECT_TRUE(wrong);
  EXPECT_EQ(reported, emu::checked());
}

TEST_F(Sums, OfAnotherLengthOrTypeAreFound) {
  for (const bool type : {false, true}) {
    std::atomic<int> failed = 0;
    emu::print_reports(false);
    run(
        2,
        [&](Communicator& processes, Device device) {
          const Tensor x = type && processes.is_first()
                               ? from_values<double>({8}, std::vector<double>(8, 1), device)
                               : from_values<float>({8}, std::vector<float>(8, 1), device);
          const auto collective = make_collective(processes, device);
          try {
            collective->sum(type ? x : x.alias({processes.is_first() ? 4 : 8}));
            synchronize(device);
          } catch (const Error&) {
            ++failed;
          }
          processes.barrier();
        },
        true);
    emu::print_reports(true);
    // Both ranks find it; a fault of the device reaches whoever waits first.
    EXPECT_GE(failed, 1);
    std::string text;
    for (const emu::Report& r : emu::take_reports()) text += r.message + '\n';
    EXPECT_THAT(text, HasSubstr(type ? "values of type" : "sums 4 values"));
    (void)emu::take_device_error();
  }
}

TEST_F(Sums, ErrorsSayWhatWasAsked) {
  run(2, [](Communicator& processes, Device device) {
    try {
      make_collective(processes, Device{DeviceType::cuda_emu, 0});
      ADD_FAILURE() << "two ranks on one device";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("joining 2 GPUs as rank " + std::to_string(processes.rank()) +
                                          " failed: invalid usage: Duplicate GPU detected"));
    }
    const auto collective = make_collective(processes, device);
    EXPECT_THROW(collective->sum(zeros({2}, DType::i32, device)), DTypeError);
    const Tensor x = zeros({4}, DType::f32, device);
    const kernels::CollectiveApi* api = kernels::collective_api(device.type);
    void* group = nullptr;
    std::string id(api->id_bytes, '\0');
    const kernels::Status bad = api->connect(device.index, 3, 2, id.data(), group);
    EXPECT_THAT(bad.message(), HasSubstr("invalid argument: rank 3 of 2 ranks is none"));
  });
  EXPECT_THAT(collective_part().found, HasSubstr("NCCL 2."));
}

// One of two fails between two sums: it waits for nobody, though the other does not leave.
TEST_F(Sums, AFailureWaitsForNobody) {
  std::atomic<bool> gone = false;
  run(
      2,
      [&](Communicator& processes, Device device) {
        const Tensor x = full({4}, 1.0, DType::f32, device);
        try {
          const auto collective = make_collective(processes, device);
          collective->sum(x);
          EXPECT_EQ(x.to_vector<float>(), std::vector<float>(4, 2.0f));
          if (processes.is_first()) {
            collective->start_sum(x);  // which the other never comes to
            throw Error("no memory");
          }
          while (!gone) std::this_thread::yield();
        } catch (const Error&) {
          gone = true;
        }
      },
      false);
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace cairn::distributed
