//! What is known about models: limits, prices, abilities (agent-session.md §2.3–2.5, §20).
//!
//! The table `models.txt` is compiled in. A host may merge a file of its own over it ([`Registry::merge`]); what that
//! changes travels to the container inside the agent's configuration ([`Registry::bake`]).

use std::collections::BTreeMap;

use crate::wire::config::{ModelConfig, Price};

/// The compiled-in table.
const TABLE: &str = include_str!("models.txt");

/// Between an id that never existed and the one that is sent in its place.
const ALIAS: &str = " -> ";
/// Between an id that is no longer served and the one that is recommended instead.
const RETIRED: &str = " => ";
/// Before the ids that are offered.
const RECOMMENDED: &str = "recommended: ";

/// Facts about one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// It has a thinking mode.
    pub reasoning: bool,
    /// It takes images.
    pub images: bool,
    /// Its thinking is adaptive, not by budget (anthropic only).
    pub adaptive: bool,
    /// Tokens.
    pub context_window: u64,
    /// Most output tokens of one response.
    pub max_tokens: u64,
    pub price: Price,
}

/// What is assumed of a model that nobody described.
const UNKNOWN: Facts = Facts {
    reasoning: false,
    images: false,
    adaptive: false,
    context_window: 128_000,
    max_tokens: 16_384,
    price: Price { input: 0.0, output: 0.0, cache_read: 0.0, cache_write: 0.0 },
};

/// How much a model is asked to think, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thinking {
    Off,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
}

impl Thinking {
    /// All levels, least first.
    pub const ALL: [Self; 6] = [Self::Off, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::XHigh];

    /// The word in configuration and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
        }
    }

    /// The level of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }

    /// The level in effect: no model thinks that cannot, and those that can do so at `medium` unless told otherwise.
    ///
    /// # Errors
    /// A level that does not exist.
    pub fn effective(config: &ModelConfig, facts: &Facts) -> Result<Self, String> {
        let level = match config.thinking_level.as_deref() {
            None => Self::Medium,
            Some(word) => Self::from_word(word).ok_or_else(|| {
                let all = Self::ALL.map(Self::as_str).join(", ");
                format!("model.thinkingLevel = \"{word}\" does not exist; use one of {all}")
            })?,
        };
        Ok(if facts.reasoning { level } else { Self::Off })
    }
}

/// A `[model]` table looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The id to send.
    pub id: String,
    /// The configured id was an alias.
    pub aliased: bool,
    /// Something about the model had to be assumed.
    pub assumed: bool,
    pub facts: Facts,
}

/// Facts by provider and id.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry(BTreeMap<(String, String), Facts>);

impl Registry {
    /// The compiled-in table.
    pub fn builtin() -> Self {
        let mut registry = Self(BTreeMap::new());
        let models: String = TABLE.split_inclusive('\n').filter(|line| !is_mark(line)).collect();
        registry.merge(&models).expect("the compiled-in table is tested to be valid");
        registry
    }

