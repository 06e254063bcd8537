#include "engine/io/zip.h"

#include <zlib.h>

#include <algorithm>
#include <string_view>

#include "engine/io/stored.h"

namespace cairn::io {
namespace {

// Record sizes and signatures: PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12, 4.3.16.
constexpr std::uint64_t kEndSize = 22, kCentralSize = 46, kLocalSize = 30;
constexpr std::uint32_t kEndSignature = 0x06054b50, kCentralSignature = 0x02014b50,
                        kLocalSignature = 0x04034b50;
constexpr std::uint64_t kMaxComment = 65535;
// PyTorch packs nothing and weights shrink little; zeros, which deflate shrinks to a thousandth, are few. A
// larger claim is a bomb.
constexpr std::uint64_t kFreeSize = 16 << 20, kMaxRatio = 16;

std::uint32_t le(const std::vector<std::uint8_t>& bytes, std::uint64_t at, int width) {
  std::uint32_t v = 0;
  for (int i = width - 1; i >= 0; --i) v = v << 8 | bytes.at(at + static_cast<std::uint64_t>(i));
  return v;
}

std::vector<std::uint8_t> inflate_entry(const InputFile& file, const std::string& name,
                                        const std::vector<std::uint8_t>& packed, std::uint64_t size) {
  if (size > kFreeSize && size / kMaxRatio > packed.size())
    file.fail("entry " + in_quotes(name) + " of " + std::to_string(packed.size()) +
              " bytes claims to unpack to " + std::to_string(size) + ", which no weights do");
  std::vector<std::uint8_t> out(size);
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) file.fail("cannot start zlib");
  stream.next_in = const_cast<Bytef*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = inflate(&stream, Z_FINISH);
  const bool whole = result == Z_STREAM_END && stream.total_out == size;
  inflateEnd(&stream);
  if (!whole) file.fail("entry " + in_quotes(name) + " does not unpack; the file is damaged");
  return out;
}

}  // namespace

ZipFile::ZipFile(const std::string& path) : file_(path) {
  if (file_.size() < kEndSize) file_.fail("too short for a zip file");
  const std::uint64_t tail_size = std::min(file_.size(), kEndSize + kMaxComment);
  const std::vector<std::uint8_t> tail = file_.read(file_.size() - tail_size, tail_size);
  std::uint64_t end = tail_size - kEndSize + 1;
  while (end > 0 && le(tail, end - 1, 4) != kEndSignature) --end;
  if (end == 0) file_.fail("the zip directory is missing; the file is cut off or damaged");
  --end;
  const std::uint32_t count = le(tail, end + 10, 2), size = le(tail, end + 12, 4),
                      offset = le(tail, end + 16, 4);
  if (count == 0xFFFF || size == 0xFFFFFFFF || offset == 0xFFFFFFFF)
    file_.fail("Zip64 (over 4 GiB) is not read; save the weights as safetensors");
  const std::vector<std::uint8_t> directory = file_.read(offset, size);
  std::uint64_t at = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (directory.size() - at < kCentralSize || le(directory, at, 4) != kCentralSignature)
      file_.fail("the zip directory is damaged");
    const std::uint64_t name_size = le(directory, at + 28, 2);
    const std::uint64_t next =
        at + kCentralSize + name_size + le(directory, at + 30, 2) + le(directory, at + 32, 2);
    if (next > directory.size()) file_.fail("the zip directory is damaged");
    const auto name_begin = directory.begin() + static_cast<std::ptrdiff_t>(at + kCentralSize);
    const std::string name(name_begin, name_begin + static_cast<std::ptrdiff_t>(name_size));
    const Entry entry{.method = static_cast<std::uint16_t>(le(directory, at + 10, 2)),
                      .crc = le(directory, at + 16, 4),
                      .packed = le(directory, at + 20, 4),
                      .size = le(directory, at + 24, 4),
                      .header = le(directory, at + 42, 4)};
    if ((le(directory, at + 8, 2) & 1u) != 0) file_.fail("entry " + in_quotes(name) + " is encrypted");
    if (!entries_.emplace(name, entry).second)
      file_.fail("entry " + in_quotes(name) + " stands in the zip file twice");
    at = next;
  }
}

std::vector<std::uint8_t> ZipFile::read(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) file_.fail("entry " + in_quotes(name) + " is missing");
  const Entry& e = found->second;
  const std::vector<std::uint8_t> local = file_.read(e.header, kLocalSize);
  if (le(local, 0, 4) != kLocalSignature)
    file_.fail("entry " + in_quotes(name) + " is not where the zip directory says");
  const std::uint64_t begin = e.header + kLocalSize + le(local, 26, 2) + le(local, 28, 2);
  std::vector<std::uint8_t> bytes = file_.read(begin, e.packed);
  if (e.method == 8)
    bytes = inflate_entry(file_, name, bytes, e.size);
  else if (e.method != 0 || e.packed != e.size)
    file_.fail("entry " + in_quotes(name) + " is packed in a way that PyTorch does not use (method " +
               std::to_string(e.method) + ")");
  if (::crc32_z(0, bytes.data(), bytes.size()) != e.crc)
    file_.fail("entry " + in_quotes(name) + " has a wrong checksum; the file is damaged");
  return bytes;
}

}  // namespace cairn::io
