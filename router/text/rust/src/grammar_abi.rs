//! The grammar part of the C ABI of `sheaf_text.h`.

use std::slice;
use std::sync::Arc;

use crate::abi::{buffer, guard, text_out, Buffer, Code, Ids, Text};
use crate::caught::catch;
use crate::grammar::{Grammar, GrammarError, GrammarFactory};
use crate::regex_form::{whole_match, Match};
use crate::tokenizer::Tokenizer;

/// As `guard`, with the kinds of failure told apart.
unsafe fn guard_grammar<T, R>(
    out: *mut R,
    error: *mut Buffer,
    convert: fn(T) -> R,
    f: impl FnOnce() -> Result<T, GrammarError>,
) -> Code {
    let (code, message) = match catch(f) {
        Ok(Ok(value)) => {
            out.write(convert(value));
            return Code::Ok;
        }
        Ok(Err(GrammarError::Invalid(message))) => (Code::InvalidArgument, message),
        Ok(Err(GrammarError::Exhausted(message))) => (Code::ResourceExhausted, message),
        Ok(Err(GrammarError::Defect(message))) => (Code::Internal, message),
        Err(panic) => (Code::Internal, panic),
    };
    error.write(buffer(message.into_bytes()));
    code
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_factory_new(
    tokenizer: *const Tokenizer,
    vocab_size: usize,
    out: *mut *const GrammarFactory,
    error: *mut Buffer,
) -> Code {
    guard(
        out,
        error,
        |f| Arc::into_raw(Arc::new(f)),
        || {
            Arc::increment_strong_count(tokenizer);
            GrammarFactory::new(Arc::from_raw(tokenizer), vocab_size)
        },
    )
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_factory_free(factory: *const GrammarFactory) {
    if !factory.is_null() {
        drop(Arc::from_raw(factory));
    }
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_compile(
    factory: *const GrammarFactory,
    lark: Text,
    may_be_ambiguous: bool,
    out: *mut *mut Grammar,
    error: *mut Buffer,
) -> Code {
    guard_grammar(
        out,
        error,
        |g| Box::into_raw(Box::new(g)),
        || {
            let lark = lark.utf8("the grammar").map_err(GrammarError::Invalid)?;
            Arc::increment_strong_count(factory);
            Arc::from_raw(factory).compile(lark.to_string(), may_be_ambiguous)
        },
    )
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_clone(
    grammar: *const Grammar,
    out: *mut *mut Grammar,
    error: *mut Buffer,
) -> Code {
    guard(
        out,
        error,
        |g| Box::into_raw(Box::new(g)),
        || Ok((*grammar).clone()),
    )
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_free(grammar: *mut Grammar) {
    if !grammar.is_null() {
        drop(Box::from_raw(grammar));
    }
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_mask(
    grammar: *mut Grammar,
    words: *mut u32,
    num_words: usize,
    error: *mut Buffer,
) -> Code {
    let mut nothing = ();
    guard_grammar(
        &mut nothing,
        error,
        |()| (),
        || {
            let words = slice::from_raw_parts_mut(words, num_words);
            (*grammar).mask(words)
        },
    )
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_accept(
    grammar: *mut Grammar,
    token: u32,
    error: *mut Buffer,
) -> Code {
    let mut nothing = ();
    guard_grammar(&mut nothing, error, |()| (), || (*grammar).accept(token))
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_accepting(grammar: *const Grammar) -> bool {
    (*grammar).accepting()
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_finished(grammar: *const Grammar) -> bool {
    (*grammar).finished()
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_grammar_forced(
    grammar: *mut Grammar,
    out: *mut Ids,
    error: *mut Buffer,
) -> Code {
    guard_grammar(out, error, Ids::of, || (*grammar).forced())
}

#[no_mangle]
pub unsafe extern "C" fn sheaf_regex_whole_match(
    pattern: Text,
    search: bool,
    out: *mut Buffer,
    matches_empty: *mut bool,
    error: *mut Buffer,
) -> Code {
    guard(out, error, text_out, || {
        let form = if search { Match::Search } else { Match::Whole };
        let whole = whole_match(pattern.utf8("the expression")?, form)?;
        matches_empty.write(whole.matches_empty);
        Ok(whole.regex)
    })
}
