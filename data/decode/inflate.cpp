#include "data/decode/inflate.h"

#ifdef CAIRN_HAVE_LIBDEFLATE
#include <libdeflate.h>

#include <memory>
#else
#include <zlib.h>

#include <algorithm>
#endif

#include "data/decode/internal.h"

namespace cairn::data {

namespace {

const char* const kDamaged = "the compressed data are damaged or cut short";
const char* const kLess = "it holds fewer pixels than its header says";
const char* const kMore = "it holds more pixels than its header says";

}  // namespace

#ifdef CAIRN_HAVE_LIBDEFLATE

void inflate_exactly(std::span<const Bytes> pieces, std::span<uint8_t> out) {
  struct Free {
    void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
  };
  thread_local const std::unique_ptr<libdeflate_decompressor, Free> decompressor(
      libdeflate_alloc_decompressor());
  if (!decompressor) throw Refusal{"out of memory"};
  std::vector<uint8_t> joined;
  Bytes stream;
  if (pieces.size() == 1) {
    stream = pieces[0];
  } else {
    for (const Bytes& piece : pieces) joined.insert(joined.end(), piece.begin(), piece.end());
    stream = joined;
  }
  switch (libdeflate_zlib_decompress(decompressor.get(), stream.data(), stream.size(), out.data(), out.size(),
                                     nullptr)) {
    case LIBDEFLATE_SUCCESS:
      return;
    case LIBDEFLATE_SHORT_OUTPUT:
      throw Refusal{kLess};
    case LIBDEFLATE_INSUFFICIENT_SPACE:
      throw Refusal{kMore};
    default:
      throw Refusal{kDamaged};
  }
}

#else

void inflate_exactly(std::span<const Bytes> pieces, std::span<uint8_t> out) {
  struct Stream : z_stream {
    Stream() : z_stream{} {
      if (inflateInit(this) != Z_OK) throw Refusal{"out of memory"};
    }
    ~Stream() { inflateEnd(this); }
  } stream;
  constexpr size_t kStep = size_t{1} << 30;  // zlib counts in 32 bits
  size_t done = 0;
  int status = Z_OK;
  for (const Bytes& piece : pieces) {
    stream.next_in = const_cast<Bytef*>(piece.data());
    stream.avail_in = static_cast<uInt>(piece.size());  // a PNG chunk is shorter than 2^31
    while (status == Z_OK && stream.avail_in > 0) {
      uint8_t spare;  // one byte more than fits tells a stream that holds more
      const size_t room = std::min(out.size() - done, kStep);
      stream.next_out = room > 0 ? out.data() + done : &spare;
      stream.avail_out = static_cast<uInt>(std::max<size_t>(room, 1));
      const uInt before = stream.avail_out;
      status = inflate(&stream, Z_NO_FLUSH);
      if (room == 0 && stream.avail_out == 0) throw Refusal{kMore};
      if (room > 0) done += before - stream.avail_out;
      if (status == Z_BUF_ERROR) status = Z_OK;  // wants the next piece
    }
  }
  if (status != Z_STREAM_END) throw Refusal{kDamaged};
  if (done < out.size()) throw Refusal{kLess};
}

#endif

}  // namespace cairn::data
