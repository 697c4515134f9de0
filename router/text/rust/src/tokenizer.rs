//! A byte-level tokenizer with every token's bytes laid out once, so that streaming needs no
//! lookups by text.

use std::ops::Range;

use serde::Deserialize;
use tokenizers::{
    DecoderWrapper, Encoding, Model, ModelWrapper, Normalizer, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, Token,
};

use crate::added_tokens::{self, SideFiles};
use crate::caught::catch;
use crate::pieces::Cutter;

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

/// When to give up a long text, looked at between its pieces.
pub struct EncodeBounds<'a> {
    /// Beyond so many tokens the rest does not matter: the result then has more, and not all.
    pub max_tokens: usize,
    pub piece_bytes: usize,
    pub stop: &'a dyn Fn() -> bool,
}

impl EncodeBounds<'_> {
    fn reached(&self, num_tokens: usize) -> bool {
        num_tokens > self.max_tokens || (self.stop)()
    }
}

/// What the post-processor writes before and after the tokens of a text.
#[derive(Default)]
struct Affix {
    prefix: Vec<u32>,
    suffix: Vec<u32>,
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
    added_texts: Vec<String>,
    remarks: Vec<String>,
    cutter: Option<Cutter>,
    affix: Option<Affix>, // None: the post-processor does more than that
    max_token_bytes: Option<usize>,
}

impl Tokenizer {
    /// `json` is the content of tokenizer.json.
    pub fn new(json: &[u8], side_files: &SideFiles) -> Result<Tokenizer, String> {
        let mut remarks = Vec::new();
        // The crate unwraps what it reads of nested parts.
        let mut inner = catch(|| tokenizers::Tokenizer::from_bytes(json))
            .map_err(|panic| format!("its reader gave up: {panic}"))?
            .map_err(|e| e.to_string())?;
        // Exported tokenizers may carry the settings of a training script; they would cut prompts
        // silently.
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        inner.with_padding(None);
        match inner.get_decoder() {
            Some(decoder) if is_byte_level(decoder) => {}
            Some(_) => return Err("its decoder is not ByteLevel, the only one supported".into()),
            None => return Err("it has no decoder; ByteLevel is the only one supported".into()),
        }

        if let Some(dropout) = without_dropout(&mut inner) {
            remarks.push(format!(
                "tokenizer.json: BPE dropout {dropout} is turned off: it makes encoding random"
            ));
        }
        check_added_ids(json, &inner)?;
        let num_merged = added_tokens::merge(&mut inner, side_files)?;
        if num_merged > 0 {
            remarks.push(format!(
                "{num_merged} added tokens stand beside tokenizer.json only and were merged into it"
            ));
        }
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
            .filter(|text| text.chars().nth(1).is_some() && !text.trim().is_empty())
            .collect();
        let mut arena = Vec::new();
        let mut entries = vec![Entry::default(); vocab_size];
        for (id, entry) in entries.iter_mut().enumerate() {
            let Some(text) = inner.id_to_token(id as u32) else {
                continue;
            };
            entry.exists = true;
            entry.text = append(&mut arena, text.as_bytes());
            entry.bytes = entry.text.clone();
            if let Some(token) = added.get(&(id as u32)) {
                // Matched in plain text, so it stands for plain text, whatever its characters mean
                // in the byte alphabet.
                entry.added = true;
                entry.special = token.special;
            } else if let Some(bytes) = token_bytes(&text) {
                entry.bytes = append(&mut arena, &bytes);
            }
        }
        let cutter = Cutter::of(&inner);
        let affix = affix_of(&inner);
        let max_token_bytes = max_token_bytes(&inner, &entries);
        Ok(Tokenizer {
            inner,
            entries,
            arena,
            added_texts,
            remarks,
            cutter,
            affix,
            max_token_bytes,
        })
    }

