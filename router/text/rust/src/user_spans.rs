//! Which parts of a rendered chat are added tokens that the client wrote, so that they can be
//! encoded as plain text while the template's own stay tokens.
//!
//! Before the render every added token's text in a message, tool, argument or variable is put
//! between two marks: characters that occur nowhere else in this render, are not white space and
//! have no case, so that a template's strip, split, `in` and tojson work as without them. The rest
//! of the text is left alone: a chat without such texts renders as ever. After the render the marks
//! are taken out and become byte ranges. A mark that lost its partner (a template that splits at
//! "</think>") stays as a place that no token may cross.
//!
//! At the ends of message texts the beginning or the rest of a token's text is marked too: what the
//! template writes beside it must not complete a token.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Map, Value as Json};

use crate::exact_json;

/// Rare characters of one ancient script.
const CANDIDATES: std::ops::RangeInclusive<char> = '\u{2A600}'..='\u{2A6DF}';

#[derive(Clone, Copy)]
pub struct Marks {
    open: char,
    close: char,
}

thread_local! {
    static IN_USE: Cell<Option<Marks>> = const { Cell::new(None) };
}

/// While it lives, `is_mark` knows the marks on this thread.
pub struct MarksInUse;

impl MarksInUse {
    pub fn new(marks: Marks) -> MarksInUse {
        IN_USE.set(Some(marks));
        MarksInUse
    }
}

impl Drop for MarksInUse {
    fn drop(&mut self) {
        IN_USE.set(None);
    }
}

/// For writers that escape characters: marks go through as they are.
pub fn is_mark(c: char) -> bool {
    CANDIDATES.contains(&c) && IN_USE.get().is_some_and(|m| c == m.open || c == m.close)
}

impl Marks {
    /// None when the texts use up all candidates.
    pub fn not_in(source: &str, values: &[&Json]) -> Option<Marks> {
        let mut used = HashSet::new();
        used.extend(source.chars().filter(|c| CANDIDATES.contains(c)));
        values.iter().for_each(|v| note_candidates(v, &mut used));
        let mut free = CANDIDATES.filter(|c| !used.contains(c));
        Some(Marks {
            open: free.next()?,
            close: free.next()?,
        })
    }

    /// Every text in `value`, keys too; roles and types choose the template's branches and stay.
    pub fn mark(&self, value: &mut Json, tokens: &[String]) {
        self.mark_value(value, tokens, false);
    }

    /// The same, and the ends of what messages say.
    pub fn mark_messages(&self, messages: &mut Json, tokens: &[String]) {
        for message in messages.as_array_mut().into_iter().flatten() {
            let Some(message) = message.as_object_mut() else {
                continue;
            };
            for (key, value) in message.iter_mut() {
                match key.as_str() {
                    "role" => {}
                    "content" | "reasoning_content" => self.mark_value(value, tokens, true),
                    _ => self.mark_value(value, tokens, false),
                }
            }
        }
    }

    fn mark_value(&self, value: &mut Json, tokens: &[String], ends: bool) {
        match value {
            Json::String(text) => {
                if let Some(marked) = self.marked(text, tokens, ends) {
                    *text = marked;
                }
            }
            Json::Array(items) => items
                .iter_mut()
                .for_each(|item| self.mark_value(item, tokens, ends)),
            Json::Object(object) if exact_json::long_integer(object).is_none() => {
                let mut marked = Map::new();
                for (key, mut member) in std::mem::take(object) {
                    if key != "type" || !member.is_string() {
                        self.mark_value(&mut member, tokens, ends);
                    }
                    marked.insert(self.marked(&key, tokens, false).unwrap_or(key), member);
                }
                *object = marked;
            }
            _ => {}
        }
    }

    fn marked(&self, text: &str, tokens: &[String], ends: bool) -> Option<String> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        for token in tokens {
            spans.extend(text.match_indices(token).map(|(at, _)| at..at + token.len()));
        }
        if ends {
            spans.extend(partial_ends(text, tokens));
        }
        if spans.is_empty() {
            return None;
        }
        spans.sort_by_key(|s| s.start);
        let mut out = String::with_capacity(text.len() + 8 * spans.len());
        let mut copied = 0;
        let mut i = 0;
        while i < spans.len() {
            let Range { start, mut end } = spans[i];
            while i + 1 < spans.len() && spans[i + 1].start < end {
                i += 1;
                end = end.max(spans[i].end);
            }
            i += 1;
            out.push_str(&text[copied..start]);
            out.push(self.open);
            out.push_str(&text[start..end]);
            out.push(self.close);
            copied = end;
        }
        out.push_str(&text[copied..]);
        Some(out)
    }

    /// The text without marks, and the ranges of it, in order, that no added token may touch
    /// (empty: may cross).
    pub fn take_out(&self, rendered: &str) -> (String, Vec<Range<usize>>) {
        let mut text = String::with_capacity(rendered.len());
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut opened = None;
        for c in rendered.chars() {
            if c == self.open {
                if let Some(at) = opened.replace(text.len()) {
                    ranges.push(at..at);
                }
            } else if c == self.close {
                let end = text.len();
                ranges.push(opened.take().unwrap_or(end)..end);
            } else {
                text.push(c);
            }
        }
        if let Some(at) = opened {
            ranges.push(at..at);
        }
        (text, ranges)
    }
}

fn note_candidates(value: &Json, used: &mut HashSet<char>) {
    let mut note = |text: &str| used.extend(text.chars().filter(|c| CANDIDATES.contains(c)));
    match value {
        Json::String(text) => note(text),
        Json::Array(items) => items.iter().for_each(|item| note_candidates(item, used)),
        Json::Object(object) => {
            for (key, member) in object {
                used.extend(key.chars().filter(|c| CANDIDATES.contains(c)));
                note_candidates(member, used);
            }
        }
        _ => {}
    }
}

/// The longest beginning of a token at the end of what `text` says, and the longest rest of one at
/// its beginning, white space around it left out as templates do.
fn partial_ends(text: &str, tokens: &[String]) -> Vec<Range<usize>> {
    let begin = text.len() - text.trim_start().len();
    let said = text.trim();
    let mut ranges = Vec::new();
    let cuts = |token: &'_ str| -> Vec<usize> {
        token.char_indices().skip(1).map(|(at, _)| at).collect()
    };
    let rest = tokens
        .iter()
        .flat_map(|t| cuts(t).into_iter().map(move |at| &t[at..]))
        .filter(|rest| said.starts_with(rest))
        .map(str::len)
        .max();
    if let Some(length) = rest {
        ranges.push(begin..begin + length);
    }
    let head = tokens
        .iter()
        .flat_map(|t| cuts(t).into_iter().map(move |at| &t[..at]))
        .filter(|head| said.ends_with(head))
        .map(str::len)
        .max();
    if let Some(length) = head {
        let end = begin + said.len();
        ranges.push(end - length..end);
    }
    ranges
}
