#pragma once
// StartGenerate: one Generate call of sheaf.v1.Inference, from its bytes to its status.
//
// Deadline   the server ends the call a little before it is over (grpc_deadline.h).
// Slow       a client that does not read meets the bound of GenerationCall, and a message that it
//            does not take in time (10 s, and one more for each 16 KiB) ends the call.
// Gone       a cancelled call frees what it holds at once, whatever it waits for.
// Threads    Called on gRPC's threads. Decoding, the chat template, tokenizing and compiling a
//            grammar run on the PreparationPool; guided requests in their lane.

#include "grpcpp/grpcpp.h"
#include "network/connection_resets.h"
#include "router/api/generation/api_context.h"

namespace sheaf {

// `context` outlives the call; `request` need not outlive this function.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerate(const ApiContext& context,
                                                          ConnectionResets* resets,
                                                          grpc::CallbackServerContext* server,
                                                          const grpc::ByteBuffer& request);

}  // namespace sheaf
