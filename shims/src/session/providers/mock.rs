//! The `mock` provider: replays a script instead of asking a model (agent-session.md §17). No network, no key, always
//! the same.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::env::Environment;
use crate::session::error::{Kind, ModelError};
use crate::session::estimate;
use crate::session::message::{Assistant, Block, Stop, ToolCall, ToolResult};
use crate::session::provider::{Delta, Model, Provider, Request};
use crate::wire::usage::Usage;

mod expect;
mod script;
mod template;

pub use script::Script;

use script::{Failure, OnExhausted, StopWord, Turn, UsageTable};
use template::Values;

/// A script being played.
pub struct Mock {
    model: Model,
    script: Script,
    /// For `{{env.NAME}}`.
    environment: Environment,
    time_scale: f64,
    /// The turns of the scenario, chosen at the first request.
    turns: Option<Arc<[Turn]>>,
    position: Position,
    summaries: u64,
}

/// Where the script is.
#[derive(Default)]
struct Position {
    index: usize,
    /// How often the turn at `index` has been played.
    played: u32,
    /// Turns played before this one: every repetition counts, an error turn counts once.
    before: u64,
}

impl Position {
    /// Goes on after one of `times` plays of a turn.
    fn advance(&mut self, times: u32) {
        self.played += 1;
        if self.played >= times {
            self.index += 1;
            self.played = 0;
        }
    }
}

impl Mock {
    /// Starts a script from its beginning. `model` is [`Script::facts`] with what the configuration says on top;
    /// `environment` is that of the tools.
    ///
    /// # Errors
    /// `AL_MOCK_TIME_SCALE` is not a positive number.
    pub fn new(script: Script, model: Model, environment: Environment) -> Result<Self> {
        let time_scale = time_scale(&environment)?;
        let position = Position::default();
        Ok(Self { model, script, environment, time_scale, turns: None, position, summaries: 0 })
    }

    /// The turns for a conversation: those of the first scenario whose text is in the prompt, else the default ones.
    fn turns(&mut self, prompt: &str) -> Arc<[Turn]> {
        let script = &self.script;
        let choose = || {
            let scenario = script.scenarios.iter().find(|scenario| prompt.contains(&scenario.pattern));
            Arc::clone(scenario.map_or(&script.turns, |scenario| &scenario.turns))
        };
        Arc::clone(self.turns.get_or_insert_with(choose))
    }

    fn summary(&mut self, request: &Request<'_>) -> Assistant {
        self.summaries += 1;
        let text = format!("## Goal\nmock summary {}", self.summaries);
        self.answer(vec![Block::Text { text, signature: None }], Stop::Stop, UsageTable::default(), request)
    }

    fn exhausted(&self, request: &Request<'_>) -> Result<Assistant, ModelError> {
        match self.script.on_exhausted {
            OnExhausted::Error => Err(ModelError::new(
                Kind::InvalidRequest,
                format!("the mock script has no turn for request {}", self.position.before + 1),
            )),
            OnExhausted::Stop | OnExhausted::Repeat => {
                let block = Block::Text { text: "(script finished)".into(), signature: None };
                Ok(self.answer(vec![block], Stop::Stop, UsageTable::default(), request))
            }
        }
    }

    /// A response with its four token counts; totals and cost are computed by the loop, alike for all providers.
    fn answer(&self, content: Vec<Block>, stop: Stop, usage: UsageTable, request: &Request<'_>) -> Assistant {
        let (provider, model) = (self.model.provider.clone(), self.model.id.clone());
        let mut answer =
            Assistant { content, provider, model, api: self.model.api, usage: Usage::default(), stop, charged: None };
        let tools = if request.tools { estimate::tools() } else { 0 };
        let asked = || estimate::text(request.system) + tools + estimate::messages(request.messages);
        answer.usage = Usage {
            input_tokens: usage.input.unwrap_or_else(asked),
            output_tokens: usage.output.unwrap_or_else(|| estimate::answer(&answer)),
            cache_read_tokens: usage.cache_read,
            cache_write_tokens: usage.cache_write,
            ..Usage::default()
        };
        answer
    }

