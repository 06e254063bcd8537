#pragma once
#include <string>
#include <string_view>

namespace cairn::data {

/// Replaces a file's content so that a reader, or a crash, sees the old one or the new one, never half of it:
/// written under another name in the same folder, synced, renamed, folder synced. Throws cairn::Error naming
/// the file and the reason (no room, no permission, no folder); then the old content is untouched and nothing
/// is left.
void write_file_atomically(const std::string& path, std::string_view content);

}  // namespace cairn::data
