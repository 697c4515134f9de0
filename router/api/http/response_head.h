#pragma once
// The bytes before the body of an answer.
//
// Threads    ResponseHead is pure; HttpDate may be asked from any thread.

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "router/api/http/http_message.h"

namespace sheaf {

// How one answer is framed.
struct HttpFraming {
  bool keep_alive = false;
  bool chunks = false;  // the body comes in chunks or, for old clients, ends with the connection;
                        // only for bodies of unknown length
  bool has_length = true;
  bool head_only = false;  // the request was HEAD
  std::string request_id;  // never empty
  HttpFields fields;       // beside the answer's own
};

// The Date field's text, made once a second.
class HttpDate {
 public:
  std::string At(int64_t unix_seconds);

 private:
  absl::Mutex mutex_;
  int64_t second_ ABSL_GUARDED_BY(mutex_) = -1;  // of text_
  std::string text_ ABSL_GUARDED_BY(mutex_);
};

std::string ResponseHead(const HttpResponse& response, const HttpFraming& framing,
                         const std::string& date);

}  // namespace sheaf
