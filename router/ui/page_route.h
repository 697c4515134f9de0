#pragma once
// The page at `/`: one HTML file with its style and script, from the program's own bytes
// (page.html) or, while somebody works on it, from a file that is read anew for every request.
//
// The answer's Content-Security-Policy lets the browser run exactly the inline script and style
// that the page has (by their SHA-256) and reach this server alone: a text that a model or a
// worker's name smuggles into the page runs nothing and loads nothing.
//
// Threads    any. Cost: instant for the embedded page, whose answer is made once; the file is read
//            on a thread of the preparation.
// Errors     a file that cannot be read is a 500 that names it.

#include <string>
#include <string_view>

#include "router/api/http/http_router.h"

namespace sheaf {

// The bytes of page.html as they were when the program was built.
std::string_view EmbeddedPage();

// 200 with a page's bytes and the fields that guard it.
HttpResponse PageResponse(std::string page);

// GET /. `file`: path to serve instead of the embedded page; empty: that one.
HttpRoute PageRoute(const std::string& file);

}  // namespace sheaf
