//! A chat template's source brought into what minijinja reads, line by line in place.
//!
//! * Line ends become "\n", as Jinja2's lexer does.
//! * `{% generation %}...{% endgeneration %}`, transformers' mark around the assistant's text,
//!   becomes a `with` block: the body is rendered, what it sets stays inside.
//! * `a % b` becomes the filter `a|percent(b)`, since minijinja's operator does not format strings.
//!   Where a filter would bind otherwise than the operator (behind `*`, `/`, `%` or a sign) the
//!   operator stays: numbers alone stand there.

pub const PERCENT_FILTER: &str = "percent";

pub fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = next_tag(rest) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("{#") {
            let end = rest.find("#}").map_or(rest.len(), |end| end + 2);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let is_block = rest.starts_with("{%");
        let tokens = tokenize(&rest[2..], if is_block { "%}" } else { "}}" });
        let end = 2 + tokens.end;
        let tag = &rest[..end];
        let word = |name: &str| {
            is_block && tokens.list.iter().find(|t| t.kind != Kind::Sign).map(|t| t.text) == Some(name)
        };
        if word("generation") || word("endgeneration") {
            let (old, new) = if word("generation") {
                ("generation", "with")
            } else {
                ("endgeneration", "endwith")
            };
            out.push_str(&tag.replacen(old, new, 1));
            rest = &rest[end..];
        } else if word("raw") {
            let body = find_end_of_raw(&rest[end..]).map_or(rest.len(), |at| end + at);
            out.push_str(&rest[..body]);
            rest = &rest[body..];
        } else {
            out.push_str(&rest[..2]);
            out.push_str(&with_percent_filters(&rest[2..end], &tokens.list));
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

fn next_tag(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len().saturating_sub(1))
        .find(|&i| bytes[i] == b'{' && matches!(bytes[i + 1], b'{' | b'%' | b'#'))
}

/// Where the block that ends a raw block begins.
fn find_end_of_raw(text: &str) -> Option<usize> {
    text.match_indices("{%").map(|(at, _)| at).find(|&at| {
        text[at + 2..]
            .trim_start_matches(['-', '+'])
            .trim_start()
            .starts_with("endraw")
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Word,
    Text,
    Open,
    Close,
    Operator,
    /// The `-` or `+` of whitespace control.
    Sign,
}

#[derive(Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    at: usize,
}

struct Tokens<'a> {
    list: Vec<Token<'a>>,
    /// Behind the closing tag.
    end: usize,
}

/// The tokens of an expression up to `closing`; `code` begins behind the opening tag.
fn tokenize<'a>(code: &'a str, closing: &str) -> Tokens<'a> {
    let bytes = code.as_bytes();
    let mut list = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        let c = bytes[at];
        let rest = &code[at..];
        let signed = matches!(c, b'-' | b'+') && rest[1..].starts_with(closing);
        if depth == 0 && (signed || rest.starts_with(closing)) {
            let end = at + closing.len() + usize::from(signed);
            return Tokens { list, end };
        }
        let length = match c {
            b' ' | b'\t' | b'\n' => {
                at += 1;
                continue;
            }
            b'"' | b'\'' => text_length(bytes, at),
            _ if c.is_ascii_alphanumeric() || c == b'_' || c >= 0x80 => word_length(bytes, at),
            _ if ["**", "//", "==", "!=", "<=", ">="].iter().any(|op| rest.starts_with(op)) => 2,
            _ => 1,
        };
        let kind = match c {
            b'"' | b'\'' => Kind::Text,
            b'(' | b'[' | b'{' => Kind::Open,
            b')' | b']' | b'}' => Kind::Close,
            b'-' | b'+' if at == 0 => Kind::Sign,
            _ if c.is_ascii_alphanumeric() || c == b'_' || c >= 0x80 => Kind::Word,
            _ => Kind::Operator,
        };
        match kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        list.push(Token {
            kind,
            text: &code[at..at + length],
            at,
        });
        at += length;
    }
    Tokens {
        list,
        end: code.len(),
    }
}

