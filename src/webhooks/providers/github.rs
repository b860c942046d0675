//! GitHub (gateway.md §20.1, §27.5).

use crate::model::webhook_context::Context;
use crate::webhooks::delivery::Refusal;
use crate::webhooks::lenient::{First, List, Text, object};
use crate::webhooks::provider::{Payload, Provider, Signature};

pub(super) struct Github;

impl Provider for Github {
    fn name(&self) -> &'static str {
        "github"
    }

    fn signature(&self) -> Option<Signature> {
        Some(Signature { headers: &["x-hub-signature-256"], prefix: "sha256=" })
    }

    fn marks(&self) -> &'static [&'static str] {
        &["x-github-event"]
    }

    fn delivery_id(&self, payload: &Payload<'_>) -> Option<String> {
        payload.header("x-github-delivery")
    }

    fn context(&self, payload: &Payload<'_>) -> Result<Option<Context>, Refusal> {
        let Some(read) = payload.read::<Members>()? else { return Ok(None) };
        let event = payload.headers.get("x-github-event").filter(|event| *event != "ping");
        Ok(event.and_then(|event| context(event, read)).map(|context| {
            Context { source: self.name().to_owned(), timestamp: payload.now.to_iso(), ..context }.shortened()
        }))
    }
}

fn context(event: &str, mut read: Members) -> Option<Context> {
    let repo = match read.repository.take() {
        Some(repository) => repository.full_name,
        None => read.organization.login.take().or(read.installation.account.login.take()),
    };
    let action = read.action.take();
    let sender = read.sender.login.take();
    let members = match event {
        "issues" => issue(read.issue?),
        "pull_request" => pull_request(read.pull_request?),
        "issue_comment" => issue_comment(read.issue?, read.comment?),
        "pull_request_review" => review(read.pull_request?, read.review?),
        "push" => push(read),
        "workflow_run" => workflow(read.workflow_run?),
        _ => further(event, read).unwrap_or_else(|| Context {
            title: Some(action.clone().unwrap_or_else(|| event.to_owned())),
            ..Context::default()
        }),
    };
    Some(Context {
        event: event.to_owned(),
        action,
        repo: repo?,
        sender: sender.unwrap_or_else(|| "unknown".to_owned()),
        ..members
    })
}

/// Events that are events also when what they are about is missing.
fn further(event: &str, read: Members) -> Option<Context> {
    Some(match event {
        "pull_request_review_comment" => review(read.pull_request?, read.comment?),
        "discussion" | "discussion_comment" => discussion(read.discussion?, read.comment.unwrap_or_default()),
        "release" => release(read.release?),
        "check_suite" => check_suite(read.check_suite?),
        "check_run" => check_run(read.check_run?),
        "workflow_job" => workflow(read.workflow_job?),
        "create" | "delete" => reference(&read.ref_type?, read.reference?),
        _ => return None,
    })
}

fn issue(issue: Issue) -> Context {
    Context {
        number: issue.number,
        title: issue.title,
        body: issue.body,
        url: issue.html_url,
        author: issue.user.login,
        assignee: issue.assignee.login,
        labels: labels(issue.labels),
        ..Context::default()
    }
}

fn pull_request(pull: Pull) -> Context {
    Context {
        number: pull.number,
        title: pull.title,
        body: pull.body,
        url: pull.html_url,
        author: pull.user.login,
        assignee: pull.assignee.login,
        labels: labels(pull.labels),
        branch: pull.head.reference,
        ..Context::default()
    }
}

/// The author is that of the issue; who commented is the sender.
fn issue_comment(about: Issue, comment: Remark) -> Context {
    Context { body: None, assignee: None, url: comment.html_url, comment: comment.body, ..issue(about) }
}

fn review(pull: Pull, review: Remark) -> Context {
    Context { body: None, url: review.html_url, comment: review.body, ..pull_request(pull) }
}

fn discussion(about: Issue, comment: Remark) -> Context {
    let url = comment.html_url.or(about.html_url.clone());
    Context { assignee: None, url, comment: comment.body, ..issue(about) }
}

fn push(read: Members) -> Context {
    Context {
        title: read.head_commit.message,
        url: read.compare,
        author: read.head_commit.author.username.or(read.pusher.name),
        branch: read.reference.map(|reference| reference.replacen("refs/heads/", "", 1)),
        ..Context::default()
    }
}

