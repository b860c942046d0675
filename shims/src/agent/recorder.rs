//! Writes a session down as a script for the mock provider (`AL_RECORD`, agent-session.md §22.6): what the model said
//! and did can then be played again without it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::report::Reporter;
use crate::env::Environment;
use crate::secret::Masker;
use crate::session::error::ModelError;
use crate::session::event::Event;
use crate::session::message::{Assistant, Message, Stop, ToolCall};
use crate::session::provider::Model;

/// Variable that names the file.
const VARIABLE: &str = "AL_RECORD";
/// Mode of the file.
const OWNER_ONLY: u32 = 0o600;

/// A script that grows with the session.
pub(super) struct Recorder<'a> {
    file: File,
    /// A script of half a session would not be one.
    broken: bool,
    secrets: Masker,
    /// Summaries need no turn: a mock makes its own.
    is_summarising: bool,
    report: &'a Reporter,
}

impl<'a> Recorder<'a> {
    /// A recorder, if one is wanted. Existing content of the file is replaced, and only its owner can read the new one.
    ///
    /// # Errors
    /// The file cannot be written, or not be closed to others.
    pub(super) fn of(environment: &Environment, model: &Model, report: &'a Reporter) -> Result<Option<Self>> {
        let Some(path) = environment.get_non_empty(VARIABLE) else { return Ok(None) };
        let cannot = || format!("write {path} (from {VARIABLE})");
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(OWNER_ONLY).open(path).with_context(cannot)?;
        // A file that was there already has another mode. What is no file (`/dev/stdout`) keeps its own.
        if file.metadata().with_context(cannot)?.is_file() {
            file.set_permissions(Permissions::from_mode(OWNER_ONLY)).with_context(cannot)?;
        }
        file.write_all(head(model).as_bytes()).with_context(cannot)?;
        Ok(Some(Self { file, broken: false, secrets: report.masker(), is_summarising: false, report }))
    }

    /// Writes down what belongs into a script.
    pub(super) fn handle(&mut self, event: &Event<'_>) {
        match event {
            Event::MessageEnd(Message::Assistant(message)) => self.write(&turn(message, &self.secrets)),
            // What a provider has refused of a request is left out of the next one, about which a mock knows nothing.
            Event::AttemptFailed(error) if error.rejected.is_none() && !self.is_summarising => {
                self.write(&failure(error, &self.secrets));
            }
            Event::CompactionStart(_) => self.is_summarising = true,
            Event::CompactionEnd(_) => self.is_summarising = false,
            _ => {}
        }
    }

    fn write(&mut self, turn: &str) {
        if self.broken {
            return;
        }
        let written: io::Result<()> = self.file.write_all(format!("\n[[turn]]\n{turn}").as_bytes());
        if let Err(error) = written {
            self.broken = true;
            self.report.warn("recording stopped", &[("error", error.to_string().as_str().into())]);
        }
    }
}

/// What the script says about its model.
fn head(model: &Model) -> String {
    let facts = model.facts;
    let price = facts.price;
    format!(
        "# A session of {}:{}\nversion = 1\ncontext_window = {}\nmax_tokens = {}\nprice = {{ input = {:?}, output = {:?}, \
         cacheRead = {:?}, cacheWrite = {:?} }}\n",
        one_line(&model.provider),
        one_line(&model.id),
        facts.context_window,
        facts.max_tokens,
        price.input,
        price.output,
        price.cache_read,
        price.cache_write
    )
}

