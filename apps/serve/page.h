#pragma once
#include <string>
#include <string_view>

namespace cairn::app {

/// The page on which a person drops a photo. `nonce` is what its own style and script carry, and nothing
/// else.
std::string serve_page(std::string_view nonce);
/// The policy that goes with it.
std::string serve_page_policy(std::string_view nonce);

}  // namespace cairn::app