fn workflow(workflow: Workflow) -> Context {
    Context {
        number: workflow.pull_requests.0.number,
        title: workflow.name,
        url: workflow.html_url,
        author: workflow.actor.login,
        branch: workflow.head_branch,
        conclusion: workflow.conclusion,
        ..Context::default()
    }
}

fn release(release: Release) -> Context {
    Context {
        title: release.name.or(release.tag_name),
        body: release.body,
        url: release.html_url,
        author: release.author.login,
        ..Context::default()
    }
}

fn check_suite(suite: Suite) -> Context {
    Context {
        number: suite.pull_requests.0.number,
        title: suite.app.name,
        url: suite.url,
        branch: suite.head_branch,
        conclusion: suite.conclusion,
        ..Context::default()
    }
}

fn check_run(check: Check) -> Context {
    Context {
        number: check.pull_requests.0.number,
        title: check.name,
        url: check.html_url,
        branch: check.check_suite.head_branch,
        conclusion: check.conclusion,
        ..Context::default()
    }
}

fn reference(kind: &str, name: String) -> Context {
    let title = Some(format!("{kind} {name}"));
    Context { title, branch: (kind == "branch").then_some(name), ..Context::default() }
}

fn labels(list: List<Named>) -> Option<Vec<String>> {
    Some(list.texts.unwrap_or_default())
}

object!(Members {
    action: Text,
    repository: Option<Repository>,
    organization: Account,
    installation: Installation,
    sender: Account,
    issue: Option<Issue>,
    pull_request: Option<Pull>,
    comment: Option<Remark>,
    review: Option<Remark>,
    discussion: Option<Issue>,
    workflow_run: Option<Workflow>,
    workflow_job: Option<Workflow>,
    check_suite: Option<Suite>,
    check_run: Option<Check>,
    release: Option<Release>,
    reference as "ref": Text,
    ref_type: Text,
    compare: Text,
    head_commit: Commit,
    pusher: Named,
});
object!(Repository { full_name: Text });
object!(Account { login: Text });
object!(Installation { account: Account });
object!(Named { name: Text });
object!(Issue {
    number: Option<i64>,
    title: Text,
    body: Text,
    html_url: Text,
    user: Account,
    assignee: Account,
    labels: List<Named>,
});
object!(Pull {
    number: Option<i64>,
    title: Text,
    body: Text,
    html_url: Text,
    user: Account,
    assignee: Account,
    labels: List<Named>,
    head: Head,
});
object!(Head { reference as "ref": Text });
object!(Remark { body: Text, html_url: Text });
object!(Workflow {
    name: Text,
    html_url: Text,
    actor: Account,
    head_branch: Text,
    conclusion: Text,
    pull_requests: First<Numbered>,
});
object!(Numbered { number: Option<i64> });
object!(Suite { app: Named, url: Text, head_branch: Text, conclusion: Text, pull_requests: First<Numbered> });
object!(Check { name: Text, html_url: Text, check_suite: Suite, conclusion: Text, pull_requests: First<Numbered> });
object!(Release { name: Text, tag_name: Text, body: Text, html_url: Text, author: Account });
object!(Commit { message: Text, author: Author });
object!(Author { username: Text });

