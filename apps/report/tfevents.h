#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cairn::report {

/// Writes a TensorBoard event file (events.out.tfevents.*): TFRecord framing with masked CRC-32C around
/// tensorflow.Event messages (tensorflow/core/util/event.proto, framework/summary.proto), encoded here by
/// hand since four messages need no protobuf library. Every record is flushed whole, so that TensorBoard may
/// read along.
class EventWriter {
 public:
  /// Creates FOLDER/events.out.tfevents.SECONDS.NAME; throws InputError if it cannot. `wall_time` in seconds.
  EventWriter(const std::string& folder, double wall_time, const std::string& name = "cairn");
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  void scalar(const std::string& tag, std::int64_t step, double wall_time, float value);
  /// A PNG or JPEG, width x height pixels.
  void image(const std::string& tag, std::int64_t step, double wall_time, int width, int height,
             std::span<const std::uint8_t> encoded);
  /// Values sorted into TensorBoard's exponential buckets.
  void histogram(const std::string& tag, std::int64_t step, double wall_time, std::span<const float> values);
  const std::string& path() const { return path_; }

 private:
  void record(const std::string& event);
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of the bytes.
std::uint32_t crc32c(std::span<const std::uint8_t> bytes);

}  // namespace cairn::report
