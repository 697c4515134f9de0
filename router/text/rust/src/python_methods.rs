//! Methods of Python's str, list and tuple that templates call and minijinja-contrib lacks or has
//! with other arguments. What is not here goes to minijinja-contrib's own.

use minijinja::value::{Kwargs, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use crate::python_text::{
    expand_tabs, is_fraction_or_word, is_space, is_title, split_at_blanks, split_lines, title,
};

pub fn unknown_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let args = positional(method, args)?;
    let own = match value.kind() {
        ValueKind::String => text_method(value.as_str().unwrap_or_default(), method, &args)?,
        ValueKind::Seq => list_method(value, method, &args)?,
        ValueKind::Map if method == "copy" && args.is_empty() => Some(value.clone()),
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, &args),
    }
}

/// Named arguments at the places that Python gives them.
fn positional(method: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
    let names: &[&str] = match method {
        "split" | "rsplit" => &["sep", "maxsplit"],
        "splitlines" => &["keepends"],
        "replace" => &["old", "new", "count"],
        "expandtabs" => &["tabsize"],
        _ => return Ok(args.to_vec()),
    };
    let Some((named, first)) = args
        .split_last()
        .and_then(|(last, first)| Some((Kwargs::try_from(last.clone()).ok()?, first)))
        .filter(|(named, _)| named.args().next().is_some())
    else {
        return Ok(args.to_vec());
    };
    let mut all = first.to_vec();
    for name in names.iter().skip(first.len()) {
        all.push(named.get::<Option<Value>>(name)?.unwrap_or_default());
    }
    named.assert_all_used()?;
    while all.last().is_some_and(Value::is_undefined) {
        all.pop();
    }
    Ok(all
        .into_iter()
        .map(|v| if v.is_undefined() { Value::from(()) } else { v })
        .collect())
}

fn text_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let one = || -> Result<&str, Error> {
        match args {
            [arg] => text_of(arg, method),
            _ => Err(wrong(method, "takes one text")),
        }
    };
    let none = || match args {
        [] => Ok(()),
        _ => Err(wrong(method, "takes no argument")),
    };
    let tuple = |parts: [&str; 3]| Value::from(Tuple::from(parts.map(Value::from)));
    let is = |test: fn(char) -> bool| -> Result<Value, Error> {
        none()?;
        Ok(Value::from(!text.is_empty() && text.chars().all(test)))
    };
    Ok(Some(match method {
        "partition" => match text.split_once(separator(one()?)?) {
            Some((head, tail)) => tuple([head, one()?, tail]),
            None => tuple([text, "", ""]),
        },
        "rpartition" => match text.rsplit_once(separator(one()?)?) {
            Some((head, tail)) => tuple([head, one()?, tail]),
            None => tuple(["", "", text]),
        },
        "removeprefix" => text.strip_prefix(one()?).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(one()?).unwrap_or(text).into(),
        "zfill" => zero_filled(text, width(args, method)?.0).into(),
        "center" => {
            let (width, fill) = width(args, method)?;
            let missing = width.saturating_sub(text.chars().count());
            // Python's: the odd one goes left when the width is odd.
            let left = missing / 2 + (missing & width & 1);
            filled(left, text, missing - left, fill)
        }
        "ljust" => {
            let (width, fill) = width(args, method)?;
            filled(0, text, width.saturating_sub(text.chars().count()), fill)
        }
        "rjust" => {
            let (width, fill) = width(args, method)?;
            filled(width.saturating_sub(text.chars().count()), text, 0, fill)
        }
        "find" | "index" => found(text, args, method, |t, what| t.find(what))?,
        "rfind" | "rindex" => found(text, args, method, |t, what| t.rfind(what))?,
        "count" => {
            let (_, what, _, part) = part_of(text, args, method)?;
            match part {
                Some(part) if what.is_empty() => part.chars().count() + 1,
                Some(part) => part.matches(what).count(),
                None => 0,
            }
            .into()
        }
        "startswith" | "endswith" if args.len() > 1 => {
            let (_, _, _, part) = part_of_any(text, &args[1..], method)?;
            let fits = |what: &str| {
                part.is_some_and(|p| match method {
                    "startswith" => p.starts_with(what),
                    _ => p.ends_with(what),
                })
            };
            match args[0].as_str() {
                Some(what) => fits(what).into(),
                None => {
                    let mut any = false;
                    for what in args[0].try_iter()? {
                        any |= fits(text_of(&what, method)?);
                    }
                    any.into()
                }
            }
        }
        "split" | "rsplit" => split(text, args, method)?,
        "splitlines" => {
            let keep = args.first().is_some_and(Value::is_true);
            split_lines(text, keep).into_iter().map(Value::from).collect::<Vec<_>>().into()
        }
        "strip" | "lstrip" | "rstrip" => {
            let strip: Box<dyn Fn(char) -> bool> = match args {
                [] => Box::new(is_space),
                [chars] if chars.is_none() => Box::new(is_space),
                _ => {
                    let chars = one()?;
                    Box::new(move |c| chars.contains(c))
                }
            };
            match method {
                "strip" => text.trim_matches(strip),
                "lstrip" => text.trim_start_matches(strip),
                _ => text.trim_end_matches(strip),
            }
            .into()
        }
        "isdigit" | "isdecimal" => is(|c| c.is_numeric() && !is_fraction_or_word(c))?,
        "isspace" => is(is_space)?,
        "isalpha" => is(char::is_alphabetic)?,
        "isalnum" => is(char::is_alphanumeric)?,
        "istitle" => {
            none()?;
            is_title(text).into()
        }
        "isidentifier" => {
            none()?;
            let mut chars = text.chars();
            (chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
                && chars.all(|c| c == '_' || c.is_alphanumeric()))
            .into()
        }
        "swapcase" => {
            none()?;
            text.chars()
                .map(|c| {
                    if c.is_uppercase() {
                        c.to_lowercase().collect::<String>()
                    } else {
                        c.to_uppercase().collect()
                    }
                })
                .collect::<String>()
                .into()
        }
        "casefold" => {
            none()?;
            text.to_lowercase().replace('ß', "ss").into()
        }
        "title" => {
            none()?;
            title(text).into()
        }
        "capitalize" => {
            none()?;
            let mut chars = text.chars();
            let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
            (first + &chars.as_str().to_lowercase()).into()
        }
        "expandtabs" => {
            let size = match args {
                [] => 8,
                [size] => usize::try_from(size.clone()).unwrap_or(0).min(64),
                _ => return Err(wrong(method, "takes one number")),
            };
            expand_tabs(text, size).into()
        }
        _ => return Ok(None),
    }))
}

