//! Added tokens that stand beside tokenizer.json: in tokenizer_config.json, special_tokens_map.json
//! and added_tokens.json, merged as transformers' tokenizer classes merge them.
//!
//! `added_tokens_decoder` (id -> token) comes first, in order of ids; where a config has none, the
//! two older files are read in its place. Then follow the named special tokens (every `..._token`
//! that is a text) and the extra ones. A token that the tokenizer knows keeps its id and takes the
//! flags given last; a new one takes the next free id. transformers ignores the id that a file
//! gives; here one that differs from the token's place is an error, since the model was trained on
//! one of the two.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json};
use tokenizers::AddedToken;

/// The contents of the files beside tokenizer.json; empty text: no such file.
pub struct SideFiles<'a> {
    pub config: &'a [u8],
    pub special_tokens_map: &'a [u8],
    pub added_tokens: &'a [u8],
}

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";

/// In the order in which new ones get their ids.
const STANDARD: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A token with the id that a file gives it, and that file.
struct Declared {
    id: u32,
    token: AddedToken,
    file: &'static str,
}

/// How many tokens the tokenizer did not know before.
pub fn merge(inner: &mut tokenizers::Tokenizer, files: &SideFiles) -> Result<usize, String> {
    let mut config = object(files.config, CONFIG)?;
    let mut declared = Vec::new();
    match config.get("added_tokens_decoder") {
        Some(Json::Object(decoder)) => {
            for (id, token) in decoder {
                let at = format!("{CONFIG}: added_tokens_decoder[{id:?}]");
                declared.push(Declared {
                    id: id
                        .parse()
                        .map_err(|_| format!("{at}: the key must be a token id"))?,
                    token: parse_token(token, false).ok_or_else(|| {
                        format!("{at}: must be an object with the token's content")
                    })?,
                    file: CONFIG,
                });
            }
        }
        None | Some(Json::Null) => read_older_files(inner, files, &mut config, &mut declared)?,
        Some(_) => return Err(format!("{CONFIG}: added_tokens_decoder must be an object")),
    }
    declared.sort_by_key(|d| d.id);
    let (named, extra) = special_tokens(&config)?;
    add(inner, declared, named, extra)
}

fn add(
    inner: &mut tokenizers::Tokenizer,
    declared: Vec<Declared>,
    named: Vec<AddedToken>,
    extra: Vec<AddedToken>,
) -> Result<usize, String> {
    for d in &declared {
        if let Some(place) = inner.token_to_id(&d.token.content) {
            if place != d.id {
                return Err(misplaced(d, &format!("tokenizer.json has it at {place}")));
            }
        } else if let Some(other) = inner.id_to_token(d.id) {
            return Err(misplaced(
                d,
                &format!("tokenizer.json has {other:?} there"),
            ));
        }
    }
    let known = inner.get_added_tokens_decoder();
    let names: HashSet<&str> = named.iter().map(|t| t.content.as_str()).collect();
    let mut to_add: Vec<AddedToken> = Vec::new();
    let mut listed: HashSet<String> = known.values().map(|t| t.content.clone()).collect();
    for d in &declared {
        listed.insert(d.token.content.clone());
        let mut token = d.token.clone();
        token.special |= names.contains(token.content.as_str());
        if known.get(&d.id).map(flags) != Some(flags(&d.token)) {
            to_add.push(token);
        }
    }
    for token in named.iter().chain(&extra) {
        if listed.insert(token.content.clone()) {
            to_add.push(token.clone());
        }
    }
    let new = to_add
        .iter()
        .filter(|t| inner.token_to_id(&t.content).is_none())
        .count();
    inner.add_tokens(to_add).map_err(|e| e.to_string())?;
    for d in &declared {
        match inner.token_to_id(&d.token.content) {
            Some(place) if place == d.id => {}
            Some(place) => {
                return Err(misplaced(
                    d,
                    &format!("the next free place in the vocabulary is {place}"),
                ))
            }
            None => return Err(misplaced(d, "it cannot be added")),
        }
    }
    Ok(new)
}

