//! Regular expressions of clients: checked with the place of what is wrong, and brought into the
//! form that a grammar's terminal takes, which matches whole texts.

use regex_syntax::hir::{Hir, HirKind, Look, Repetition};
use regex_syntax::ParserBuilder;

/// Above any count that a client means. Cost grows with it.
const MAX_REPEAT: u32 = 100_000;
/// Characters of an expression with its repeats written out. A literal that is repeated really is
/// written out, a state of about a kilobyte for each of its bytes, so nested counts multiply.
const MAX_WRITTEN_OUT: f64 = 50_000.0;
/// What a repeat of a class costs beside that of a literal.
const CLASS_CHARACTERS: f64 = 0.1;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The whole text; `^` and `$` at the ends say nothing new.
    Whole,
    /// Anywhere in the text unless anchored, as JSON Schema's `pattern`. Classes are ASCII, as in
    /// JavaScript.
    Search,
}

pub struct WholeMatch {
    pub regex: String,
    /// The empty text is one of its texts.
    pub matches_empty: bool,
}

/// The pattern as one that matches whole texts, without groups, look-around and anchors.
pub fn whole_match(pattern: &str, form: Match) -> Result<WholeMatch, String> {
    let ascii = if form == Match::Search { "dw" } else { "" };
    let source = llguidance::regex_to_lark(pattern, ascii);
    let hir = ParserBuilder::new()
        .nest_limit(100)
        .build()
        .parse(&source)
        .map_err(|e| explain(pattern, &e))?;
    let found = match form {
        Match::Whole => strip(&hir, true, true)?,
        Match::Search => search(&hir)?,
    };
    check_size(&found)?;
    Ok(WholeMatch {
        regex: found.to_string(),
        matches_empty: found.properties().minimum_len() == Some(0),
    })
}

/// The regular expressions and repeat counts in a client's Lark grammar, as far as their size goes.
/// What is no expression is left to llguidance to explain.
pub fn check_lark(grammar: &str) -> Result<(), String> {
    // Which rule stands in which is not looked at: all counts together are a bound that no nesting
    // exceeds.
    let counts: f64 = repeat_counts(grammar).into_iter().map(|n| n.max(1.0)).product();
    let mut longest = 1;
    scan(grammar, |_, begin, end| longest = longest.max(end - begin));
    let written_out = counts * longest as f64;
    if counts > 1.0 && written_out > MAX_WRITTEN_OUT {
        return Err(format!(
            "its repeat counts multiply to {counts:.0}, which with a text of {longest} bytes is \
             more than the limit of {MAX_WRITTEN_OUT:.0}"
        ));
    }
    for (at, regex) in lark_regexes(grammar) {
        let source = llguidance::regex_to_lark(regex, "");
        let parsed = ParserBuilder::new().nest_limit(100).build().parse(&source);
        if let Ok(hir) = parsed {
            let line = grammar[..at].matches('\n').count() + 1;
            check_size(&hir).map_err(|e| format!("{e}, in line {line}"))?;
        }
    }
    Ok(())
}

/// (place, text) of each /.../ that is outside strings and comments.
fn lark_regexes(grammar: &str) -> Vec<(usize, &str)> {
    let mut regexes = Vec::new();
    scan(grammar, |quote, begin, end| {
        if quote == b'/' {
            regexes.push((begin, &grammar[begin..end]));
        }
    });
    regexes
}

/// The larger number of each {n}, {n,m}, ~ n and ~ n..m outside of quotes.
fn repeat_counts(grammar: &str) -> Vec<f64> {
    let mut plain = grammar.as_bytes().to_vec();
    scan(grammar, |_, begin, end| plain[begin..end].fill(b' '));
    let plain = String::from_utf8_lossy(&plain).into_owned();
    let mut counts = Vec::new();
    for (at, _) in plain.match_indices(['{', '~']) {
        let rest = &plain[at + 1..];
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, ' ' | ',' | '.')))
            .unwrap_or(rest.len());
        let numbers = rest[..end].split([' ', ',', '.']).filter_map(|n| n.parse::<f64>().ok());
        counts.extend(numbers.reduce(f64::max));
    }
    counts
}

/// Calls `found` with quote, begin and end of what stands within quotes, strings and expressions.
fn scan(grammar: &str, mut found: impl FnMut(u8, usize, usize)) {
    let bytes = grammar.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => at = line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = line_end(bytes, at),
            quote @ (b'"' | b'/') => {
                let end = closing(bytes, at + 1, quote);
                found(quote, at + 1, end);
                at = end + 1;
            }
            _ => at += 1,
        }
    }
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    (from..bytes.len()).find(|i| bytes[*i] == b'\n').unwrap_or(bytes.len())
}

/// Where the unescaped `quote`, or the line, or the text ends.
fn closing(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() && bytes[at] != quote && bytes[at] != b'\n' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

fn check_size(hir: &Hir) -> Result<(), String> {
    let size = written_out(hir);
    if size > MAX_WRITTEN_OUT {
        return Err(format!(
            "with its repeats written out it has {size:.0} characters, more than the limit of \
             {MAX_WRITTEN_OUT:.0}"
        ));
    }
    Ok(())
}

fn written_out(hir: &Hir) -> f64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0.0,
        HirKind::Literal(literal) => literal.0.len() as f64,
        HirKind::Class(_) => CLASS_CHARACTERS,
        HirKind::Capture(capture) => written_out(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            written_out(&repetition.sub) * f64::from(times)
        }
        HirKind::Concat(subs) | HirKind::Alternation(subs) => subs.iter().map(written_out).sum(),
    }
}

