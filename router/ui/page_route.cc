#include "router/ui/page_route.h"

#include <openssl/sha.h>

#include <fstream>
#include <memory>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "router/api/http/http_errors.h"

namespace sheaf {
namespace {

// What stands between the first `<name>` and `</name>`; empty: there is none.
std::string_view Element(std::string_view page, const std::string& name) {
  const std::string opening = absl::StrCat("<", name, ">"), closing = absl::StrCat("</", name, ">");
  const size_t begin = page.find(opening);
  if (begin == std::string_view::npos) return {};
  const size_t inside = begin + opening.size();
  const size_t end = page.find(closing, inside);
  return end == std::string_view::npos ? std::string_view() : page.substr(inside, end - inside);
}

// As a policy names an inline element.
std::string HashSource(std::string_view text) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  return absl::StrCat("'sha256-",
                      absl::Base64Escape(std::string(reinterpret_cast<const char*>(digest),
                                                          sizeof(digest))),
                      "'");
}

}  // namespace

HttpResponse PageResponse(std::string page) {
  const std::string policy = absl::StrCat(
      "default-src 'none'; script-src ", HashSource(Element(page, "script")), "; style-src ",
      HashSource(Element(page, "style")),
      "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
      "frame-ancestors 'none'");
  return HttpResponse{200,
                      "text/html; charset=utf-8",
                      std::move(page),
                      {{"Content-Security-Policy", policy},
                       {"X-Content-Type-Options", "nosniff"},
                       {"Referrer-Policy", "no-referrer"},
                       {"Cross-Origin-Opener-Policy", "same-origin"},
                       // Another version of the program may listen here tomorrow.
                       {"Cache-Control", "no-cache"}}};
}

HttpRoute PageRoute(const std::string& file) {
  if (file.empty()) {
    const auto page =
        std::make_shared<const HttpResponse>(PageResponse(std::string(EmbeddedPage())));
    return {"GET", "/", /*instant=*/true, [page](const HttpRequest&) { return HttpReply(*page); }};
  }
  return {"GET", "/", /*instant=*/false, [file](const HttpRequest&) {
            std::ifstream stream(file, std::ios::binary);
            std::ostringstream bytes;
            if (!stream || !(bytes << stream.rdbuf())) {
              return HttpReply(ErrorResponse(500, "--ui-file: cannot read " + file + "."));
            }
            return HttpReply(PageResponse(std::move(bytes).str()));
          }};
}

}  // namespace sheaf
