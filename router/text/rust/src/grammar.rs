//! Grammars of llguidance over a checkpoint's vocabulary.

use std::sync::Arc;

use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Logger, Matcher, ParserFactory};

use crate::tokenizer::Tokenizer;

/// Compiling recurses into what it compiles. Only what is used becomes memory.
const COMPILE_STACK_BYTES: usize = 256 << 20;

/// The trie cannot hold longer ones. Such a token is never allowed.
const MAX_TOKEN_BYTES: usize = 1000;

/// Marks the end of a grammar's text. No model's token: it has the first id after the vocabulary.
const END_TOKEN: &[u8] = b"\xFF<|sheaf_end_of_grammar|>";

pub enum GrammarError {
    /// The grammar or the token is at fault.
    Invalid(String),
    /// Too complex at this place.
    Exhausted(String),
    Defect(String),
}

struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            // A tokenizer may normalize; forced text must come out as it is.
            match self.tokenizer.encode_plain(text) {
                Ok(ids) if self.trie.decode_raw(&ids) == text.as_bytes() => ids,
                _ => self.trie.greedy_tokenize(text.as_bytes()),
            }
        })
    }
}

pub struct GrammarFactory {
    parsers: ParserFactory,
    capabilities: InferenceCapabilities,
    /// One bit a token id: has text, and is no control token (end of turn and the like).
    usable: Vec<u32>,
    /// The usable added tokens.
    added: Vec<u32>,
}

impl GrammarFactory {
    pub fn new(tokenizer: Arc<Tokenizer>, vocab_size: usize) -> Result<GrammarFactory, String> {
        let mut usable = vec![0u32; vocab_size.div_ceil(32)];
        let mut added = Vec::new();
        let mut words = Vec::with_capacity(vocab_size + 1);
        for id in 0..vocab_size {
            let info = tokenizer.token(id as u32);
            let mut word = Vec::new();
            if info.exists && !info.special && info.bytes.len() <= MAX_TOKEN_BYTES {
                // An added token is a symbol of its own: it is not the text that it shows.
                if info.added {
                    word.push(TokTrie::SPECIAL_TOKEN_MARKER);
                }
                // No text has this byte, and here it means an added token.
                if info.added || info.bytes.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
                    word.extend_from_slice(info.bytes);
                }
            }
            if !word.is_empty() {
                usable[id / 32] |= 1 << (id % 32);
                if info.added {
                    added.push(id as u32);
                }
            }
            words.push(word);
        }
        words.push(END_TOKEN.to_vec());
        let info = TokRxInfo::new(words.len() as u32, vocab_size as TokenId);
        let trie = TokTrie::from(&info, &words);
        let env: TokEnv = Arc::new(Vocabulary { tokenizer, trie });
        let capabilities = InferenceCapabilities {
            ff_tokens: true,
            ..Default::default()
        };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let parsers =
            ParserFactory::new(&env, capabilities.clone(), &slices).map_err(|e| e.to_string())?;
        Ok(GrammarFactory {
            parsers,
            capabilities,
            usable,
            added,
        })
    }

    /// `lark` in llguidance's dialect. The first mask is computed too: what fails there is wrong
    /// with the grammar.
    /// `may_be_ambiguous`: written by a client, not made here.
    pub fn compile(
        self: &Arc<Self>,
        lark: String,
        may_be_ambiguous: bool,
    ) -> Result<Grammar, GrammarError> {
        let compiled = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("grammar".into())
                .stack_size(COMPILE_STACK_BYTES)
                .spawn_scoped(scope, || {
                    let grammar = GrammarInit::Serialized(TopLevelGrammar::from_lark(lark));
                    Matcher::new(self.parsers.create_parser_from_init_ext(
                        grammar,
                        Logger::new(0, 0),
                        self.capabilities.clone(),
                        limits(may_be_ambiguous),
                    ))
                })
                .map_err(|e| GrammarError::Defect(format!("cannot start a thread: {e}")))?
                .join()
                .map_err(|_| GrammarError::Defect("compiling panicked".into()))
        })?;
        if let Some(message) = compiled.get_error() {
            // llguidance counts symbols and nested grammars in 16 bits and asserts that they fit.
            let is_too_large =
                message.contains("symbols.len()") || message.contains("class too large");
            return Err(if is_too_large {
                GrammarError::Invalid("too large: more than 65,000 symbols or grammars".into())
            } else if message.starts_with("panic") {
                GrammarError::Defect(clean(&message))
            } else {
                let message = clean(&message);
                // Places in a text that the client has not written say nothing to it.
                let said = message.split_once("failed to compile JSON schema: ");
                GrammarError::Invalid(match said {
                    Some((_, said)) if !may_be_ambiguous => said.to_string(),
                    _ => message,
                })
            });
        }
        let mut grammar = Grammar {
            factory: Arc::clone(self),
            matcher: compiled,
            accepting: false,
            finished: false,
        };
        grammar.look()?;
        let mut first = vec![0; self.usable.len()];
        match grammar.mask(&mut first) {
            Err(GrammarError::Exhausted(message)) => {
                Err(GrammarError::Invalid(format!("too complex: {message}")))
            }
            Err(e) => Err(e),
            Ok(()) => Ok(grammar),
        }
    }
}

