#pragma once
#include <string>
#include <vector>

#include "tests/data/temp_folder.h"

namespace cairn::app {

/// What a run of the program left behind.
struct Outcome {
  int status = -1;  // exit status; 128 + signal where one ended it
  std::string out, err;
};
/// Runs `cairn ARGUMENTS`; quotes are the caller's. Two compute threads, so that figures do not depend on the
/// machine.
Outcome cairn(const std::string& arguments);

/// The lines of a text, without their ends.
std::vector<std::string> lines_of(const std::string& text);
std::string read_file(const std::string& path);

/// An RGB PNG whose pixels depend on `seed`: around a colour of its own for each `tone`, so that classes can
/// be told apart.
std::string make_png(int width, int height, unsigned seed, unsigned tone);
/// A PNG that says it is so large, and holds no pixels to speak of.
std::string make_png_bomb(unsigned width, unsigned height);
std::string make_jpeg(int width, int height, unsigned seed);

/// FOLDER/data: `classes` folders c0, c1, ... of `images` PNG files of 32x32 pixels.
void make_data(const data::TempFolder& folder, int classes, int images);

}  // namespace cairn::app
