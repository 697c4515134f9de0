//! A checkpoint's chat template, rendered as transformers does with Jinja2 (trim_blocks,
//! lstrip_blocks, loop controls, Python methods on strings and dicts, `raise_exception`).
//!
//! `strftime_now` is left out on purpose: a prompt depends on the request alone.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde_json::Value as Json;

use crate::messages::type_name;
use crate::python_json;

pub struct ChatTemplate {
    env: Environment<'static>,
    name: String,
    globals: serde_json::Map<String, Json>,
}

impl ChatTemplate {
    pub fn new(name: &str, source: &str, globals: Json) -> Result<ChatTemplate, String> {
        let Json::Object(globals) = globals else {
            return Err(format!(
                "the globals must be an object, got {}",
                type_name(&globals)
            ));
        };
        let mut env = Environment::new();
        env.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(|e| e.to_string())?,
        );
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_filter("tojson", python_json::tojson);
        // minijinja says that none is iterable, Jinja2 does not; templates branch on it.
        env.add_test("iterable", |v: &Value| !v.is_none() && v.try_iter().is_ok());
        env.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        env.add_template_owned(name.to_string(), source.to_string())
            .map_err(|e| describe(&e))?;
        Ok(ChatTemplate {
            env,
            name: name.to_string(),
            globals,
        })
    }

    pub fn render(
        &self,
        messages: Json,
        tools: Json,
        kwargs: Json,
        add_generation_prompt: bool,
    ) -> Result<String, String> {
        if !messages.is_array() {
            return Err(format!(
                "messages must be an array, got {}",
                type_name(&messages)
            ));
        }
        if !matches!(tools, Json::Array(_) | Json::Null) {
            return Err(format!(
                "tools must be an array or null, got {}",
                type_name(&tools)
            ));
        }
        let Json::Object(kwargs) = kwargs else {
            return Err(format!(
                "the template's arguments must be an object, got {}",
                type_name(&kwargs)
            ));
        };
        let mut context = self.globals.clone();
        for (key, value) in kwargs {
            if matches!(key.as_str(), "messages" | "tools" | "add_generation_prompt") {
                return Err(format!(
                    "{key} has a field of its own and is no argument of the template"
                ));
            }
            context.insert(key, value);
        }
        context.insert("messages".into(), messages);
        context.insert("tools".into(), tools);
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());

        let template = self
            .env
            .get_template(&self.name)
            .map_err(|e| describe(&e))?;
        template
            .render(Value::from(Serde(&context)))
            .map_err(|e| describe(&e))
    }
}

/// The message with its causes: "syntax error: unexpected end of input (in
/// chat_template.jinja:12)".
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