    /// The blocks of a turn, placeholders replaced.
    fn content(&self, turn: &Turn, request: &Request<'_>, prompt: &str) -> Vec<Block> {
        let last_result = expect::last_result(request.messages).map(ToolResult::text).unwrap_or_default();
        let number = self.position.before + 1;
        let values = Values { last_result: last_result.trim(), prompt, turn: number, environment: &self.environment };
        let thinking = turn.thinking.clone().map(|text| Block::Thinking { text, signature: None, redacted: false });
        let text = turn.text.as_ref().map(|text| template::render(text, &values)).filter(|text| !text.is_empty());
        let text = text.map(|text| Block::Text { text, signature: None });
        let calls = turn.call.iter().enumerate().map(|(index, call)| {
            let id = call.id.clone().unwrap_or_else(|| format!("mock_{number}_{}", index + 1));
            let raw = call.raw_args.clone().unwrap_or_else(|| {
                let mut args = Value::Object(call.args.clone().unwrap_or_default());
                template::visit_strings(&mut args, &mut |text| *text = template::render(text, &values));
                args.to_string()
            });
            Block::ToolCall(ToolCall::from_raw(id, &call.tool, raw))
        });
        thinking.into_iter().chain(text).chain(calls).collect()
    }
}

impl Provider for Mock {
    fn model(&self) -> &Model {
        &self.model
    }

    fn time_scale(&self) -> f64 {
        self.time_scale
    }

    fn send(&mut self, request: &Request<'_>, sink: &mut dyn FnMut(Delta<'_>)) -> Result<Assistant, ModelError> {
        wait(Duration::ZERO, request)?;
        if !request.tools {
            let summary = self.summary(request);
            stream(&summary.content, sink);
            return Ok(summary);
        }
        let prompt = expect::prompt(request.messages);
        let turns = self.turns(&prompt);
        let last = turns.last().filter(|_| self.script.on_exhausted == OnExhausted::Repeat);
        let Some(turn) = turns.get(self.position.index).or(last) else {
            let answer = self.exhausted(request)?;
            stream(&answer.content, sink);
            return Ok(answer);
        };
        if let Some(failure) = &turn.error {
            self.position.advance(failure.times.get());
            if self.position.played == 0 {
                self.position.before += 1;
            }
            return Err(error(failure));
        }
        wait(Duration::from_millis(turn.delay_ms.unwrap_or(0)), request)?;
        if let Some(problem) = turn.expect.as_ref().and_then(|expect| expect.failure(request)) {
            let text = format!("mock turn {}: {problem}", self.position.before + 1);
            return Err(ModelError::new(Kind::InvalidRequest, text));
        }
        let content = self.content(turn, request, &prompt);
        stream(&content, sink);
        self.position.advance(turn.repeat.map_or(1, NonZeroU32::get));
        self.position.before += 1;
        let stop = match turn.stop {
            Some(StopWord::Refusal) => return Err(ModelError::new(Kind::Refusal, "the mock model refused to answer")),
            Some(StopWord::Stop) => Stop::Stop,
            Some(StopWord::Length) => Stop::Length,
            Some(StopWord::ToolUse) => Stop::ToolUse,
            None if turn.call.is_empty() => Stop::Stop,
            None => Stop::ToolUse,
        };
        Ok(self.answer(content, stop, turn.usage.unwrap_or_default(), request))
    }
}

/// What the waits of the retry schedule are divided by: `AL_MOCK_TIME_SCALE`, 1 when absent.
fn time_scale(environment: &Environment) -> Result<f64> {
    let Some(text) = environment.get_non_empty("AL_MOCK_TIME_SCALE") else { return Ok(1.0) };
    match text.trim().parse::<f64>() {
        Ok(scale) if scale.is_finite() && scale > 0.0 => Ok(scale),
        _ => bail!("AL_MOCK_TIME_SCALE: expected a number above 0, got {text:?}"),
    }
}

