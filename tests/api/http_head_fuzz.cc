// Whatever bytes a client sends before a body: refused or understood, and what is understood can be
// answered.
#include <cstdlib>
#include <string_view>

#include "router/api/http/http_head.h"
#include "router/api/http/http_router.h"
#include "router/api/http/origin_policy.h"
#include "router/api/http/response_head.h"

namespace {

// A field that the client chose must not begin a line of its own in the answer.
void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  static const HttpRouter router({{"GET", "/health", true, nullptr},
                                  {"GET", "/v1/models/*", true, nullptr},
                                  {"POST", "/v1/chat/completions", false, nullptr}});
  static const OriginPolicy own_pages({}, true);
  static const OriginPolicy all_pages({"*", "https://ui.example.com"}, true);
  static const OriginPolicy listed_pages({"https://ui.example.com"}, false);
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);

  HeadScanner scanner;
  if (scanner.Scan(bytes) != HeadScanner::State::kComplete) return 0;
  Check(scanner.begin() < scanner.end() && scanner.end() <= size);
  HttpRequestParser parser;
  const auto parsed = ParseHead(bytes.substr(scanner.begin(), scanner.end() - scanner.begin()),
                                {32 << 10, 1 << 20}, parser);
  const auto* head = std::get_if<HttpHead>(&parsed);
  if (head == nullptr) {
    Check(std::get<HttpResponse>(parsed).status >= 400);
    return 0;
  }
  Check(parser.is_header_done());
  Check(head->path == "*" || head->path.starts_with('/'));
  HttpResponse answer;
  (void)router.Find(head->method, head->path, &answer);
  const std::string methods = router.AllowedMethods(head->path);
  for (const OriginPolicy* policy : {&own_pages, &all_pages, &listed_pages}) {
    if (auto refusal = policy->Refuse(*head))
      Check(refusal->status == 403 || refusal->status == 415);
    HttpFraming framing;
    framing.request_id = head->request_id;
    framing.fields = policy->AnswerFields(*head);
    for (auto& field : policy->PreflightFields(*head, methods)) framing.fields.push_back(field);
    const std::string text = ResponseHead(answer, framing, "");
    Check(text.find("\r\n\r\n") == text.size() - 4);
    for (const auto& [name, value] : framing.fields)
      Check(value.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos);
  }
  return 0;
}
