//! The loop (agent-session.md §6): model request, tool calls, model request, until the model is done.

use std::path::PathBuf;
use std::time::Instant;

use self::context::Room;
use super::compact::Dropped;
use super::error::ModelError;
use super::event::{Created, Event, Notice, Role};
use super::limits::Budget;
use super::lineup::Lineup;
use super::message::{Assistant, Content, Message, Stop, ToolCall, ToolResult};
use super::provider::Provider;
use super::registry::Registry;
use super::tools::Surroundings;
use super::{End, Input, ModelChoice, Outcome};
use super::{history, providers, tools};
use crate::cancel::Cancel;
use crate::wire::config::ModelConfig;
use crate::wire::usage::Usage;

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod compaction_tests;
mod context;
mod exchange;
#[cfg(test)]
mod fallback_tests;
#[cfg(test)]
mod formats_tests;

/// How often in a row a model that ran into the output limit is asked to go on.
const MOST_CONTINUATIONS: u32 = 2;
/// How many results that look like missing permissions end a session.
pub const MOST_PERMISSION_ERRORS: u32 = 3;

const CONTINUE: &str =
    "Your last answer was cut off because it reached the output limit. Go on from exactly where it stopped.";

/// What results of tools say, in lower case, when nothing the model can do will help.
const PERMISSION_TEXTS: [&str; 7] = [
    "permission denied",
    "could not read from remote repository",
    "resource not accessible by personal access token",
    "bad credentials",
    "authentication failed",
    "the requested url returned error: 403",
    "denied to ",
];

