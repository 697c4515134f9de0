//! Tokenizer and chat template of a checkpoint behind the C ABI of `sheaf_text.h`.
//!
//! `abi` is the only module with unsafe code; the others are plain Rust on plain values.

mod abi;
mod chat_template;
mod messages;
mod python_json;
mod tokenizer;