/// Comments must not have control characters.
fn one_line(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

fn turn(message: &Assistant, secrets: &Masker) -> String {
    let mut turn = String::new();
    let text = message.text();
    if !text.is_empty() {
        turn += &format!("text = {}\n", string(&literal(&secrets.mask(&text))));
    }
    let has_calls = message.calls().next().is_some();
    match message.stop {
        Stop::Length => turn += "stop = \"length\"\n",
        Stop::Stop if has_calls => turn += "stop = \"stop\"\n",
        Stop::ToolUse if !has_calls => turn += "stop = \"tool_use\"\n",
        Stop::Stop | Stop::ToolUse => {}
    }
    let usage = &message.usage;
    turn += &format!(
        "usage = {{ input = {}, output = {}, cacheRead = {}, cacheWrite = {} }}\n",
        usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens
    );
    message.calls().for_each(|made| turn += &call(made, secrets));
    turn
}

fn call(call: &ToolCall, secrets: &Masker) -> String {
    let mut args = Value::Object(call.args.clone());
    secrets.mask_json(&mut args);
    let args = match toml(&args).filter(|_| call.complete) {
        Some(args) => format!("args = {args}"),
        // What TOML cannot say, or nobody can read, stays as it came.
        None => format!("raw_args = {}", string(&secrets.mask(&call.raw))),
    };
    let masked = |text: &str| string(&secrets.mask(text));
    format!("  [[turn.call]]\n  tool = {}\n  id = {}\n  {args}\n", masked(&call.name), masked(&call.id))
}

fn failure(error: &ModelError, secrets: &Masker) -> String {
    let mut fields = vec![format!("kind = {}", string(error.kind.as_str()))];
    fields.extend(error.status.map(|status| format!("status = {status}")));
    fields.push(format!("message = {}", string(&secrets.mask(&error.message))));
    // TOML has no greater number.
    let millis = |wait: Duration| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    fields.extend(error.wait.map(|wait| format!("retry_after_ms = {}", millis(wait))));
    format!("error = {{ {} }}\n", fields.join(", "))
}

/// A text in which nothing is a placeholder.
fn literal(text: &str) -> String {
    text.replace("{{", "{{{{")
}

/// A value as TOML in one line; `None` when TOML has no such value.
fn toml(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) if number.is_i64() || number.is_f64() => number.to_string(),
        Value::Number(_) => return None,
        Value::String(text) => string(&literal(text)),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Option<Vec<_>>>()?.join(", ")),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| Some(format!("{} = {}", string(name), toml(value)?));
            match members.iter().map(member).collect::<Option<Vec<_>>>()? {
                members if members.is_empty() => "{}".to_owned(),
                members => format!("{{ {} }}", members.join(", ")),
            }
        }
    })
}

