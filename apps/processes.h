#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/console.h"
#include "apps/prediction.h"
#include "engine/distributed/communicator.h"
#include "engine/nn/module.h"
#include "engine/optim/optimizer.h"

namespace cairn::app {

/// Joins the processes that a launcher (mpirun, srun) started with this one; null where there are no others.
/// When one of them fails or is lost, this process ends within the timeout, with a line that names the
/// other's rank and host. Throws Error where MPI is missing or does not start.
std::unique_ptr<distributed::Communicator> join_processes(double peer_timeout_s);
/// The run that the line then says how to go on with.
void name_run(const std::string& path);
/// Throws InputError where this process is one of several: for commands that are one process's work.
void require_one_process(const std::string& command);

/// Runs the work of one of several processes and answers the exit status. Its failure is told to the others;
/// what all fail of, rank 0 alone prints.
int run_as_process(distributed::Communicator& processes, const std::function<int()>& work);

/// The items of this process's batches, where it takes each `world`th of the whole batches of `items`.
std::vector<std::int64_t> own_batches(const std::vector<std::int64_t>& items, std::int64_t batch, int rank,
                                      int world);
/// Each process's predictions of own_batches(), put together in the order of all items.
Predictions gather_predictions(distributed::Communicator& processes, const Predictions& own);

/// Gives every process rank 0's parameters, buffers, optimiser's state and step count.
void share_state(distributed::Communicator& processes, nn::Module& model, optim::Optimizer& optimizer);
/// Throws Error naming the first rank that holds other bits than rank 0 in a parameter or buffer.
void require_same_weights(distributed::Communicator& processes, const nn::Module& model);
/// Throws InputError naming the first rank where `setting` is not rank 0's.
void require_same_setting(distributed::Communicator& processes, const std::string& name,
                          const std::string& setting);

}  // namespace cairn::app
