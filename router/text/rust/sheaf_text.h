#pragma once
// The C ABI of the static library sheaf_text: tokenizer, chat template and grammars of a
// checkpoint, written in Rust (src/abi.rs and src/grammar_abi.rs are the other side; they change
// together).
//
// Strings    SheafText is a borrowed view, not NUL-terminated. Input text that must be UTF-8 and is
//            not gives SHEAF_TEXT_INVALID_ARGUMENT.
// Ownership  A SheafBuffer, SheafIds or SheafRanges that a call filled belongs to the caller: give
//            it back with its free function exactly once (freeing a zeroed one is allowed). On
//            SHEAF_TEXT_OK `error` is left alone, otherwise `out` is, and `error` holds the
//            message. Views of sheaf_tokenizer_token live as long as the tokenizer.
// Threads    Every call on a const object may run in any number of threads at once.
// Errors     A panic inside comes out as SHEAF_TEXT_INTERNAL; nothing unwinds through this
//            interface.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct SheafTokenizer SheafTokenizer;
typedef struct SheafChatTemplate SheafChatTemplate;
typedef struct SheafGrammarFactory SheafGrammarFactory;
typedef struct SheafGrammar SheafGrammar;

typedef enum SheafTextCode {
  SHEAF_TEXT_OK = 0,
  SHEAF_TEXT_INVALID_ARGUMENT = 1,    // the caller's data is at fault; the message says where
  SHEAF_TEXT_INTERNAL = 2,            // a defect in this library
  SHEAF_TEXT_RESOURCE_EXHAUSTED = 3,  // a limit of a grammar's run was reached
} SheafTextCode;

typedef struct SheafText {
  const char* data;
  size_t size;
} SheafText;

typedef struct SheafBuffer {
  char* data;
  size_t size;
} SheafBuffer;

typedef struct SheafIds {
  uint32_t* data;
  size_t size;
} SheafIds;

typedef struct SheafRange {
  size_t begin;
  size_t end;
} SheafRange;

typedef struct SheafRanges {
  SheafRange* data;
  size_t size;
} SheafRanges;

// A text is encoded in pieces, where it can be cut without other tokens (src/pieces.rs), and may be
// given up between two.
typedef struct SheafEncodeBounds {
  size_t max_tokens;                  // beyond, the rest of the text does not matter
  size_t piece_bytes;                 // about
  bool (*stop)(const void* context);  // null: never
  const void* context;
} SheafEncodeBounds;

// Contents of a checkpoint's files; all but the first may be missing (empty).
typedef struct SheafTokenizerFiles {
  SheafText tokenizer;           // tokenizer.json
  SheafText config;              // tokenizer_config.json
  SheafText special_tokens_map;  // special_tokens_map.json
  SheafText added_tokens;        // added_tokens.json
} SheafTokenizerFiles;

// `messages` is a JSON array, `tools` a JSON array or null, `kwargs` a JSON object of further
// variables (empty text = none for both).
typedef struct SheafChatRender {
  SheafText messages;
  SheafText tools;
  SheafText kwargs;
  bool add_generation_prompt;
  int64_t local_seconds;  // what strftime_now formats: the local clock's seconds since 1970
} SheafChatRender;

typedef struct SheafToken {
  SheafText text;   // as written in the vocabulary ("\xC4\xA0hello" for " hello")
  SheafText bytes;  // what it stands for in the output; any bytes, often not UTF-8 alone
  bool exists;      // false: a hole in the numbering, text and bytes are empty
  bool added;       // listed in added_tokens: matched in text before the model sees it
  bool special;     // added and left out of text when special tokens are skipped
} SheafToken;

void sheaf_text_free_buffer(SheafBuffer buffer);
void sheaf_text_free_ids(SheafIds ids);
void sheaf_text_free_ranges(SheafRanges ranges);

// Truncation and padding settings in tokenizer.json are dropped: a prompt is never cut silently.
// So is BPE dropout. A decoder other than ByteLevel is refused. Added tokens of the other files are
// merged; src/added_tokens.rs has the rules.
SheafTextCode sheaf_tokenizer_new(SheafTokenizerFiles files, SheafTokenizer** out,
                                  SheafBuffer* error);
void sheaf_tokenizer_free(SheafTokenizer* tokenizer);
// What an operator should know of the files, one a line.
SheafBuffer sheaf_tokenizer_remarks(const SheafTokenizer* tokenizer);
// `add_special_tokens` applies the tokenizer's own post-processor (a prefix such as [gMASK]<sop>).
// Where `bounds` are reached the ids are a beginning: more than max_tokens, or `stop` was true.
SheafTextCode sheaf_tokenizer_encode(const SheafTokenizer* tokenizer, SheafText text,
                                     bool add_special_tokens, SheafEncodeBounds bounds,
                                     SheafIds* out, SheafBuffer* error);
