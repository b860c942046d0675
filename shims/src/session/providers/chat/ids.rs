//! Ids of tool calls in the form that a provider takes (agent-session.md §12.2, §12.5).

use std::collections::{HashMap, HashSet};

use super::compat::Compat;
use crate::session::history::split_id;
use crate::session::providers::openai::hash;
use crate::text::cut;

/// Longest id that OpenAI takes back, in characters.
const LONGEST: usize = 40;
/// Exact length of a short id.
const SHORT: usize = 9;

/// The ids of one session.
pub(super) struct Ids {
    form: Form,
    /// Short ids by what they stand for.
    short: HashMap<String, String>,
    taken: HashSet<String>,
    /// How many calls came without an id.
    without: u64,
}

enum Form {
    AsReceived,
    Cut,
    Short,
}

impl Ids {
    pub(super) fn new(provider: &str, compat: &Compat) -> Self {
        let form = match provider {
            _ if compat.short_tool_ids => Form::Short,
            "openai" => Form::Cut,
            _ => Form::AsReceived,
        };
        Self { form, short: HashMap::new(), taken: HashSet::new(), without: 0 }
    }

    /// The id as it is sent, the same for a call and its result.
    pub(super) fn sent(&mut self, id: &str) -> String {
        let id = split_id(id).0;
        match self.form {
            Form::AsReceived => id.to_owned(),
            Form::Cut => cut(id, LONGEST).to_owned(),
            Form::Short => self.short(id),
        }
    }

    /// An id for a call that came without one.
    pub(super) fn missing(&mut self) -> String {
        self.without += 1;
        format!("call_{}", self.without)
    }

    fn short(&mut self, id: &str) -> String {
        if let Some(short) = self.short.get(id) {
            return short.clone();
        }
        let fits = id.len() == SHORT && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let mut short = if fits { id.to_owned() } else { shortened(id) };
        let mut attempt = 0;
        while !self.taken.insert(short.clone()) {
            attempt += 1;
            short = shortened(&format!("{id}\n{attempt}"));
        }
        self.short.insert(id.to_owned(), short.clone());
        short
    }
}

/// Letters and digits that depend on all of an id.
fn shortened(id: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = hash(id);
    let digits = (0..SHORT).map(|_| {
        let digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
        char::from(digit)
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(provider: &str) -> Ids {
        let config = serde_json::json!({"provider": provider, "model": "m"});
        Ids::new(provider, &Compat::of(&serde_json::from_value(config).unwrap()).unwrap())
    }

    #[test]
    fn ids_of_other_formats_keep_their_first_part_and_others_stay() {
        let long = "x".repeat(99);
        assert_eq!(ids("groq").sent("call_1|fc_2"), "call_1");
        assert_eq!(ids("custom").sent("any|thing: 100 % \u{fc}"), "any|thing: 100 % \u{fc}");
        assert_eq!(ids("custom").sent(&long), long);
        assert_eq!(ids("openai").sent(&long), "x".repeat(40));
    }

    #[test]
    fn short_ids_are_kept_or_derived_and_never_shared() {
        let mut ids = ids("mistral");
        assert_eq!(ids.sent("D681PevKs"), "D681PevKs");
        let derived = ids.sent("toolu_01XyZ");
        assert!(derived.len() == 9 && derived.chars().all(|c| c.is_ascii_alphanumeric()), "{derived}");
        assert_eq!(ids.sent("toolu_01XyZ"), derived);
        // An id that looks like one that was derived for another call.
        let other = ids.sent(&derived);
        assert!(other != derived && other.len() == 9, "{other}");
        assert_eq!((ids.sent(&derived), ids.sent("toolu_01XyZ")), (other, derived));
        assert_ne!(ids.sent("D681Pev-s"), ids.sent("D681Pev_s"));
    }

    #[test]
    fn calls_without_ids_are_counted() {
        let mut ids = ids("xai");
        assert_eq!([ids.missing(), ids.missing()], ["call_1", "call_2"]);
    }
}