    pub fn encode(
        &self,
        text: &str,
        add_special_tokens: bool,
        bounds: &EncodeBounds,
    ) -> Result<Vec<u32>, String> {
        check_blank_runs(text)?;
        if text.len() <= bounds.piece_bytes || self.cutter.is_none() || self.affix.is_none() {
            let encoding = self
                .inner
                .encode_fast(text, add_special_tokens)
                .map_err(|e| e.to_string())?;
            return Ok(encoding.get_ids().to_vec());
        }
        self.check_pieces(text)?;
        let mut ids = Vec::new();
        for piece in self.pieces(text, bounds.piece_bytes) {
            if bounds.reached(ids.len()) {
                return Ok(ids);
            }
            let encoding = self
                .inner
                .encode_fast(&text[piece], false)
                .map_err(|e| e.to_string())?;
            ids.extend_from_slice(encoding.get_ids());
        }
        self.with_special_tokens(ids, add_special_tokens)
    }

    /// As `encode`, but no added token is seen within `plain` (byte ranges in order) nor across one
    /// of its ends: that text is spelled out. An empty range is such an end alone.
    pub fn encode_with_plain(
        &self,
        text: &str,
        plain: &[Range<usize>],
        add_special_tokens: bool,
        bounds: &EncodeBounds,
    ) -> Result<Vec<u32>, String> {
        if plain.is_empty() {
            return self.encode(text, add_special_tokens, bounds);
        }
        check_blank_runs(text)?;
        self.check_pieces(text)?;
        let mut ids = Vec::new();
        let mut copied = 0; // text before it is in `ids`
        let mut begin = 0;
        let ends = plain.iter().cloned().chain(std::iter::once(text.len()..text.len()));
        for range in ends {
            let open = text
                .get(begin..range.start)
                .ok_or("the plain ranges are not in order or cut characters")?;
            for (at, token) in self.added_tokens_in(open, bounds.piece_bytes) {
                self.push_model_ids(&text[copied..begin + at.start], bounds, &mut ids)?;
                ids.push(token);
                copied = begin + at.end;
                if bounds.reached(ids.len()) {
                    return Ok(ids);
                }
            }
            begin = range.end;
        }
        self.push_model_ids(&text[copied..], bounds, &mut ids)?;
        self.with_special_tokens(ids, add_special_tokens)
    }

