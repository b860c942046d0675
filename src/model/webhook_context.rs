//! The context of a webhook: what an agent is told about a delivery, and what filters look at (gateway.md §19). Pure.

use serde_json::{Map, Value};

use crate::base::clock::UnixMs;
use crate::base::text::cut;

/// Longest `title`, `body` or `comment`, in characters.
const LONGEST_TEXT: usize = 4000;
/// Longest other text, in characters.
const LONGEST_WORD: usize = 1000;
/// Most labels that are kept.
pub const MOST_LABELS: usize = 100;

/// What a delivery says. Texts that may be absent are absent rather than empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Name of the provider.
    pub source: String,
    pub event: String,
    pub action: Option<String>,
    /// Repository, project or organization; may be empty.
    pub repo: String,
    /// Who caused it; empty only in contexts written by hand.
    pub sender: String,
    /// ISO 8601, of the receipt unless the provider says otherwise.
    pub timestamp: String,
    pub number: Option<i64>,
    pub title: Option<String>,
    pub body: Option<String>,
    pub url: Option<String>,
    pub author: Option<String>,
    pub assignee: Option<String>,
    /// `None` for events that have no labels, as opposed to having none at the moment.
    pub labels: Option<Vec<String>>,
    pub branch: Option<String>,
    pub conclusion: Option<String>,
    pub comment: Option<String>,
}

impl Context {
    /// A context written by hand, brought into form: texts cut, what is missing filled in, what has the wrong type left
    /// out.
    ///
    /// # Errors
    /// When `source` or `event` is missing; says so.
    pub fn from_json(given: &Map<String, Value>, now: UnixMs) -> Result<Self, String> {
        let text = |name: &str| given.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let owned = |name: &str| text(name).map(str::to_owned);
        let needed = |name: &str| owned(name).ok_or_else(|| format!("`{name}` is missing or not a text"));
        let labels = given.get("labels").and_then(Value::as_array).map(|labels| {
            let labels = labels.iter().filter_map(Value::as_str).filter(|label| !label.is_empty());
            labels.take(MOST_LABELS).map(str::to_owned).collect()
        });
        let context = Self {
            source: needed("source")?,
            event: needed("event")?,
            action: owned("action"),
            repo: owned("repo").unwrap_or_default(),
            sender: owned("sender").unwrap_or_default(),
            timestamp: owned("timestamp").unwrap_or_else(|| now.to_iso()),
            number: given.get("number").and_then(Value::as_i64),
            title: owned("title"),
            body: owned("body"),
            url: owned("url"),
            author: owned("author"),
            assignee: owned("assignee"),
            labels,
            branch: owned("branch"),
            conclusion: owned("conclusion"),
            comment: owned("comment"),
        };
        Ok(context.shortened())
    }

    /// The same with texts that are too long cut.
    pub fn shortened(mut self) -> Self {
        for word in [&mut self.source, &mut self.event, &mut self.repo, &mut self.sender, &mut self.timestamp] {
            shorten(word, LONGEST_WORD);
        }
        let words = [
            &mut self.action,
            &mut self.url,
            &mut self.author,
            &mut self.assignee,
            &mut self.branch,
            &mut self.conclusion,
        ];
        words.into_iter().flatten().for_each(|word| shorten(word, LONGEST_WORD));
        self.labels.iter_mut().flatten().for_each(|label| shorten(label, LONGEST_WORD));
        let texts = [&mut self.title, &mut self.body, &mut self.comment];
        texts.into_iter().flatten().for_each(|text| shorten(text, LONGEST_TEXT));
        self
    }

    /// `<event> <action>`, or only the event.
    pub fn summary(&self) -> String {
        match &self.action {
            Some(action) => format!("{} {action}", self.event),
            None => self.event.clone(),
        }
    }

    /// What the agent is told, members in their order. `receipt_id`: of the delivery.
    pub fn into_json(self, receipt_id: &str) -> Map<String, Value> {
        let always = |text: String| Some(Value::from(text));
        let text = |text: Option<String>| text.filter(|text| !text.is_empty()).map(Value::from);
        let members = [
            ("source", always(self.source)),
            ("event", always(self.event)),
            ("action", text(self.action)),
            ("repo", always(self.repo)),
            ("sender", always(self.sender)),
            ("timestamp", always(self.timestamp)),
            ("number", self.number.map(Value::from)),
            ("title", text(self.title)),
            ("body", text(self.body)),
            ("url", text(self.url)),
            ("author", text(self.author)),
            ("assignee", text(self.assignee)),
            ("labels", self.labels.map(Value::from)),
            ("branch", text(self.branch)),
            ("conclusion", text(self.conclusion)),
            ("comment", text(self.comment)),
            ("receiptId", always(receipt_id.to_owned())),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

fn shorten(text: &mut String, limit: usize) {
    let kept = cut(text, limit).len();
    if kept < text.len() {
        text.truncate(kept);
        text.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(given: Value) -> Result<Value, String> {
        let context = Context::from_json(given.as_object().unwrap(), UnixMs(1_767_323_045_000))?;
        Ok(Value::Object(context.into_json("local")))
    }

    #[test]
    fn fills_in_what_is_missing_and_keeps_the_order() {
        let context = read(json!({"event": "issues", "source": "github", "number": 42, "assignee": 7, "title": ""}));
        assert_eq!(
            context.unwrap().to_string(),
            r#"{"source":"github","event":"issues","repo":"","sender":"","timestamp":"2026-01-02T03:04:05.000Z","number":42,"receiptId":"local"}"#
        );
    }

    #[test]
    fn long_texts_are_cut_in_whole_characters() {
        let (fits, long) = ("ü".repeat(4000), "🦙".repeat(4001));
        let context = read(json!({"event": "x", "source": "y", "title": fits, "body": long, "url": long})).unwrap();
        assert_eq!(context["title"], fits.as_str());
        assert_eq!(context["body"], format!("{}...", "🦙".repeat(4000)));
        assert_eq!(context["url"], format!("{}...", "🦙".repeat(1000)));
    }

    #[test]
    fn labels_are_texts_and_at_most_a_hundred() {
        let many: Vec<Value> = (0..150).map(|number| json!(format!("l{number}"))).collect();
        let labels =
            |labels: Value| read(json!({"event": "x", "source": "y", "labels": labels})).unwrap()["labels"].clone();
        assert_eq!(labels(json!(["a", "", 3])), json!(["a"]));
        assert_eq!(labels(json!([])), json!([]));
        assert_eq!(labels(json!("a")), Value::Null);
        assert_eq!(labels(json!(many)), json!(many[..100]));
    }

    #[test]
    fn source_and_event_are_mandatory() {
        assert!(read(json!({"event": "x"})).unwrap_err().contains("source"));
        assert!(read(json!({"source": "x", "event": 1})).unwrap_err().contains("event"));
    }
}
