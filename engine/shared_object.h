#pragma once
#include <string>

namespace cairn {

/// One of cairn's own shared objects beside libcairn.so (or the program). Opened for good: kernels that are
/// queued may outlive any owner.
struct SharedObject {
  void* handle = nullptr;  // null where it is missing or cannot be loaded
  bool exists = false;
  std::string error = {};  // of the dynamic loader
};
/// libcairn_NAME.so. With `global` what it brings along can be found by libraries that are loaded later, as
/// MPI's plugins need.
SharedObject open_shared_object(const std::string& name, bool global = false);

}  // namespace cairn