impl From<Named> for Text {
    fn from(named: Named) -> Self {
        named.name
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    /// The context of an event in `acme/app`, without what is the same for all.
    fn event(event: &str, body: Value) -> Option<Value> {
        let mut body = body;
        body["repository"] = json!({"full_name": "acme/app"});
        let mut told = told("github", &[("x-github-event", event)], &body)?;
        assert_eq!(told.as_object_mut().unwrap().shift_remove("event"), Some(event.into()));
        assert_eq!(told.as_object_mut().unwrap().shift_remove("repo"), Some("acme/app".into()));
        Some(told)
    }

    #[test]
    fn what_an_event_must_have() {
        for (name, body) in [
            ("ping", json!({})),
            ("issues", json!({})),
            ("issues", json!({"issue": []})),
            ("pull_request", json!({"issue": {}})),
            ("issue_comment", json!({"issue": {}})),
            ("issue_comment", json!({"comment": {}})),
            ("pull_request_review", json!({"pull_request": {}, "review": null})),
            ("workflow_run", json!({"workflow_run": "x"})),
        ] {
            assert_eq!(event(name, body.clone()), None, "{name} {body}");
        }
        let body = json!({"repository": {"full_name": "a/b"}, "issue": {}});
        assert_eq!(told("github", &[], &body), None);
        assert_eq!(told("github", &[("x-github-event", "")], &body), None);
        assert_eq!(told("github", &[("x-github-event", "issues")], &json!([body])), None);
    }

    #[test]
    fn an_event_without_repository_is_its_organizations() {
        let repo = |body: Value| told("github", &[("x-github-event", "x")], &body).map(|told| told["repo"].clone());
        let (organization, account) = (json!({"login": "acme"}), json!({"account": {"login": "mia"}}));
        let both = json!({"organization": organization, "installation": account});
        assert_eq!(repo(both), Some("acme".into()));
        assert_eq!(repo(json!({"organization": {"login": ""}, "installation": account})), Some("mia".into()));
        assert_eq!(repo(json!({"organization": {}, "installation": {"account": "mia"}})), None);
        assert_eq!(repo(json!({"repository": {}, "organization": organization})), None);
    }

    #[test]
    fn pushes() {
        let push = |body: Value| event("push", body).unwrap();
        assert_eq!(
            push(json!({"ref": "refs/heads/a/refs/heads/b", "pusher": {"name": "mia"}, "head_commit": {"author": {}}})),
            json!({"author": "mia", "branch": "a/refs/heads/b"})
        );
        assert_eq!(push(json!({"ref": "refs/tags/v1"})), json!({"branch": "refs/tags/v1"}));
        assert_eq!(push(json!({"ref": "refs/heads/", "head_commit": null})), json!({}));
    }

    #[test]
    fn long_texts_are_cut() {
        let long = "ü".repeat(5000);
        let told = event("push", json!({"head_commit": {"message": long}, "compare": long})).unwrap();
        assert_eq!(told["title"], format!("{}...", "ü".repeat(4000)));
        assert_eq!(told["url"], format!("{}...", "ü".repeat(1000)));
    }

    #[test]
    fn comments_of_discussions() {
        let discussion = json!({"number": 3, "title": "t", "body": "b", "html_url": "d", "user": {"login": "mia"},
            "assignee": {"login": "x"}, "labels": [{"name": "l"}]});
        let comment = json!({"body": "c", "html_url": "u"});
        assert_eq!(
            event("discussion_comment", json!({"discussion": discussion, "comment": comment})).unwrap(),
            json!({"number": 3, "title": "t", "body": "b", "url": "u", "author": "mia", "labels": ["l"], "comment": "c"})
        );
    }

    #[test]
    fn checks_jobs_and_releases() {
        let pulls = json!([{"number": 7}, {"number": 8}]);
        let suite =
            json!({"app": {"name": "CI"}, "url": "u", "head_branch": "b", "conclusion": null, "pull_requests": pulls});
        assert_eq!(
            event("check_suite", json!({"check_suite": suite})).unwrap(),
            json!({"number": 7, "title": "CI", "url": "u", "branch": "b"})
        );
        let job = json!({"name": "build", "html_url": "u", "head_branch": "b", "conclusion": "success"});
        assert_eq!(
            event("workflow_job", json!({"workflow_job": job, "action": "completed"})).unwrap(),
            json!({"action": "completed", "title": "build", "url": "u", "branch": "b", "conclusion": "success"})
        );
        let release = json!({"name": "", "tag_name": "v1", "body": "b", "html_url": "u", "author": {"login": "mia"}});
        assert_eq!(
            event("release", json!({"release": release})).unwrap(),
            json!({"title": "v1", "body": "b", "url": "u", "author": "mia"})
        );
    }

    #[test]
    fn branches_and_tags_come_and_go() {
        let reference = |kind: &str| event("create", json!({"ref": "r", "ref_type": kind})).unwrap();
        assert_eq!(reference("branch"), json!({"title": "branch r", "branch": "r"}));
        assert_eq!(reference("tag"), json!({"title": "tag r"}));
        assert_eq!(event("delete", json!({"ref_type": "tag"})).unwrap(), json!({"title": "delete"}));
    }

    #[test]
    fn further_events_without_their_subject_are_told_by_name() {
        for name in [
            "pull_request_review_comment",
            "discussion",
            "discussion_comment",
            "release",
            "check_suite",
            "check_run",
            "workflow_job",
            "create",
            "star",
        ] {
            assert_eq!(event(name, json!({"comment": {}})).unwrap(), json!({"title": name}));
            let with_action = json!({"action": "done", "pull_request": {}, "comment": 1, "ref": "x"});
            assert_eq!(event(name, with_action).unwrap(), json!({"action": "done", "title": "done"}));
        }
    }
}
