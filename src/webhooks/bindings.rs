//! Which agents a delivery is for (gateway.md §17 "Binding match by source", §18.4).

use std::collections::BTreeMap;

use super::filter;
use super::signature::Unsigned;
use crate::config::webhook::{Filter, Source, Trigger};
use crate::model::names::AgentName;
use crate::model::webhook_context::Context;

/// The triggers of all agents, resolved, by provider. Made anew when the configuration changes.
#[derive(Debug, Default)]
pub struct Bindings {
    providers: BTreeMap<&'static str, OfProvider>,
}

/// What there is for one provider that at least one source names.
#[derive(Debug, Default)]
struct OfProvider {
    accepts_unsigned: bool,
    agents: Vec<(AgentName, Vec<Binding>)>,
}

/// One trigger of an agent.
#[derive(Debug)]
pub struct Binding {
    /// Name of the source in the configuration.
    pub source: String,
    pub filter: Filter,
    /// Instance whose secret must have signed; `None`: any matched source.
    credential: Option<String>,
}

impl Binding {
    /// Whether its source is one that a delivery with this matched source can come from.
    pub fn is_of(&self, matched_source: &str) -> bool {
        self.credential.as_ref().is_none_or(|wanted| wanted == matched_source)
    }
}

impl Bindings {
    /// Resolves triggers. `sources`: all of the configuration, used or not; `agents`: those that take part. A trigger
    /// whose source is not there, or has become one of another provider, has no effect.
    pub fn new<'a>(
        sources: impl IntoIterator<Item = &'a Source>,
        agents: impl IntoIterator<Item = (&'a AgentName, &'a [Trigger])>,
    ) -> Self {
        let sources: BTreeMap<&str, &Source> =
            sources.into_iter().map(|source| (source.name.as_str(), source)).collect();
        let mut bindings = Self::default();
        for source in sources.values() {
            bindings.providers.entry(source.provider.name).or_default().accepts_unsigned |= source.accepts_unsigned();
        }
        for (agent, triggers) in agents {
            for trigger in triggers {
                let source = sources.get(trigger.source.as_str());
                let source = source.filter(|source| source.provider.name == trigger.provider.name);
                if let Some(source) = source {
                    bindings.add(agent, source, trigger.filter.clone());
                }
            }
        }
        bindings
    }

    /// Whether there is a source of this provider.
    pub fn has_source(&self, provider: &str) -> bool {
        self.providers.contains_key(provider)
    }

    /// The providers that have sources.
    pub fn providers(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.providers.keys().copied()
    }

    /// What becomes of deliveries of this provider without signature, as long as it has no secret.
    pub fn unsigned(&self, provider: &str) -> Unsigned {
        match self.providers.get(provider) {
            Some(found) if found.accepts_unsigned => Unsigned::Accepted,
            _ => Unsigned::Refused,
        }
    }

    /// The agents that an event is for, each once, in the order in which they were given.
    pub fn matching<'a>(
        &'a self,
        provider: &str,
        matched_source: &'a str,
        context: &'a Context,
    ) -> impl Iterator<Item = &'a AgentName> {
        let agents = self.providers.get(provider).into_iter().flat_map(|found| &found.agents);
        let is_match =
            move |binding: &Binding| binding.is_of(matched_source) && filter::matches(&binding.filter, context);
        agents.filter(move |(_, bindings)| bindings.iter().any(is_match)).map(|(agent, _)| agent)
    }

    /// Every binding with its provider and its agent.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &AgentName, &Binding)> {
        let agents = self.providers.iter().flat_map(|(provider, found)| {
            found.agents.iter().map(move |(agent, bindings)| (*provider, agent, bindings))
        });
        agents.flat_map(|(provider, agent, bindings)| bindings.iter().map(move |binding| (provider, agent, binding)))
    }

    fn add(&mut self, agent: &AgentName, source: &Source, filter: Filter) {
        let agents = &mut self.providers.entry(source.provider.name).or_default().agents;
        // A provider that never signs has no instances; what such a source names is ignored.
        let credential = source.credential.clone().filter(|_| source.provider.secret.is_some());
        let binding = Binding { source: source.name.clone(), filter, credential };
        match agents.last_mut().filter(|(last, _)| last == agent) {
            Some((_, bindings)) => bindings.push(binding),
            None => agents.push((agent.clone(), vec![binding])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::webhook::Provider;

    fn source(name: &str, provider: &str, credential: Option<&str>) -> Source {
        let provider = Provider::find(provider).unwrap();
        Source { name: name.to_owned(), provider, credential: credential.map(str::to_owned), allow_unsigned: None }
    }

    fn trigger(source: &Source, events: &[&str]) -> Trigger {
        let filter = Filter { events: events.iter().map(|event| (*event).to_owned()).collect(), ..Filter::default() };
        Trigger { source: source.name.clone(), provider: source.provider, filter }
    }

    fn agent(name: &str) -> AgentName {
        AgentName::parse(name).unwrap()
    }

    fn matched(bindings: &Bindings, provider: &str, matched_source: &str, event: &str) -> Vec<String> {
        let context = Context { event: event.to_owned(), ..Context::default() };
        bindings.matching(provider, matched_source, &context).map(AgentName::to_string).collect()
    }

    #[test]
    fn a_delivery_goes_once_to_each_agent_that_waits_for_it() {
        let (hub, errors) = (source("hub", "github", None), source("errors", "sentry", None));
        let agents = [
            (agent("all"), vec![trigger(&hub, &[])]),
            (agent("both"), vec![trigger(&hub, &["push"]), trigger(&errors, &[]), trigger(&hub, &["push", "issues"])]),
            (agent("none"), vec![]),
            (agent("pushes"), vec![trigger(&hub, &["push"])]),
        ];
        let agents = agents.iter().map(|(name, triggers)| (name, triggers.as_slice()));
        let bindings = Bindings::new([&hub, &errors], agents);
        assert_eq!(matched(&bindings, "github", "_unsigned", "push"), ["all", "both", "pushes"]);
        assert_eq!(matched(&bindings, "github", "_unsigned", "issues"), ["all", "both"]);
        assert_eq!(matched(&bindings, "sentry", "_unsigned", "push"), ["both"]);
        assert_eq!(matched(&bindings, "linear", "_unsigned", "push"), [""; 0]);
        assert_eq!(bindings.providers().collect::<Vec<_>>(), ["github", "sentry"]);
        assert!(bindings.has_source("github") && !bindings.has_source("linear"));
    }

    #[test]
    fn a_binding_with_a_credential_wants_its_signature() {
        let (any, own) = (source("any", "github", None), source("own", "github", Some("MyOrg")));
        let agents = [(agent("any"), [trigger(&any, &[])]), (agent("own"), [trigger(&own, &[])])];
        let agents = agents.iter().map(|(name, triggers)| (name, triggers.as_slice()));
        let bindings = Bindings::new([&any, &own], agents);
        assert_eq!(matched(&bindings, "github", "MyOrg", "x"), ["any", "own"]);
        assert_eq!(matched(&bindings, "github", "Other", "x"), ["any"]);
        assert_eq!(matched(&bindings, "github", "_unsigned", "x"), ["any"]);
    }

    #[test]
    fn the_credential_of_a_provider_that_never_signs_is_ignored() {
        let test = source("t", "test", Some("MyOrg"));
        let agents = [(agent("dev"), [trigger(&test, &[])])];
        let bindings = Bindings::new([&test], agents.iter().map(|(name, triggers)| (name, triggers.as_slice())));
        assert_eq!(matched(&bindings, "test", "test", "x"), ["dev"]);
    }

    #[test]
    fn triggers_of_sources_that_are_gone_or_others_have_no_effect() {
        let (old, new) = (source("s", "github", None), source("s", "sentry", None));
        let agents = [(agent("dev"), [trigger(&old, &[]), trigger(&source("gone", "github", None), &[])])];
        let bindings = Bindings::new([&new], agents.iter().map(|(name, triggers)| (name, triggers.as_slice())));
        assert_eq!(matched(&bindings, "github", "_unsigned", "x"), [""; 0]);
        assert_eq!(matched(&bindings, "sentry", "_unsigned", "x"), [""; 0]);
        assert!(!bindings.has_source("github"));
    }

    #[test]
    fn one_source_that_accepts_unsigned_deliveries_is_enough() {
        let signed = source("a", "github", Some("MyOrg"));
        let strict = Source { allow_unsigned: Some(false), ..source("b", "github", None) };
        let open = source("c", "github", None);
        let unsigned = |sources: &[&Source]| Bindings::new(sources.iter().copied(), []).unsigned("github");
        assert_eq!(unsigned(&[]), Unsigned::Refused);
        assert_eq!(unsigned(&[&signed, &strict]), Unsigned::Refused);
        assert_eq!(unsigned(&[&signed, &open, &strict]), Unsigned::Accepted);
    }
}