/// A mask is worth some milliseconds at most, a grammar some tens of megabytes.
fn limits(may_be_ambiguous: bool) -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: if may_be_ambiguous { 300_000 } else { 1_000_000 },
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        // A step costs the square of the row in an ambiguous grammar; otherwise a row is as long as
        // there are ways to go on: properties, tools, alternatives.
        max_items_in_row: if may_be_ambiguous { 1_000 } else { 20_000 },
        max_lexer_states: 20_000,
        max_grammar_size: 250_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// llguidance's message as one line, without the source that it draws.
fn clean(message: &str) -> String {
    let is_drawing = |line: &str| {
        let line = line.trim_start();
        let after_number = line.trim_start_matches(|c: char| c.is_ascii_digit());
        (line.len() > after_number.len() && after_number.starts_with(" |"))
            || line.chars().all(|c| c == '^' || c == ' ')
    };
    let message = message.split("<backtrace>").next().unwrap_or(message);
    let lines: Vec<&str> = message
        .lines()
        .filter(|line| !is_drawing(line) && *line != "<non-verbose/>")
        .map(str::trim)
        .collect();
    lines.join(" ")
}

/// A place in a grammar.
pub struct Grammar {
    factory: Arc<GrammarFactory>,
    matcher: Matcher,
    accepting: bool,
    finished: bool,
}

impl Clone for Grammar {
    /// With lexer tables of its own: what one sequence has explored changes nothing for another, in
    /// time or in limits, and neither waits for the other.
    fn clone(&self) -> Grammar {
        Grammar {
            factory: Arc::clone(&self.factory),
            matcher: self.matcher.deep_clone(),
            accepting: self.accepting,
            finished: self.finished,
        }
    }
}

impl Grammar {
    pub fn accepting(&self) -> bool {
        self.accepting
    }

    pub fn finished(&self) -> bool {
        self.finished
    }

    /// `words` has the vocabulary's bits.
    pub fn mask(&mut self, words: &mut [u32]) -> Result<(), GrammarError> {
        words.fill(0);
        if self.finished {
            return Ok(());
        }
        let allowed = match self.matcher.compute_mask() {
            Ok(allowed) => allowed,
            Err(e) => return Err(self.failure(&e.to_string())),
        };
        for ((word, bits), usable) in words
            .iter_mut()
            .zip(allowed.as_slice())
            .zip(&self.factory.usable)
        {
            *word = bits & usable;
        }
        self.check_added(words)?;
        let any = words.iter().fold(0, |any, word| any | word);
        if any == 0 && !self.accepting {
            return Err(GrammarError::Invalid(
                "no text can satisfy it: it contradicts itself, or names tokens that are not for \
                 output"
                    .into(),
            ));
        }
        self.finished = any == 0;
        Ok(())
    }

    /// A negated terminal (`~"a"`) matches bytes that are no text, and so the marker of added
    /// tokens; such a token is in the mask and cannot be taken.
    fn check_added(&mut self, words: &mut [u32]) -> Result<(), GrammarError> {
        let factory = Arc::clone(&self.factory);
        for id in &factory.added {
            let (word, bit) = (*id as usize / 32, 1 << (id % 32));
            if words[word] & bit == 0 {
                continue;
            }
            match self.matcher.validate_tokens(&[*id]) {
                Ok(1) => {}
                Ok(_) => words[word] &= !bit,
                Err(e) => return Err(self.failure(&e.to_string())),
            }
        }
        Ok(())
    }

    pub fn accept(&mut self, token: u32) -> Result<(), GrammarError> {
        let id = token as usize;
        let usable = self
            .factory
            .usable
            .get(id / 32)
            .is_some_and(|word| word >> (id % 32) & 1 == 1);
        if !usable || self.finished {
            return Err(not_allowed(token));
        }
        match self.matcher.try_consume_tokens(&[token]) {
            Ok(1) => self.look(),
            Ok(_) => Err(not_allowed(token)),
            Err(e) => Err(self.failure(&e.to_string())),
        }
    }

    pub fn forced(&mut self) -> Result<Vec<u32>, GrammarError> {
        if self.finished {
            return Ok(Vec::new());
        }
        let tokens = self.matcher.compute_ff_tokens();
        match self.matcher.get_error() {
            Some(message) => Err(self.failure(&message)),
            None => Ok(tokens),
        }
    }

    /// Brings `accepting` and `finished` up to date.
    fn look(&mut self) -> Result<(), GrammarError> {
        self.finished = self.matcher.is_stopped();
        self.accepting = match self.matcher.is_accepting() {
            Ok(accepting) => accepting || self.finished,
            Err(e) => return Err(self.failure(&e.to_string())),
        };
        Ok(())
    }

    fn failure(&mut self, message: &str) -> GrammarError {
        self.accepting = false;
        self.finished = false;
        // A failed matcher keeps its message alone.
        if message.contains("NoExtensionBias") {
            GrammarError::Invalid("no text can satisfy it: it contradicts itself here".into())
        } else if is_limit(message) {
            GrammarError::Exhausted(clean(message))
        } else {
            GrammarError::Defect(clean(message))
        }
    }
}

fn is_limit(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "too complex",
        "too many",
        "limit",
        "fuel",
        "too large",
        "too big",
        "; max is",
    ]
    .iter()
    .any(|word| message.contains(word))
}

fn not_allowed(token: u32) -> GrammarError {
    GrammarError::Invalid(format!("token {token} is not allowed here"))
}
