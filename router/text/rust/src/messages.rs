//! OpenAI-style chat messages brought into the one form that chat templates read rightly.
//!
//! Templates are written for messages that their own tools made, and fail silently on what clients
//! send. So:
//! * content: null or missing is "" (else the text "None" gets into the prompt); a list of text
//!   parts is joined to one string (else a tool result becomes a Python repr, or nothing); any
//!   other part (an image, a sound) is an error;
//! * role: "developer" becomes "system"; a role that the templates would drop silently is an error;
//! * tool_calls: `arguments` given as JSON text becomes an object; text that is no JSON object is
//!   an error; null tool_calls and reasoning fields are removed;
//! * reasoning: the field `reasoning` is read as `reasoning_content`, the name that templates know.

use serde_json::{Map, Value};

use crate::exact_json;

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

pub fn normalize(mut messages: Value) -> Result<Value, String> {
    let Some(list) = messages.as_array_mut() else {
        return Err(format!(
            "messages must be an array, got {}",
            type_name(&messages)
        ));
    };
    if list.is_empty() {
        return Err("messages must not be empty".into());
    }
    for (i, message) in list.iter_mut().enumerate() {
        let at = format!("messages[{i}]");
        let Some(message) = message.as_object_mut() else {
            return Err(format!(
                "{at} must be an object, got {}",
                type_name(message)
            ));
        };
        normalize_message(message, &at)?;
    }
    Ok(messages)
}

fn normalize_message(message: &mut Map<String, Value>, at: &str) -> Result<(), String> {
    let role = match message.get("role") {
        Some(Value::String(role)) => role.clone(),
        Some(other) => {
            return Err(format!(
                "{at}.role must be a string, got {}",
                type_name(other)
            ))
        }
        None => return Err(format!("{at}.role is missing")),
    };
    if !ROLES.contains(&role.as_str()) {
        return Err(format!(
            "{at}.role is {}, wanted one of {}",
            shown(&role),
            ROLES.join(", ")
        ));
    }
    if role == "developer" {
        message.insert("role".into(), "system".into());
    }

    let content = match message.get("content") {
        None | Some(Value::Null) => String::new(),
        Some(content) => flatten_content(content, at)?,
    };
    message.insert("content".into(), content.into());

    if let Some(reasoning) = message.shift_remove("reasoning") {
        if !reasoning.is_null()
            && matches!(message.get("reasoning_content"), None | Some(Value::Null))
        {
            message.insert("reasoning_content".into(), reasoning);
        }
    }
    match message.get("reasoning_content") {
        None | Some(Value::String(_)) => {}
        Some(Value::Null) => {
            message.shift_remove("reasoning_content");
        }
        Some(other) => {
            return Err(format!(
                "{at}.reasoning_content must be a string, got {}",
                type_name(other)
            ))
        }
    }

    match message.get_mut("tool_calls") {
        None => {}
        Some(Value::Null) => {
            message.shift_remove("tool_calls");
        }
        Some(Value::Array(calls)) => {
            for (i, call) in calls.iter_mut().enumerate() {
                normalize_tool_call(call, &format!("{at}.tool_calls[{i}]"))?;
            }
        }
        Some(other) => {
            return Err(format!(
                "{at}.tool_calls must be an array, got {}",
                type_name(other)
            ))
        }
    }
    Ok(())
}

fn flatten_content(content: &Value, at: &str) -> Result<String, String> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => {
            return Err(format!(
                "{at}.content must be a string or an array of parts, got {}",
                type_name(other)
            ))
        }
    };
    let mut text = String::new();
    for (i, part) in parts.iter().enumerate() {
        match part {
            Value::String(piece) => text.push_str(piece),
            Value::Object(part) => {
                // Several names for the same: the Responses API's input and output, and refusals
                // that come back in a history.
                let kind = part.get("type").and_then(Value::as_str);
                let field = if kind == Some("refusal") { "refusal" } else { "text" };
                match (kind, part.get(field)) {
                    (Some("text" | "input_text" | "output_text" | "refusal"), piece) => {
                        match piece {
                            Some(Value::String(piece)) => text.push_str(piece),
                            _ => {
                                return Err(format!("{at}.content[{i}].{field} must be a string"))
                            }
                        }
                    }
                    (Some(kind), _) => {
                        return Err(format!(
                            "{at}.content[{i}].type is {}, only \"text\" is supported",
                            shown(kind)
                        ))
                    }
                    (None, _) => return Err(format!("{at}.content[{i}].type must be a string")),
                }
            }
            other => {
                return Err(format!(
                    "{at}.content[{i}] must be an object, got {}",
                    type_name(other)
                ))
            }
        }
    }
    Ok(text)
}

fn normalize_tool_call(call: &mut Value, at: &str) -> Result<(), String> {
    let Some(call) = call.as_object_mut() else {
        return Err(format!("{at} must be an object, got {}", type_name(call)));
    };
    let function = match call.get_mut("function") {
        Some(Value::Object(function)) => function,
        Some(other) => {
            return Err(format!(
                "{at}.function must be an object, got {}",
                type_name(other)
            ))
        }
        None => return Err(format!("{at}.function is missing")),
    };
    let at = format!("{at}.function");
    if !matches!(function.get("name"), Some(Value::String(name)) if !name.is_empty()) {
        return Err(format!("{at}.name must be a string that is not empty"));
    }
    let arguments = match function.get("arguments") {
        Some(Value::Object(object)) if exact_json::long_integer(object).is_none() => return Ok(()),
        // Clients write a call without arguments in all three ways.
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Map::new()),
        Some(Value::String(text)) => match exact_json::parse(text.as_bytes()) {
            Ok(Value::Object(object)) if exact_json::long_integer(&object).is_none() => {
                Value::Object(object)
            }
            Ok(other) => {
                return Err(format!(
                    "{at}.arguments must be a JSON object, got {}",
                    type_name(&other)
                ))
            }
            Err(e) => return Err(format!("{at}.arguments is not valid JSON: {e}")),
        },
        Some(other) => {
            return Err(format!(
                "{at}.arguments must be a JSON object or its text, got {}",
                type_name(other)
            ))
        }
    };
    function.insert("arguments".into(), arguments);
    Ok(())
}

/// A client's text as a message quotes it.
fn shown(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(object) if exact_json::long_integer(object).is_some() => "a number",
        Value::Object(_) => "an object",
    }
}
