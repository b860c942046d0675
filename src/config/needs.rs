//! Which credentials a project, an agent and a single run need, and which of them a run gets (cli-config.md §4.4, §4.8;
//! containers.md §6.3).

use shims::credential_types::{self, Group};
use shims::wire::config::Harness;

use super::agent::Agent;
use super::{Loaded, model};
use crate::model::names::CredentialRef;

/// A credential and the agents that need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub reference: CredentialRef,
    pub agents: Vec<String>,
}

/// What has to be stored, in the order in which it is listed and asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Without these nothing starts.
    pub required: Vec<Need>,
    /// Keys of models that are used when another one fails: a warning.
    pub fallback: Vec<Need>,
    /// Only disabled agents need these.
    pub skipped: Vec<Need>,
}

/// What it means when a credential of a run is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// The run cannot start.
    Required,
    /// The run starts with a warning.
    Wanted,
    /// Nothing.
    Optional,
}

impl Agent {
    /// The credentials that a run of this agent gets, if they are stored: what it lists, then the keys of its models.
    /// Those that only the gateway may have are not among them.
    pub fn run_credentials(&self) -> Vec<(CredentialRef, Demand)> {
        let listed = self.credentials.iter().map(|reference| (reference.clone(), Demand::Required));
        let mut all: Vec<(CredentialRef, Demand)> = Vec::new();
        for (reference, demand) in listed.chain(self.model_keys()).filter(|(found, _)| !is_gateway_only(found)) {
            if all.iter().all(|(known, _)| *known != reference) {
                all.push((reference, demand));
            }
        }
        all
    }

    /// Whether its sessions ask a model that is configured here.
    fn needs_model(&self) -> bool {
        self.harness.as_ref().is_none_or(Harness::needs_model)
    }

    /// The credential with the key of each of its models, in their order; `None` for one that needs none.
    pub fn model_key_refs(&self) -> Vec<Option<CredentialRef>> {
        let key = |model| model::key_of(model, &self.credentials).map(|key| key.reference);
        self.models.iter().map(key).collect()
    }

    fn model_keys(&self) -> impl Iterator<Item = (CredentialRef, Demand)> {
        let usable = self.models.iter().enumerate().filter(|(_, model)| model.auth_type.as_deref() != Some("pi_auth"));
        usable.filter_map(|(index, model)| {
            let key = model::key_of(model, &self.credentials)?;
            let demand = match index {
                _ if key.optional || self.has_test_script => Demand::Optional,
                0 => Demand::Required,
                _ => Demand::Wanted,
            };
            Some((key.reference, demand))
        })
    }

    /// Required references and those of fallback models.
    fn needs(&self, loaded: &Loaded, scope: Scope) -> (Vec<CredentialRef>, Vec<CredentialRef>) {
        let mut required = self.credentials.clone();
        match scope {
            Scope::Project => {
                let sources = &loaded.project.settings.webhooks;
                required.extend(self.triggers.iter().filter_map(|trigger| sources.get(&trigger.source)?.secret()));
            }
            Scope::Run => required.retain(|reference| !is_gateway_only(reference)),
        }
        let mut fallback = Vec::new();
        for (index, model) in self.models.iter().enumerate() {
            let Some(key) = model::key_of(model, &self.credentials).filter(|key| !key.optional) else { continue };
            match index {
                _ if scope == Scope::Run && (self.has_test_script || !self.needs_model()) => {}
                0 => required.push(key.reference),
                _ => fallback.push(key.reference),
            }
        }
        (required, fallback)
    }
}

/// Whether a credential is the gateway's or the operator's, and never an agent's.
fn is_gateway_only(reference: &CredentialRef) -> bool {
    credential_types::find(reference.kind()).is_some_and(|kind| kind.group == Group::Gateway)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Project,
    /// One run of one agent: a script and a program of one's own need no model, and without a gateway nobody checks signatures.
    Run,
}

impl Loaded {
    /// What the project needs.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for agent in self.enabled() {
            needs.add(agent, agent.needs(self, Scope::Project));
        }
        for agent in self.agents.iter().filter(|agent| !agent.is_enabled()) {
            let (required, _) = agent.needs(self, Scope::Project);
            let others =
                required.into_iter().filter(|found| needs.required.iter().all(|need| need.reference != *found));
            others.collect::<Vec<_>>().into_iter().for_each(|found| add(&mut needs.skipped, found, agent));
        }
        needs
    }

    /// What one run of an agent needs.
    pub fn needs_of_run(&self, agent: &Agent) -> Needs {
        let mut needs = Needs::default();
        needs.add(agent, agent.needs(self, Scope::Run));
        needs
    }
}

impl Needs {
    fn add(&mut self, agent: &Agent, (required, fallback): (Vec<CredentialRef>, Vec<CredentialRef>)) {
        required.into_iter().for_each(|reference| add(&mut self.required, reference, agent));
        fallback.into_iter().for_each(|reference| add(&mut self.fallback, reference, agent));
    }
}

fn add(needs: &mut Vec<Need>, reference: CredentialRef, agent: &Agent) {
    let name = agent.name.to_string();
    match needs.iter_mut().find(|need| need.reference == reference) {
        Some(need) if need.agents.contains(&name) => {}
        Some(need) => need.agents.push(name),
        None => needs.push(Need { reference, agents: vec![name] }),
    }
}
