// Whatever bytes a client sends as a body: parsed or refused, and what is parsed survives
// validation.
#include <string_view>

#include "router/api/openai/openai_request.h"
#include "router/api/request/request_validation.h"
#include "tests/fakes/fake_text_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  static const ServedModel* const model = [] {
    auto* served = new ServedModel;
    served->names = {"m"};
    served->config.vocab_size = FakeTextCodec::kVocabSize;
    return served;
  }();
  static const RequestLimits limits;
  static const ApiSettings settings;
  static const FakeTextCodec codec;
  static const std::function<uint64_t()> random = [] { return uint64_t{4}; };
  const ValidationContext context{*model, limits, settings, codec, 512, random};
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto completion = ParseCompletionBody(body);
  if (const auto* parsed = std::get_if<OpenAiRequest>(&completion))
    (void)PrepareRequest(parsed->request, context);
  const auto chat = ParseChatBody(body);
  if (const auto* parsed = std::get_if<OpenAiRequest>(&chat))
    (void)CheckFields(parsed->request, context);
  (void)ParseTokenizeBody(body);
  (void)ParseDetokenizeBody(body);
  return 0;
}
