#pragma once
// OneLine: a text that names things out of files (tensor names, keys, paths) as one printable line.
//
// Control characters become \n, \t or \xNN; everything else, UTF-8 or not, stays. Pure.

#include <string>
#include <string_view>

namespace sheaf {

std::string OneLine(std::string_view text);

}  // namespace sheaf