    /// Reads a table over this one: its lines replace and add entries.
    ///
    /// # Errors
    /// The first line that does not have the form of `models.txt`, by number; nothing is merged then.
    pub fn merge(&mut self, text: &str) -> Result<(), String> {
        let mut provider = None;
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                provider = Some(name.trim().to_owned());
                continue;
            }
            let number = number + 1;
            let Some(provider) = &provider else {
                return Err(format!("line {number}: a model before the first [provider] line"));
            };
            let (id, facts) = parse_line(line).map_err(|what| format!("line {number}: {what}"))?;
            entries.push(((provider.clone(), id.to_owned()), facts));
        }
        self.0.extend(entries);
        Ok(())
    }

    /// What is known of a model.
    pub fn facts(&self, provider: &str, id: &str) -> Option<Facts> {
        self.0.get(&(provider.to_owned(), id.to_owned())).copied()
    }

    /// The known ids of a provider.
    pub fn ids<'a>(&'a self, provider: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().filter(move |(name, _)| name == provider).map(|(_, id)| id.as_str())
    }

    /// Looks a `[model]` table up. Another model is never put in the place of an unknown one.
    pub fn resolve(&self, config: &ModelConfig) -> Resolved {
        let alias = marked(&config.provider, &config.model, ALIAS);
        let id = alias.unwrap_or(&config.model);
        let known = self.facts(&config.provider, id);
        let described = config.context_window.is_some()
            && config.max_tokens.is_some()
            && (config.cost.is_some() || config.provider == "custom");
        let facts = overridden(known.unwrap_or_else(|| assumed(&config.provider, id)), config);
        Resolved { id: id.to_owned(), aliased: alias.is_some(), assumed: known.is_none() && !described, facts }
    }

    /// Whether it is known what a model costs.
    pub fn knows_price(&self, config: &ModelConfig) -> bool {
        // A mock costs what its script says.
        config.cost.is_some()
            || config.provider == "mock"
            || self.facts(&config.provider, &self.resolve(config).id).is_some()
    }

    /// Writes into a `[model]` table what this registry knows differently from the compiled-in one, so that a program
    /// with only the latter sees the same facts. Keys that are set stay.
    pub fn bake(&self, config: &mut ModelConfig) {
        let here = self.resolve(config);
        if here == Self::builtin().resolve(config) {
            return;
        }
        let facts = here.facts;
        config.context_window = Some(facts.context_window);
        config.max_tokens = Some(facts.max_tokens);
        config.reasoning = Some(facts.reasoning);
        config.images = Some(facts.images);
        config.adaptive = Some(facts.adaptive);
        config.cost = Some(facts.price);
    }
}

/// What to use instead of an id that is known to be no longer served.
pub fn replacement(provider: &str, id: &str) -> Option<&'static str> {
    marked(provider, id, RETIRED)
}

/// The ids of a provider that are offered to who sets a project up, the first one first; none are retired.
pub fn recommended(provider: &str) -> impl Iterator<Item = &'static str> {
    let mut section = "";
    let line = TABLE.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        line.strip_prefix(RECOMMENDED).filter(|_| section == provider)
    });
    line.into_iter().flat_map(str::split_whitespace)
}

/// What the compiled-in table says about an id beside its facts.
fn marked(provider: &str, id: &str, sign: &str) -> Option<&'static str> {
    let mut section = "";
    TABLE.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let (from, to) = line.split_once(sign)?;
        (section == provider && from == id).then_some(to)
    })
}

fn is_mark(line: &str) -> bool {
    !line.starts_with('#') && (line.contains(ALIAS) || line.contains(RETIRED) || line.starts_with(RECOMMENDED))
}

/// What the keys of a `[model]` table make of facts.
pub(super) fn overridden(facts: Facts, config: &ModelConfig) -> Facts {
    Facts {
        reasoning: config.reasoning.unwrap_or(facts.reasoning),
        images: config.images.unwrap_or(facts.images),
        adaptive: config.adaptive.unwrap_or(facts.adaptive),
        context_window: config.context_window.unwrap_or(facts.context_window),
        max_tokens: config.max_tokens.unwrap_or(facts.max_tokens),
        price: config.cost.unwrap_or(facts.price),
    }
}

/// New models of these families think and see; what one of them rejects is left out after its first refusal.
fn assumed(provider: &str, id: &str) -> Facts {
    let generation = |prefix: &str| {
        let rest = id.strip_prefix(prefix)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse::<u32>().ok()
    };
    let modern = match provider {
        "anthropic" => id.starts_with("claude-"),
        "openai" => generation("o").is_some() || generation("gpt-").is_some_and(|number| number >= 5),
        "google" => generation("gemini-").is_some_and(|number| number >= 3),
        _ => false,
    };
    Facts { reasoning: modern, images: modern, adaptive: modern && provider == "anthropic", ..UNKNOWN }
}

