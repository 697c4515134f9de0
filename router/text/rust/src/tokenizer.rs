//! A byte-level tokenizer with every token's bytes laid out once, so that streaming needs no
//! lookups by text.

use std::ops::Range;

use serde::Deserialize;
use tokenizers::DecoderWrapper;

/// The regular expression engine gives up after a million steps within one match and the crate then
/// takes the rest of the text as one piece, silently with other ids. Only a run of blanks gets
/// there.
const MAX_BLANK_RUN: usize = 100_000;

/// Above any vocabulary in use; keeps a corrupt file from asking for gigabytes of table.
const MAX_VOCAB: usize = 1 << 24;

#[derive(Clone, Default)]
struct Entry {
    text: Range<usize>,
    bytes: Range<usize>,
    exists: bool,
    added: bool,
    special: bool,
}

/// What the vocabulary says of one id; empty for a hole in the numbering.
pub struct TokenInfo<'a> {
    pub text: &'a [u8],
    pub bytes: &'a [u8],
    pub exists: bool,
    pub added: bool,
    pub special: bool,
}

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    entries: Vec<Entry>,
    arena: Vec<u8>,
    /// Of more than one character: only these can be spelled out.
    added_texts: Vec<String>,
}

impl Tokenizer {
    pub fn from_json(json: &[u8]) -> Result<Tokenizer, String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
        // Exported tokenizers may carry the settings of a training script; they would cut prompts
        // silently.
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        inner.with_padding(None);
        match inner.get_decoder() {
            Some(decoder) if is_byte_level(decoder) => {}
            Some(_) => return Err("its decoder is not ByteLevel, the only one supported".into()),
            None => return Err("it has no decoder; ByteLevel is the only one supported".into()),
        }

        check_added_ids(json, &inner)?;
        let vocab_size = inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |id| *id as usize + 1);
        if vocab_size > MAX_VOCAB {
            return Err(format!(
                "token id {} is beyond the limit of {MAX_VOCAB} ids",
                vocab_size - 1
            ));
        }
        let added = inner.get_added_tokens_decoder();
        let added_texts = added
            .values()
            .map(|token| token.content.clone())
            .filter(|text| text.chars().nth(1).is_some())
            .collect();
        let mut arena = Vec::new();
        let mut entries = vec![Entry::default(); vocab_size];
        for (id, entry) in entries.iter_mut().enumerate() {
            let Some(text) = inner.id_to_token(id as u32) else {
                continue;
            };
            entry.exists = true;
            entry.text = append(&mut arena, text.as_bytes());
            entry.bytes = match token_bytes(&text) {
                Some(bytes) => append(&mut arena, &bytes),
                None => entry.text.clone(),
            };
            if let Some(token) = added.get(&(id as u32)) {
                entry.added = true;
                entry.special = token.special;
            }
        }
        Ok(Tokenizer {
            inner,
            entries,
            arena,
            added_texts,
        })
    }

    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, String> {
        check_blank_runs(text)?;
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, String> {
        self.inner
            .decode(ids, skip_special_tokens)
            .map_err(|e| e.to_string())
    }

    pub fn vocab_size(&self) -> usize {
        self.entries.len()
    }

    pub fn token(&self, id: u32) -> TokenInfo<'_> {
        let none = Entry::default();
        let entry = self.entries.get(id as usize).unwrap_or(&none);
        TokenInfo {
            text: &self.arena[entry.text.clone()],
            bytes: &self.arena[entry.bytes.clone()],
            exists: entry.exists,
            added: entry.added,
            special: entry.special,
        }
    }

    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// `text` as the model itself would write it: an added token's text ("<think>") within it is
    /// spelled out, it does not become that token.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, String> {
        let mut ids = Vec::new();
        let mut rest = text;
        while let Some(cut) = self.first_added_token(rest) {
            ids.extend(self.encode(&rest[..cut], false)?);
            rest = &rest[cut..];
        }
        ids.extend(self.encode(rest, false)?);
        Ok(ids)
    }

    /// The place behind the first character of the first added token in `text`: cut there, neither
    /// half holds that token.
    fn first_added_token(&self, text: &str) -> Option<usize> {
        self.added_texts
            .iter()
            .filter_map(|added| text.find(added.as_str()))
            .min()
            .map(|at| at + text[at..].chars().next().map_or(0, char::len_utf8))
    }
}

/// The crate numbers added tokens itself, in order, after the model's vocabulary, and ignores the
/// ids in the file. Where the two disagree every id from there on would be wrong.
fn check_added_ids(json: &[u8], tokenizer: &tokenizers::Tokenizer) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Added {
        id: u32,
        content: String,
    }
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        added_tokens: Vec<Added>,
    }
    let file: File = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    for token in file.added_tokens {
        if tokenizer.token_to_id(&token.content) != Some(token.id) {
            return Err(format!(
                "added token {:?} has id {}, but its place in the vocabulary is {}",
                token.content,
                token.id,
                tokenizer
                    .token_to_id(&token.content)
                    .map_or("nowhere".into(), |id| id.to_string())
            ));
        }
    }
    Ok(())
}

fn check_blank_runs(text: &str) -> Result<(), String> {
    let mut run = 0;
    for (at, c) in text.char_indices() {
        run = if c.is_whitespace() { run + 1 } else { 0 };
        if run > MAX_BLANK_RUN {
            return Err(format!(
                "more than {MAX_BLANK_RUN} blank characters in a row, up to byte {at}"
            ));
        }
    }
    Ok(())
}

fn append(arena: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let begin = arena.len();
    arena.extend_from_slice(bytes);
    begin..arena.len()
}

fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => matches!(
            sequence.get_decoders(),
            [DecoderWrapper::ByteLevel(_)]
                | [DecoderWrapper::ByteLevel(_), DecoderWrapper::Fuse(_)]
        ),
        _ => false,
    }
}

/// The bytes of a token, None when its text stands for itself: the ByteLevel decoder's own rule, by
/// which a text with any character outside the byte alphabet is taken literally.
fn token_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(alphabet_byte).collect()
}

/// The byte that a character of the GPT-2 byte alphabet stands for. Printable bytes stand for
/// themselves; the other 68, in order, are U+0100 and up.
fn alphabet_byte(c: char) -> Option<u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(c) {
        code @ 0..=0xFF => Some(code as u8).filter(|b| printable(*b)),
        code @ 0x100..=0x143 => (0..=255u8)
            .filter(|b| !printable(*b))
            .nth(code as usize - 0x100),
        _ => None,
    }
}
