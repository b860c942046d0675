//! What tests of sessions need: a provider with prepared answers, and a record of what happened.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Session;
use crate::cancel::Cancel;
use crate::env::Environment;
use crate::session::error::{Kind, ModelError};
use crate::session::event::{Event, RetryPhase};
use crate::session::message::{Assistant, Block, Message, Stop, ToolCall};
use crate::session::provider::{Delta, Model, Provider, Request};
use crate::session::registry::{Facts, Thinking};
use crate::session::{End, Input, Outcome, Owner, Surroundings, ToolGroups, estimate};
use crate::wire::config::{Limits, Price};
use crate::wire::usage::Usage;

/// A provider that plays prepared answers. Waits between them are a thousandth of what they should be.
pub(super) struct Script {
    pub(super) model: Model,
    pub(super) answers: VecDeque<Result<Assistant, ModelError>>,
    /// Answers to requests beside the conversation; when they are over, the last one is given again.
    pub(super) summaries: VecDeque<Result<Assistant, ModelError>>,
    /// Whether the input is counted, or as the answer says.
    pub(super) counts: bool,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    pub(super) on_send: Box<dyn FnMut()>,
}

/// What a request looked like.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) messages: Vec<Message>,
    pub(super) max_tokens: u64,
    pub(super) refused: Vec<String>,
    /// False for what is asked beside the conversation.
    pub(super) tools: bool,
}

impl Provider for Script {
    fn model(&self) -> &Model {
        &self.model
    }

    fn time_scale(&self) -> f64 {
        1000.0
    }

    fn send(&mut self, request: &Request<'_>, sink: &mut dyn FnMut(Delta<'_>)) -> Result<Assistant, ModelError> {
        self.asked.lock().unwrap().push(Asked {
            model: self.model.id.clone(),
            messages: request.messages.to_vec(),
            max_tokens: request.max_tokens,
            refused: request.refused.to_vec(),
            tools: request.tools,
        });
        sink(Delta::Text("partial"));
        (self.on_send)();
        if !request.tools {
            let next = if self.summaries.len() > 1 { self.summaries.pop_front() } else { None };
            return next.or_else(|| self.summaries.front().cloned()).unwrap_or_else(|| said("## Goal\nsummary"));
        }
        let next = self.answers.pop_front();
        let mut answer = next.unwrap_or_else(|| Err(ModelError::new(Kind::InvalidRequest, "script is over")))?;
        (answer.provider, answer.model) = (self.model.provider.clone(), self.model.id.clone());
        answer.api = self.model.api;
        if self.counts {
            let messages = estimate::messages(request.messages);
            answer.usage.input_tokens = estimate::text(request.system) + estimate::tools() + messages;
        }
        Ok(answer)
    }
}

/// A session that is being tested.
pub(super) struct Bench {
    pub(super) dir: tempfile::TempDir,
    pub(super) system: String,
    pub(super) script: Script,
    /// Further models.
    pub(super) others: Vec<Script>,
    pub(super) limits: Limits,
    pub(super) cancel: Cancel,
    pub(super) deadline: Option<Instant>,
    pub(super) time_limit: Option<Duration>,
    pub(super) surroundings: Surroundings,
}

/// What came of it.
pub(super) struct Seen {
    pub(super) outcome: Outcome,
    pub(super) events: Vec<String>,
    pub(super) asked: Vec<Asked>,
    /// The conversation at the end.
    pub(super) messages: Vec<Message>,
}

impl Bench {
    pub(super) fn new(answers: Vec<Result<Assistant, ModelError>>) -> Self {
        let price = Price { input: 1e6, output: 1e6, cache_read: 1e6, cache_write: 1e6 };
        let facts =
            Facts { reasoning: true, images: true, adaptive: false, context_window: 100_000, max_tokens: 8000, price };
        let model = Model {
            provider: "script".into(),
            id: "m".into(),
            api: "mock",
            base_url: None,
            thinking: Thinking::Off,
            facts,
        };
        let script = Script {
            model,
            answers: answers.into(),
            summaries: VecDeque::new(),
            counts: false,
            asked: Arc::default(),
            on_send: Box::new(|| {}),
        };
        Self {
            dir: tempfile::tempdir().unwrap(),
            system: "system".into(),
            script,
            others: Vec::new(),
            limits: Limits::default(),
            cancel: Cancel::new(),
            deadline: None,
            time_limit: None,
            surroundings: Surroundings::Container,
        }
    }

    /// A further model, to which the first one's requests are reported, too.
    pub(super) fn add_model(&mut self, id: &str, answers: Vec<Result<Assistant, ModelError>>) {
        let model = Model { id: id.into(), ..self.script.model.clone() };
        self.others.push(Script {
            model,
            answers: answers.into(),
            summaries: VecDeque::new(),
            counts: false,
            asked: self.script.asked.clone(),
            on_send: Box::new(|| {}),
        });
    }

