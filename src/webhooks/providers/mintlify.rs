//! Mintlify (gateway.md §20.4).

use crate::model::webhook_context::Context;
use crate::webhooks::delivery::Refusal;
use crate::webhooks::lenient::{Text, object};
use crate::webhooks::provider::{Payload, Provider, Signature};

pub(super) struct Mintlify;

impl Provider for Mintlify {
    fn name(&self) -> &'static str {
        "mintlify"
    }

    fn signature(&self) -> Option<Signature> {
        Some(Signature { headers: &["x-mintlify-signature", "mintlify-signature"], prefix: "" })
    }

    fn marks(&self) -> &'static [&'static str] {
        &["x-mintlify-signature", "mintlify-signature"]
    }

    fn delivery_id(&self, _: &Payload<'_>) -> Option<String> {
        None
    }

    fn context(&self, payload: &Payload<'_>) -> Result<Option<Context>, Refusal> {
        let context = payload.read::<Members>()?.and_then(|mut read| {
            let timestamp = read.timestamp.take().unwrap_or_else(|| payload.now.to_iso());
            Some(Context { source: self.name().to_owned(), timestamp, ..context(read)? })
        });
        Ok(context.map(Context::shortened))
    }
}

fn context(read: Members) -> Option<Context> {
    let action = read.action.or(read.status)?;
    let has_failed = matches!(action.as_str(), "failed" | "failure");
    let body = match read.error {
        Some(error) if has_failed => Some(format!("Build failed: {error}")),
        error => read.message.or(error).or(read.description),
    };
    let conclusion = match action.as_str() {
        _ if has_failed => Some("failure".to_owned()),
        "succeeded" | "success" => Some("success".to_owned()),
        _ => None,
    };
    Some(Context {
        event: read.event.unwrap_or_else(|| "build".to_owned()),
        repo: read.project.or(read.organization).unwrap_or_else(|| "unknown".to_owned()),
        sender: read.user.email.or(read.user.name).unwrap_or_else(|| "mintlify".to_owned()),
        title: read.title.or_else(|| Some(format!("Build {action}"))),
        body,
        url: read.url.or(read.build_url).or(read.logs_url),
        branch: read.branch.or(read.git.branch).or_else(|| Some("main".to_owned())),
        conclusion,
        action: Some(action),
        ..Context::default()
    })
}

object!(Members {
    event: Text,
    action: Text,
    status: Text,
    project: Text,
    organization: Text,
    user: User,
    timestamp: Text,
    title: Text,
    message: Text,
    error: Text,
    description: Text,
    url: Text,
    build_url: Text,
    logs_url: Text,
    branch: Text,
    git: Git,
});
object!(User { email: Text, name: Text });
object!(Git { branch: Text });

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    fn mintlify(body: Value) -> Value {
        told("mintlify", &[], &body).unwrap()
    }

    #[test]
    fn an_action_is_needed_and_nothing_else() {
        assert_eq!(told("mintlify", &[], &json!({"action": "", "event": "build"})), None);
        assert_eq!(told("mintlify", &[], &json!(["action"])), None);
        assert_eq!(
            mintlify(json!({"status": "queued"})),
            json!({"event": "build", "action": "queued", "repo": "unknown", "sender": "mintlify",
                   "title": "Build queued", "branch": "main"})
        );
    }

    #[test]
    fn failures_tell_their_error() {
        let told = |action: &str, members: Value| {
            let mut body = json!({"action": action});
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let told = mintlify(body);
            [told["body"].clone(), told["conclusion"].clone()]
        };
        let error = || json!({"message": "m", "error": "e", "description": "d"});
        assert_eq!(told("failed", error()), ["Build failed: e", "failure"]);
        assert_eq!(told("failure", error()), ["Build failed: e", "failure"]);
        assert_eq!(told("failed", json!({"message": "m"})), ["m", "failure"]);
        assert_eq!(told("success", error()), ["m", "success"]);
        assert_eq!(told("succeeded", json!({"error": "e", "description": "d"})), ["e", "success"]);
        assert_eq!(told("other", json!({"description": "d"})), [json!("d"), Value::Null]);
    }

    #[test]
    fn second_places() {
        let told = mintlify(json!({"action": "x", "status": "y", "organization": "o", "user": {"name": "Mia"},
            "logs_url": "l", "build_url": "b", "git": {"branch": "g"}, "timestamp": 5}));
        let members = ["action", "repo", "sender", "url", "branch"].map(|member| told[member].clone());
        assert_eq!(members, ["x", "o", "Mia", "b", "g"]);
    }
}
