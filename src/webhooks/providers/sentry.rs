//! Sentry (gateway.md §20.2).

use crate::model::webhook_context::Context;
use crate::webhooks::delivery::Refusal;
use crate::webhooks::lenient::{Either, First, Text, object};
use crate::webhooks::provider::{Payload, Provider, Signature};

pub(super) struct Sentry;

impl Provider for Sentry {
    fn name(&self) -> &'static str {
        "sentry"
    }

    fn signature(&self) -> Option<Signature> {
        Some(Signature { headers: &["sentry-hook-signature"], prefix: "" })
    }

    fn marks(&self) -> &'static [&'static str] {
        &["sentry-hook-resource"]
    }

    fn delivery_id(&self, payload: &Payload<'_>) -> Option<String> {
        payload.header("request-id")
    }

    fn context(&self, payload: &Payload<'_>) -> Result<Option<Context>, Refusal> {
        let Some(read) = payload.read::<Members>()? else { return Ok(None) };
        let Some(resource) = payload.headers.get("sentry-hook-resource") else { return Ok(None) };
        let context = Context {
            source: self.name().to_owned(),
            event: resource.to_owned(),
            action: read.action.clone(),
            sender: read.actor.name.or(read.actor.kind).unwrap_or_else(|| "unknown".to_owned()),
            timestamp: payload.now.to_iso(),
            ..about(resource, read.action, read.data)
        };
        Ok(Some(context.shortened()))
    }
}

/// What is said about a resource.
fn about(resource: &str, action: Text, data: Data) -> Context {
    match resource {
        "event_alert" => Context {
            repo: data.triggered_rule.unwrap_or_default(),
            title: data.event.title,
            body: data.event.message,
            url: data.event.web_url,
            ..Context::default()
        },
        "metric_alert" => metric_alert(data),
        "issue" => Context {
            repo: data.issue.project.slug.unwrap_or_default(),
            title: data.issue.title,
            url: data.issue.web_url.or(data.issue.permalink),
            assignee: data.issue.assignee.name,
            ..Context::default()
        },
        "error" => error(data.error),
        "comment" => Context {
            repo: data.issue.project.slug.or(data.project_slug).unwrap_or_default(),
            title: data.issue.title,
            url: data.issue.web_url,
            comment: data.comment.object.text.or(data.comment.text),
            ..Context::default()
        },
        other => Context { title: action.or_else(|| Some(other.to_owned())), ..Context::default() },
    }
}

fn metric_alert(data: Data) -> Context {
    let alert = data.metric_alert;
    Context {
        repo: alert.organization.slug.or(alert.projects.0).or(alert.alert_rule.projects.0).unwrap_or_default(),
        title: alert.title.or(data.description_title),
        body: data.description_text,
        url: alert.web_url.or(data.web_url),
        ..Context::default()
    }
}

fn error(error: Failure) -> Context {
    let of_url = || project_in(error.url.as_deref()?).map(str::to_owned);
    Context {
        repo: error.project.object.slug.or(error.project.text).or_else(of_url).unwrap_or_default(),
        title: error.title,
        body: error.message,
        url: error.web_url,
        ..Context::default()
    }
}

/// The project of `…/projects/<organization>/<project>/…`.
fn project_in(url: &str) -> Option<&str> {
    let (_, path) = url.split_once("/projects/")?;
    path.split('/').nth(1).filter(|project| !project.is_empty())
}

object!(Members { action: Text, actor: Actor, data: Data });
object!(Actor { name: Text, kind as "type": Text });
object!(Data {
    triggered_rule: Text,
    event: Failure,
    metric_alert: MetricAlert,
    description_title: Text,
    description_text: Text,
    web_url: Text,
    issue: Issue,
    error: Failure,
    comment: Either<Comment>,
    project_slug: Text,
});
object!(Failure { title: Text, message: Text, web_url: Text, url: Text, project: Either<Project> });
object!(MetricAlert { title: Text, web_url: Text, organization: Project, projects: First<Text>, alert_rule: Rule });
object!(Rule { projects: First<Text> });
object!(Issue { title: Text, web_url: Text, permalink: Text, project: Project, assignee as "assignedTo": Actor });
object!(Project { slug: Text });
object!(Comment { text: Text });

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    #[track_caller]
    fn tells(resource: &str, data: Value, expected: Value) {
        let mut told = told("sentry", &[("sentry-hook-resource", resource)], &json!({"data": data})).unwrap();
        assert_eq!(told.as_object_mut().unwrap().shift_remove("event"), Some(resource.into()));
        assert_eq!(told, expected);
    }

    #[test]
    fn every_resource_is_an_event() {
        tells("event_alert", json!(null), json!({"repo": ""}));
        tells("issue", json!([]), json!({"repo": ""}));
        tells("new_one", json!({"issue": {"title": "x"}}), json!({"repo": "", "title": "new_one"}));
        let told_of = |headers: &[(&str, &str)], body: Value| told("sentry", headers, &body);
        assert_eq!(told_of(&[], json!({"action": "created"})), None);
        assert_eq!(told_of(&[("sentry-hook-resource", "issue")], json!("text")), None);
    }

    #[test]
    fn the_project_is_found_in_several_places() {
        let of_error = |error: Value, repo: &str| tells("error", json!({"error": error}), json!({"repo": repo}));
        let url = "https://x.example/api/0/projects/acme/shop/events/1/";
        of_error(json!({"project": {"slug": "a"}, "url": url}), "a");
        of_error(json!({"project": "b", "url": url}), "b");
        of_error(json!({"project": 4, "url": url}), "shop");
        of_error(json!({"project": {"slug": ""}, "url": "https://x.example/projects/acme"}), "");
        of_error(json!({"url": "/projects/acme//"}), "");

        let of_alert =
            |alert: Value, repo: &str| tells("metric_alert", json!({"metric_alert": alert}), json!({"repo": repo}));
        of_alert(json!({"organization": {"slug": "a"}, "projects": ["b"]}), "a");
        of_alert(json!({"projects": ["b", "c"], "alert_rule": {"projects": ["d"]}}), "b");
        of_alert(json!({"projects": [5, "c"], "alert_rule": {"projects": ["d"]}}), "d");
        of_alert(json!({"projects": "b"}), "");
        tells("comment", json!({"project_slug": "a"}), json!({"repo": "a"}));
    }

    #[test]
    fn second_places() {
        tells(
            "metric_alert",
            json!({"description_title": "t", "description_text": "b", "web_url": "u", "metric_alert": {"title": ""}}),
            json!({"repo": "", "title": "t", "body": "b", "url": "u"}),
        );
        tells("issue", json!({"issue": {"permalink": "u"}}), json!({"repo": "", "url": "u"}));
        tells("comment", json!({"comment": "c"}), json!({"repo": "", "comment": "c"}));
        tells("comment", json!({"comment": {"text": "c"}}), json!({"repo": "", "comment": "c"}));
    }

    #[test]
    fn the_sender_is_the_actor() {
        let sender = |actor: Value| {
            let body = json!({"actor": actor});
            told("sentry", &[("sentry-hook-resource", "issue")], &body).unwrap().get("sender").cloned()
        };
        assert_eq!(sender(json!({"name": "Mia", "type": "user"})), Some("Mia".into()));
        assert_eq!(sender(json!({"name": "", "type": "user"})), Some("user".into()));
        assert_eq!(sender(json!("Mia")), None);
    }
}
