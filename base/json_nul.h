#pragma once
// nlohmann's parser takes a NUL byte for the end of its text: what stands behind one would go
// unread, and another reader of the same text (a gateway, a template) would see more than we did.
// No JSON text has a NUL byte (RFC 8259, section 7: inside strings it is written \u0000), so texts
// from outside are asked first.
//
// Threads: pure. Cost: one memchr.

#include <string_view>

namespace sheaf {

inline bool HasNul(std::string_view json) { return json.find('\0') != std::string_view::npos; }

}  // namespace sheaf
