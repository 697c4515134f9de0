//! A checkpoint's chat template, rendered as transformers does with Jinja2 (trim_blocks,
//! lstrip_blocks, loop controls, `generation` blocks, Python methods on strings and dicts, `%` on
//! strings, `raise_exception`, `strftime_now`).

use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde_json::Value as Json;

use crate::exact_json;
use crate::local_time;
use crate::messages::type_name;
use crate::user_spans::{Marks, MarksInUse};
use crate::{python_filters, python_format, python_json, python_methods, template_source};

pub struct ChatTemplate {
    env: Environment<'static>,
    name: String,
    source: String,
    globals: serde_json::Map<String, Json>,
}

/// What one render is given.
pub struct Prompt {
    pub messages: Json,
    pub tools: Json,
    pub kwargs: Json,
    pub add_generation_prompt: bool,
    /// What the local clock shows, in seconds since 1970-01-01 00:00.
    pub local_seconds: i64,
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
        env.set_unknown_method_callback(python_methods::unknown_method);
        env.set_formatter(|out, state, value| match value.kind() {
            ValueKind::Number => Ok(out.write_str(&python_format::text(value))?),
            _ => minijinja::escape_formatter(out, state, value),
        });
        env.add_filter("tojson", python_json::tojson);
        env.add_filter(template_source::PERCENT_FILTER, python_format::percent);
        python_filters::install(&mut env);
        env.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        env.add_template_owned(name.to_string(), template_source::prepare(source))
            .map_err(|e| describe(&e))?;
        Ok(ChatTemplate {
            env,
            name: name.to_string(),
            source: source.to_string(),
            globals,
        })
    }

    pub fn render(&self, prompt: Prompt) -> Result<String, String> {
        let Prompt {
            messages, tools, ..
        } = prompt;
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
        let Json::Object(kwargs) = prompt.kwargs else {
            return Err(format!(
                "the template's arguments must be an object, got {}",
                type_name(&prompt.kwargs)
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
        context.insert(
            "add_generation_prompt".into(),
            prompt.add_generation_prompt.into(),
        );
        let local_seconds = prompt.local_seconds;
        let clock = Value::from_function(move |pattern: &str| {
            local_time::format(local_seconds, pattern)
        });
        let variables = context
            .iter()
            .map(|(key, value)| (key.as_str(), exact_json::to_template_value(value)))
            .chain(std::iter::once(("strftime_now", clock)));

        let template = self
            .env
            .get_template(&self.name)
            .map_err(|e| describe(&e))?;
        template.render(Value::from_pairs(variables)).map_err(|e| describe(&e))
    }

    /// The text, and the parts of it (byte ranges in order) where a text of `tokens` stands that
    /// the template did not write.
    pub fn render_marked(
        &self,
        mut prompt: Prompt,
        tokens: &[String],
    ) -> Result<(String, Vec<Range<usize>>), String> {
        let values = [&prompt.messages, &prompt.tools, &prompt.kwargs];
        let marks = Marks::not_in(&self.source, &values)
            .ok_or("the texts leave no character to mark added tokens with")?;
        marks.mark_messages(&mut prompt.messages, tokens);
        marks.mark(&mut prompt.tools, tokens);
        marks.mark(&mut prompt.kwargs, tokens);
        let in_use = MarksInUse::new(marks);
        let rendered = self.render(prompt);
        drop(in_use);
        let without_marks = |error: String| marks.take_out(&error).0;
        Ok(marks.take_out(&rendered.map_err(without_marks)?))
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