/// One line: what, and where. The crate's own message draws the pattern over several.
fn explain(pattern: &str, error: &regex_syntax::Error) -> String {
    let (what, at) = match error {
        regex_syntax::Error::Parse(e) => (e.kind().to_string(), e.span().start.offset),
        regex_syntax::Error::Translate(e) => (e.kind().to_string(), e.span().start.offset),
        e => (e.to_string(), 0),
    };
    // Offsets are in the translated text, which only differs behind a class or a slash.
    let at = at.min(pattern.len());
    format!("{what}, near byte {at}")
}

fn any_text() -> Hir {
    Hir::repetition(Repetition {
        min: 0,
        max: None,
        greedy: true,
        sub: Box::new(Hir::dot(regex_syntax::hir::Dot::AnyChar)),
    })
}

/// Alternatives are anchored each for itself.
fn search(hir: &Hir) -> Result<Hir, String> {
    match hir.kind() {
        HirKind::Alternation(subs) => Ok(Hir::alternation(
            subs.iter().map(search).collect::<Result<_, _>>()?,
        )),
        HirKind::Capture(capture) => search(&capture.sub),
        HirKind::Concat(subs) => {
            // A group at an end may hold the anchor: "^(a|b$)".
            let at_start = anchored(&subs[0], &Look::Start)?;
            let at_end = anchored(&subs[subs.len() - 1], &Look::End)?;
            around(strip(hir, true, true)?, at_start, at_end)
        }
        HirKind::Look(Look::Start) | HirKind::Look(Look::End) | HirKind::Empty => Ok(any_text()),
        _ => around(strip(hir, false, false)?, false, false),
    }
}

fn around(hir: Hir, at_start: bool, at_end: bool) -> Result<Hir, String> {
    let mut parts = Vec::new();
    if !at_start {
        parts.push(any_text());
    }
    parts.push(hir);
    if !at_end {
        parts.push(any_text());
    }
    Ok(Hir::concat(parts))
}

/// Whether every alternative of `hir` has the anchor; an error where only some have.
fn anchored(hir: &Hir, look: &Look) -> Result<bool, String> {
    match hir.kind() {
        HirKind::Look(found) => Ok(found == look),
        HirKind::Capture(capture) => anchored(&capture.sub, look),
        HirKind::Concat(subs) => {
            let end = if *look == Look::Start {
                subs.first()
            } else {
                subs.last()
            };
            end.map_or(Ok(false), |sub| anchored(sub, look))
        }
        HirKind::Alternation(subs) => {
            let each = subs
                .iter()
                .map(|sub| anchored(sub, look))
                .collect::<Result<Vec<_>, _>>()?;
            if each.iter().any(|a| *a != each[0]) {
                return Err(
                    "an anchor (^ or $) in some alternatives of a group only is not supported"
                        .into(),
                );
            }
            Ok(each.first().copied().unwrap_or(false))
        }
        _ => Ok(false),
    }
}

/// Without groups, and without anchors where they say nothing: at the ends.
fn strip(hir: &Hir, at_start: bool, at_end: bool) -> Result<Hir, String> {
    match hir.kind() {
        HirKind::Look(Look::Start) if at_start => Ok(Hir::empty()),
        HirKind::Look(Look::End) if at_end => Ok(Hir::empty()),
        HirKind::Look(Look::Start | Look::End) => {
            Err("an anchor (^ or $) inside the expression is not supported".into())
        }
        HirKind::Look(_) => {
            Err("word boundaries and line anchors (\\b, (?m)) are not supported".into())
        }
        HirKind::Capture(capture) => strip(&capture.sub, at_start, at_end),
        HirKind::Repetition(repetition) => {
            let highest = repetition.max.unwrap_or(repetition.min);
            if highest > MAX_REPEAT {
                return Err(format!(
                    "a repeat count of {highest} is beyond the limit of {MAX_REPEAT}"
                ));
            }
            Ok(Hir::repetition(Repetition {
                min: repetition.min,
                max: repetition.max,
                greedy: true,
                sub: Box::new(strip(&repetition.sub, false, false)?),
            }))
        }
        HirKind::Concat(subs) => {
            let last = subs.len() - 1;
            let first_other = subs
                .iter()
                .position(|s| !matches!(s.kind(), HirKind::Look(Look::Start)))
                .unwrap_or(last);
            let last_other = subs
                .iter()
                .rposition(|s| !matches!(s.kind(), HirKind::Look(Look::End)))
                .unwrap_or(0);
            let parts = subs
                .iter()
                .enumerate()
                .map(|(i, sub)| strip(sub, at_start && i <= first_other, at_end && i >= last_other))
                .collect::<Result<_, _>>()?;
            Ok(Hir::concat(parts))
        }
        HirKind::Alternation(subs) => Ok(Hir::alternation(
            subs.iter()
                .map(|sub| strip(sub, at_start, at_end))
                .collect::<Result<_, _>>()?,
        )),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => Ok(hir.clone()),
    }
}