fn stream(content: &[Block], sink: &mut dyn FnMut(Delta<'_>)) {
    for block in content {
        match block {
            Block::Thinking { text, .. } => sink(Delta::Thinking(text)),
            Block::Text { text, .. } => sink(Delta::Text(text)),
            Block::ToolCall(_) => {}
        }
    }
}

fn error(failure: &Failure) -> ModelError {
    let message = failure.message.clone().unwrap_or_else(|| format!("mock {} error", failure.kind.as_str()));
    ModelError {
        status: failure.status,
        wait: failure.retry_after_ms.map(Duration::from_millis),
        ..ModelError::new(failure.kind, message)
    }
}

/// Waits, unless the request is cancelled or the run is out of time before.
fn wait(delay: Duration, request: &Request<'_>) -> Result<(), ModelError> {
    let failed = |reason: &str| Err(ModelError::new(Kind::Network, reason));
    if request.cancel.is_cancelled() {
        return failed("cancelled");
    }
    if delay.is_zero() {
        return Ok(());
    }
    let end = Instant::now().checked_add(delay);
    let until = [end, request.deadline].into_iter().flatten().min();
    match until {
        Some(until) => _ = request.cancel.done().recv_deadline(until),
        None => _ = request.cancel.done().recv(),
    }
    if request.cancel.is_cancelled() {
        failed("cancelled")
    } else if end == until {
        Ok(())
    } else {
        failed("no time is left")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::cancel::Cancel;
    use crate::session::message::{Content, Message};
    use crate::session::registry::Thinking;

    fn mock(script: &str) -> Mock {
        let script = Script::parse(&format!("version = 1\n{script}"), "test").unwrap();
        let model = Model {
            provider: "mock".into(),
            id: "default".into(),
            api: "mock",
            base_url: None,
            thinking: Thinking::Off,
            facts: script.facts(),
        };
        Mock::new(script, model, [("HOME", "/home/ann")].into_iter().collect()).unwrap()
    }

    fn user(text: &str) -> Message {
        Message::User(vec![Content::Text(text.into())])
    }

    fn result(text: &str, is_error: bool) -> Message {
        let content = vec![Content::Text(text.into())];
        Message::ToolResult(ToolResult { call_id: "1".into(), tool: "bash".into(), content, is_error })
    }

    /// Sends a request with these messages.
    fn ask(mock: &mut Mock, messages: &[Message]) -> Result<Assistant, ModelError> {
        send(mock, messages, true, &Cancel::new())
    }

    fn send(mock: &mut Mock, messages: &[Message], tools: bool, cancel: &Cancel) -> Result<Assistant, ModelError> {
        let request =
            Request { system: "be good", messages, max_tokens: 100, refused: &[], tools, cancel, deadline: None };
        let mut streamed = String::new();
        let answer = mock.send(&request, &mut |delta| {
            if let Delta::Text(text) = delta {
                streamed.push_str(text);
            }
        });
        if let Ok(answer) = &answer {
            assert_eq!(streamed, answer.text());
        }
        answer
    }

    #[track_caller]
    fn text(mock: &mut Mock) -> String {
        ask(mock, &[user("go")]).unwrap().text()
    }

    #[test]
    fn turns_are_played_in_order() {
        let mut mock = mock(
            r#"
            [[turn]]
            thinking = "hm"
            text = "one"
            [[turn.call]]
            tool = "bash"
            args = { command = "ls", timeout = 5 }
            [[turn.call]]
            tool = "odd"
            id = "mine"
            [[turn]]
            stop = "length"
            [[turn.call]]
            tool = "bash"
            raw_args = '{"command": "echo cut of'
            [[turn]]
            stop = "tool_use"
            "#,
        );
        let first = ask(&mut mock, &[user("go")]).unwrap();
        assert_eq!((first.provider.as_str(), first.model.as_str(), first.stop), ("mock", "default", Stop::ToolUse));
        assert!(matches!(&first.content[0], Block::Thinking { text, .. } if text == "hm"));
        let calls: Vec<_> =
            first.calls().map(|call| (call.id.as_str(), call.name.as_str(), call.raw.as_str())).collect();
        assert_eq!(calls, [("mock_1_1", "bash", r#"{"command":"ls","timeout":5}"#), ("mine", "odd", "{}")]);
        assert!(first.calls().all(|call| call.complete));
        let second = ask(&mut mock, &[user("go")]).unwrap();
        assert_eq!((second.stop, second.calls().next().map(|call| call.complete)), (Stop::Length, Some(false)));
        let third = ask(&mut mock, &[user("go")]).unwrap();
        assert_eq!((third.stop, third.content.len()), (Stop::ToolUse, 0));
        assert_eq!(text(&mut mock), "(script finished)");
        assert_eq!(text(&mut mock), "(script finished)");
    }

    #[test]
    fn the_documented_example_plays() {
        let example = include_str!("mock/example.toml").replacen("version = 1\n", "", 1);
        let mut mock = mock(&example);
        let prompt = user("go");
        assert_eq!(ask(&mut mock, std::slice::from_ref(&prompt)).unwrap().text(), "Looking for work.");
        let second = ask(&mut mock, &[prompt.clone(), result(" ok\n", false)]).unwrap();
        assert_eq!(second.calls().next().unwrap().args["content"], "result: ok");
        for _ in 0..2 {
            let error = ask(&mut mock, std::slice::from_ref(&prompt)).unwrap_err();
            assert_eq!((error.kind, error.status), (Kind::RateLimit, Some(429)));
            assert_eq!((error.message.as_str(), error.wait), ("slow down", Some(Duration::from_millis(5))));
        }
        let third = ask(&mut mock, &[prompt]).unwrap();
        assert_eq!((third.text().as_str(), third.calls().next().unwrap().id.as_str()), ("All done.", "mock_4_1"));
    }

    #[test]
    fn the_end_of_a_script_is_configurable() {
        let turns = "[[turn]]\ntext = \"{{turn}}\"\nrepeat = 2\n[[turn]]\ntext = \"last {{turn}}\"";
        let mut stop = mock(turns);
        let said: Vec<_> = (0..4).map(|_| text(&mut stop)).collect();
        assert_eq!(said, ["1", "2", "last 3", "(script finished)"]);
        let mut repeat = mock(&format!("on_exhausted = \"repeat\"\n{turns}"));
        let said: Vec<_> = (0..5).map(|_| text(&mut repeat)).collect();
        assert_eq!(said, ["1", "2", "last 3", "last 4", "last 5"]);
        let mut error = mock(&format!("on_exhausted = \"error\"\n{turns}"));
        (0..3).for_each(|_| drop(text(&mut error)));
        let problem = ask(&mut error, &[user("go")]).unwrap_err();
        assert_eq!(
            (problem.kind, problem.message.as_str()),
            (Kind::InvalidRequest, "the mock script has no turn for request 4")
        );
        assert_eq!(text(&mut mock("on_exhausted = \"repeat\"")), "(script finished)");
    }

    #[test]
    fn the_built_in_scripts_play() {
        let script = |name: &str| Script::load(None, &[], name).unwrap();
        let mut player = mock("");
        player.script = script("echo");
        let first = ask(&mut player, &[user("go")]).unwrap();
        assert_eq!(first.calls().next().unwrap().args["command"], "echo mock agent run");
        assert_eq!(text(&mut player), "done");
        let mut player = mock("");
        player.script = script("fail");
        assert_eq!(ask(&mut player, &[user("go")]).unwrap_err().kind, Kind::Auth);
    }

    #[test]
    fn the_prompt_chooses_the_scenario_once() {
        let mut mock = mock(
            r#"
            turn = [{ text = "default" }]
            [[scenario]]
            match = "<webhook>"
            turn = [{ text = "first" }, { text = "second" }]
            [[scenario]]
            match = "web"
            turn = [{ text = "never" }]
            "#,
        );
        assert_eq!(ask(&mut mock, &[user("a <webhook> b")]).unwrap().text(), "first");
        assert_eq!(text(&mut mock), "second");
    }

    #[test]
    fn placeholders_see_the_conversation() {
        let mut mock = mock(
            r#"
            [[turn]]
            text = "{{prompt}} {{env.HOME}} {{turn}}"
            [[turn.call]]
            tool = "bash"
            args = { command = "echo {{last_result|sh}}", more = [{ deep = "{{last_result}}" }] }
            "#,
        );
        let messages = [user("do it"), result("old", false), result("it's new\n", true), user("again")];
        let answer = ask(&mut mock, &messages).unwrap();
        assert_eq!(answer.text(), "do it /home/ann 1");
        let args = &answer.calls().next().unwrap().args;
        assert_eq!((&args["command"], &args["more"][0]["deep"]), (&r"echo 'it'\''s new'".into(), &"it's new".into()));
    }

    #[test]
    fn failed_expectations_say_what_was_seen() {
        #[track_caller]
        fn case(expect: &str, expected: Option<&str>) {
            let mut mock = mock(&format!("[[turn]]\nexpect = {{ {expect} }}"));
            let messages = [user("do it"), result("ok", false), result("bad luck", true)];
            let error = ask(&mut mock, &messages).err();
            assert!(error.as_ref().is_none_or(|error| error.kind == Kind::InvalidRequest));
            let expected = expected.map(|expected| format!("mock turn 1: expect.{expected}"));
            assert_eq!(error.map(|error| error.message), expected);
        }
        case("", None);
        case("prompt_contains = 'do', system_contains = 'good', messages_max = 3, results = 2", None);
        case("last_result_contains = 'luck', last_result_not_contains = 'ok', is_error = true", None);
        case("prompt_contains = 'x'", Some(r#"prompt_contains: expected "x", seen "do it""#));
        case("system_contains = 'x'", Some(r#"system_contains: expected "x", seen "be good""#));
        case("last_result_contains = 'ok'", Some(r#"last_result_contains: expected "ok", seen "bad luck""#));
        case(
            "last_result_not_contains = 'bad'",
            Some(r#"last_result_not_contains: expected no "bad", seen "bad luck""#),
        );
        case("is_error = false", Some("is_error: expected false, seen true"));
        case("results = 1", Some("results: expected 1, seen 2"));
        case("messages_max = 2", Some("messages_max: expected at most 2, seen 3"));
        let mut mock = mock("[[turn]]\nexpect = { last_result_contains = '' }");
        assert!(ask(&mut mock, &[user("go")]).unwrap_err().message.ends_with("seen no tool result"));
    }

    #[test]
    fn usage_is_estimated_unless_given() {
        let mut mock = mock(
            r#"
            [[turn]]
            usage = { input = 1000, output = 100, cacheRead = 10, cacheWrite = 1 }
            [[turn]]
            text = "abcdefgh"
            [[turn]]
            usage = { input = 7 }
            "#,
        );
        let given = ask(&mut mock, &[user("go")]).unwrap().usage;
        assert_eq!((given.input_tokens, given.output_tokens), (1000, 100));
        assert_eq!((given.cache_read_tokens, given.cache_write_tokens), (10, 1));
        let estimated = ask(&mut mock, &[user("123456789")]).unwrap().usage;
        assert_eq!((estimated.input_tokens, estimated.output_tokens), (2 + estimate::tools() + 3, 2));
        let partly = ask(&mut mock, &[user("go")]).unwrap().usage;
        assert_eq!((partly.input_tokens, partly.output_tokens), (7, 0));
    }

    #[test]
    fn summaries_do_not_consume_turns() {
        let mut mock = mock("[[turn]]\ntext = \"one\"");
        let cancel = Cancel::new();
        let summary = |mock: &mut Mock| send(mock, &[user("sum up")], false, &cancel).unwrap();
        assert_eq!(summary(&mut mock).text(), "## Goal\nmock summary 1");
        assert_eq!(summary(&mut mock).text(), "## Goal\nmock summary 2");
        assert_eq!(summary(&mut mock).usage.input_tokens, 2 + 2);
        assert_eq!(text(&mut mock), "one");
    }

    #[test]
    fn refusals_are_errors() {
        let mut mock = mock("[[turn]]\ntext = \"no\"\nstop = \"refusal\"");
        assert_eq!(ask(&mut mock, &[user("go")]).unwrap_err().kind, Kind::Refusal);
        assert_eq!(text(&mut mock), "(script finished)");
    }

    #[test]
    fn delays_end_with_the_request() {
        let mut player = mock("[[turn]]\ndelay_ms = 60000\ntext = \"late\"");
        let cancel = Cancel::new();
        let start = Instant::now();
        let other = cancel.clone();
        let waiter = thread::spawn(move || send(&mut player, &[user("go")], true, &other));
        cancel.cancel();
        assert_eq!(waiter.join().unwrap().unwrap_err().kind, Kind::Network);

        let mut player = mock("[[turn]]\ndelay_ms = 60000");
        let request = Request {
            system: "",
            messages: &[],
            max_tokens: 1,
            refused: &[],
            tools: true,
            cancel: &Cancel::new(),
            deadline: Some(Instant::now()),
        };
        assert_eq!(player.send(&request, &mut |_| {}).unwrap_err().message, "no time is left");
        assert!(start.elapsed() < Duration::from_secs(30));

        let mut player = mock("[[turn]]\ndelay_ms = 20\ntext = \"now\"");
        let start = Instant::now();
        assert_eq!(text(&mut player), "now");
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn the_time_scale_is_a_positive_number() {
        let scale = |text: &str| time_scale(&[("AL_MOCK_TIME_SCALE", text)].into_iter().collect()).ok();
        assert_eq!(time_scale(&Environment::default()).ok(), Some(1.0));
        assert_eq!((scale(""), scale("1000"), scale(" 0.5 ")), (Some(1.0), Some(1000.0), Some(0.5)));
        assert_eq!((scale("0"), scale("-1"), scale("fast"), scale("inf")), (None, None, None, None));
    }
}
