//! JSON whose integers keep all their digits.
//!
//! serde_json reads an integer beyond 64 bits as a float. Here it becomes an object with one
//! member that no client's text is likely to have, and comes out as the same digits again, both as
//! JSON and as a template's value. "-0" is the integer 0, as in Python.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Value};
use serde_json::{Map, Number, Value as Json};

const DIGITS: &str = "\u{0}digits";

/// An integer beyond 128 bits in a template: it can be printed, not computed with.
#[derive(Debug)]
pub struct LongInteger(String);

impl LongInteger {
    pub fn digits(&self) -> &str {
        &self.0
    }
}

impl Object for LongInteger {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub fn parse(json: &[u8]) -> Result<Json, String> {
    match with_long_integers_wrapped(json) {
        None => serde_json::from_slice(json),
        Some(wrapped) => serde_json::from_slice(&wrapped),
    }
    .map_err(|e| e.to_string())
}

pub fn to_string(value: &Json) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

pub fn to_template_value(value: &Json) -> Value {
    match value {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(*b),
        Json::Number(n) => number_value(n),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items
            .iter()
            .map(to_template_value)
            .collect::<Vec<_>>()
            .into(),
        Json::Object(object) => match long_integer(object) {
            Some(digits) => match digits.parse::<i128>() {
                Ok(number) => Value::from(number),
                Err(_) => Value::from_object(LongInteger(digits.to_string())),
            },
            None => Value::from_pairs(
                object
                    .iter()
                    .map(|(key, value)| (key.as_str(), to_template_value(value))),
            ),
        },
    }
}

/// The digits, if `object` stands for an integer.
pub fn long_integer(object: &Map<String, Json>) -> Option<&str> {
    match object.get(DIGITS) {
        Some(Json::String(digits)) if object.len() == 1 && is_integer(digits) => Some(digits),
        _ => None,
    }
}

fn number_value(number: &Number) -> Value {
    if let Some(n) = number.as_i64() {
        Value::from(n)
    } else if let Some(n) = number.as_u64() {
        Value::from(n)
    } else {
        Value::from(number.as_f64().unwrap_or(f64::NAN))
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn write(out: &mut String, value: &Json) {
    match value {
        Json::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(out, item);
            }
            out.push(']');
        }
        Json::Object(object) => {
            if let Some(digits) = long_integer(object) {
                out.push_str(digits);
                return;
            }
            out.push('{');
            for (i, (key, member)) in object.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Json::from(key.as_str()).to_string());
                out.push(':');
                write(out, member);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// None when nothing had to be wrapped. Text that is not JSON stays such.
fn with_long_integers_wrapped(json: &[u8]) -> Option<Vec<u8>> {
    let mut wrapped: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => {
                at += 1;
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let begin = at;
                while at < json.len()
                    && matches!(json[at], b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
                {
                    at += 1;
                }
                let replacement = match std::str::from_utf8(&json[begin..at]) {
                    Ok("-0") => "0".to_string(),
                    Ok(digits) if is_long_integer(digits) => {
                        format!("{{\"\\u0000digits\":\"{digits}\"}}")
                    }
                    _ => continue,
                };
                let out = wrapped.get_or_insert_with(Vec::new);
                out.extend_from_slice(&json[copied..begin]);
                out.extend_from_slice(replacement.as_bytes());
                copied = at;
            }
            _ => at += 1,
        }
    }
    let mut out = wrapped?;
    out.extend_from_slice(&json[copied..]);
    Some(out)
}

fn is_long_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    is_integer(text)
        && !digits.starts_with('0')
        && text.parse::<i64>().is_err()
        && text.parse::<u64>().is_err()
}
