#include "router/api/grpc/grpc_delta_writer.h"

namespace sheaf {
namespace {

constexpr size_t kTokenBytes = 5;  // an id as varint
constexpr size_t kCallBytes = 16;  // a piece of a call without its texts

void Fill(const TokenLogprob& from, const TextCodec& codec, v1::TokenLogprob* to) {
  to->set_token_id(static_cast<uint32_t>(from.token));
  to->set_logprob(from.logprob);
  to->set_rank(static_cast<uint32_t>(from.rank));
  to->set_token_bytes(codec.TokenBytes(from.token));
}

v1::TokenLogprobs MessageOf(const TokenLogprobs& from, const TextCodec& codec) {
  v1::TokenLogprobs to;
  Fill(from.chosen, codec, to.mutable_chosen());
  for (const TokenLogprob& entry : from.top) Fill(entry, codec, to.add_top());
  return to;
}

}  // namespace

v1::TokenDelta& DeltaWriter::DeltaFor(Kind kind, size_t bytes) {
  const bool other_kind = kind != Kind::kNone && kind_ != Kind::kNone && kind != kind_;
  const bool full = bytes_ > 0 && bytes_ + bytes > kMaxDeltaBytes;
  if (!open_ || other_kind || full) {
    messages_.emplace_back();
    open_ = true;
    kind_ = Kind::kNone;
    bytes_ = 0;
  }
  if (kind != Kind::kNone) kind_ = kind;
  bytes_ += bytes;
  return *messages_.back().mutable_delta();
}

void DeltaWriter::AddPromptLogprobs(const PromptLogprobs& logprobs) {
  for (const auto& entry : logprobs) {
    v1::TokenLogprobs message;
    if (entry) message = MessageOf(*entry, codec_);
    const size_t bytes = message.ByteSizeLong() + kTokenBytes;
    *DeltaFor(Kind::kNone, bytes).add_prompt_logprobs() = std::move(message);
  }
  open_ = false;
}

void DeltaWriter::AddToken(const TokenEvent& event, Kind kind) {
  size_t bytes = kTokenBytes;
  std::optional<v1::TokenLogprobs> logprobs;
  if (event.logprobs) {
    logprobs = MessageOf(*event.logprobs, codec_);
    bytes += logprobs->ByteSizeLong();
  }
  v1::TokenDelta& delta = DeltaFor(kind, bytes);
  if (delta.token_ids().empty()) delta.set_first_index(static_cast<uint32_t>(event.index));
  delta.add_token_ids(static_cast<uint32_t>(event.token));
  if (logprobs) *delta.add_logprobs() = *std::move(logprobs);
}

void DeltaWriter::AddText(std::string_view text) {
  if (!text.empty()) DeltaFor(Kind::kText, text.size()).mutable_text()->append(text);
}

void DeltaWriter::AddReasoning(std::string_view text) {
  if (!text.empty()) DeltaFor(Kind::kReasoning, text.size()).mutable_reasoning()->append(text);
}

v1::ToolCallDelta& DeltaWriter::CallPiece(int index, size_t bytes) {
  v1::TokenDelta& delta = DeltaFor(Kind::kToolCalls, bytes + kCallBytes);
  const int pieces = delta.tool_calls_size();
  if (pieces > 0) {
    v1::ToolCallDelta& last = *delta.mutable_tool_calls(pieces - 1);
    if (last.index() == static_cast<uint32_t>(index) && !last.complete()) return last;
  }
  v1::ToolCallDelta& piece = *delta.add_tool_calls();
  piece.set_index(static_cast<uint32_t>(index));
  return piece;
}

void DeltaWriter::BeginCall(int index, const std::string& id, const std::string& name) {
  v1::ToolCallDelta& piece = CallPiece(index, id.size() + name.size());
  piece.set_id(id);
  piece.set_name(name);
}

void DeltaWriter::AddCallArguments(int index, std::string_view json) {
  CallPiece(index, json.size()).mutable_arguments_json()->append(json);
}

void DeltaWriter::EndCall(int index) { CallPiece(index, 0).set_complete(true); }

}  // namespace sheaf
