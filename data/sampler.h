#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::data {

enum class Balance : uint8_t { none, oversample, inverse, effective };

std::string_view balance_name(Balance balance);
Balance parse_balance(std::string_view name);  // throws InputError

/// A keyed permutation of [0, n): where `index` < n goes. A Feistel network with Philox as round function,
/// walked until it lands in the range (Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA
/// 2002); a plain shuffle where n is at most 64. Nothing is kept between calls.
uint64_t permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t index);

struct SamplerOptions {
  uint64_t seed = 0;
  int64_t batch_size = 32;  // of all processes together
  bool shuffle = true;
  Balance balance = Balance::none;  // only oversample changes the order; the others are weights in the loss
  int rank = 0;                     // this process …
  int world = 1;  // … of so many; each takes its slice of every batch. batch_size must divide by world
};

/// Which image stands at a position of an epoch: a pure function of (seed, epoch, position), so that neither
/// threads nor processes nor a resume change what is seen.
/// Shuffled: a new permutation each epoch; the last partial batch is dropped (an epoch smaller than one batch
/// is kept whole). Not shuffled: the items in the given order, the last partial batch kept. Oversampled: each
/// class shows as many images as the largest has: every image floor(max / n) times, and a random rest, drawn
/// without repeats and anew each epoch.
class Sampler {
 public:
  /// items: what indices are handed out, e.g. of a part; labels: their classes. Throws InputError for options
  /// that make no sense and for an empty part.
  Sampler(std::vector<int64_t> items, std::vector<int32_t> labels, int classes,
          const SamplerOptions& options);

  /// Images an epoch draws from, before a partial batch is dropped.
  int64_t epoch_images() const { return epoch_images_; }
  int64_t batches_per_epoch() const { return batches_; }
  /// Images of this process in a batch of the epoch, and the position of its first one.
  int64_t local_batch_size(int64_t batch) const;
  /// Of all processes.
  int64_t batch_size(int64_t batch) const;
  int64_t first_position(int64_t batch) const;
  /// The item (an element of `items`) and its label at a position in [0, epoch_images()).
  struct Pick {
    int64_t item;
    int32_t label;
  };
  Pick pick(int64_t epoch, int64_t position) const;

 private:
  std::vector<int64_t> items_;
  std::vector<int32_t> labels_;
  std::vector<std::vector<int64_t>> members_;  // of each class that occurs, places in items_
  SamplerOptions options_;
  int64_t largest_ = 0;
  int64_t epoch_images_ = 0;
  int64_t batches_ = 0;
};

/// Weights of the classes in the loss, scaled so that their mean over the images is 1. none, oversample:
/// all 1. inverse: 1 / n. effective: (1 - b) / (1 - b^n), Cui, Jia, Lin, Song and Belongie 2019, with b = (N
/// - 1) / N and N the mean count of a class: between none and inverse, for sets of any size. A class without
/// images gets 0.
std::vector<float> class_weights(Balance balance, const std::vector<int64_t>& counts);

/// What a class has, and what an epoch shows of it.
struct BalanceRow {
  std::string name;
  int64_t images;
  int64_t shown;
  float weight;
};
std::vector<BalanceRow> balance_table(Balance balance, const std::vector<std::string>& classes,
                                      const std::vector<int64_t>& counts);

}  // namespace cairn::data