fn parse_line(line: &str) -> Result<(&str, Facts), String> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let &[id, flags, context_window, max_tokens, input, output, cache_read, cache_write] = columns.as_slice() else {
        return Err(format!("{} columns instead of 8", columns.len()));
    };
    if flags != "-" && !flags.chars().all(|flag| "RIA".contains(flag)) {
        return Err(format!("flags `{flags}` (allowed: R, I, A, or - for none)"));
    }
    let tokens = |text: &str| match text.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("`{text}` is not a number of tokens")),
    };
    let price = |text: &str| match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err(format!("`{text}` is not a price")),
    };
    let facts = Facts {
        reasoning: flags.contains('R'),
        images: flags.contains('I'),
        adaptive: flags.contains('A'),
        context_window: tokens(context_window)?,
        max_tokens: tokens(max_tokens)?,
        price: Price {
            input: price(input)?,
            output: price(output)?,
            cache_read: price(cache_read)?,
            cache_write: price(cache_write)?,
        },
    };
    Ok((id, facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recommended_is_known_and_served() {
        let registry = Registry::builtin();
        let sections = TABLE.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'));
        for provider in sections {
            let ids: Vec<_> = recommended(provider).collect();
            assert!(!ids.is_empty(), "{provider}");
            for id in ids {
                let is_successor = TABLE.contains(&format!("{RETIRED}{id}\n"));
                let is_known = registry.facts(provider, id).is_some() || is_successor;
                assert!(is_known && replacement(provider, id).is_none(), "{provider}: {id}");
            }
        }
    }

    fn config(provider: &str, model: &str) -> ModelConfig {
        ModelConfig { provider: provider.into(), model: model.into(), ..ModelConfig::default() }
    }

    #[test]
    fn an_alias_is_replaced_only_for_its_provider() {
        let registry = Registry::builtin();
        let resolved = registry.resolve(&config("anthropic", "claude-haiku-3-5"));
        assert_eq!((resolved.id.as_str(), resolved.aliased), ("claude-3-5-haiku-latest", true));
        assert!(!resolved.assumed);
        assert_eq!(registry.resolve(&config("custom", "claude-haiku-3-5")).id, "claude-haiku-3-5");
    }

    #[test]
    fn an_unknown_id_stays_and_gets_defaults() {
        #[track_caller]
        fn case(provider: &str, id: &str, flags: &str) {
            let resolved = Registry::builtin().resolve(&config(provider, id));
            let facts = resolved.facts;
            let mut seen = String::new();
            for (set, flag) in [(facts.reasoning, 'R'), (facts.images, 'I'), (facts.adaptive, 'A')] {
                seen.extend(set.then_some(flag));
            }
            assert_eq!((resolved.id.as_str(), seen.as_str(), resolved.assumed), (id, flags, true));
            assert_eq!((facts.context_window, facts.max_tokens), (128_000, 16_384));
        }
        case("anthropic", "claude-opus-9", "RIA");
        case("anthropic", "other", "");
        case("openai", "o7-maxi", "RI");
        case("openai", "gpt-10", "RI");
        case("openai", "gpt-4.9", "");
        case("openai", "omni", "");
        case("google", "gemini-4-pro", "RI");
        case("google", "gemini-1.9", "");
        case("groq", "gpt-9", "");
        case("custom", "claude-opus-9", "");
    }

    #[test]
    fn keys_of_the_table_win_and_a_full_description_needs_no_warning() {
        let mut model = config("custom", "local");
        model.context_window = Some(8192);
        model.max_tokens = Some(1000);
        model.images = Some(true);
        let resolved = Registry::builtin().resolve(&model);
        assert!(!resolved.assumed && resolved.facts.images);
        assert_eq!((resolved.facts.context_window, resolved.facts.max_tokens), (8192, 1000));
    }

    #[test]
    fn thinking_is_medium_unless_told_otherwise_and_only_where_it_exists() {
        #[track_caller]
        fn case(model: &str, word: Option<&str>, expected: Thinking) {
            let mut config = config("anthropic", model);
            config.thinking_level = word.map(str::to_owned);
            let facts = Registry::builtin().resolve(&config).facts;
            assert_eq!(Thinking::effective(&config, &facts), Ok(expected));
        }
        case("claude-opus-4-6", None, Thinking::Medium);
        case("claude-opus-4-6", Some("xhigh"), Thinking::XHigh);
        case("claude-3-haiku-20240307", Some("high"), Thinking::Off);
        let mut wrong = config("anthropic", "claude-opus-4-6");
        wrong.thinking_level = Some("max".into());
        assert!(Thinking::effective(&wrong, &UNKNOWN).unwrap_err().contains("\"max\""));
    }

    #[test]
    fn a_merged_file_changes_and_adds_and_reaches_the_container() {
        let mut registry = Registry::builtin();
        let file =
            "# mine\n\n[anthropic]\nclaude-opus-4-6 RA 500000 1000 1 2 3 4\n[custom]\nlocal - 4096 512 0 0 0 0\n";
        registry.merge(file).unwrap();
        for model in [config("anthropic", "claude-opus-4-6"), config("custom", "local")] {
            let mut baked = model.clone();
            registry.bake(&mut baked);
            assert_eq!(Registry::builtin().resolve(&baked).facts, registry.resolve(&model).facts);
            assert!(!Registry::builtin().resolve(&baked).assumed);
        }
        let mut untouched = config("anthropic", "claude-opus-4-7");
        registry.bake(&mut untouched);
        assert_eq!(untouched, config("anthropic", "claude-opus-4-7"));
    }

    #[test]
    fn a_bad_line_is_named_and_nothing_is_merged() {
        #[track_caller]
        fn case(text: &str, expected: &str) {
            let mut registry = Registry::builtin();
            let error = registry.merge(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert_eq!(registry, Registry::builtin());
        }
        case("a - 1 1 0 0 0 0", "line 1");
        case("[x]\nok - 1 1 0 0 0 0\na - 1 1 0 0 0", "line 3: 7 columns");
        case("[x]\na Z 1 1 0 0 0 0", "flags `Z`");
        case("[x]\na - 0 1 0 0 0 0", "`0`");
        case("[x]\na - 1 1 0 0 0 NaN", "`NaN`");
    }

    #[test]
    fn what_the_old_menus_offered_has_a_replacement_that_works() {
        #[track_caller]
        fn case(provider: &str, ids: &[&str], instead: &[&str]) {
            let registry = Registry::builtin();
            for id in ids {
                let found = replacement(provider, id).unwrap_or_else(|| panic!("{provider} {id}"));
                assert!(instead.contains(&found), "{provider} {id}: {found}");
                assert_eq!(replacement(provider, found), None);
                assert!(provider == "openrouter" || registry.facts(provider, found).is_some(), "{provider} {found}");
            }
        }
        let claude = ["claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"];
        case(
            "anthropic",
            &["claude-sonnet-4-20250514", "claude-opus-4-20250514", "claude-haiku-3-5-20241022"],
            &claude,
        );
        case("anthropic", &["claude-3-5-haiku-20241022", "claude-3-5-haiku-latest"], &claude[2..]);
        let gpt = ["gpt-6-sol", "gpt-6-luna"];
        case("openai", &["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "o1-preview", "o1-mini"], &gpt);
        case("groq", &["llama-3.3-70b-versatile"], &["openai/gpt-oss-120b"]);
        case("google", &["gemini-2.0-flash-exp"], &["gemini-3.8-flash"]);
        case("xai", &["grok-beta"], &["grok-4.7"]);
        case("mistral", &["mistral-large-2411"], &["mistral-large-latest"]);
        case("openrouter", &["anthropic/claude-3.5-sonnet"], &["anthropic/claude-sonnet-5-5"]);
        for (provider, id) in [("groq", "gpt-4"), ("anthropic", "id"), ("anthropic", "claude-haiku-3-5")] {
            assert_eq!(replacement(provider, id), None);
        }
    }
}