/// Holds one session. Everything that happens is reported to `sink`; nothing is logged.
pub fn run(mut input: Input, sink: &mut dyn FnMut(Event<'_>)) -> Outcome {
    let prompt = std::mem::take(&mut input.prompt);
    match Session::start(input, sink) {
        Ok(mut session) => {
            let end = session.prompt(prompt, sink);
            session.outcome(end)
        }
        Err(reason) => Outcome { end: End::NotStarted { reason }, text: String::new(), usage: Usage::default() },
    }
}

/// A conversation that can be continued with further prompts.
pub struct Session {
    system: String,
    messages: Vec<Message>,
    lineup: Lineup,
    room: Room,
    dropped: Dropped,
    budget: Budget,
    tools: tools::Context,
    exit_file: Option<PathBuf>,
    deadline: Option<Instant>,
    permission_hits: u32,
    text: String,
    usage: Usage,
}

/// What follows a batch of tool calls.
enum AfterTools {
    GoOn,
    End(End),
}

impl Session {
    /// Makes the models of the list ready; the prompt is not used.
    ///
    /// # Errors
    /// What is wrong with the configuration of a model, for people.
    pub fn start(input: Input, sink: &mut dyn FnMut(Event<'_>)) -> Result<Self, String> {
        let Some(first) = input.models.first() else {
            return Err("no model configured; add [model] to the configuration".into());
        };
        let mut models: Vec<Box<dyn Provider>> = Vec::with_capacity(input.models.len());
        for choice in &input.models {
            let model = providers::connect(choice, &input.environment, &mut |notice| sink(Event::Notice(notice)))
                .and_then(|model| check_price(&choice.config, input.limits.max_cost).map(|()| model));
            models.push(match models.is_empty() {
                true => model?,
                false => model.map_err(|error| {
                    format!("fallback model {}:{}: {error}", choice.config.provider, choice.config.model)
                })?,
            });
        }
        announce(first, &*models[0], sink);
        Ok(Self::with_models(input, models))
    }

    fn with_models(input: Input, models: Vec<Box<dyn Provider>>) -> Self {
        Self {
            system: input.system,
            messages: Vec::new(),
            lineup: Lineup::new(models),
            room: Room::default(),
            dropped: Dropped::default(),
            tools: tools::Context {
                dir: input.tool_dir,
                tmp_dir: input.tmp_dir,
                environment: input.environment,
                cancel: input.cancel,
                groups: input.tool_groups,
                surroundings: input.surroundings,
                bash_timeout: input.limits.bash_timeout.filter(|seconds| *seconds > 0),
            },
            budget: Budget::new(input.limits, input.time_limit.zip(input.deadline)),
            exit_file: input.exit_file,
            deadline: input.deadline,
            permission_hits: 0,
            text: String::new(),
            usage: Usage::default(),
        }
    }

    /// Says something to the model and goes on until it is done.
    pub fn prompt(&mut self, text: String, sink: &mut dyn FnMut(Event<'_>)) -> End {
        sink(Event::AgentStart);
        let end = self.converse(text, sink);
        sink(Event::AgentEnd);
        end
    }

    /// Replaces the cancel token; a used one ends everything at once.
    pub fn set_cancel(&mut self, cancel: Cancel) {
        self.tools.cancel = cancel;
    }

    /// Ends the session: kills what its tools have left running, and says how it went.
    pub fn outcome(self, end: End) -> Outcome {
        self.tools.groups.kill_all();
        Outcome { end, text: self.text, usage: self.usage }
    }

    fn converse(&mut self, text: String, sink: &mut dyn FnMut(Event<'_>)) -> End {
        let mut to_say = Some(text);
        let mut continuations = 0;
        loop {
            if let Some(end) = self.stopped().or_else(|| self.out_of_budget()) {
                return end;
            }
            sink(Event::TurnStart);
            if let Some(text) = to_say.take() {
                sink(Event::MessageStart(Role::User));
                self.add(Message::User(vec![Content::Text(text)]), sink);
            }
            let message = match self.respond(sink) {
                Ok(message) => message,
                Err(end) => return end,
            };
            let (results, after) = self.run_tools(&message, sink);
            sink(Event::TurnEnd { message: &message, results: &results, usage: self.usage });
            let has_calls = message.calls().next().is_some();
            match after {
                AfterTools::End(end) => return end,
                AfterTools::GoOn if has_calls => {
                    continuations = 0;
                    to_say = self.budget_hint();
                }
                AfterTools::GoOn if message.stop != Stop::Length => {
                    if message.text().trim().is_empty() {
                        sink(Event::Notice(Notice::EmptyResponse));
                    }
                    return End::Completed;
                }
                AfterTools::GoOn if continuations == MOST_CONTINUATIONS => {
                    sink(Event::Notice(Notice::OutputLimit));
                    return End::Completed;
                }
                AfterTools::GoOn => {
                    continuations += 1;
                    to_say = Some(CONTINUE.into());
                }
            }
        }
    }

    fn run_tools(&mut self, message: &Assistant, sink: &mut dyn FnMut(Event<'_>)) -> (Vec<ToolResult>, AfterTools) {
        let mut results = Vec::new();
        let mut after = AfterTools::GoOn;
        for call in message.calls() {
            if let Some(end) = self.stopped() {
                after = AfterTools::End(end);
                break;
            }
            let result = self.run_tool(call, sink);
            let hopeless = self.tools.surroundings == Surroundings::Container && is_permission_error(&result);
            results.push(result);
            self.permission_hits += u32::from(hopeless);
            if self.permission_hits == MOST_PERMISSION_ERRORS {
                sink(Event::Notice(Notice::RepeatedPermissionErrors));
                after = AfterTools::End(End::Aborted);
                break;
            }
        }
        if history::drop_old_images(&mut self.messages) {
            self.forget_bound_thinking();
        }
        let exit = || !results.is_empty() && self.exit_file.as_ref().is_some_and(|file| file.exists());
        if matches!(after, AfterTools::GoOn) && exit() {
            after = AfterTools::End(End::Completed);
        }
        (results, after)
    }

    fn run_tool(&mut self, call: &ToolCall, sink: &mut dyn FnMut(Event<'_>)) -> ToolResult {
        sink(Event::ToolStart(call));
        let started = Instant::now();
        self.budget.count_call();
        let result = tools::execute(call, &self.tools);
        sink(Event::ToolEnd { call, result: &result, took: started.elapsed() });
        sink(Event::MessageStart(Role::ToolResult));
        self.add(Message::ToolResult(result.clone()), sink);
        result
    }

    fn add(&mut self, message: Message, sink: &mut dyn FnMut(Event<'_>)) {
        sink(Event::MessageEnd(&message));
        self.messages.push(message);
    }

    fn stopped(&self) -> Option<End> {
        if self.tools.cancel.is_cancelled() {
            return Some(End::Cancelled);
        }
        let over = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        over.then_some(End::OutOfTime)
    }

    fn out_of_budget(&self) -> Option<End> {
        self.budget.exceeded(&self.usage).map(|error| self.failed(error))
    }

    /// What the model has to know about its budget before it goes on.
    fn budget_hint(&mut self) -> Option<String> {
        let price = self.model().facts.price;
        let next = self.context() as f64 * price.input + self.wanted_output() as f64 * price.output;
        self.budget.hint(&self.usage, next / 1e6, Instant::now())
    }

    /// The end that an error of the current model is.
    fn failed(&self, error: ModelError) -> End {
        let model = self.model();
        End::Failed { error: error.into(), provider: model.provider.clone(), model: model.id.clone() }
    }

    fn model(&self) -> &super::provider::Model {
        self.lineup.model()
    }
}

/// A limit on the cost needs to know what a model costs.
fn check_price(config: &ModelConfig, max_cost: Option<f64>) -> Result<(), String> {
    if max_cost.unwrap_or(0.0) <= 0.0 || Registry::builtin().knows_price(config) {
        return Ok(());
    }
    Err(format!("limits.maxCost needs the price of {}:{}; set model.cost", config.provider, config.model))
}

fn announce(choice: &ModelChoice, provider: &dyn Provider, sink: &mut dyn FnMut(Event<'_>)) {
    let model = provider.model();
    sink(Event::Created(Created {
        provider: &model.provider,
        model: &model.id,
        thinking: choice.config.thinking_level.as_deref(),
        effective_thinking: model.thinking.as_str(),
        context_window: model.facts.context_window,
        max_tokens: model.facts.max_tokens,
    }));
}

/// Fills in what follows from the counts of a response.
fn complete(message: &mut Assistant, price: &crate::wire::config::Price) {
    let usage = &mut message.usage;
    usage.total_tokens = usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
    usage.turn_count = 1;
    let cost = usage.input_tokens as f64 * price.input
        + usage.output_tokens as f64 * price.output
        + usage.cache_read_tokens as f64 * price.cache_read
        + usage.cache_write_tokens as f64 * price.cache_write;
    // A provider that says what it charges knows better than the table.
    usage.cost = message.charged.unwrap_or(cost / 1e6);
}

fn is_permission_error(result: &ToolResult) -> bool {
    result.is_error && is_permission_text(&result.text())
}

/// Whether the text of a failed call says that a permission is missing (agent-session.md §6.3).
pub fn is_permission_text(text: &str) -> bool {
    let text = text.to_lowercase();
    PERMISSION_TEXTS.iter().any(|pattern| text.contains(pattern))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::env::Environment;
    use crate::secret::Secret;
    use crate::session::ToolGroups;
    use crate::session::error::Kind;
    use crate::session::event::RetryPhase;
    use crate::session::fake::{Fake, Given};
    use crate::session::message::Block;
    use crate::session::provider::{Delta, Model, Request};
    use crate::session::registry::{Facts, Thinking};
    use crate::session::{classify, estimate};
    use crate::wire::config::{Limits, Price};

    const OVERLOADED: &str = include_str!("providers/testdata/anthropic-error.sse");

    /// A provider that plays prepared answers. Waits between them are a thousandth of what they should be.
    pub(super) struct Script {
        pub(super) model: Model,
        pub(super) answers: VecDeque<Result<Assistant, ModelError>>,
        /// Answers to requests beside the conversation; when they are over, the last one is given again.
        pub(super) summaries: VecDeque<Result<Assistant, ModelError>>,
        /// Whether the input is counted, or as the answer says.
        pub(super) counts: bool,
        asked: Arc<Mutex<Vec<Asked>>>,
        on_send: Box<dyn FnMut()>,
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
        dir: tempfile::TempDir,
        pub(super) system: String,
        pub(super) script: Script,
        /// Further models.
        pub(super) others: Vec<Script>,
        pub(super) limits: Limits,
        cancel: Cancel,
        pub(super) deadline: Option<Instant>,
        pub(super) time_limit: Option<Duration>,
        surroundings: Surroundings,
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
            let facts = Facts {
                reasoning: true,
                images: true,
                adaptive: false,
                context_window: 100_000,
                max_tokens: 8000,
                price,
            };
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
                prompt: String::new(),
                models: Vec::new(),
                tool_dir: self.dir.path().into(),
                tmp_dir: self.dir.path().into(),
                environment: Environment::of_process(),
                exit_file: Some(self.dir.path().join("exit")),
                deadline: self.deadline,
                time_limit: self.time_limit,
                limits: self.limits.clone(),
                cancel: self.cancel.clone(),
                tool_groups: ToolGroups::default(),
                surroundings: self.surroundings,
            }
        }

        pub(super) fn run(self) -> Seen {
            let (asked, input) = (self.script.asked.clone(), self.input());
            let models = std::iter::once(self.script).chain(self.others);
            let models = models.map(|script| Box::new(script) as Box<dyn Provider>).collect();
            let mut session = Session::with_models(input, models);
            let mut events = Vec::new();
            let end = session.prompt("do it".into(), &mut |event| events.push(name(&event)));
            let (asked, messages) = (asked.lock().unwrap().clone(), session.messages.clone());
            Seen { outcome: session.outcome(end), events, asked, messages }
        }
    }

    impl Seen {
        pub(super) fn count(&self, event: &str) -> usize {
            self.events.iter().filter(|seen| seen.starts_with(event)).count()
        }

        fn last_results(&self) -> Vec<String> {
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

    #[test]
    fn events_come_in_the_promised_order() {
        let seen = Bench::new(vec![calls(&["echo hi"]), said("done")]).run();
        let expected = [
            "AgentStart",
            "TurnStart",
            "start User",
            "end User",
            "start Assistant",
            "text",
            "end Assistant",
            "tool bash",
            "done false",
            "start ToolResult",
            "end ToolResult",
            "turn end 1",
            "TurnStart",
            "start Assistant",
            "text",
            "end Assistant",
            "turn end 2",
            "AgentEnd",
        ];
        assert_eq!(seen.events, expected);
        assert!(matches!(seen.outcome.end, End::Completed));
        assert_eq!(seen.outcome.text, "done");
        assert_eq!(seen.last_results(), ["hi\n"]);
        let usage = seen.outcome.usage;
        assert_eq!((usage.input_tokens, usage.total_tokens, usage.turn_count), (20, 24, 2));
        assert_eq!(usage.cost, 24.0);
    }

    #[test]
    fn what_failed_is_withdrawn_and_sent_again() {
        let seen = Bench::new(vec![failed(Kind::Overloaded), failed(Kind::Overloaded), said("ok")]).run();
        assert_eq!(seen.outcome.text, "ok");
        assert_eq!(seen.outcome.usage.turn_count, 1);
        assert_eq!(
            (seen.count("failed overloaded"), seen.count("retry fast"), seen.count("retried true 2")),
            (2, 2, 1)
        );
        assert!(seen.asked.windows(2).all(|pair| pair[0].messages == pair[1].messages));
    }

    #[test]
    fn rate_limits_are_waited_for_in_both_phases() {
        let seen = Bench::new((0..20).map(|_| failed(Kind::RateLimit)).collect()).run();
        assert_failed(&seen.outcome, Kind::RateLimit);
        assert_eq!((seen.count("retry fast"), seen.count("retry slow"), seen.asked.len()), (2, 5, 8));
        assert_eq!(seen.count("retried false 7"), 1);
    }

    #[test]
    fn a_success_starts_the_schedule_over() {
        let mut answers: Vec<_> = (0..4).map(|_| failed(Kind::Malformed)).collect();
        answers.push(calls(&["true"]));
        answers.extend((0..4).map(|_| failed(Kind::Malformed)));
        answers.push(said("ok"));
        assert_eq!(Bench::new(answers).run().outcome.text, "ok");
    }

    #[test]
    fn final_errors_are_not_retried() {
        for kind in [Kind::Auth, Kind::Quota, Kind::Refusal, Kind::InvalidRequest, Kind::ContextOverflow] {
            let seen = Bench::new(vec![failed(kind), said("never")]).run();
            assert_failed(&seen.outcome, kind);
            assert_eq!(
                (seen.asked.len(), seen.count("retr"), seen.events.last().unwrap().as_str()),
                (1, 0, "AgentEnd")
            );
        }
    }

    #[test]
    fn a_wait_beyond_the_deadline_is_not_started() {
        let mut bench = Bench::new(vec![failed(Kind::Server), said("never")]);
        bench.deadline = Some(Instant::now() + Duration::from_secs(4));
        let seen = bench.run();
        assert_failed(&seen.outcome, Kind::Server);
        assert_eq!(seen.count("retry"), 0);

        let mut bench = Bench::new(vec![said("never")]);
        bench.deadline = Some(Instant::now());
        let seen = bench.run();
        assert!(matches!(seen.outcome.end, End::OutOfTime) && seen.asked.is_empty());
    }

    #[test]
    fn cancelling_ends_a_wait_a_request_and_the_rest_of_the_calls() {
        let mut error = ModelError::new(Kind::RateLimit, "no");
        error.wait = Some(Duration::from_secs(300));
        let mut bench = Bench::new(vec![Err(error)]);
        let token = bench.cancel.clone();
        // 300 s are 0.3 s here; the token is used while the session waits.
        bench.script.on_send = Box::new(move || {
            let token = token.clone();
            std::thread::spawn(move || token.cancel());
        });
        assert!(matches!(bench.run().outcome.end, End::Cancelled));

        let bench = Bench::new(vec![calls(&["echo one", "echo two"])]);
        let token = bench.cancel.clone();
        token.cancel();
        let seen = bench.run();
        assert!(matches!(seen.outcome.end, End::Cancelled) && seen.asked.is_empty());

        let mut bench = Bench::new(vec![calls(&["echo one", "echo two"])]);
        let token = bench.cancel.clone();
        bench.script.on_send = Box::new(move || token.cancel());
        let seen = bench.run();
        assert!(matches!(seen.outcome.end, End::Cancelled));
        assert_eq!((seen.count("tool "), seen.count("turn end 1"), seen.outcome.usage.turn_count), (0, 1, 1));
    }

    #[test]
    fn a_cut_answer_is_continued_twice() {
        let seen = Bench::new(vec![cut_off("a"), cut_off("b"), said("c")]).run();
        assert_eq!((seen.outcome.text.as_str(), seen.count("notice")), ("abc", 0));
        assert_eq!(seen.asked[1].messages.last(), Some(&Message::User(vec![Content::Text(CONTINUE.into())])));

        let seen = Bench::new(vec![cut_off("a"), cut_off("b"), cut_off("c"), said("never")]).run();
        assert!(matches!(seen.outcome.end, End::Completed));
        assert_eq!((seen.outcome.text.as_str(), seen.count("notice OutputLimit")), ("abc", 1));

        let seen = Bench::new(vec![cut_off("a"), cut_off("b"), calls(&["true"]), cut_off("c"), said("d")]).run();
        assert_eq!((seen.outcome.text.as_str(), seen.count("notice")), ("abcd", 0));
    }

    #[test]
    fn a_cut_call_is_not_executed() {
        let mut cut = calls(&[]).unwrap();
        cut.content = vec![Block::ToolCall(ToolCall::from_raw("1", "bash", r#"{"command":"touch made"#))];
        cut.stop = Stop::Length;
        let bench = Bench::new(vec![Ok(cut), said("sorry")]);
        let made = bench.dir.path().join("made");
        let seen = bench.run();
        assert!(!made.exists());
        assert_eq!((seen.count("done true"), seen.outcome.text.as_str()), (1, "sorry"));
    }

    #[test]
    fn an_empty_answer_is_noticed() {
        assert_eq!(Bench::new(vec![said(" ")]).run().count("notice EmptyResponse"), 1);
        assert_eq!(Bench::new(vec![calls(&["true"]), said("x")]).run().count("notice"), 0);
    }

    #[test]
    fn repeated_permission_errors_end_a_run_but_not_a_chat() {
        let commands = ["echo Permission denied; false", "echo Permission denied", "echo 'access denied to x'; false"];
        let more = ["echo bad credentials; false", "touch made"];
        let bench = Bench::new(vec![calls(&commands), calls(&more), said("never")]);
        let seen = bench.run();
        assert!(matches!(seen.outcome.end, End::Aborted));
        assert_eq!((seen.count("tool "), seen.count("notice RepeatedPermissionErrors")), (4, 1));
        assert_eq!((seen.asked.len(), seen.count("turn end 2")), (2, 1));

        let mut bench = Bench::new(vec![calls(&commands), calls(&more), said("fine")]);
        bench.surroundings = Surroundings::Terminal;
        assert_eq!(bench.run().outcome.text, "fine");
    }

    #[test]
    fn the_exit_file_ends_the_session_after_the_batch() {
        let seen = Bench::new(vec![calls(&["echo 3 > exit", "echo two"]), said("never")]).run();
        assert!(matches!(seen.outcome.end, End::Completed));
        assert_eq!((seen.asked.len(), seen.count("tool "), seen.outcome.text.as_str()), (1, 2, ""));
    }

    #[test]
    fn a_refused_parameter_is_left_out_once() {
        let seen = Bench::new(vec![rejected("store"), rejected("usage"), said("ok")]).run();
        assert_eq!(seen.outcome.text, "ok");
        assert_eq!(seen.asked[2].refused, ["store", "usage"]);
        assert_eq!((seen.count("notice ParameterRejected"), seen.count("retry")), (2, 0));

        let seen = Bench::new(vec![rejected("store"), rejected("store"), said("never")]).run();
        assert_failed(&seen.outcome, Kind::InvalidRequest);
    }

    #[test]
    fn refused_thinking_is_taken_out_of_the_history() {
        let mut thought = calls(&["true"]).unwrap();
        thought.content.insert(0, Block::Thinking { text: "hm".into(), signature: Some("s".into()), redacted: false });
        let seen = Bench::new(vec![Ok(thought), rejected(classify::THINKING_BLOCKS), said("ok")]).run();
        assert_eq!(seen.outcome.text, "ok");
        let has_thinking = |asked: &Asked| format!("{:?}", asked.messages).contains("Thinking");
        assert_eq!(seen.asked.iter().map(has_thinking).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(seen.asked[2].refused, [classify::THINKING_BLOCKS, "thinking"]);
    }

    #[test]
    fn the_output_limit_shrinks_with_the_room() {
        #[track_caller]
        fn case(used: u64, wanted: u64, expected: u64) {
            let mut first = calls(&["true"]).unwrap();
            first.usage = Usage { input_tokens: used / 2, cache_write_tokens: used - used / 2, ..Usage::default() };
            let mut bench = Bench::new(vec![Ok(first), said("ok")]);
            bench.script.model.facts.max_tokens = wanted;
            let seen = bench.run();
            assert_eq!((seen.asked[1].max_tokens, seen.count("compact")), (expected, 0));
        }
        // The result "(no output)" is estimated at 3 tokens; 1024 stay free.
        case(50_000, 8000, 8000);
        case(50_000, 90_000, 32_000);
        case(80_000, 32_000, 100_000 - 80_000 - 3 - 1024);
        case(83_613, 32_000, 100_000 - 83_613 - 3 - 1024);
    }

    #[test]
    fn a_request_larger_than_the_window_is_an_overflow_even_if_it_was_answered() {
        let mut answer = said("ok").unwrap();
        answer.usage = Usage { input_tokens: 60_000, cache_read_tokens: 40_001, ..Usage::default() };
        assert_failed(&Bench::new(vec![Ok(answer)]).run().outcome, Kind::ContextOverflow);
    }

    /// A whole session with a server.
    fn run_against(server: &Fake, config: Value) -> (Vec<String>, Outcome) {
        let mut table = json!({"provider": "anthropic", "model": "claude-opus-4-6", "baseUrl": server.url});
        table.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let config = serde_json::from_value(table).unwrap();
        let mut input = Bench::new(Vec::new()).input();
        input.prompt = "do it".into();
        input.models = vec![ModelChoice { config, key: Some(Secret::new("k")) }];
        let mut events = Vec::new();
        let outcome = run(input, &mut |event| events.push(name(&event)));
        (events, outcome)
    }

    fn text_answer(text: &str) -> String {
        [
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 1_000_000}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": text}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1000}}),
            json!({"type": "message_stop"}),
        ]
        .map(|event| format!("data: {event}\n\n"))
        .concat()
    }

    #[test]
    fn a_session_with_a_server() {
        let refusal = r#"{"error":{"type":"invalid_request_error","message":"output_config: unknown field"}}"#;
        let limited = Given::json(529, OVERLOADED).header("retry-after-ms", "5");
        let broken = Given::stream(OVERLOADED).header("retry-after-ms", "5");
        let answers = vec![Given::json(400, refusal), limited, broken, Given::stream(text_answer("Done."))];
        let server = Fake::start(answers);
        let (events, outcome) = run_against(&server, json!({}));
        assert!(matches!(outcome.end, End::Completed), "{:?}", outcome.end);
        assert_eq!((outcome.text.as_str(), outcome.usage.cost), ("Done.", 5.025));
        assert!(events[0].starts_with("Created(Created { provider: \"anthropic\", model: \"claude-opus-4-6\""));
        let has_effort: Vec<bool> =
            server.received().iter().map(|request| request.body.get("output_config").is_some()).collect();
        assert_eq!(has_effort, [true, false, false, false]);
    }

    #[test]
    fn a_server_that_knows_the_output_limit_by_another_name() {
        let refusal = r#"{"error":{"message":"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}}"#;
        let finish = r#"{"choices":[{"delta":{"content":"Done."},"finish_reason":"stop"}]}"#;
        let answers = vec![Given::json(400, refusal), Given::stream(format!("data: {finish}\n\n"))];
        let server = Fake::start(answers);
        let (events, outcome) = run_against(&server, json!({"provider": "custom", "model": "m"}));
        assert!(matches!(outcome.end, End::Completed), "{:?}", outcome.end);
        assert!(events.iter().any(|event| event.contains("ParameterRejected { param: \"max_tokens\" }")), "{events:?}");
        let limits = |name: &str| -> Vec<bool> {
            server.received().iter().map(|request| request.body.get(name).is_some()).collect()
        };
        assert_eq!((limits("max_tokens"), limits("max_completion_tokens")), (vec![true, false], vec![false, true]));
    }

    #[test]
    fn what_a_provider_charges_is_the_cost() {
        let cost = |charged: &str| {
            let finish = r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#;
            let usage = format!(r#"{{"usage":{{"prompt_tokens":1000000,"completion_tokens":0{charged}}}}}"#);
            let server = Fake::start(vec![Given::stream(format!("data: {finish}\n\ndata: {usage}\n\n"))]);
            run_against(&server, json!({"provider": "openrouter", "model": "x-ai/grok-4.3"})).1.usage.cost
        };
        assert_eq!([cost(""), cost(r#","cost":0.5"#), cost(r#","cost":0"#)], [1.25, 0.5, 0.0]);
    }

    #[test]
    fn the_mock_echoes() {
        let server = Fake::start(Vec::new());
        let (events, outcome) = run_against(&server, json!({"provider": "mock", "model": "echo"}));
        assert!(matches!(outcome.end, End::Completed));
        assert_eq!((outcome.text.as_str(), outcome.usage.turn_count, server.received().len()), ("done", 2, 0));
        // The first event and the deltas are not counted among those of a conversation.
        assert_eq!(events[1..].iter().filter(|event| *event != "text").count(), 16);
    }

    #[test]
    fn a_limit_on_the_cost_needs_a_price() {
        #[track_caller]
        fn case(model: Value, starts: bool) {
            let mut input = Bench::new(Vec::new()).input();
            let config = serde_json::from_value(model.clone()).unwrap();
            input.models = vec![ModelChoice { config, key: Some(Secret::new("k")) }];
            input.limits.max_cost = Some(1.0);
            let error = Session::start(input, &mut |_| {}).err();
            assert_eq!(error.is_none(), starts, "{model} {error:?}");
            assert!(error.is_none_or(|error| error.contains("model.cost")));
        }
        case(json!({"provider": "anthropic", "model": "claude-opus-4-6"}), true);
        case(json!({"provider": "anthropic", "model": "claude-haiku-3-5"}), true);
        case(json!({"provider": "anthropic", "model": "claude-opus-99"}), false);
        case(json!({"provider": "anthropic", "model": "claude-opus-99", "cost": {"input": 1}}), true);
        case(json!({"provider": "mock", "model": "echo"}), true);
    }

    #[test]
    fn a_fallback_model_that_cannot_work_is_named() {
        let mut input = Bench::new(Vec::new()).input();
        let choice = |model: Value| ModelChoice { config: serde_json::from_value(model).unwrap(), key: None };
        let broken = json!({"provider": "custom", "api": "google", "model": "g"});
        input.models = vec![choice(json!({"provider": "mock", "model": "echo"})), choice(broken)];
        let error = Session::start(input, &mut |_| {}).err().unwrap();
        assert!(error.starts_with("fallback model custom:g: model.baseUrl is missing"), "{error}");
    }

    #[test]
    fn a_configuration_that_cannot_work_starts_nothing() {
        let server = Fake::start(Vec::new());
        let (events, outcome) = run_against(&server, json!({"authType": "x", "model": "claude-haiku-3-5"}));
        assert!(matches!(outcome.end, End::NotStarted { reason } if reason.contains("authType")));
        assert!(events.is_empty() && server.received().is_empty());
    }
}