fn list_method(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match (method, args) {
        ("index", [what]) => match list.try_iter()?.position(|item| item == *what) {
            Some(at) => at.into(),
            None => return Err(wrong(method, "found no such item in the list")),
        },
        ("copy", []) => list.clone(),
        _ => return Ok(None),
    }))
}

fn wrong(method: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{method} {what}"))
}

fn text_of<'a>(value: &'a Value, method: &str) -> Result<&'a str, Error> {
    value
        .as_str()
        .ok_or_else(|| wrong(method, &format!("takes a text, got {}", value.kind())))
}

fn separator(text: &str) -> Result<&str, Error> {
    if text.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    Ok(text)
}

/// The bound keeps a template from asking for gigabytes.
fn width(args: &[Value], method: &str) -> Result<(usize, char), Error> {
    let (width, fill) = match args {
        [width] => (width, " "),
        [width, fill] => (width, text_of(fill, method)?),
        _ => return Err(wrong(method, "takes a width and a character")),
    };
    let width = i64::try_from(width.clone())?.clamp(0, 1 << 20) as usize;
    let mut chars = fill.chars();
    match (chars.next(), chars.next()) {
        (Some(fill), None) => Ok((width, fill)),
        _ => Err(wrong(method, "takes a fill of one character")),
    }
}

fn filled(left: usize, text: &str, right: usize, fill: char) -> Value {
    let pad = |n| std::iter::repeat_n(fill, n).collect::<String>();
    (pad(left) + text + &pad(right)).into()
}

fn zero_filled(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let (sign, digits) = match text.chars().next() {
        Some('+' | '-') => text.split_at(1),
        _ => ("", text),
    };
    format!("{sign}{}{digits}", "0".repeat(missing))
}

/// (what to look for, where the part begins in characters, the part of `text` between the bounds).
type Part<'a> = (usize, &'a str, usize, Option<&'a str>);

fn part_of<'a>(text: &'a str, args: &'a [Value], method: &str) -> Result<Part<'a>, Error> {
    match args {
        [what, bounds @ ..] => {
            let (begin, _, count, part) = part_of_any(text, bounds, method)?;
            Ok((begin, text_of(what, method)?, count, part))
        }
        [] => Err(wrong(method, "takes a text")),
    }
}

/// The part between [begin, end], counted in characters, negative from the end.
fn part_of_any<'a>(text: &'a str, bounds: &[Value], method: &str) -> Result<Part<'a>, Error> {
    let count = text.chars().count();
    let place = |bound: Option<&Value>, default: usize| -> Result<usize, Error> {
        match bound {
            Some(v) if !v.is_none() => {
                let n = i64::try_from(v.clone())?;
                let n = if n < 0 { n + count as i64 } else { n };
                Ok(n.max(0) as usize)
            }
            _ => Ok(default),
        }
    };
    if bounds.len() > 2 {
        return Err(wrong(method, "takes a text and two bounds"));
    }
    let begin = place(bounds.first(), 0)?;
    let end = place(bounds.get(1), count)?.min(count);
    let byte = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let part = (begin <= end).then(|| &text[byte(begin)..byte(end)]);
    Ok((begin, "", count, part))
}

fn found(
    text: &str,
    args: &[Value],
    method: &str,
    find: fn(&str, &str) -> Option<usize>,
) -> Result<Value, Error> {
    let (begin, what, _, part) = part_of(text, args, method)?;
    match part.and_then(|p| find(p, what).map(|at| begin + p[..at].chars().count())) {
        Some(at) => Ok(at.into()),
        None if method.ends_with("index") => Err(wrong(method, "found no such text")),
        None => Ok((-1).into()),
    }
}

fn split(text: &str, args: &[Value], method: &str) -> Result<Value, Error> {
    let limit = match args.get(1) {
        Some(n) if !n.is_none() => usize::try_from(i64::try_from(n.clone())?).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let from_right = method == "rsplit";
    let parts: Vec<&str> = match args.first() {
        Some(sep) if !sep.is_none() => {
            let sep = separator(text_of(sep, method)?)?;
            let parts = limit.saturating_add(1);
            if from_right {
                let mut all: Vec<&str> = text.rsplitn(parts, sep).collect();
                all.reverse();
                all
            } else {
                text.splitn(parts, sep).collect()
            }
        }
        _ => split_at_blanks(text, limit, from_right),
    };
    Ok(parts.into_iter().map(Value::from).collect::<Vec<_>>().into())
}
