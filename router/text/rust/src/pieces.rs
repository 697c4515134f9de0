//! Where a text may be cut so that its pieces, encoded one by one, give the tokens of the whole:
//! encoding needs some 250 bytes of memory for a byte of text, so a long text is encoded in pieces.
//!
//! Known for the one pre-tokenizer that GLM checkpoints have, and only where nothing else looks
//! beyond a token's own text (no normalizer, no added token that takes white space or asks for
//! whole words). Every alternative of its expression takes characters of few kinds in a fixed
//! order, so between certain kinds a match always ends, and what stands before such a place is
//! matched alike whether the text goes on or not:
//!   * a letter, then anything else: letters stand last in every alternative that has them;
//!   * a digit, then anything else: \p{N}{1,3} is the only one with digits;
//!   * \r or \n, then no white space: \s*[\r\n]+ has taken all of the white space;
//!   * a mark (no letter, digit or white space), then white space that ends no line: marks are
//!     followed by letters or the ends of lines alone.
//! Within digits it ends after each three of them. Other runs of a single kind are not cut: one long
//! word is one piece, up to a bound.

use std::ops::Range;

use regex_syntax::hir::{Class, HirKind};
use serde_json::json;
use tokenizers::{ModelWrapper, Tokenizer};

/// A text with a longer piece is refused. No context has room for such a word.
const MAX_PIECE: usize = 1 << 20;

const GLM_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Letter,
    Digit,
    LineEnd,
    Blank,
    Mark,
}

pub struct Cutter {
    letters: Vec<(char, char)>,
    digits: Vec<(char, char)>,
    /// Of all added tokens, those that can stand across a cut.
    added: Vec<String>,
}

impl Cutter {
    /// None: this tokenizer encodes every text as a whole.
    pub fn of(inner: &Tokenizer) -> Option<Cutter> {
        if inner.get_normalizer().is_some() || !matches!(inner.get_model(), ModelWrapper::BPE(_)) {
            return None;
        }
        if !has_glm_split(inner) {
            return None;
        }
        let added = inner.get_added_tokens_decoder();
        if added.values().any(|t| t.lstrip || t.rstrip || t.single_word) {
            return None;
        }
        let mut added: Vec<String> = added.into_values().map(|t| t.content).collect();
        added.retain(|text| text.len() > 1);
        Some(Cutter {
            letters: ranges_of(r"\p{L}")?,
            digits: ranges_of(r"\p{N}")?,
            added,
        })
    }

    /// The pieces of `text`, of about `size` bytes each, in order: together they are all of it.
    pub fn pieces<'a>(&'a self, text: &'a str, size: usize) -> impl Iterator<Item = Range<usize>> + 'a {
        let mut begin = 0;
        std::iter::from_fn(move || {
            if begin == text.len() {
                return None;
            }
            let end = self.piece_end(text, begin, size.max(1));
            let piece = begin..end;
            begin = end;
            Some(piece)
        })
    }

    pub fn check(&self, text: &str) -> Result<(), String> {
        if text.len() <= MAX_PIECE {
            return Ok(());
        }
        match self.pieces(text, MAX_PIECE).find(|piece| piece.len() > MAX_PIECE) {
            Some(piece) => Err(format!(
                "more than {MAX_PIECE} bytes of one word, from byte {}",
                piece.start
            )),
            None => Ok(()),
        }
    }

    /// The last place to cut before the piece is `size` bytes long, else the first one after.
    fn piece_end(&self, text: &str, begin: usize, size: usize) -> usize {
        if text.len() - begin <= size {
            return text.len();
        }
        let mut target = begin + size;
        while !text.is_char_boundary(target) {
            target -= 1;
        }
        let mut next = None;
        for (at, c) in text[begin..target].char_indices().rev() {
            let at = begin + at;
            let cut = at + c.len_utf8();
            let kind = self.kind(c);
            let after = next.or_else(|| text[cut..].chars().next().map(|c| self.kind(c)));
            if after.is_some_and(|after| parts(kind, after)) && !self.is_in_added(text, cut) {
                return cut;
            }
            next = Some(kind);
        }
        if let Some(cut) = self.cut_in_digits(text, begin, target) {
            return cut;
        }
        let mut before = None;
        for (at, c) in text[target..].char_indices() {
            let at = target + at;
            let kind = self.kind(c);
            if before.is_some_and(|before| parts(before, kind)) && !self.is_in_added(text, at) {
                return at;
            }
            before = Some(kind);
        }
        text.len()
    }

    /// The last end of three digits before `target`, if digits alone stand before it.
    fn cut_in_digits(&self, text: &str, begin: usize, target: usize) -> Option<usize> {
        let digits: Vec<usize> = text[begin..target]
            .char_indices()
            .rev()
            .take_while(|(_, c)| self.kind(*c) == Kind::Digit)
            .map(|(at, _)| begin + at)
            .collect(); // from the last to the first
        let left_over = digits.len() % 3;
        let cut = match left_over {
            0 => target,
            _ => digits[left_over - 1],
        };
        (digits.len() >= 3 && !self.is_in_added(text, cut)).then_some(cut)
    }

    fn kind(&self, c: char) -> Kind {
        match c {
            'a'..='z' | 'A'..='Z' => Kind::Letter,
            '0'..='9' => Kind::Digit,
            '\r' | '\n' => Kind::LineEnd,
            _ if c.is_whitespace() => Kind::Blank,
            _ if is_in(&self.letters, c) => Kind::Letter,
            _ if is_in(&self.digits, c) => Kind::Digit,
            _ => Kind::Mark,
        }
    }

    /// Whether an added token's text stands across `at`; what is left then has the same leftmost
    /// longest matches on both sides as the whole.
    fn is_in_added(&self, text: &str, at: usize) -> bool {
        let bytes = text.as_bytes();
        self.added.iter().any(|token| {
            let token = token.as_bytes();
            let first = at.saturating_sub(token.len() - 1);
            (first..at).any(|begin| bytes[begin..].starts_with(token))
        })
    }
}

fn parts(before: Kind, after: Kind) -> bool {
    match before {
        Kind::Letter => after != Kind::Letter,
        Kind::Digit => after != Kind::Digit,
        Kind::LineEnd => !matches!(after, Kind::LineEnd | Kind::Blank),
        Kind::Mark => after == Kind::Blank,
        Kind::Blank => false,
    }
}

fn has_glm_split(inner: &Tokenizer) -> bool {
    let Some(Ok(mut found)) = inner.get_pre_tokenizer().map(serde_json::to_value) else {
        return false;
    };
    // Offsets are asked for by nobody.
    if let Some(byte_level) = found.pointer_mut("/pretokenizers/1").and_then(|p| p.as_object_mut()) {
        byte_level.remove("trim_offsets");
    }
    found
        == json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": GLM_SPLIT}, "behavior": "Isolated",
             "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})
}

fn ranges_of(class: &str) -> Option<Vec<(char, char)>> {
    match regex_syntax::parse(class).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => {
            Some(class.ranges().iter().map(|r| (r.start(), r.end())).collect())
        }
        _ => None,
    }
}

fn is_in(ranges: &[(char, char)], c: char) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= c);
    after > 0 && c <= ranges[after - 1].1
}
