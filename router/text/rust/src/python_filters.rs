//! Jinja2's filters and tests that minijinja has otherwise: other arguments, errors where Jinja2
//! gives a default, other answers for none, bools and texts.

use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use crate::exact_json::LongInteger;
use crate::python_format;

pub fn install(env: &mut Environment) {
    for name in ["default", "d"] {
        env.add_filter(name, default);
    }
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("replace", replace);
    env.add_filter("string", |state: &State, v: &Value| match v.kind() {
        ValueKind::Number => Ok(Value::from(python_format::text(v))),
        _ => minijinja::filters::string(state, v),
    });
    // Templates branch on these.
    env.add_test("iterable", |v: &Value| !v.is_none() && v.try_iter().is_ok());
    env.add_test("sequence", |v: &Value| {
        matches!(v.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
    });
    env.add_test("integer", |v: &Value| is_long(v) || v.is_integer());
    env.add_test("number", |v: &Value| {
        is_long(v) || v.is_number() || v.kind() == ValueKind::Bool
    });
    env.add_test("callable", |v: &Value| {
        v.kind() == ValueKind::Plain && !is_long(v)
    });
}

fn is_long(value: &Value) -> bool {
    value.downcast_object_ref::<LongInteger>().is_some()
}

/// The argument at its place or by its name.
fn argument(
    given: Option<Value>,
    named: &Kwargs,
    name: &str,
) -> Result<Option<Value>, Error> {
    Ok(given.or(named.get::<Option<Value>>(name)?))
}

/// None is a value of its own here, so the arguments are looked at one by one.
fn default(value: &Value, arguments: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let at = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let by_name = named.has(name).then(|| named.get(name)).transpose()?;
        Ok(arguments.get(place).cloned().or(by_name))
    };
    let other = at(0, "default_value")?;
    let by_truth = at(1, "boolean")?.is_some_and(|v| v.is_true());
    named.assert_all_used()?;
    if arguments.len() > 2 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    if value.is_undefined() || (by_truth && !value.is_true()) {
        return Ok(other.unwrap_or_else(|| Value::from("")));
    }
    Ok(value.clone())
}

fn int(
    value: &Value,
    other: Option<Value>,
    base: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let other = argument(other, &named, "default")?.unwrap_or_else(|| Value::from(0));
    let base = argument(base, &named, "base")?.unwrap_or_else(|| Value::from(10));
    named.assert_all_used()?;
    let base = u32::try_from(base)?.clamp(2, 36);
    if is_long(value) || value.is_integer() {
        return Ok(value.clone());
    }
    Ok(match value.kind() {
        ValueKind::Bool => Value::from(i64::from(value.is_true())),
        ValueKind::Number => whole(f64::try_from(value.clone())?).unwrap_or(other),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim().replace('_', "");
            let text = text.strip_prefix('+').unwrap_or(&text);
            let prefix = match base {
                16 => ["0x", "0X"],
                8 => ["0o", "0O"],
                _ => ["0b", "0B"],
            };
            let is_prefixed = base != 10 && prefix.iter().any(|p| text.starts_with(p));
            let text = if is_prefixed { &text[2..] } else { text };
            match i128::from_str_radix(text, base) {
                Ok(n) => i64::try_from(n).map_or(Value::from(n), Value::from),
                Err(_) => text.parse().ok().and_then(whole).unwrap_or(other),
            }
        }
        _ => other,
    })
}

fn whole(x: f64) -> Option<Value> {
    (x.is_finite() && x.abs() < 1e38).then(|| {
        let n = x.trunc() as i128;
        i64::try_from(n).map_or(Value::from(n), Value::from)
    })
}

fn float(value: &Value, other: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let other = argument(other, &named, "default")?.unwrap_or_else(|| Value::from(0.0));
    named.assert_all_used()?;
    Ok(match value.kind() {
        ValueKind::Bool => Value::from(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => Value::from(f64::try_from(value.clone())?),
        ValueKind::String => match value.as_str().unwrap_or_default().trim().parse::<f64>() {
            Ok(x) => Value::from(x),
            Err(_) => other,
        },
        _ => other,
    })
}

fn replace(
    value: &Value,
    old: &Value,
    new: &Value,
    count: Option<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let count = argument(count, &named, "count")?.filter(|v| !v.is_none());
    named.assert_all_used()?;
    let (text, old, new) = (value.to_string(), old.to_string(), new.to_string());
    Ok(match count {
        None => text.replace(&old, &new),
        Some(n) => text.replacen(&old, &new, usize::try_from(i64::try_from(n)?).unwrap_or(usize::MAX)),
    })
}
