//! The C ABI of `sheaf_text.h`: pointers become Rust values, results and panics become codes.

use std::ffi::{c_char, c_void};
use std::slice;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::added_tokens::SideFiles;
use crate::caught::catch;
use crate::chat_template::{ChatTemplate, Prompt};
use crate::exact_json;
use crate::messages;
use crate::tokenizer::{EncodeBounds, Tokenizer};

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
pub struct Range {
    begin: usize,
    end: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bounds {
    max_tokens: usize,
    piece_bytes: usize,
    stop: Option<unsafe extern "C" fn(*const c_void) -> bool>,
    context: *const c_void,
}

impl Bounds {
    unsafe fn with<T>(self, f: impl FnOnce(&EncodeBounds) -> T) -> T {
        let stop = || self.stop.is_some_and(|stop| unsafe { stop(self.context) });
        f(&EncodeBounds {
            max_tokens: self.max_tokens,
            piece_bytes: self.piece_bytes,
            stop: &stop,
        })
    }
}

#[repr(C)]
pub struct Ranges {
    data: *mut Range,
    size: usize,
}

#[repr(C)]
pub struct TokenizerFiles {
    tokenizer: Text,
    config: Text,
    special_tokens_map: Text,
    added_tokens: Text,
}

#[repr(C)]
pub struct ChatRender {
    messages: Text,
    tools: Text,
    kwargs: Text,
    add_generation_prompt: bool,
    local_seconds: i64,
}

impl ChatRender {
    unsafe fn prompt(&self) -> Result<Prompt, String> {
        let none = || Json::Object(Default::default());
        Ok(Prompt {
            messages: self.messages.json("messages", Json::Null)?,
            tools: self.tools.json("tools", Json::Null)?,
            kwargs: self.kwargs.json("the template's arguments", none())?,
            add_generation_prompt: self.add_generation_prompt,
            local_seconds: self.local_seconds,
        })
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
        exact_json::parse(self.bytes()).map_err(|e| format!("{what}: not valid JSON: {e}"))
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

/// Runs `f`, stores its value or its error, and lets no panic through.
pub(crate) unsafe fn guard<T, R>(
    out: *mut R,
    error: *mut Buffer,
    convert: fn(T) -> R,
    f: impl FnOnce() -> Result<T, String>,
) -> Code {
    match catch(f) {
        Ok(Ok(value)) => {
            out.write(convert(value));
            Code::Ok
        }
        Ok(Err(message)) => {
            error.write(buffer(message.into_bytes()));
            Code::InvalidArgument
        }
        Err(panic) => {
            error.write(buffer(panic.into_bytes()));
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
    files: TokenizerFiles,
    out: *mut *const Tokenizer,
    error: *mut Buffer,
) -> Code {
    guard(
        out,
        error,
        |t| Arc::into_raw(Arc::new(t)),
        || {
            let side_files = SideFiles {
                config: files.config.bytes(),
                special_tokens_map: files.special_tokens_map.bytes(),
                added_tokens: files.added_tokens.bytes(),
            };
            Tokenizer::new(files.tokenizer.bytes(), &side_files)
        },
    )
}

/// One a line.
#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_remarks(tokenizer: *const Tokenizer) -> Buffer {
    text_out((*tokenizer).remarks().join("\n"))
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
    bounds: Bounds,
    out: *mut Ids,
    error: *mut Buffer,
) -> Code {
    guard(out, error, Ids::of, || {
        let text = text.utf8("the text")?;
        bounds.with(|bounds| (*tokenizer).encode(text, add_special_tokens, bounds))
    })
}

/// 0: not bounded.
#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_max_token_bytes(tokenizer: *const Tokenizer) -> usize {
    (*tokenizer).max_token_bytes().unwrap_or(0)
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_tokenizer_encode_with_plain(
    tokenizer: *const Tokenizer,
    text: Text,
    plain: *const Range,
    num_plain: usize,
    add_special_tokens: bool,
    bounds: Bounds,
    out: *mut Ids,
    error: *mut Buffer,
) -> Code {
    guard(out, error, Ids::of, || {
        let plain: Vec<_> = view(plain, num_plain)
            .iter()
            .map(|r| r.begin..r.end)
            .collect();
        let text = text.utf8("the text")?;
        bounds.with(|bounds| {
            (*tokenizer).encode_with_plain(text, &plain, add_special_tokens, bounds)
        })
    })
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_text_free_ranges(ranges: Ranges) {
    reclaim(ranges.data, ranges.size);
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
        Ok((*tokenizer).decode(view(ids, num_ids), skip_special_tokens))
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
    let found = catch(|| {
        let text = text.utf8("the token").ok()?;
        (*tokenizer).token_id(text)
    });
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
    render: ChatRender,
    out: *mut Buffer,
    error: *mut Buffer,
) -> Code {
    guard(out, error, text_out, || {
        (*chat_template).render(render.prompt()?)
    })
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_chat_template_render_marked(
    chat_template: *const ChatTemplate,
    render: ChatRender,
    tokenizer: *const Tokenizer,
    plain: *mut Ranges,
    out: *mut Buffer,
    error: *mut Buffer,
) -> Code {
    guard(out, error, text_out, || {
        let (text, ranges) =
            (*chat_template).render_marked(render.prompt()?, (*tokenizer).added_texts())?;
        let ranges = ranges.into_iter().map(|r| Range {
            begin: r.start,
            end: r.end,
        });
        let (data, size) = release(ranges.collect());
        plain.write(Ranges { data, size });
        Ok(text)
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
        Ok(exact_json::to_string(&messages))
    })
}
