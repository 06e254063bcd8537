#include "engine/distributed/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/distributed/local_transport.h"

namespace cairn::distributed {
namespace {

using testing::HasSubstr;

// Sums of values whose order of addition shows in the last bit, started together and waited for in another
// order, in sizes that do not divide by the ranks.
TEST(Communicator, SumsAreThoseOfTheRanksInOrder) {
  for (const int world : {1, 2, 3, 4, 7}) {
    LocalNet net(world);
    run_ranks(net, {}, [&](Communicator& c) {
      const std::vector<std::size_t> sizes = {1, 15, 16, 17, 1000, 4099, 0};
      const auto value = [](int rank, std::size_t i) {
        return static_cast<float>(1.0 / (1.0 + rank + static_cast<double>(i))) *
               (rank % 2 == 0 ? 1e4f : 1.0f);
      };
      std::vector<std::shared_ptr<std::vector<float>>> values;
      std::vector<Communicator::Pending> jobs;
      for (const std::size_t n : sizes) {
        values.push_back(std::make_shared<std::vector<float>>(n));
        for (std::size_t i = 0; i < n; ++i) (*values.back())[i] = value(c.rank(), i);
        jobs.push_back(c.start_sum(std::span<float>(*values.back()), values.back()));
      }
      std::vector<double> small = {static_cast<double>(c.rank() + 1), 0.5};
      c.sum(small);
      EXPECT_EQ(small[0], world * (world + 1) / 2.0);
      EXPECT_EQ(small[1], world * 0.5);
      for (std::size_t k = jobs.size(); k-- > 0;) c.wait(jobs[k]);
      for (std::size_t k = 0; k < sizes.size(); ++k)
        for (std::size_t i = 0; i < sizes[k]; ++i) {
          double want = 0;
          for (int r = 0; r < world; ++r) want += static_cast<double>(value(r, i));
          ASSERT_EQ((*values[k])[i], static_cast<float>(want))
              << world << " ranks, " << i << " of " << sizes[k];
        }
    });
  }
}

TEST(Communicator, GathersAndBroadcastsTextsOfAnyLength) {
  LocalNet net(3);
  run_ranks(net, {}, [](Communicator& c) {
    const auto text = [](int rank) { return std::string(static_cast<std::size_t>(rank) * 5000, 'a'); };
    const std::vector<std::string> all = c.gather(text(c.rank()));
    ASSERT_EQ(all.size(), 3U);
    for (int r = 0; r < 3; ++r) EXPECT_EQ(all[static_cast<std::size_t>(r)], text(r));
    EXPECT_EQ(c.broadcast("from " + std::to_string(c.rank())), "from 0");
    std::vector<std::byte> bytes((std::size_t{17} << 20) + 3, std::byte(c.rank() + 1));
    c.broadcast(std::span(bytes));
    for (const std::size_t i : {std::size_t{0}, std::size_t{16} << 20, bytes.size() - 1})
      EXPECT_EQ(bytes[i], std::byte(1));
    EXPECT_EQ(c.local_rank(), c.rank());
    EXPECT_EQ(c.local_world(), 3);
  });
}

TEST(Communicator, AFailureIsToldToAllWithItsRank) {
  LocalNet net(3);
  std::atomic<int> told = 0;
  run_ranks(
      net, {},
      [&](Communicator& c) {
        c.gather("");  // who has come through a second exchange has seen all hosts in the first
        if (c.rank() == 1) {
          EXPECT_FALSE(c.fail(2, "the disk is full"));
          return;
        }
        try {
          std::vector<double> one = {1};
          c.sum(one);
          ADD_FAILURE() << "the sum came without rank 1";
        } catch (const PeerError& error) {
          EXPECT_THAT(error.what(), HasSubstr("rank 1 on "));
          EXPECT_THAT(error.what(), HasSubstr(": the disk is full"));
          ++told;
        }
      },
      /*good_order=*/false);
  EXPECT_EQ(told, 2);
}

// The thread of rank 2 ends without a word, as a killed process does.
TEST(Communicator, ASilentRankIsNamedInTime) {
  LocalNet net(3);
  std::vector<std::string> errors(3);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  std::atomic<int> named = 0;
  for (int r = 0; r < 3; ++r)
    threads.emplace_back([&, r] {
      CommunicatorOptions options{.peer_timeout_s = 3, .step_timeout_s = 600, .on_failure = {}};
      Communicator c([&net, r] { return std::make_unique<LocalTransport>(net, r); }, options);
      if (r == 2) return;
      try {
        c.gather("waits as long as the others beat");
      } catch (const PeerError& error) {
        errors[static_cast<std::size_t>(r)] = error.what();
        ++named;
      }
      while (named < 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    });
  for (std::thread& t : threads) t.join();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_THAT(errors[0], testing::AllOf(HasSubstr("rank 2 on "), HasSubstr("not been heard of for 3 s")));
  EXPECT_EQ(errors[1], errors[0]);
  EXPECT_GE(seconds, 3);
  EXPECT_LT(seconds, 10);
}

// Rank 1 beats, but never comes to the sum.
TEST(Communicator, ARankThatHangsIsNamed) {
  LocalNet net(2);
  std::atomic<bool> named = false;
  run_ranks(
      net, {.peer_timeout_s = 60, .step_timeout_s = 2, .on_failure = {}},
      [&](Communicator& c) {
        if (c.rank() == 0) {
          try {
            std::vector<double> one = {1};
            c.sum(one);
            ADD_FAILURE() << "the sum came without rank 1";
          } catch (const PeerError& error) {
            EXPECT_THAT(error.what(), HasSubstr("rank 1 on "));
            EXPECT_THAT(error.what(), HasSubstr("has not come to this step for 2 s"));
          }
          named = true;
          c.fail(1, "the end");
          return;
        }
        while (!named) std::this_thread::sleep_for(std::chrono::milliseconds(5));
        c.fail(1, "the end");
      },
      /*good_order=*/false);
}

TEST(Launch, IsReadFromTheEnvironment) {
  const auto with = [](const char* rank, const char* value, const char* world, const char* size) {
    setenv(rank, value, 1);
    setenv(world, size, 1);
    const Launch launch = launch_of_environment();
    unsetenv(rank);
    unsetenv(world);
    return std::pair(launch.rank, launch.world);
  };
  EXPECT_EQ(with("OMPI_COMM_WORLD_RANK", "3", "OMPI_COMM_WORLD_SIZE", "4"), std::pair(3, 4));
  EXPECT_EQ(with("PMI_RANK", "0", "PMI_SIZE", "2"), std::pair(0, 2));
  EXPECT_EQ(with("PMIX_RANK", "1", "SLURM_NTASKS", "2"), std::pair(1, 2));
  EXPECT_EQ(with("SLURM_PROCID", "1", "SLURM_NTASKS", "2"), std::pair(0, 1));
  EXPECT_EQ(with("PMI_RANK", "x", "PMI_SIZE", "2"), std::pair(0, 1));
}

}  // namespace
}  // namespace cairn::distributed
