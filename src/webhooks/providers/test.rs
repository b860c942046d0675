//! The provider for trying out triggers: the body is the context (gateway.md §20.5).

use crate::model::webhook_context::Context;
use crate::webhooks::delivery::Refusal;
use crate::webhooks::lenient::{List, Text, object};
use crate::webhooks::provider::{Payload, Provider, Signature};

pub(super) struct Test;

impl Provider for Test {
    fn name(&self) -> &'static str {
        "test"
    }

    fn signature(&self) -> Option<Signature> {
        None
    }

    fn marks(&self) -> &'static [&'static str] {
        &[]
    }

    fn delivery_id(&self, payload: &Payload<'_>) -> Option<String> {
        payload.header("x-delivery-id")
    }

    fn context(&self, payload: &Payload<'_>) -> Result<Option<Context>, Refusal> {
        let name = || self.name().to_owned();
        Ok(payload.read::<Members>()?.map(|read| Context {
            source: read.source.unwrap_or_else(name),
            event: read.event.unwrap_or_else(name),
            action: read.action,
            repo: read.repo.unwrap_or_default(),
            sender: read.sender.unwrap_or_else(name),
            timestamp: read.timestamp.unwrap_or_else(|| payload.now.to_iso()),
            number: read.number,
            title: read.title,
            body: read.body,
            url: read.url,
            author: read.author,
            assignee: read.assignee,
            labels: read.labels.texts,
            branch: read.branch,
            conclusion: read.conclusion,
            comment: read.comment,
        }))
    }
}

object!(Members {
    source: Text,
    event: Text,
    action: Text,
    repo: Text,
    sender: Text,
    timestamp: Text,
    number: Option<i64>,
    title: Text,
    body: Text,
    url: Text,
    author: Text,
    assignee: Text,
    labels: List<Text>,
    branch: Text,
    conclusion: Text,
    comment: Text,
});

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    #[test]
    fn the_body_is_the_context() {
        let long = "x".repeat(5000);
        let body = json!({"source": "github", "event": "e", "title": long, "repo": long, "labels": ["a", 1, ""], "number": 1.0});
        let expected =
            json!({"source": "github", "event": "e", "repo": long, "sender": "test", "title": long, "labels": ["a"]});
        assert_eq!(told("test", &[], &body), Some(expected));
        assert_eq!(told("test", &[], &json!({"labels": "a"})).unwrap().get("labels"), None::<&Value>);
    }

    #[test]
    fn only_objects_are_events() {
        for body in [json!([]), json!("x"), json!(5), json!(null)] {
            assert_eq!(told("test", &[], &body), None, "{body}");
        }
    }
}
