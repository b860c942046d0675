//! Linear (gateway.md §20.3).

use crate::model::webhook_context::Context;
use crate::webhooks::delivery::Refusal;
use crate::webhooks::lenient::{List, Text, object};
use crate::webhooks::provider::{Payload, Provider, Signature};

pub(super) struct Linear;

impl Provider for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn signature(&self) -> Option<Signature> {
        Some(Signature { headers: &["linear-signature"], prefix: "" })
    }

    fn marks(&self) -> &'static [&'static str] {
        &["linear-signature", "linear-event"]
    }

    fn delivery_id(&self, payload: &Payload<'_>) -> Option<String> {
        payload.header("linear-delivery")
    }

    fn context(&self, payload: &Payload<'_>) -> Result<Option<Context>, Refusal> {
        let context = payload.read::<Members>()?.and_then(context);
        Ok(context.map(|context| {
            Context { source: self.name().to_owned(), timestamp: payload.now.to_iso(), ..context }.shortened()
        }))
    }
}

fn context(read: Members) -> Option<Context> {
    let (action, kind, mut data) = (read.action?, read.kind?, read.data?);
    let repo = read.organization_id.or(data.team.organization.id.take())?;
    let url = data.url.take().or(read.url);
    let actor = read.actor.email.or(read.actor.name);
    let (event, members) = match kind.as_str() {
        "Issue" => {
            let creator = actor.clone().filter(|_| action == "create");
            ("issues".to_owned(), Context { url, ..issue(data, creator) })
        }
        "Comment" => ("issue_comment".to_owned(), comment(data.issue?, data.body, url)),
        other => {
            let title = data.title.or(data.name).or_else(|| Some(action.clone()));
            (other.to_lowercase(), Context { title, url, ..Context::default() })
        }
    };
    let sender = read.created_by.email.or(read.updated_by.email).or(actor);
    Some(Context {
        event,
        action: Some(action),
        repo,
        sender: sender.unwrap_or_else(|| "unknown".to_owned()),
        ..members
    })
}

/// `creator`: who must have created the issue when it does not say so itself.
fn issue(data: Data, creator: Text) -> Context {
    Context {
        number: data.number,
        title: data.title,
        body: data.description,
        author: data.creator.email.or(data.creator.name).or(creator),
        assignee: data.assignee.email.or(data.assignee.name),
        labels: labels(data.labels),
        ..Context::default()
    }
}

/// The author is that of the issue; who commented is the sender.
fn comment(issue: Issue, text: Text, url: Text) -> Context {
    Context {
        number: issue.number.or_else(|| number_in(issue.identifier.as_deref()?)),
        title: issue.title,
        url: url.or(issue.url),
        author: issue.creator.email.or(issue.creator.name),
        labels: labels(issue.labels),
        comment: text,
        ..Context::default()
    }
}