    pub(super) fn input(&self) -> Input {
        Input {
            system: self.system.clone(),
            models: Vec::new(),
            tool_dir: self.dir.path().into(),
            tmp_dir: self.dir.path().into(),
            environment: Environment::of_process(),
            exit_file: Some(self.dir.path().join("exit")),
            deadline: self.deadline,
            time_limit: self.time_limit,
            limits: self.limits.clone(),
            tool_groups: ToolGroups::default(),
            surroundings: self.surroundings,
        }
    }

    pub(super) fn run(self) -> Seen {
        let mut events = Vec::new();
        let seen = self.run_for(&mut |event: Event<'_>| events.push(name(&event)));
        Seen { events, ..seen }
    }

    /// The events are the owner's.
    pub(super) fn run_for(self, owner: &mut dyn Owner) -> Seen {
        let (asked, input, cancel) = (self.script.asked.clone(), self.input(), self.cancel.clone());
        let models = std::iter::once(self.script).chain(self.others);
        let models = models.map(|script| Box::new(script) as Box<dyn Provider>).collect();
        let mut session = Session::with_models(input, models);
        let end = session.prompt("do it".into(), cancel, owner);
        let (asked, messages) = (asked.lock().unwrap().clone(), session.messages.clone());
        Seen { outcome: session.outcome(end), events: Vec::new(), asked, messages }
    }
}

impl Seen {
    pub(super) fn count(&self, event: &str) -> usize {
        self.events.iter().filter(|seen| seen.starts_with(event)).count()
    }

    pub(super) fn last_results(&self) -> Vec<String> {
        let last = self.asked.last().unwrap();
        let results = last.messages.iter().filter_map(|message| match message {
            Message::ToolResult(result) => Some(result.text()),
            _ => None,
        });
        results.collect()
    }
}

/// An event in one word, with what matters about it.
pub(super) fn name(event: &Event<'_>) -> String {
    match event {
        Event::TextDelta(_) => "text".into(),
        Event::MessageStart(role) => format!("start {role:?}"),
        Event::MessageEnd(Message::User(_)) => "end User".into(),
        Event::MessageEnd(Message::Assistant(_)) => "end Assistant".into(),
        Event::MessageEnd(Message::ToolResult(_)) => "end ToolResult".into(),
        Event::ToolStart(call) => format!("tool {}", call.name),
        Event::ToolEnd { result, .. } => format!("done {}", result.is_error),
        Event::TurnEnd { usage, .. } => format!("turn end {}", usage.turn_count),
        Event::AttemptFailed(error) => format!("failed {}", error.kind.as_str()),
        Event::RetryStart(retry) => {
            let phase = if retry.phase == RetryPhase::Fast { "fast" } else { "slow" };
            format!("retry {phase} {}/{}", retry.attempt, retry.max_attempts)
        }
        Event::RetryEnd { success, attempt } => format!("retried {success} {attempt}"),
        Event::Notice(notice) => format!("notice {notice:?}"),
        Event::ModelSwitched { from, to, error } => {
            format!("switched {} {} {}", from.id, to.id, error.kind.as_str())
        }
        Event::CompactionStart(reason) => format!("compaction {}", reason.as_str()),
        Event::CompactionEnd(end) => {
            format!("compacted {} {} {}", end.tokens_before, end.tokens_after, end.summary_length)
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn said(text: &str) -> Result<Assistant, ModelError> {
    let content = vec![Block::Text { text: text.into(), signature: None }];
    let usage = Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() };
    Ok(Assistant { content, provider: "script".into(), model: "m".into(), usage, ..Assistant::default() })
}

pub(super) fn cut_off(text: &str) -> Result<Assistant, ModelError> {
    said(text).map(|message| Assistant { stop: Stop::Length, ..message })
}

pub(super) fn calls(commands: &[&str]) -> Result<Assistant, ModelError> {
    let call = |(at, command): (usize, &&str)| {
        Block::ToolCall(ToolCall::from_raw(at.to_string(), "bash", json!({"command": command}).to_string()))
    };
    let content = commands.iter().enumerate().map(call).collect();
    said("").map(|message| Assistant { content, stop: Stop::ToolUse, ..message })
}

pub(super) fn failed(kind: Kind) -> Result<Assistant, ModelError> {
    Err(ModelError::new(kind, "no"))
}

pub(super) fn rejected(param: &str) -> Result<Assistant, ModelError> {
    let mut error = ModelError::new(Kind::InvalidRequest, "no");
    error.rejected = Some(param.into());
    Err(error)
}

#[track_caller]
pub(super) fn assert_failed(outcome: &Outcome, kind: Kind) {
    assert_failed_with(outcome, kind, "m");
}

#[track_caller]
pub(super) fn assert_failed_with(outcome: &Outcome, kind: Kind, id: &str) {
    match &outcome.end {
        End::Failed { error, provider, model } => {
            assert_eq!((error.kind, provider.as_str(), model.as_str()), (kind, "script", id));
        }
        other => panic!("{other:?}"),
    }
}
