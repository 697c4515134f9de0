//! Tokenizer, chat template and grammars of a checkpoint behind the C ABI of `sheaf_text.h`.
//!
//! `abi` and `grammar_abi` are the only modules with unsafe code; the others are plain Rust on
//! plain values.

mod abi;
mod added_tokens;
mod caught;
mod chat_template;
mod exact_json;
mod grammar;
mod grammar_abi;
mod local_time;
mod messages;
mod pieces;
mod python_filters;
mod python_format;
mod python_json;
mod python_methods;
mod python_text;
mod regex_form;
mod template_source;
mod tokenizer;
mod user_spans;
