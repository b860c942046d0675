//! The table of models against the published one, row by row (agent-session.md §20), and the aliases (§2.4).

use super::super::registry::{Facts, Registry};
use super::{Fake, Format, Given, hold};
use crate::wire::config::{ModelConfig, Price};

const PUBLISHED: &str = include_str!("published-models.txt");

/// Provider, id and facts of each row.
fn published() -> Vec<(&'static str, &'static str, Facts)> {
    let mut provider = "";
    let mut rows = Vec::new();
    for line in PUBLISHED.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            provider = name;
            continue;
        }
        let columns: Vec<&str> = line.split(' ').collect();
        let [id, flags, window, output, prices @ ..] = &columns[..] else { panic!("{line}") };
        let prices: Vec<f64> = prices.iter().map(|price| price.parse().unwrap()).collect();
        let [input, output_price, cache_read, cache_write] = prices[..] else { panic!("{line}") };
        let facts = Facts {
            reasoning: flags.contains('R'),
            images: flags.contains('I'),
            adaptive: flags.contains('A'),
            context_window: window.parse().unwrap(),
            max_tokens: output.parse().unwrap(),
            price: Price { input, output: output_price, cache_read, cache_write },
        };
        rows.push((provider, *id, facts));
    }
    rows
}

#[test]
fn every_published_row_is_known_and_no_other() {
    let registry = Registry::builtin();
    let rows = published();
    assert_eq!(rows.len(), 298);
    for (provider, id, facts) in &rows {
        assert_eq!(registry.facts(provider, id), Some(*facts), "{provider} {id}");
    }
    let mut providers: Vec<&str> = rows.iter().map(|(provider, ..)| *provider).collect();
    providers.dedup();
    assert_eq!(providers, ["anthropic", "openai", "groq", "google", "xai", "mistral", "openrouter"]);
    for provider in providers.into_iter().chain(["custom", "mock", ""]) {
        let mut known: Vec<&str> = registry.ids(provider).collect();
        let mut expected: Vec<&str> = rows.iter().filter(|row| row.0 == provider).map(|row| row.1).collect();
        known.sort_unstable();
        expected.sort_unstable();
        assert_eq!(known, expected, "{provider}");
    }
}

#[test]
fn every_alias_is_replaced_and_nothing_else() {
    let resolved = |provider: &str, id: &str| {
        let config = ModelConfig { provider: provider.into(), model: id.into(), ..ModelConfig::default() };
        let resolved = Registry::builtin().resolve(&config);
        (resolved.id, resolved.aliased)
    };
    let aliases =
        [("claude-haiku-3-5-20241022", "claude-3-5-haiku-20241022"), ("claude-haiku-3-5", "claude-3-5-haiku-latest")];
    for (from, to) in aliases {
        assert_eq!(resolved("anthropic", from), (to.to_owned(), true));
        for other in ["openai", "groq", "google", "xai", "mistral", "openrouter", "custom", "mock"] {
            assert_eq!(resolved(other, from), (from.to_owned(), false), "{other}");
        }
    }
    for (provider, id, _) in published() {
        assert_eq!(resolved(provider, id), (id.to_owned(), false), "{provider}");
    }
    for id in ["claude-haiku-3-5-20241023", "Claude-Haiku-3-5", "claude-haiku-3-5 ", "o1-preview", "gpt-99"] {
        assert_eq!(resolved("anthropic", id), (id.to_owned(), false));
    }
}

#[test]
fn an_alias_is_sent_and_priced_as_what_it_stands_for() {
    for (from, to) in
        [("claude-haiku-3-5-20241022", "claude-3-5-haiku-20241022"), ("claude-haiku-3-5", "claude-3-5-haiku-latest")]
    {
        let server = Fake::start(vec![Given::stream(Format::Anthropic.hello())]);
        let mut table = Format::Anthropic.table(&server.url);
        table["model"] = from.into();
        let seen = hold(table);
        seen.assert_hello(from);
        assert_eq!(seen.notices, [format!("ModelAlias {{ from: {from:?}, to: {to:?} }}")]);
        assert_eq!(server.received()[0].body["model"], to);
        assert!((seen.usage.cost - (12.0 * 0.8 + 9.0 * 4.0) / 1e6).abs() < 1e-12, "{}", seen.usage.cost);
    }
}
