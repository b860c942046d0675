//! Whether an event is one that a trigger waits for (gateway.md §21.3).

use crate::config::webhook::Filter;
use crate::model::webhook_context::Context;

/// Says whether a field matches; `None` when it is not given.
type Check = fn(&Filter, &Context) -> Option<bool>;

/// All fields, by the names that [`Filter`] has for them. Those that refuse most come first.
static CHECKS: [(&str, Check); 12] = [
    ("events", |filter, context| among(&filter.events, Some(&context.event), false)),
    ("resources", |filter, context| among(&filter.resources, Some(&context.event), false)),
    ("actions", |filter, context| among(&filter.actions, context.action.as_deref(), false)),
    ("repos", |filter, context| among(&filter.repos, Some(&context.repo), false)),
    ("projects", |filter, context| among(&filter.projects, Some(&context.repo), false)),
    ("organizations", |filter, context| among(&filter.organizations, Some(&context.repo), false)),
    ("orgs", |filter, context| among(&filter.orgs, context.repo.split('/').next(), false)),
    ("labels", labels),
    ("assignee", |filter, context| same(filter.assignee.as_deref(), context.assignee.as_deref())),
    ("author", |filter, context| same(filter.author.as_deref(), context.author.as_deref())),
    ("branches", |filter, context| among(&filter.branches, context.branch.as_deref(), true)),
    ("conclusions", |filter, context| among(&filter.conclusions, context.conclusion.as_deref(), true)),
];

/// Whether all given fields match.
pub fn matches(filter: &Filter, context: &Context) -> bool {
    details(filter, context).all(|(_, is_match)| is_match)
}

/// Every given field, with whether it matches.
pub fn details<'a>(filter: &'a Filter, context: &'a Context) -> impl Iterator<Item = (&'static str, bool)> + 'a {
    CHECKS.iter().filter_map(|(name, check)| Some((*name, check(filter, context)?)))
}

/// `without`: what it means that the event has no such member.
fn among(list: &[String], member: Option<&str>, without: bool) -> Option<bool> {
    let is_in = |member: &str| list.iter().any(|wanted| wanted == member);
    (!list.is_empty()).then(|| member.map_or(without, is_in))
}

fn same(wanted: Option<&str>, member: Option<&str>) -> Option<bool> {
    wanted.map(|wanted| member == Some(wanted))
}

fn labels(filter: &Filter, context: &Context) -> Option<bool> {
    let has = |wanted: &String| context.labels.iter().flatten().any(|label| label == wanted);
    (!filter.labels.is_empty()).then(|| filter.labels.iter().any(has))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_given_field_is_told() {
        let filter = Filter {
            events: vec!["issues".into()],
            orgs: vec!["acme".into()],
            assignee: Some("bot".into()),
            branches: vec!["main".into()],
            ..Filter::default()
        };
        let context = Context { event: "issues".into(), repo: "acme/app".into(), ..Context::default() };
        let told: Vec<_> = details(&filter, &context).collect();
        assert_eq!(told, [("events", true), ("orgs", true), ("assignee", false), ("branches", true)]);
        assert!(!matches(&filter, &context));
        assert!(matches(&Filter::default(), &context));
    }

    #[test]
    fn an_organization_is_what_stands_before_the_first_slash() {
        let filter = Filter { orgs: vec!["acme".into()], ..Filter::default() };
        for (repo, expected) in
            [("acme/app", true), ("acme", true), ("acme/a/b", true), ("acm/app", false), ("", false)]
        {
            assert_eq!(matches(&filter, &Context { repo: repo.into(), ..Context::default() }), expected, "{repo}");
        }
    }
}

#[cfg(test)]
mod props {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    /// Few different words, so that they meet.
    fn word() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "A", "a/b", "b/a", ""]).prop_map(str::to_owned)
    }

    fn words() -> impl Strategy<Value = Vec<String>> {
        vec(word(), 0..3)
    }

    fn filter() -> impl Strategy<Value = Filter> {
        let lists = [(); 10].map(|()| words());
        (lists, option::of(word()), option::of(word())).prop_map(|(lists, assignee, author)| {
            let [events, actions, repos, projects, orgs, organizations, labels, branches, conclusions, resources] =
                lists;
            Filter {
                events,
                actions,
                repos,
                projects,
                orgs,
                organizations,
                labels,
                branches,
                conclusions,
                resources,
                assignee,
                author,
            }
        })
    }

    fn context() -> impl Strategy<Value = Context> {
        let some = || option::of(word().prop_filter("never empty", |word| !word.is_empty()));
        let options = [(); 5].map(|()| some());
        (word(), word(), options, option::of(words())).prop_map(|(event, repo, options, labels)| {
            let [action, author, assignee, branch, conclusion] = options;
            Context { event, repo, action, author, assignee, branch, conclusion, labels, ..Context::default() }
        })
    }

    /// §21.3 read aloud, on JSON.
    fn model(field: &str, wanted: &Value, context: &Map<String, Value>) -> bool {
        let repo = context["repo"].as_str().unwrap();
        let owner = Value::from(repo.split_once('/').map_or(repo, |(owner, _)| owner));
        let (member, without) = match field {
            "events" | "resources" => (context.get("event"), false),
            "actions" => (context.get("action"), false),
            "repos" | "projects" | "organizations" => (context.get("repo"), false),
            "orgs" => (Some(&owner), false),
            "branches" => (context.get("branch"), true),
            "conclusions" => (context.get("conclusion"), true),
            other => (context.get(other), false),
        };
        match (member, wanted) {
            (None, _) => without,
            (Some(Value::Array(labels)), Value::Array(wanted)) => labels.iter().any(|label| wanted.contains(label)),
            (Some(member), Value::Array(wanted)) => wanted.contains(member),
            (Some(member), wanted) => member == wanted,
        }
    }

    proptest! {
        #[test]
        fn all_given_fields_must_match(filter in filter(), context in context()) {
            let Value::Object(given) = serde_json::to_value(&filter).unwrap() else { unreachable!() };
            let json = context.clone().into_json("");
            let mut expected: Vec<(String, bool)> =
                given.iter().map(|(field, wanted)| (field.clone(), model(field, wanted, &json))).collect();
            expected.sort();
            let mut told: Vec<(String, bool)> =
                details(&filter, &context).map(|(field, is_match)| (field.to_owned(), is_match)).collect();
            told.sort();
            prop_assert_eq!(matches(&filter, &context), expected.iter().all(|(_, is_match)| *is_match));
            prop_assert_eq!(told, expected);
        }
    }
}
