//! The C ABI of `sheaf_text.h`: pointers become Rust values, results and panics become codes.

use std::any::Any;
use std::ffi::c_char;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::chat_template::ChatTemplate;
use crate::messages;
use crate::tokenizer::Tokenizer;

#[repr(C)]
pub enum Code {
    Ok = 0,
    InvalidArgument = 1,
    Internal = 2,
    ResourceExhausted = 3,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    data: *const c_char,
    size: usize,
}

#[repr(C)]
pub struct Buffer {
    data: *mut c_char,
    size: usize,
}

#[repr(C)]
pub struct Ids {
    data: *mut u32,
    size: usize,
}

impl Ids {
    pub(crate) fn of(ids: Vec<u32>) -> Ids {
        let (data, size) = release(ids);
        Ids { data, size }
    }
}

#[repr(C)]
pub struct Token {
    text: Text,
    bytes: Text,
    exists: bool,
    added: bool,
    special: bool,
}

impl Text {
    fn of(bytes: &[u8]) -> Text {
        Text {
            data: bytes.as_ptr().cast(),
            size: bytes.len(),
        }
    }

    /// The caller keeps the bytes alive and unchanged for `'a`.
    pub(crate) unsafe fn bytes<'a>(self) -> &'a [u8] {
        view(self.data.cast(), self.size)
    }

    pub(crate) unsafe fn utf8<'a>(self, what: &str) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes())
            .map_err(|e| format!("{what} is not UTF-8 at byte {}", e.valid_up_to()))
    }

    /// Empty text is `default`.
    unsafe fn json(self, what: &str, default: Json) -> Result<Json, String> {
        if self.size == 0 {
            return Ok(default);
        }
        serde_json::from_slice(self.bytes()).map_err(|e| format!("{what}: not valid JSON: {e}"))
    }
}

/// C's (pointer, 0) may have a null pointer, Rust's slices may not.
pub(crate) unsafe fn view<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        &[]
    } else {
        slice::from_raw_parts(data, size)
    }
}

/// Gives up ownership of `items` as (pointer, length), to be taken back by `reclaim`.
fn release<T>(items: Vec<T>) -> (*mut T, usize) {
    let items = Box::leak(items.into_boxed_slice());
    (items.as_mut_ptr(), items.len())
}

unsafe fn reclaim<T>(data: *mut T, size: usize) {
    if size > 0 {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(
            data, size,
        )));
    }
}

pub(crate) fn buffer(bytes: Vec<u8>) -> Buffer {
    let (data, size) = release(bytes);
    Buffer {
        data: data.cast(),
        size,
    }
}

pub(crate) fn panic_text(payload: Box<dyn Any + Send>) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_string();
    }
    payload
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| "panic".into())
}

/// Runs `f`, stores its value or its error, and lets no panic through.
pub(crate) unsafe fn guard<T, R>(
    out: *mut R,
    error: *mut Buffer,
    convert: fn(T) -> R,
    f: impl FnOnce() -> Result<T, String>,
) -> Code {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => {
            out.write(convert(value));
            Code::Ok
        }
        Ok(Err(message)) => {
            error.write(buffer(message.into_bytes()));
            Code::InvalidArgument
        }
        Err(payload) => {
            error.write(buffer(panic_text(payload).into_bytes()));
            Code::Internal
        }
    }
}

pub(crate) fn text_out(text: String) -> Buffer {
    buffer(text.into_bytes())
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_text_free_buffer(buffer: Buffer) {
    reclaim(buffer.data.cast::<u8>(), buffer.size);
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_text_free_ids(ids: Ids) {
    reclaim(ids.data, ids.size);
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_new(
    json: Text,
    out: *mut *const Tokenizer,
    error: *mut Buffer,
) -> Code {
    guard(
        out,
        error,
        |t| Arc::into_raw(Arc::new(t)),
        || Tokenizer::from_json(json.bytes()),
    )
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_free(tokenizer: *const Tokenizer) {
    if !tokenizer.is_null() {
        drop(Arc::from_raw(tokenizer));
    }
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: Text,
    add_special_tokens: bool,
    out: *mut Ids,
    error: *mut Buffer,
) -> Code {
    guard(out, error, Ids::of, || {
        (*tokenizer).encode(text.utf8("the text")?, add_special_tokens)
    })
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const u32,
    num_ids: usize,
    skip_special_tokens: bool,
    out: *mut Buffer,
    error: *mut Buffer,
) -> Code {
    guard(out, error, text_out, || {
        (*tokenizer).decode(view(ids, num_ids), skip_special_tokens)
    })
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_vocab_size(tokenizer: *const Tokenizer) -> usize {
    (*tokenizer).vocab_size()
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_token(tokenizer: *const Tokenizer, id: u32) -> Token {
    let info = (*tokenizer).token(id);
    Token {
        text: Text::of(info.text),
        bytes: Text::of(info.bytes),
        exists: info.exists,
        added: info.added,
        special: info.special,
    }
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_token_id(tokenizer: *const Tokenizer, text: Text) -> i64 {
    let found = catch_unwind(AssertUnwindSafe(|| {
        let text = text.utf8("the token").ok()?;
        (*tokenizer).token_id(text)
    }));
    found.ok().flatten().map_or(-1, i64::from)
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_chat_template_new(
    name: Text,
    source: Text,
    globals: Text,
    out: *mut *mut ChatTemplate,
    error: *mut Buffer,
) -> Code {
    guard(
        out,
        error,
        |t| Box::into_raw(Box::new(t)),
        || {
            let globals = globals.json("the globals", Json::Object(Default::default()))?;
            ChatTemplate::new(
                name.utf8("the name")?,
                source.utf8("the template")?,
                globals,
            )
        },
    )
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_chat_template_free(chat_template: *mut ChatTemplate) {
    if !chat_template.is_null() {
        drop(Box::from_raw(chat_template));
    }
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_chat_template_render(
    chat_template: *const ChatTemplate,
    messages: Text,
    tools: Text,
    kwargs: Text,
    add_generation_prompt: bool,
    out: *mut Buffer,
    error: *mut Buffer,
) -> Code {
    guard(out, error, text_out, || {
        (*chat_template).render(
            messages.json("messages", Json::Null)?,
            tools.json("tools", Json::Null)?,
            kwargs.json("the template's arguments", Json::Object(Default::default()))?,
            add_generation_prompt,
        )
    })
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_chat_messages_normalize(
    messages: Text,
    out: *mut Buffer,
    error: *mut Buffer,
) -> Code {
    guard(out, error, text_out, || {
        let messages = messages::normalize(messages.json("messages", Json::Null)?)?;
        serde_json::to_string(&messages).map_err(|e| e.to_string())
    })
}
