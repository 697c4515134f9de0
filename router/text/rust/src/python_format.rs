//! Python's `%` on texts, and numbers as Python prints them.

use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use crate::exact_json::LongInteger;

/// A field as wide as this is a mistake or an attack.
const MAX_WIDTH: usize = 1 << 16;

/// `left % right`: the remainder of numbers, else the text `left` with its fields filled.
pub fn percent(left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(text) = left.as_str() {
        return fill(text, right).map(Value::from);
    }
    remainder(left, right)
}

fn remainder(left: &Value, right: &Value) -> Result<Value, Error> {
    let wrong = || {
        let text = format!("cannot take {} % {}", left.kind(), right.kind());
        Error::new(ErrorKind::InvalidOperation, text)
    };
    if let (Ok(a), Ok(b)) = (i128::try_from(left.clone()), i128::try_from(right.clone())) {
        if !is_float(left) && !is_float(right) {
            let rest = a.checked_rem(b).ok_or_else(wrong)?;
            let rest = if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest };
            return Ok(i64::try_from(rest).map_or(Value::from(rest), Value::from));
        }
    }
    match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
        (Ok(a), Ok(b)) if b != 0.0 => Ok(Value::from(a - b * (a / b).floor())),
        _ => Err(wrong()),
    }
}

fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

#[derive(Default)]
struct Field {
    left: bool,
    zero: bool,
    sign: Option<char>,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, text.into())
}

fn fill(text: &str, right: &Value) -> Result<String, Error> {
    let tuple = right.downcast_object_ref::<Tuple>();
    let arguments: Vec<Value> = match tuple {
        Some(tuple) => tuple.iter().cloned().collect(),
        None => vec![right.clone()],
    };
    let mut next = arguments.iter();
    let mut by_name = false;
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut argument = None;
        if chars.peek() == Some(&'(') {
            chars.next();
            let name: String = chars.by_ref().take_while(|c| *c != ')').collect();
            by_name = true;
            argument = Some(right.get_item(&Value::from(name))?);
        }
        let mut field = Field::default();
        while let Some(flag @ ('-' | '0' | '+' | ' ' | '#')) = chars.peek().copied() {
            chars.next();
            match flag {
                '-' => field.left = true,
                '0' => field.zero = true,
                '#' => field.alternate = true,
                sign => field.sign = field.sign.filter(|s| *s == '+').or(Some(sign)),
            }
        }
        let mut take = || next.next().cloned().ok_or_else(|| invalid("not enough arguments for format string"));
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars>| -> Result<usize, Error> {
            if chars.peek() == Some(&'*') {
                chars.next();
                return Ok(usize::try_from(take()?)?.min(MAX_WIDTH));
            }
            let mut n = 0usize;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                n = (n * 10 + digit as usize).min(MAX_WIDTH);
            }
            Ok(n)
        };
        field.width = number(&mut chars)?;
        if chars.peek() == Some(&'.') {
            chars.next();
            field.precision = Some(number(&mut chars)?);
        }
        while matches!(chars.peek(), Some('h' | 'l' | 'L')) {
            chars.next();
        }
        let Some(conversion) = chars.next() else {
            return Err(invalid("incomplete format"));
        };
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = match argument {
            Some(value) => value,
            None => take()?,
        };
        out.push_str(&convert(&value, conversion, &field)?);
    }
    let all_used = next.next().is_none() || by_name || (tuple.is_none() && right.kind() == ValueKind::Map);
    if !all_used {
        return Err(invalid("not all arguments converted during string formatting"));
    }
    Ok(out)
}

