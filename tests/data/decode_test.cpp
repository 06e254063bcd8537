#include "data/decode/decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/data/decode_fixtures.h"

namespace cairn::data {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

Image decode(const std::string& name, const DecodeOptions& options = {}) {
  return decode_image(decode_fixture(name), options, name);
}

std::string reason(std::span<const uint8_t> bytes, const std::string& name,
                   const DecodeOptions& options = {}) {
  try {
    decode_image(bytes, options, name);
  } catch (const ImageError& error) {
    EXPECT_THAT(error.what(), StartsWith(name + ": "));
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.reason();
  }
  return "";
}

std::vector<uint8_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

void put_u32_be(std::vector<uint8_t>& bytes, size_t at, uint32_t value) {
  for (int i = 0; i < 4; ++i) bytes[at + i] = static_cast<uint8_t>(value >> (24 - 8 * i));
}

/// Gives the PNG another size, with a right CRC.
std::vector<uint8_t> png_claiming(std::vector<uint8_t> png, uint32_t width, uint32_t height) {
  put_u32_be(png, 16, width);
  put_u32_be(png, 20, height);
  put_u32_be(png, 29, static_cast<uint32_t>(crc32(crc32(0, nullptr, 0), &png[12], 17)));
  return png;
}

struct Distance {
  double mean;
  int largest;
};

Distance distance(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  Distance result{0, 0};
  for (size_t i = 0; i < a.size(); ++i) {
    const int d = std::abs(a[i] - b[i]);
    result.mean += d;
    result.largest = std::max(result.largest, d);
  }
  result.mean /= static_cast<double>(a.size());
  return result;
}

TEST(Decode, GivesPillowsPixels) {
  int exact = 0;
  for (auto& line : decode_table("expected.txt")) {
    std::string name;
    int width = 0, height = 0;
    uint32_t sum = 0;
    ASSERT_TRUE(line >> name >> width >> height >> sum);
    SCOPED_TRACE(name);
    const Image image = decode(name);
    ASSERT_EQ(image.width, width);
    ASSERT_EQ(image.height, height);
    ASSERT_EQ(image.rgb.size(), size_t{3} * width * height);
    if (name.starts_with("jpeg_") || name.starts_with("webp_lossy")) {
      // Pillow brings its own libjpeg-turbo and libwebp, of another version than the system's. Their integer
      // arithmetic has been the same for years: a level's difference is what a version may change.
      const std::vector<uint8_t> expected = decode_fixture(name + ".rgb");
      ASSERT_EQ(expected.size(), image.rgb.size());
      const Distance d = distance(image.rgb, expected);
      EXPECT_LE(d.largest, 1);
      exact += d.largest == 0;
    } else {
      EXPECT_EQ(adler(image.rgb), sum);
      ++exact;
    }
  }
  EXPECT_GT(exact, 70);
  RecordProperty("exact", exact);
}

TEST(Decode, KeepsTheHighByteOf16Bits) {
  // One grey and one RGB pixel of 16 bits, in PNGs that were put together by hand here.
  const auto png = [](uint8_t color, const std::vector<uint8_t>& row, const std::vector<uint8_t>& trns) {
    std::vector<uint8_t> out = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    const auto chunk = [&](const char* type, const std::vector<uint8_t>& data) {
      const size_t begin = out.size();
      out.resize(begin + 8);
      put_u32_be(out, begin, static_cast<uint32_t>(data.size()));
      std::copy_n(type, 4, out.begin() + static_cast<int64_t>(begin) + 4);
      out.insert(out.end(), data.begin(), data.end());
      const auto crc = crc32(crc32(0, nullptr, 0), &out[begin + 4], static_cast<uInt>(data.size() + 4));
      out.resize(out.size() + 4);
      put_u32_be(out, out.size() - 4, static_cast<uint32_t>(crc));
    };
    const size_t pixel = color == 0 ? 2 : color == 2 ? 6 : color == 4 ? 4 : 8;
    chunk("IHDR", {0, 0, 0, static_cast<uint8_t>((row.size() - 1) / pixel), 0, 0, 0, 1, 16, color, 0, 0, 0});
    if (!trns.empty()) chunk("tRNS", trns);
    std::vector<uint8_t> packed(compressBound(row.size()));
    uLongf size = packed.size();
    EXPECT_EQ(compress(packed.data(), &size, row.data(), row.size()), Z_OK);
    packed.resize(size);
    chunk("IDAT", packed);
    chunk("IEND", {});
    return decode_image(out, {}, "x.png").rgb;
  };
  using Rgb = std::vector<uint8_t>;
  EXPECT_EQ(png(0, {0, 0x12, 0xFF, 0xFE, 0x01}, {}), (Rgb{0x12, 0x12, 0x12, 0xFE, 0xFE, 0xFE}));
  // tRNS names one colour of 16 bits: the same high byte is not enough.
  EXPECT_EQ(png(0, {0, 0x12, 0xFF, 0x12, 0x01}, {0x12, 0x01}), (Rgb{0x12, 0x12, 0x12, 255, 255, 255}));
  EXPECT_EQ(png(2, {0, 1, 2, 3, 4, 5, 6}, {}), (Rgb{1, 3, 5}));
  EXPECT_EQ(png(2, {0, 1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6}), (Rgb{255, 255, 255}));
  EXPECT_EQ(png(4, {0, 80, 9, 255, 0}, {}), (Rgb{80, 80, 80}));
  EXPECT_EQ(png(6, {0, 1, 0, 2, 0, 3, 0, 0, 255}, {}), (Rgb{255, 255, 255}));  // alpha's high byte is 0
}

TEST(Decode, ConvertsCmykByTheWrittenRule) {
  // Adobe's inverted CMYK: r = k - (255 - c) k / 255, rounded, of the stored bytes. The fixture is Pillow's;
  // this says that it holds something else than grey or plain RGB.
  const ImageInfo info = probe_image(decode_fixture("jpeg_cmyk.jpg"), "x");
  EXPECT_EQ(info.color_mode, "CMYK");
  EXPECT_EQ(info.channels, 4);
  const Image cmyk = decode("jpeg_cmyk.jpg"), rgb = decode("jpeg_444.jpg");
  EXPECT_LT(distance(cmyk.rgb, rgb.rgb).mean, 6);
}

TEST(Decode, FastKeepsBothSidesAboveTheTarget) {
  // 160 x 120: halves to 80 x 60, 40 x 30, 20 x 15.
  for (const auto& [target, width] :
       {std::pair{61, 160}, {60, 80}, {31, 80}, {30, 40}, {15, 20}, {1, 20}, {0, 160}}) {
    DecodeOptions options{.mode = DecodeMode::fast, .target_size = target};
    EXPECT_EQ(decode("jpeg_large.jpg", options).width, width) << target;
    options.mode = DecodeMode::exact;
    EXPECT_EQ(decode("jpeg_large.jpg", options).width, 160);
  }
}

TEST(Decode, FastIsTheMeanOfItsPixels) {
  const Image whole = decode("jpeg_large.jpg");
  const Image half = decode("jpeg_large.jpg", {.mode = DecodeMode::fast, .target_size = 60});
  std::vector<uint8_t> means;
  for (int y = 0; y < 60; ++y) {
    for (int x = 0; x < 80; ++x) {
      for (int c = 0; c < 3; ++c) {
        const uint8_t* p = &whole.rgb[3 * (2 * y * 160 + 2 * x) + c];
        means.push_back(static_cast<uint8_t>((p[0] + p[3] + p[480] + p[483] + 2) / 4));
      }
    }
  }
  // The scaled transform drops the highest frequencies, which the fixture's blur has left small.
  EXPECT_LT(distance(half.rgb, means).mean, 2.0);
}

TEST(Decode, TurnsOnlyIfAsked) {
  const Image stored = decode("jpeg_turned6.jpg", {.apply_exif = false}), turned = decode("jpeg_turned6.jpg");
  EXPECT_EQ(stored.width, 19);
  EXPECT_EQ(turned.width, 11);
  EXPECT_EQ(probe_image(decode_fixture("jpeg_turned6.jpg"), "x").exif_orientation, 6);
  EXPECT_EQ(probe_image(decode_fixture("webp_turned6.webp"), "x").exif_orientation, 6);
  EXPECT_EQ(probe_image(decode_fixture("turned5.png"), "x").exif_orientation, 5);
}

TEST(Decode, ProbesWithoutDecoding) {
  const auto probe = [](const std::string& name) { return probe_image(decode_fixture(name), name); };
  EXPECT_EQ(probe("rgba8.png").color_mode, "RGBA");
  EXPECT_EQ(probe("palette4_trns.png").color_mode, "palette+alpha");
  EXPECT_EQ(probe("palette4.png").bit_depth, 4);
  EXPECT_EQ(probe("grey_alpha8.png").color_mode, "grey+alpha");
  EXPECT_EQ(probe("jpeg_grey.jpg").color_mode, "grey");
  EXPECT_EQ(probe("jpeg_large.jpg").width, 160);
  EXPECT_EQ(probe("jpeg_large.jpg").height, 120);
  EXPECT_EQ(probe("gif.gif").color_mode, "palette");
  EXPECT_EQ(probe("pnm_p4.pbm").bit_depth, 1);
  EXPECT_EQ(probe("bmp_24.bmp").format, ImageFormat::bmp);
  EXPECT_EQ(probe("tga_32.tga").format, ImageFormat::tga);
  EXPECT_EQ(probe("webp_alpha.webp").color_mode, "RGBA");
  EXPECT_THROW(probe_image(bytes_of("hello"), "x.jpg"), ImageError);
}

TEST(Decode, KnowsFormatsByTheirBytesAndNotByTheirName) {
  EXPECT_EQ(sniff_format(decode_fixture("rgb8.png"), "a.jpg"), ImageFormat::png);
  EXPECT_EQ(adler(decode_image(decode_fixture("rgb8.png"), {}, "a.jpg").rgb), adler(decode("rgb8.png").rgb));
  EXPECT_EQ(sniff_format(decode_fixture("tga_24.tga"), "a.dat"), ImageFormat::unknown);
  EXPECT_EQ(sniff_format(decode_fixture("tga_24.tga"), "A.TGA"), ImageFormat::tga);
  EXPECT_EQ(sniff_format({}, "a.jpg"), ImageFormat::unknown);
  std::vector<uint8_t> heic =
      bytes_of(std::string_view("\0\0\0\x18"
                                "ftypheic\0\0\0\0mif1heic",
                                24));
  EXPECT_EQ(sniff_format(heic, "x"), ImageFormat::heic);
  EXPECT_THAT(reason(heic, "x.heic"), HasSubstr("heif-convert"));
  std::vector<uint8_t> avif =
      bytes_of(std::string_view("\0\0\0\x18"
                                "ftypmif1\0\0\0\0avifmiaf",
                                24));
  EXPECT_EQ(sniff_format(avif, "x"), ImageFormat::avif);
  EXPECT_THAT(reason(avif, "x.avif"), HasSubstr("avifdec"));
}

TEST(Decode, TgaRowsFromRightToLeft) {
  // 3 x 2, true colour, blue green red, rows from the top (bit 5) and from right to left (bit 4).
  std::vector<uint8_t> tga(18);
  tga[2] = 2;
  tga[12] = 3;
  tga[14] = 2;
  tga[16] = 24;
  tga[17] = 0x30;
  for (uint8_t i = 0; i < 6; ++i)
    tga.insert(tga.end(), {i, static_cast<uint8_t>(10 + i), static_cast<uint8_t>(20 + i)});
  const Image image = decode_image(tga, {}, "a.tga");
  ASSERT_EQ(image.rgb.size(), 18u);
  for (const auto& [pixel, stored] : {std::pair{0, 2}, {1, 1}, {2, 0}, {3, 5}, {4, 4}, {5, 3}}) {
    EXPECT_EQ(image.rgb[3 * pixel], 20 + stored);
    EXPECT_EQ(image.rgb[3 * pixel + 1], 10 + stored);
    EXPECT_EQ(image.rgb[3 * pixel + 2], stored);
  }
}

TEST(Decode, SaysWhyInOneLine) {
  EXPECT_EQ(reason({}, "a.jpg"), "empty file");
  EXPECT_EQ(reason(std::vector<uint8_t>(100), "a.png"), "only zero bytes");
  EXPECT_EQ(reason(bytes_of("<html>\nno picture here\n"), "a.jpg"), "a text file, no image");
  EXPECT_THAT(reason(bytes_of("\x01\x02\x03"), "a.jpg"), HasSubstr("no image of a format"));
  EXPECT_THAT(reason(bytes_of("<svg xmlns"), "a.svg"), HasSubstr("convert"));
  std::vector<uint8_t> flipped = decode_fixture("rgb8.png");
  flipped[60] ^= 4;  // in IDAT's data
  EXPECT_EQ(reason(flipped, "a.png"), "PNG chunk IDAT has a wrong CRC");
  const auto bomb = png_claiming(decode_fixture("rgb8.png"), 30000, 20000);
  EXPECT_EQ(reason(bomb, "a.png"), "600 megapixels, more than --max-pixels 128000000");
  EXPECT_THAT(reason(png_claiming(decode_fixture("rgb8.png"), 0, 5), "a.png"), HasSubstr("header"));
  EXPECT_THAT(reason(png_claiming(decode_fixture("rgb8.png"), 0xFFFFFFFF, 0xFFFFFFFF), "a.png"),
              HasSubstr("header"));
  EXPECT_THAT(reason(png_claiming(decode_fixture("rgb8.png"), 11000, 11000), "a.png"),
              HasSubstr("fewer pixels"));
  EXPECT_THAT(reason(png_claiming(decode_fixture("rgb8.png"), 17, 12), "a.png"), HasSubstr("more pixels"));
  EXPECT_EQ(reason(decode_fixture("rgb8.png"), "a.png", {.max_pixels = 220}),
            "221 pixels, more than --max-pixels 220");
  EXPECT_THAT(reason(decode_fixture("jpeg_large.jpg"), "a.jpg", {.max_pixels = 1000}),
              HasSubstr("--max-pixels"));
  EXPECT_THAT(reason(bytes_of("P6 60000 60000 255\n"), "a.ppm"), HasSubstr("3600 megapixels"));
}

// A find of fuzzing: the header alone was believed.
TEST(Decode, NoHeaderOfAnImageWithoutPixelsIsBelieved) {
  const std::string gif("GIF87a\x11\0\0\0\0\0\0", 13);
  const std::string pnm = "P6\n0 4\n255\n";
  for (const auto& [text, name] : {std::pair{gif, "a.gif"}, std::pair{pnm, "a.ppm"}}) {
    const std::span bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    EXPECT_THROW(probe_image(bytes, name), ImageError) << name;
    EXPECT_THROW(decode_image(bytes, {}, name), ImageError) << name;
  }
}

TEST(Decode, KeepsStrangeNamesOnOneLine) {
  try {
    decode_image({}, {}, "a\nb.jpg");
    FAIL();
  } catch (const ImageError& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
}

TEST(Decode, RefusesEveryTruncation) {
  for (auto& line : decode_table("expected.txt")) {
    std::string name;
    line >> name;
    const std::vector<uint8_t> whole = decode_fixture(name);
    // These end where their last row's data end, and trailing bytes mean nothing to them; the others end in a
    // marker. TGA has an optional footer of 26 bytes, an interlaced GIF a last block and a trailer.
    const size_t spare = name.starts_with("tga")     ? 26
                         : name.starts_with("gif")   ? 1
                         : name.starts_with("pnm_p") ? 1
                                                     : 0;
    const size_t step = std::max<size_t>(1, whole.size() / 97);
    for (size_t size = 0; size + spare < whole.size(); size += step) {
      if (name == "gif_animated.gif" && size > whole.size() / 4) break;  // later frames do not matter
      EXPECT_NE(reason({whole.data(), size}, name), "") << size << " of " << whole.size() << " bytes";
    }
  }
  const auto cut = [](const std::string& name) {
    std::vector<uint8_t> bytes = decode_fixture(name);
    bytes.resize(bytes.size() * 2 / 3);
    return reason(bytes, name);
  };
  EXPECT_EQ(cut("jpeg_420.jpg"), "truncated JPEG");
  EXPECT_EQ(cut("jpeg_progressive.jpg"), "truncated JPEG");
  EXPECT_EQ(cut("rgba8.png"), "truncated PNG");
  EXPECT_EQ(cut("webp_lossy.webp"), "truncated WebP");
  EXPECT_EQ(cut("bmp_24.bmp"), "truncated BMP");
  EXPECT_EQ(cut("gif.gif"), "truncated GIF");
  EXPECT_EQ(cut("tga_24.tga"), "truncated TGA");
  EXPECT_EQ(cut("pnm_p6.ppm"), "truncated PNM");
}

TEST(Decode, NoFlippedBitOfAPngPasses) {
  for (const char* name : {"rgba8.png", "palette4_trns.png", "turned3.png"}) {
    const std::vector<uint8_t> whole = decode_fixture(name);
    const uint32_t sum = adler(decode(name).rgb);
    for (size_t i = 0; i < whole.size(); ++i) {
      std::vector<uint8_t> bytes = whole;
      bytes[i] ^= static_cast<uint8_t>(1 << i % 8);
      EXPECT_NE(reason(bytes, name), "") << name << " byte " << i << " was " << sum;
    }
  }
}

TEST(Decode, FlippedBytesOfTheOthersAreRefusedOrDecoded) {
  for (auto& line : decode_table("expected.txt")) {
    std::string name;
    line >> name;
    if (name.ends_with(".png")) continue;
    const std::vector<uint8_t> whole = decode_fixture(name);
    const size_t step = std::max<size_t>(1, whole.size() / 61);
    for (size_t i = 0; i < whole.size(); i += i < 64 ? 1 : step) {
      std::vector<uint8_t> bytes = whole;
      bytes[i] = static_cast<uint8_t>(bytes[i] ^ 0xFF);
      try {
        const Image image = decode_image(bytes, {.max_pixels = 1 << 20}, name);
        EXPECT_EQ(image.rgb.size(), size_t{3} * image.width * image.height);
        EXPECT_LE(int64_t{image.width} * image.height, 1 << 20);
      } catch (const ImageError& error) {
        EXPECT_NE(error.reason(), "");
      }
    }
  }
}

TEST(Decode, RefusesAJpegOfThousandsOfScans) {
  // The last scan of a progressive JPEG, over and over: libjpeg would read the whole image for each.
  std::vector<uint8_t> bytes = decode_fixture("jpeg_progressive.jpg");
  size_t last = 0;
  for (size_t i = 0; i + 1 < bytes.size(); ++i) {
    if (bytes[i] == 0xFF && bytes[i + 1] == 0xDA) last = i;
  }
  const std::vector<uint8_t> scan(bytes.begin() + static_cast<int64_t>(last), bytes.end() - 2);
  for (int i = 0; i < 3000; ++i) bytes.insert(bytes.end() - 2, scan.begin(), scan.end());
  EXPECT_NE(reason(bytes, "a.jpg"), "");
}

TEST(Decode, ToleratesStrayBytesBehindTheImage) {
  std::vector<uint8_t> bytes = decode_fixture("jpeg_420.jpg");
  const uint32_t sum = adler(decode("jpeg_420.jpg").rgb);
  bytes.insert(bytes.end(), 1000, 0xAB);  // behind the end
  EXPECT_EQ(adler(decode_image(bytes, {}, "a.jpg").rgb), sum);
  bytes = decode_fixture("jpeg_420.jpg");
  bytes.insert(bytes.end() - 2, 7, 0x11);  // before the end marker, as some cameras pad
  EXPECT_EQ(adler(decode_image(bytes, {}, "a.jpg").rgb), sum);
  bytes = decode_fixture("rgb8.png");
  bytes.insert(bytes.end(), 1000, 0xAB);
  EXPECT_EQ(adler(decode_image(bytes, {}, "a.png").rgb), adler(decode("rgb8.png").rgb));
}

}  // namespace
}  // namespace cairn::data