/// The number in `ENG-123`.
fn number_in(identifier: &str) -> Option<i64> {
    let (_, digits) = identifier.rsplit_once('-')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn labels(list: List<Label>) -> Option<Vec<String>> {
    Some(list.texts.unwrap_or_default())
}

object!(Members {
    action: Text,
    kind as "type": Text,
    organization_id as "organizationId": Text,
    url: Text,
    created_by as "createdBy": Person,
    updated_by as "updatedBy": Person,
    actor: Person,
    data: Option<Data>,
});
object!(Person { email: Text, name: Text });
object!(Data {
    number: Option<i64>,
    title: Text,
    name: Text,
    description: Text,
    body: Text,
    url: Text,
    creator: Person,
    assignee: Person,
    labels: List<Label>,
    team: Team,
    issue: Option<Issue>,
});
object!(Team { organization: Organization });
object!(Organization { id: Text });
object!(Issue {
    number: Option<i64>,
    identifier: Text,
    title: Text,
    url: Text,
    creator: Person,
    labels: List<Label>,
});
object!(Label { name: Text });

impl From<Label> for Text {
    fn from(label: Label) -> Self {
        label.name
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    /// What is told of a payload of organization `o` with these members.
    fn linear(members: Value) -> Option<Value> {
        let mut body = json!({"action": "create", "organizationId": "o"});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        told("linear", &[], &body)
    }

    #[test]
    fn what_an_event_must_have() {
        for members in [
            json!({}),
            json!({"type": "Issue"}),
            json!({"type": "Issue", "data": []}),
            json!({"type": "Issue", "data": {}, "action": ""}),
            json!({"type": "Issue", "data": {}, "organizationId": null}),
            json!({"type": "Comment", "data": {"issue": "x"}}),
            json!({"type": 5, "data": {}}),
        ] {
            assert_eq!(linear(members.clone()), None, "{members}");
        }
        assert_eq!(told("linear", &[("linear-event", "Issue")], &json!([1])), None);
    }

    #[test]
    fn types_have_names_of_their_own() {
        let event = |kind: &str| linear(json!({"type": kind, "data": {"issue": {}}})).unwrap()["event"].clone();
        assert_eq!(
            ["Issue", "Comment", "ProjectUpdate", "issue"].map(event),
            ["issues", "issue_comment", "projectupdate", "issue"]
        );
        assert_eq!(
            linear(json!({"type": "Cycle", "data": {"name": "n"}, "url": "u"})),
            Some(json!({"event": "cycle", "action": "create", "repo": "o", "title": "n", "url": "u"}))
        );
        assert_eq!(linear(json!({"type": "Cycle", "data": {}})).unwrap()["title"], "create");
    }

    #[test]
    fn the_organization_may_be_the_teams() {
        let data = json!({"team": {"organization": {"id": "t"}}});
        let body = json!({"type": "Issue", "organizationId": 5, "data": data});
        assert_eq!(linear(body).unwrap()["repo"], "t");
    }

    #[test]
    fn people() {
        let (creator, actor) = (json!({"name": "Cleo"}), json!({"name": "Mia"}));
        let issue = |data: Value, action: &str| {
            let told = linear(json!({"type": "Issue", "action": action, "data": data, "actor": actor})).unwrap();
            ["author", "assignee", "sender"].map(|member| told[member].as_str().unwrap_or("-").to_owned())
        };
        assert_eq!(issue(json!({"creator": creator, "assignee": {"name": "Bo"}}), "create"), ["Cleo", "Bo", "Mia"]);
        assert_eq!(issue(json!({}), "create"), ["Mia", "-", "Mia"]);
        assert_eq!(issue(json!({}), "update"), ["-", "-", "Mia"]);
        let sender = |members: Value| linear(members).unwrap()["sender"].clone();
        let body = |by: &str| json!({"type": "Cycle", "data": {}, by: {"email": "a@x"}, "actor": {"email": "b@x"}});
        assert_eq!(sender(body("createdBy")), "a@x");
        assert_eq!(sender(body("updatedBy")), "a@x");
        assert_eq!(sender(body("other")), "b@x");
    }

    #[test]
    fn comments_know_the_number_of_their_issue() {
        let number = |issue: Value| {
            let told = linear(json!({"type": "Comment", "data": {"issue": issue}})).unwrap();
            told.get("number").cloned()
        };
        assert_eq!(number(json!({"number": 5, "identifier": "A-6"})), Some(5.into()));
        assert_eq!(number(json!({"number": "5", "identifier": "A-B-6"})), Some(6.into()));
        for identifier in ["A", "A-", "A-x", "A-+6", "A-6x", "A-99999999999999999999"] {
            assert_eq!(number(json!({"identifier": identifier})), None, "{identifier}");
        }
    }

    #[test]
    fn comments_have_their_own_address_or_their_issues() {
        let url = |members: Value| linear(members).unwrap()["url"].clone();
        let issue = json!({"url": "i"});
        assert_eq!(url(json!({"type": "Comment", "url": "p", "data": {"url": "d", "issue": issue}})), "d");
        assert_eq!(url(json!({"type": "Comment", "url": "p", "data": {"issue": issue}})), "p");
        assert_eq!(url(json!({"type": "Comment", "data": {"issue": issue}})), "i");
        assert_eq!(url(json!({"type": "Issue", "url": "p", "data": {}})), "p");
    }
}
