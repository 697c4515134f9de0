//! `tojson` as chat templates expect it: Python's `json.dumps` with `ensure_ascii=False` by default
//! and no HTML escaping. minijinja's own filter escapes `<`, `>`, `&` and `'` and knows no
//! `ensure_ascii`.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use crate::exact_json::LongInteger;
use crate::python_format::finite_repr;
use crate::user_spans::is_mark;

struct Style {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

/// The filter: `x | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub fn tojson(
    value: &Value,
    ensure_ascii: Option<Value>,
    indent: Option<Value>,
    separators: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let ensure_ascii = ensure_ascii
        .or(kwargs.get("ensure_ascii")?)
        .is_some_and(|v| v.is_true());
    let indent = indent.or(kwargs.get("indent")?).filter(|v| !v.is_none());
    let separators = separators
        .or(kwargs.get("separators")?)
        .filter(|v| !v.is_none());
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;

    let indent = match indent {
        None => None,
        Some(v) => Some(match v.as_str() {
            Some(text) => text.to_string(),
            None => " ".repeat(usize::try_from(v)?.min(64)),
        }),
    };
    // json.dumps drops the blank after the comma when it breaks lines.
    let (item_separator, key_separator) = match separators {
        None => (
            if indent.is_some() { "," } else { ", " }.to_string(),
            ": ".to_string(),
        ),
        Some(v) => (
            v.get_item(&Value::from(0))?.to_string(),
            v.get_item(&Value::from(1))?.to_string(),
        ),
    };
    let style = Style {
        ensure_ascii,
        sort_keys,
        indent,
        item_separator,
        key_separator,
    };
    let mut out = String::new();
    dump(&mut out, value, &style, 0)?;
    Ok(Value::from(out))
}

fn dump(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)?),
        ValueKind::String => quote(out, value.as_str().unwrap_or_default(), style.ensure_ascii),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            container(out, style, depth, ['[', ']'], items.len(), |out, i| {
                dump(out, &items[i], style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys = Vec::new();
            for key in value.try_iter()? {
                keys.push((key_text(&key)?, key));
            }
            if style.sort_keys {
                keys.sort_by(|a, b| a.0.cmp(&b.0));
            }
            container(out, style, depth, ['{', '}'], keys.len(), |out, i| {
                quote(out, &keys[i].0, style.ensure_ascii);
                out.push_str(&style.key_separator);
                dump(out, &value.get_item(&keys[i].1)?, style, depth + 1)
            })?;
        }
        kind => {
            if let Some(long) = value.downcast_object_ref::<LongInteger>() {
                out.push_str(long.digits());
                return Ok(());
            }
            return Err(Error::new(
                ErrorKind::BadSerialization,
                format!("a value of type {kind} is not JSON serializable"),
            ))
        }
    }
    Ok(())
}

fn container(
    out: &mut String,
    style: &Style,
    depth: usize,
    brackets: [char; 2],
    num_items: usize,
    mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |out: &mut String, levels: usize| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            (0..levels).for_each(|_| out.push_str(indent));
        }
    };
    out.push(brackets[0]);
    for i in 0..num_items {
        if i > 0 {
            out.push_str(&style.item_separator);
        }
        new_line(out, depth + 1);
        item(out, i)?;
    }
    if num_items > 0 {
        new_line(out, depth);
    }
    out.push(brackets[1]);
    Ok(())
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_string()),
        ValueKind::None => Ok("null".into()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        ValueKind::Number => number(key),
        kind => Err(Error::new(
            ErrorKind::BadSerialization,
            format!("a key of type {kind} is not JSON"),
        )),
    }
}

fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let x = f64::try_from(value.clone())?;
    Ok(if x.is_finite() {
        finite_repr(x)
    } else if x.is_nan() {
        "NaN".into()
    } else {
        if x > 0.0 { "Infinity" } else { "-Infinity" }.into()
    })
}

fn quote(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if is_mark(c) => out.push(c),
            c if c < ' ' || (ensure_ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