fn convert(value: &Value, conversion: char, field: &Field) -> Result<String, Error> {
    let text = match conversion {
        's' | 'r' | 'a' => {
            let text = if conversion == 's' { text(value) } else { repr(value) };
            let cut = field.precision.unwrap_or(usize::MAX);
            return Ok(padded("", &text.chars().take(cut).collect::<String>(), field, false));
        }
        'c' => {
            let c = match value.as_str() {
                Some(text) => text.to_string(),
                None => char::from_u32(u32::try_from(value.clone())?)
                    .ok_or_else(|| invalid("%c takes a character"))?
                    .to_string(),
            };
            return Ok(padded("", &c, field, false));
        }
        'd' | 'i' | 'u' => {
            let digits = match value.downcast_object_ref::<LongInteger>() {
                Some(long) => long.digits().to_string(),
                None if is_float(value) => format!("{:.0}", f64::try_from(value.clone())?.trunc()),
                None => integer(value, conversion)?.to_string(),
            };
            let (sign, digits) = match digits.strip_prefix('-') {
                Some(digits) => ("-", digits.to_string()),
                None => ("", digits),
            };
            let missing = field.precision.unwrap_or(0).saturating_sub(digits.len());
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        'x' | 'X' | 'o' => {
            let n = integer(value, conversion)?;
            let (prefix, digits) = match conversion {
                'x' => ("0x", format!("{:x}", n.unsigned_abs())),
                'X' => ("0X", format!("{:X}", n.unsigned_abs())),
                _ => ("0o", format!("{:o}", n.unsigned_abs())),
            };
            let prefix = if field.alternate { prefix } else { "" };
            format!("{}{prefix}{digits}", if n < 0 { "-" } else { "" })
        }
        'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
            if value.kind() != ValueKind::Number && value.kind() != ValueKind::Bool {
                return Err(invalid(format!("%{conversion} takes a number, got {}", value.kind())));
            }
            let x = f64::try_from(value.clone()).unwrap_or(if value.is_true() { 1.0 } else { 0.0 });
            let digits = field.precision.unwrap_or(6).min(400);
            let text = match conversion.to_ascii_lowercase() {
                'f' => format!("{x:.digits$}"),
                'e' => with_exponent(x, digits),
                _ => general(x, digits.max(1), field.alternate),
            };
            match conversion.is_ascii_uppercase() {
                true => text.to_uppercase(),
                false => text,
            }
        }
        other => return Err(invalid(format!("unsupported format character {other:?}"))),
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-".to_string(), digits),
        None => (field.sign.map_or(String::new(), String::from), text.as_str()),
    };
    Ok(padded(&sign, digits, field, true))
}

fn integer(value: &Value, conversion: char) -> Result<i128, Error> {
    match value.kind() {
        ValueKind::Bool => Ok(i128::from(value.is_true())),
        ValueKind::Number if !is_float(value) => i128::try_from(value.clone()),
        kind => Err(invalid(format!("%{conversion} takes an integer, got {kind}"))),
    }
}

fn padded(sign: &str, text: &str, field: &Field, is_number: bool) -> String {
    let missing = field.width.saturating_sub(sign.len() + text.chars().count());
    if field.left {
        format!("{sign}{text}{}", " ".repeat(missing))
    } else if field.zero && is_number {
        format!("{sign}{}{text}", "0".repeat(missing))
    } else {
        format!("{}{sign}{text}", " ".repeat(missing))
    }
}

/// 1.5e+00, with two digits of exponent at least.
fn with_exponent(x: f64, digits: usize) -> String {
    if !x.is_finite() {
        return float_text(x);
    }
    let text = format!("{x:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn general(x: f64, digits: usize, keep_zeros: bool) -> String {
    if !x.is_finite() {
        return float_text(x);
    }
    let scientific = with_exponent(x, digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    let without_zeros = |text: &str| match (text.contains('.'), keep_zeros) {
        (true, false) => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        _ => text.to_string(),
    };
    if power < -4 || power >= digits as i32 {
        return format!("{}e{exponent}", without_zeros(mantissa));
    }
    let decimals = (digits as i32 - 1 - power).max(0) as usize;
    without_zeros(&format!("{x:.decimals$}"))
}

/// `str(value)`.
pub fn text(value: &Value) -> String {
    match is_float(value) {
        true => f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float_text),
        false => value.to_string(),
    }
}

fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => {
            let list = Value::from(vec![value.clone()]).to_string();
            list[1..list.len() - 1].to_string()
        }
        _ => text(value),
    }
}

fn float_text(x: f64) -> String {
    if x.is_nan() {
        "nan".into()
    } else if x.is_infinite() {
        if x > 0.0 { "inf" } else { "-inf" }.into()
    } else {
        finite_repr(x)
    }
}

/// Python's `repr` of a finite float: shortest digits that read back the same, an exponent below
/// 1e-4 and from 1e16.
pub fn finite_repr(x: f64) -> String {
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}