fn text_length(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < bytes.len() && bytes[at] != bytes[begin] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len()) - begin
}

/// A name or a number; the point of "1.5" belongs to it.
fn word_length(bytes: &[u8], begin: usize) -> usize {
    let is_number = bytes[begin].is_ascii_digit();
    let mut at = begin + 1;
    while at < bytes.len() {
        let point = is_number
            && bytes[at] == b'.'
            && bytes.get(at + 1).is_some_and(|c| c.is_ascii_digit());
        if !(bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] >= 0x80 || point) {
            break;
        }
        at += 1;
    }
    at - begin
}

const KEYWORDS: [&str; 9] = ["and", "or", "not", "in", "is", "if", "else", "set", "elif"];

fn is_operand_end(token: &Token) -> bool {
    match token.kind {
        Kind::Word => !KEYWORDS.contains(&token.text),
        Kind::Text | Kind::Close => true,
        _ => false,
    }
}

fn with_percent_filters(code: &str, tokens: &[Token]) -> String {
    // (place, what to write there, bytes to leave out)
    let mut edits: Vec<(usize, String, usize)> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        if token.text != "%" || token.kind != Kind::Operator || i == 0 {
            continue;
        }
        if !is_operand_end(&tokens[i - 1]) || binds_otherwise(tokens, i - 1) {
            continue;
        }
        let Some(last) = operand_end(tokens, i + 1) else {
            continue;
        };
        edits.push((token.at, format!("|{PERCENT_FILTER}("), 1));
        edits.push((tokens[last].at + tokens[last].text.len(), ")".into(), 0));
    }
    edits.sort_by_key(|e| e.0);
    let mut out = String::new();
    let mut copied = 0;
    for (at, text, left_out) in edits {
        out.push_str(&code[copied..at]);
        out.push_str(&text);
        copied = at + left_out;
    }
    out.push_str(&code[copied..]);
    out
}

/// Whether the operand that ends with token `last` is itself the operand of an operator that binds
/// as tightly as `%`, or has a sign.
fn binds_otherwise(tokens: &[Token], last: usize) -> bool {
    let mut i = last;
    loop {
        if tokens[i].kind == Kind::Close {
            let Some(open) = matching_open(tokens, i) else {
                return true;
            };
            if open == 0 {
                return false;
            }
            i = open;
            if is_operand_end(&tokens[i - 1]) {
                i -= 1; // a call or a subscript
                continue;
            }
        }
        // tokens[i] begins a primary.
        if i == 0 {
            return false;
        }
        let before = &tokens[i - 1];
        if before.text == "." || before.text == "|" {
            if i < 2 {
                return true;
            }
            i -= 2;
            continue;
        }
        return match before.text {
            "*" | "/" | "//" | "%" | "**" => true,
            "-" | "+" if before.kind == Kind::Operator => i < 2 || !is_operand_end(&tokens[i - 2]),
            _ => false,
        };
    }
}

fn matching_open(tokens: &[Token], close: usize) -> Option<usize> {
    let mut depth = 0;
    for i in (0..=close).rev() {
        match tokens[i].kind {
            Kind::Close => depth += 1,
            Kind::Open => {
                depth -= 1;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

fn matching_close(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => {
                depth -= 1;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// The last token of the operand that begins at `first`.
fn operand_end(tokens: &[Token], first: usize) -> Option<usize> {
    let mut i = first;
    while matches!(tokens.get(i)?.text, "-" | "+") {
        i += 1;
    }
    let mut last = match tokens.get(i)?.kind {
        Kind::Open => matching_close(tokens, i)?,
        Kind::Word | Kind::Text => i,
        _ => return None,
    };
    loop {
        match tokens.get(last + 1) {
            Some(t) if t.text == "(" || t.text == "[" => last = matching_close(tokens, last + 1)?,
            Some(t) if (t.text == "." || t.text == "|") && tokens.len() > last + 2 => last += 2,
            Some(t) if t.text == "**" => return operand_end(tokens, last + 2),
            _ => return Some(last),
        }
    }
}