    /// The texts of a token's bytes one after another, with what is not UTF-8 replaced.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        let mut bytes = Vec::new();
        for id in ids {
            let token = self.token(*id);
            if !(skip_special_tokens && token.special) {
                bytes.extend_from_slice(token.bytes);
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
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
        check_blank_runs(text)?;
        let mut ids = Vec::new();
        let all = EncodeBounds {
            max_tokens: usize::MAX,
            piece_bytes: 64 << 10,
            stop: &|| false,
        };
        self.push_model_ids(text, &all, &mut ids)?;
        Ok(ids)
    }

    /// The most bytes of text that one token can stand for; None where that is not bounded.
    pub fn max_token_bytes(&self) -> Option<usize> {
        self.max_token_bytes
    }

    /// Contents of the added tokens that are more than one character and not blank: what somebody
    /// may write to pass for a token.
    pub fn added_texts(&self) -> &[String] {
        &self.added_texts
    }

    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    fn check_pieces(&self, text: &str) -> Result<(), String> {
        self.cutter.as_ref().map_or(Ok(()), |cutter| cutter.check(text))
    }

    fn pieces<'a>(
        &'a self,
        text: &'a str,
        size: usize,
    ) -> Box<dyn Iterator<Item = Range<usize>> + 'a> {
        match &self.cutter {
            Some(cutter) => Box::new(cutter.pieces(text, size)),
            None => Box::new(std::iter::once(0..text.len())),
        }
    }

    fn added_tokens_in<'a>(
        &'a self,
        text: &'a str,
        piece_bytes: usize,
    ) -> impl Iterator<Item = (Range<usize>, u32)> + 'a {
        self.pieces(text, piece_bytes).flat_map(move |piece| {
            let at = piece.start;
            self.inner
                .get_added_vocabulary()
                .extract_and_normalize(self.inner.get_normalizer(), &text[piece])
                .get_splits(OffsetReferential::Original, OffsetType::Byte)
                .into_iter()
                .filter_map(|(_, (begin, end), tokens)| {
                    let token = tokens.as_ref()?.first()?.id;
                    Some((at + begin..at + end, token))
                })
                .collect::<Vec<_>>()
        })
    }

    fn with_special_tokens(&self, ids: Vec<u32>, add: bool) -> Result<Vec<u32>, String> {
        if let Some(affix) = &self.affix {
            return Ok(match add {
                true => [&affix.prefix[..], &ids, &affix.suffix].concat(),
                false => ids,
            });
        }
        let tokens = ids.into_iter().map(|id| {
            let text = String::from_utf8_lossy(self.token(id).text).into_owned();
            Token::new(id, text, (0, 0))
        });
        let encoding = self
            .inner
            .post_process(Encoding::from_tokens(tokens.collect(), 0), None, add)
            .map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As `push_piece_ids`, in pieces. What `bounds` leave out is missing.
    fn push_model_ids(
        &self,
        text: &str,
        bounds: &EncodeBounds,
        ids: &mut Vec<u32>,
    ) -> Result<(), String> {
        for piece in self.pieces(text, bounds.piece_bytes) {
            if text.len() > bounds.piece_bytes && bounds.reached(ids.len()) {
                break;
            }
            self.push_piece_ids(&text[piece], ids)?;
        }
        Ok(())
    }

    /// `text` through normalizer, pre-tokenizer and model, without a look at the added tokens.
    fn push_piece_ids(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let mut pieces = PreTokenizedString::from(text);
        let mut run = || -> tokenizers::Result<()> {
            if let Some(normalizer) = self.inner.get_normalizer() {
                pieces.normalize(|piece| normalizer.normalize(piece))?;
            }
            if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            pieces.tokenize(|piece| self.inner.get_model().tokenize(piece.get()))
        };
        run().map_err(|e| e.to_string())?;
        for (_, _, piece) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
            for token in piece.iter().flatten() {
                // Only a vocabulary that holds an added token's text as a word of its own has one.
                if self.token(token.id).added && self.added_texts.contains(&token.value) {
                    return Err(format!("{:?} cannot be spelled out", token.value));
                }
                ids.push(token.id);
            }
        }
        Ok(())
    }
}

fn affix_of(inner: &tokenizers::Tokenizer) -> Option<Affix> {
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, "x".into(), (0, 1))], 0);
    let all = inner.post_process(text, None, true).ok()?.get_ids().to_vec();
    let at = all.iter().position(|id| *id == TEXT)?;
    let (prefix, suffix) = (all[..at].to_vec(), all[at + 1..].to_vec());
    if suffix.contains(&TEXT) {
        return None;
    }
    Some(Affix { prefix, suffix })
}

fn max_token_bytes(inner: &tokenizers::Tokenizer, entries: &[Entry]) -> Option<usize> {
    let added = inner.get_added_tokens_decoder();
    let takes_more = |t: &tokenizers::AddedToken| t.lstrip || t.rstrip;
    if inner.get_normalizer().is_some() || added.values().any(takes_more) {
        return None;
    }
    // A byte without a token would vanish.
    let covered = entries.iter().filter(|e| !e.added && e.bytes.len() == 1).count();
    if covered < 256 {
        return None;
    }
    entries.iter().map(|entry| entry.bytes.len()).max()
}

/// What the dropout was, if there was one.
fn without_dropout(inner: &mut tokenizers::Tokenizer) -> Option<f32> {
    let ModelWrapper::BPE(bpe) = inner.get_model() else {
        return None;
    };
    let dropout = bpe.dropout.filter(|p| *p > 0.0)?;
    let mut bpe = bpe.clone();
    bpe.dropout = None;
    inner.with_model(bpe);
    Some(dropout)
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
