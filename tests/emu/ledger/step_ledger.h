#pragma once
/// What one step of training moves, by the emulated device's ledger (kernels/emu/ledger.h).
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/emu/ledger.h"
#include "kernels/view.h"

namespace cairn {

/// A step of apps/train_step.h as the program runs it once it is warm: 224x224 pixels, the model's own
/// optimiser, replayed from a graph.
struct StepLedger {
  std::string model;
  DType dtype = DType::f32;
  /// Every operation of the step in its order. Bytes are linear in the batch: what one image adds, and what
  /// the step moves whatever the batch is. Counted at 4 and 8 images (ModelCNN: 2 and 4); all else is of the
  /// larger batch.
  struct Operation {
    emu::LedgerEntry counted;
    double bytes_per_image = 0, bytes_per_step = 0;
    double flops_per_image = 0;
    double bytes(std::int64_t images) const {
      return bytes_per_image * static_cast<double>(images) + bytes_per_step;
    }
  };
  std::vector<Operation> operations;
  std::int64_t convolution_outputs = 0;  // elements an image, of all convolutions

  double bytes_per_image() const;
  double bytes_per_step() const;
  double bytes(std::int64_t images) const;
  /// Of the floor in docs/ledger.md: 14 passes over the convolutions' outputs.
  double floor(std::int64_t images) const;
};
StepLedger step_ledger(std::string_view model, DType dtype);

/// Bytes of the device that a run holds at that batch once its step is captured, with what the allocator
/// caches.
std::int64_t memory_held(std::string_view model, DType dtype, std::int64_t images);

/// The operations of one name, in sums over the step.
struct StepRow {
  std::string name;
  emu::LedgerRow counted;  // of the larger batch
  double bytes_per_image = 0, bytes_per_step = 0;
};
std::vector<StepRow> rows_of(const StepLedger& ledger);

}  // namespace cairn
