//! Regular expressions of clients: checked with the place of what is wrong, and brought into the
//! form that a grammar's terminal takes, which matches whole texts.

use regex_syntax::hir::{Hir, HirKind, Look, Repetition};
use regex_syntax::ParserBuilder;

/// Above any count that a client means. Cost grows with it.
const MAX_REPEAT: u32 = 100_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The whole text; `^` and `$` at the ends say nothing new.
    Whole,
    /// Anywhere in the text unless anchored, as JSON Schema's `pattern`. Classes are ASCII, as in
    /// JavaScript.
    Search,
}

/// The pattern as one that matches whole texts, without groups, look-around and anchors.
pub fn whole_match(pattern: &str, form: Match) -> Result<String, String> {
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
    Ok(found.to_string())
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