/// A TOML string. JSON writes strings in the same way, but for one character.
fn string(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::tests::Lines;
    use super::*;
    use crate::cancel::Cancel;
    use crate::secret::Secret;
    use crate::session::error::Kind;
    use crate::session::event::CompactionReason;
    use crate::session::message::Block;
    use crate::session::provider::{Provider, Request};
    use crate::session::providers::mock::{Mock, Script};
    use crate::session::registry::Thinking;
    use crate::wire::usage::Usage;

    fn model() -> Model {
        let script = Script::parse("version = 1\ncontext_window = 5000\nprice = { input = 0.25 }", "s").unwrap();
        Model {
            provider: "mock".into(),
            id: "m\n1".into(),
            api: "mock",
            base_url: None,
            thinking: Thinking::Off,
            facts: script.facts(),
        }
    }

    fn call(id: &str, name: &str, raw: &str) -> Block {
        Block::ToolCall(ToolCall::from_raw(id, name, raw))
    }

    /// The script that events leave.
    fn recorded(events: &[Event<'_>]) -> String {
        let (report, _) = Lines::new();
        report.mask_secrets([("key", &Secret::new("hunter2-hunter2"))]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script.toml");
        let environment: Environment = [(VARIABLE, path.as_os_str())].into_iter().collect();
        let mut recorder = Recorder::of(&environment, &model(), &report).unwrap().unwrap();
        events.iter().for_each(|event| recorder.handle(event));
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_recorded_response_is_played_as_it_was() {
        let content = vec![
            Block::Thinking { text: "private".into(), signature: None, redacted: false },
            Block::Text { text: "Grüße \u{7f}\u{1b} {{prompt}} {{{{ \"q\" \\ \n".into(), signature: None },
            call(
                "a",
                "bash",
                &json!({"command": "echo '{{turn}}'\n", "timeout": 1.5, "x": [1, {"y": true}]}).to_string(),
            ),
            call("b", "read", r#"{"path": null}"#),
            call("c", "write", r#"{"path": "cut o"#),
            call("d", "read", "{}"),
        ];
        let usage = Usage {
            input_tokens: 1,
            output_tokens: 2,
            cache_read_tokens: 3,
            cache_write_tokens: 4,
            ..Usage::default()
        };
        let message = Assistant { content, stop: Stop::Length, usage, ..Assistant::default() };
        let script = recorded(&[Event::MessageEnd(&Message::Assistant(message.clone()))]);
        assert!(!script.contains("private"), "{script}");

        let script = Script::parse(&script, "s").unwrap();
        assert_eq!(script.facts(), model().facts);
        let mut mock = Mock::new(script, model(), Environment::default()).unwrap();
        let cancel = Cancel::new();
        let request = Request {
            system: "s",
            messages: &[Message::User(Vec::new())],
            max_tokens: 10,
            refused: &[],
            tools: true,
            cancel: &cancel,
            deadline: None,
        };
        let played = mock.send(&request, &mut |_| {}).unwrap();
        assert_eq!((played.text(), played.stop, played.usage), (message.text(), Stop::Length, usage));
        let parts = |message: &Assistant| -> Vec<_> {
            message.calls().map(|call| (call.id.clone(), call.name.clone(), call.args.clone(), call.complete)).collect()
        };
        assert_eq!(parts(&played), parts(&message));
    }

    #[test]
    fn errors_are_recorded_unless_a_mock_has_no_use_for_them() {
        let mut limited = ModelError::new(Kind::RateLimit, "slow down hunter2-hunter2");
        (limited.status, limited.wait) = (Some(429), Some(Duration::from_millis(1500)));
        let mut rejected = ModelError::new(Kind::InvalidRequest, "no");
        rejected.rejected = Some("store".into());
        let network = ModelError::new(Kind::Network, "gone");
        let compaction = crate::session::event::Compaction {
            reason: CompactionReason::Threshold,
            tokens_before: 1,
            tokens_after: 1,
            summary_length: 1,
            usage: Usage::default(),
        };
        let script = recorded(&[
            Event::AttemptFailed(&limited),
            Event::AttemptFailed(&rejected),
            Event::CompactionStart(CompactionReason::Threshold),
            Event::AttemptFailed(&network),
            Event::CompactionEnd(compaction),
            Event::AttemptFailed(&network),
        ]);
        let (_, turns) = script.split_once("\n\n").unwrap();
        assert_eq!(
            turns,
            "[[turn]]\nerror = { kind = \"rate_limit\", status = 429, message = \"slow down ***\", retry_after_ms = 1500 }\n\
             \n[[turn]]\nerror = { kind = \"network\", message = \"gone\" }\n"
        );
        Script::parse(&script, "s").unwrap();
    }

    #[test]
    fn a_wait_without_end_is_the_longest_that_a_script_can_have() {
        let mut error = ModelError::new(Kind::RateLimit, "later");
        error.wait = Some(Duration::MAX);
        let script = recorded(&[Event::AttemptFailed(&error)]);
        assert!(script.contains("retry_after_ms = 9223372036854775807 }"), "{script}");
        Script::parse(&script, "s").unwrap();
    }

    #[test]
    fn a_file_that_others_could_read_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script.toml");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let environment: Environment = [(VARIABLE, path.as_os_str())].into_iter().collect();
        assert!(Recorder::of(&environment, &model(), &Lines::new().0).unwrap().is_some());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn secrets_stay_out_of_the_script() {
        let content = vec![
            Block::Text { text: "it is hunter2-hunter2".into(), signature: None },
            call("a", "bash", r#"{"command":"echo hunter2-hunter2"}"#),
            call("b", "bash", r#"{"command":"echo hunter2-hunter2"#),
            call("hunter2-hunter2", "hunter2-hunter2", "{}"),
        ];
        let message = Message::Assistant(Assistant { content, ..Assistant::default() });
        let script = recorded(&[Event::MessageEnd(&message)]);
        assert!(!script.contains("hunter2") && script.matches("***").count() == 5, "{script}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let environment: Environment = [(VARIABLE, "/proc/nothing/script")].into_iter().collect();
        let error = Recorder::of(&environment, &model(), &Lines::new().0).err().unwrap().to_string();
        assert_eq!(error, "write /proc/nothing/script (from AL_RECORD)");
        assert!(Recorder::of(&Environment::default(), &model(), &Lines::new().0).unwrap().is_none());
    }
}