// The same, with parts of the text in which no added token is seen: byte ranges in order, at ends
// of characters. No added token is seen across an end of one either.
SheafTextCode sheaf_tokenizer_encode_with_plain(const SheafTokenizer* tokenizer, SheafText text,
                                                const SheafRange* plain, size_t num_plain,
                                                bool add_special_tokens, SheafEncodeBounds bounds,
                                                SheafIds* out, SheafBuffer* error);
// Ids without a token give nothing; bytes that are not UTF-8 become U+FFFD.
SheafTextCode sheaf_tokenizer_decode(const SheafTokenizer* tokenizer, const uint32_t* ids,
                                     size_t num_ids, bool skip_special_tokens, SheafBuffer* out,
                                     SheafBuffer* error);
// The most bytes of a text that one token can stand for; 0: not bounded.
size_t sheaf_tokenizer_max_token_bytes(const SheafTokenizer* tokenizer);
// Largest id + 1.
size_t sheaf_tokenizer_vocab_size(const SheafTokenizer* tokenizer);
// For any id; one without a token has exists = false.
SheafToken sheaf_tokenizer_token(const SheafTokenizer* tokenizer, uint32_t id);
// -1 when `text` (as written in the vocabulary) is no token.
int64_t sheaf_tokenizer_token_id(const SheafTokenizer* tokenizer, SheafText text);

// `name` appears in messages as "name:line". `globals` is a JSON object of variables that every
// render sees.
SheafTextCode sheaf_chat_template_new(SheafText name, SheafText source, SheafText globals,
                                      SheafChatTemplate** out, SheafBuffer* error);
void sheaf_chat_template_free(SheafChatTemplate* chat_template);
// Renders exactly what is given, as Jinja2 would.
SheafTextCode sheaf_chat_template_render(const SheafChatTemplate* chat_template,
                                         SheafChatRender render, SheafBuffer* out,
                                         SheafBuffer* error);
// The same, and where in the text stand added tokens that came with the messages, tools or
// variables; src/user_spans.rs has the rules. `plain` is filled on SHEAF_TEXT_OK.
SheafTextCode sheaf_chat_template_render_marked(const SheafChatTemplate* chat_template,
                                                SheafChatRender render,
                                                const SheafTokenizer* tokenizer, SheafRanges* plain,
                                                SheafBuffer* out, SheafBuffer* error);
// Checks OpenAI-style messages (a JSON array) and brings them into the one form that templates read
// rightly; src/messages.rs has the rules.
SheafTextCode sheaf_chat_messages_normalize(SheafText messages, SheafBuffer* out,
                                            SheafBuffer* error);

// Grammars over the ids 0 .. `vocab_size` - 1 of the tokenizer, which may be freed before the
// factory.
SheafTextCode sheaf_grammar_factory_new(const SheafTokenizer* tokenizer, size_t vocab_size,
                                        const SheafGrammarFactory** out, SheafBuffer* error);
void sheaf_grammar_factory_free(const SheafGrammarFactory* factory);
// `lark`: llguidance's dialect; `may_be_ambiguous` where a client wrote it: its steps are bounded
// more tightly. A SheafGrammar is a place in a grammar, this one its beginning; it may outlive the
// factory.
SheafTextCode sheaf_grammar_compile(const SheafGrammarFactory* factory, SheafText lark,
                                    bool may_be_ambiguous, SheafGrammar** out, SheafBuffer* error);
// A second one at the same place, with nothing shared that changes.
SheafTextCode sheaf_grammar_clone(const SheafGrammar* grammar, SheafGrammar** out,
                                  SheafBuffer* error);
void sheaf_grammar_free(SheafGrammar* grammar);
// Writes ceil(vocab_size / 32) words, a bit for each token that may come next. INVALID_ARGUMENT: no
// token may, and the text is not complete.
SheafTextCode sheaf_grammar_mask(SheafGrammar* grammar, uint32_t* words, size_t num_words,
                                 SheafBuffer* error);
// INVALID_ARGUMENT: the token is not allowed; nothing has changed.
SheafTextCode sheaf_grammar_accept(SheafGrammar* grammar, uint32_t token, SheafBuffer* error);
// The text is complete. / Nothing can follow.
bool sheaf_grammar_accepting(const SheafGrammar* grammar);
bool sheaf_grammar_finished(const SheafGrammar* grammar);
// The tokens that the grammar forces next.
SheafTextCode sheaf_grammar_forced(SheafGrammar* grammar, SheafIds* out, SheafBuffer* error);

// `pattern` as an expression that matches whole texts. `search`: the pattern may match anywhere and
// its classes are JavaScript's, as in a JSON Schema; otherwise it is for whole texts already.
// `matches_empty`: the empty text is one of them. Errors say where in the pattern.
SheafTextCode sheaf_regex_whole_match(SheafText pattern, bool search, SheafBuffer* out,
                                      bool* matches_empty, SheafBuffer* error);

#ifdef __cplusplus
}  // extern "C"
#endif
