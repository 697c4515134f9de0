//! Tokenizer, chat template and grammars of a checkpoint behind the C ABI of `sheaf_text.h`.
//!
//! `abi` and `grammar_abi` are the only modules with unsafe code; the others are plain Rust on
//! plain values.

mod abi;
mod chat_template;
mod grammar;
mod grammar_abi;
mod messages;
mod python_json;
mod regex_form;
mod tokenizer;
