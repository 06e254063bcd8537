#pragma once
#include <sys/types.h>

#include <functional>
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

/// The program, running beside the test; with `launcher`, e.g. "mpirun -n 2", that command runs it.
class Running {
 public:
  explicit Running(const std::string& arguments, const std::string& launcher = {});
  /// Ends it with SIGKILL if it still runs.
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  pid_t pid() const { return pid_; }
  bool ended();
  void send(int signal) const;
  /// Waits for `there` and answers true, or false where the program ended first.
  bool wait_for(const std::function<bool()>& there);
  /// Waits for its end.
  Outcome end();

 private:
  data::TempFolder folder_;
  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

/// A file system of our own: root may write anywhere else. ok() is false where mounting is not allowed.
class Mounted {
 public:
  Mounted(const std::string& path, const std::string& options, unsigned long flags = 0);
  ~Mounted();
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;
  bool ok() const { return ok_; }
  /// Other options for the same file system.
  bool change(const std::string& options, unsigned long flags = 0) const;

 private:
  std::string path_;
  bool ok_;
};

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
