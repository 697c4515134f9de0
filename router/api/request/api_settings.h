#pragma once
// ApiSettings: how this server answers, as its operator chose (flags of the same names).

namespace sheaf {

struct ApiSettings {
  // The names that thoughts have in answers over HTTP; both, because clients know one or the other.
  bool reasoning_field = true;          // `reasoning`
  bool reasoning_content_field = true;  // `reasoning_content`
  // A request may bring a chat template of its own. It is a program: off for strangers.
  bool trust_request_chat_template = false;
  // Constrained JSON may have white space between its tokens unless the request says otherwise.
  bool json_any_whitespace = false;
};

}  // namespace sheaf