fn misplaced(d: &Declared, why: &str) -> String {
    format!(
        "{} gives the added token {:?} the id {}, but {why}",
        d.file, d.token.content, d.id
    )
}

/// `AddedToken` compares contents alone.
fn flags(token: &AddedToken) -> (&str, bool, bool, bool, bool, bool) {
    (
        &token.content,
        token.special,
        token.lstrip,
        token.rstrip,
        token.normalized,
        token.single_word,
    )
}

/// special_tokens_map.json's members become the config's; added_tokens.json (content -> id) and
/// tokenizer.json's own list stand for the decoder.
fn read_older_files(
    inner: &tokenizers::Tokenizer,
    files: &SideFiles,
    config: &mut Map<String, Json>,
    declared: &mut Vec<Declared>,
) -> Result<(), String> {
    for (key, value) in object(files.special_tokens_map, SPECIAL_TOKENS_MAP)? {
        config.insert(key, value);
    }
    let (named, extra) = special_tokens(config)?;
    let special: HashSet<&str> = named
        .iter()
        .chain(&extra)
        .map(|t| t.content.as_str())
        .collect();
    let mut by_id = BTreeMap::new();
    for (content, id) in object(files.added_tokens, ADDED_TOKENS)? {
        let id = id
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| format!("{ADDED_TOKENS}: the id of {content:?} must be a token id"))?;
        let is_special = special.contains(content.as_str());
        by_id.insert(id, AddedToken::from(content, is_special).normalized(!is_special));
    }
    for (id, token) in inner.get_added_tokens_decoder() {
        if by_id.get(&id).is_some_and(|t| t.content == token.content) {
            by_id.remove(&id);
        }
    }
    declared.extend(by_id.into_iter().map(|(id, token)| Declared {
        id,
        token,
        file: ADDED_TOKENS,
    }));
    Ok(())
}

/// The named special tokens and the extra ones, without ids.
fn special_tokens(
    config: &Map<String, Json>,
) -> Result<(Vec<AddedToken>, Vec<AddedToken>), String> {
    let standard = STANDARD.iter().filter_map(|key| config.get(*key));
    let others = config
        .iter()
        .filter(|(key, _)| key.ends_with("_token") && !STANDARD.contains(&key.as_str()))
        .map(|(_, value)| value);
    let mut named: Vec<AddedToken> = standard
        .chain(others)
        .filter_map(|value| parse_token(value, true))
        .collect();
    let mut extra = Vec::new();
    for key in ["extra_special_tokens", "additional_special_tokens"] {
        let token = |value: &Json| {
            parse_token(value, true)
                .ok_or_else(|| format!("{CONFIG}: {key} has a token without text"))
        };
        match config.get(key) {
            None | Some(Json::Null) => {}
            // A list under the newer name stands for the one under the older.
            Some(Json::Array(_)) if !extra.is_empty() => {}
            Some(Json::Array(items)) => {
                for item in items {
                    extra.push(token(item)?);
                }
            }
            Some(Json::Object(items)) => {
                for item in items.values() {
                    named.push(token(item)?);
                }
            }
            Some(_) => return Err(format!("{CONFIG}: {key} must be a list or an object")),
        }
    }
    Ok((named, extra))
}

/// "text" or {"content": "text", ...}; None for anything else and for the empty text.
fn parse_token(value: &Json, special: bool) -> Option<AddedToken> {
    let (content, flags) = match value {
        Json::String(content) => (content, None),
        Json::Object(token) => (
            match token.get("content") {
                Some(Json::String(content)) => content,
                _ => return None,
            },
            Some(token),
        ),
        _ => return None,
    };
    if content.is_empty() {
        return None;
    }
    let flag = |name: &str, default: bool| {
        flags
            .and_then(|f| f.get(name))
            .and_then(Json::as_bool)
            .unwrap_or(default)
    };
    let special = special || flag("special", false);
    Some(
        AddedToken::from(content.as_str(), special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special)),
    )
}

fn object(json: &[u8], file: &str) -> Result<Map<String, Json>, String> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(json) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(_) => Err(format!("{file}: not a JSON object")),
        Err(e) => Err(format!("{file}: not valid JSON: {e}")),
    }
}
