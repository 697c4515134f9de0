#pragma once
// OtlpHttpSender: POSTs batches to a collector by HTTP/1.1 in plaintext, each on a connection of
// its own: there are few, and a collector behind a service's name may have moved.
//
// Answers  2xx taken; 429, 502, 503, 504 and everything that is no answer: later (Retry-After in
//          seconds is read); other statuses, redirects too: refused. At most 64 KiB of an answer.
// Lookups  of a name cannot be broken off: with a dead DNS a Send takes as long as the resolver
//          tries.
// Threads  as SpanSender. Cost: a lookup, a connection and a trip a batch.

#include <memory>
#include <string>

#include "tracing/otlp_endpoint.h"
#include "tracing/span_sender.h"

namespace sheaf {

// `user_agent`: of the requests.
std::unique_ptr<SpanSender> MakeOtlpHttpSender(OtlpEndpoint endpoint, std::string user_agent);

}  // namespace sheaf
