//! Mock scripts: where they come from, and their file format (agent-session.md §17.1).

use std::io::ErrorKind;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use toml::Spanned;

use super::expect::Expect;
use super::template;
use crate::session::error::Kind;
use crate::session::registry::Facts;
use crate::wire::config::Price;

/// Scripts that need no file, by model name.
const BUILT_IN: [(&str, &str); 3] = [
    (
        "echo",
        r#"
        version = 1
        [[turn]]
        call = [{ tool = "bash", args = { command = "echo mock agent run" } }]
        [[turn]]
        text = "done"
        "#,
    ),
    ("noop", "version = 1\n[[turn]]\ntext = \"nothing to do\""),
    ("fail", "version = 1\n[[turn]]\nerror = { kind = \"auth\", status = 401, message = \"mock: invalid key\" }"),
];

/// A valid script.
#[derive(Clone, Debug)]
pub struct Script {
    facts: Facts,
    pub(super) on_exhausted: OnExhausted,
    pub(super) turns: Arc<[Turn]>,
    pub(super) scenarios: Vec<Scenario>,
}

impl Script {
    /// Loads the script for a model: the file `named` by `AL_MOCK_SCRIPT`, which must exist, else the first of the
    /// `candidates` that exists, else a built-in one.
    ///
    /// # Errors
    /// No script, an unreadable or an invalid one; the text names file, line and key.
    pub fn load(named: Option<&Path>, candidates: &[PathBuf], model: &str) -> Result<Self> {
        if let Some(path) = named {
            let content = std::fs::read_to_string(path)
                .with_context(|| format!("read the mock script {} (AL_MOCK_SCRIPT)", path.display()))?;
            return Self::parse(&content, &path.display().to_string());
        }
        for path in candidates {
            match std::fs::read_to_string(path) {
                Ok(content) => return Self::parse(&content, &path.display().to_string()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("read the mock script {}", path.display())),
            }
        }
        match BUILT_IN.iter().find(|(name, _)| *name == model) {
            Some((name, content)) => Self::parse(content, &format!("<built-in {name}>")),
            None => {
                let looked: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
                bail!(
                    "no mock script for model {model:?}: looked for {}; built in are echo, noop, fail",
                    looked.join(", ")
                )
            }
        }
    }

    /// Where scripts of agents are, in the order in which they are tried.
    pub fn candidates(static_dir: &Path, model: &str) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        if !model.contains(['/', '\0']) {
            paths.push(static_dir.join("mock").join(format!("{model}.toml")));
        }
        paths.push(static_dir.join("mock.toml"));
        paths
    }

    /// Reads a script; `file` names it in errors.
    ///
    /// # Errors
    /// Names file, line and key.
    pub fn parse(content: &str, file: &str) -> Result<Self> {
        let table: Table = toml::from_str(content).map_err(|mut error| {
            let line = error.span().map_or(1, |span| line(content, span.start));
            // Without the text the error names the key instead of drawing an arrow to it.
            error.set_input(None);
            let message = error.to_string().trim_end().replace('\n', " ");
            anyhow!("mock script {file}: line {line}: {message}")
        })?;
        let fail = |at: usize, problem: String| anyhow!("mock script {file}: line {}: {problem}", line(content, at));
        if *table.version.get_ref() != 1 {
            let version = table.version.get_ref();
            return Err(fail(table.version.span().start, format!("version: expected 1, got {version}")));
        }
        let turns = check_turns(table.turn, "turn").map_err(|(at, problem)| fail(at, problem))?;
        let mut scenarios = Vec::new();
        for (index, scenario) in table.scenario.into_iter().enumerate() {
            let name = scenario.name.unwrap_or_else(|| (index + 1).to_string());
            let turns = check_turns(scenario.turn, &format!("scenario {name:?}, turn"))
                .map_err(|(at, problem)| fail(at, problem))?;
            scenarios.push(Scenario { pattern: scenario.pattern, turns });
        }
        let facts = Facts {
            reasoning: false,
            images: false,
            adaptive: false,
            context_window: table.context_window.map_or(200_000, NonZeroU64::get),
            max_tokens: table.max_tokens.map_or(32_000, NonZeroU64::get),
            price: table.price.into(),
        };
        Ok(Self { facts, on_exhausted: table.on_exhausted, turns, scenarios })
    }

    /// What the script says about its model; keys of `[model]` override it.
    pub fn facts(&self) -> Facts {
        self.facts
    }
}

/// Line number of a byte, from 1.
fn line(content: &str, at: usize) -> usize {
    content.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// Checks what types cannot say. A problem comes with the byte where its turn begins.
fn check_turns(turns: Vec<Spanned<Turn>>, name: &str) -> Result<Arc<[Turn]>, (usize, String)> {
    let check = |(index, turn): (usize, Spanned<Turn>)| {
        let at = turn.span().start;
        let turn = turn.into_inner();
        turn.check().map_err(|problem| (at, format!("{name} {}: {problem}", index + 1)))?;
        Ok(turn)
    };
    turns.into_iter().enumerate().map(check).collect()
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    version: Spanned<i64>,
    context_window: Option<NonZeroU64>,
    max_tokens: Option<NonZeroU64>,
    #[serde(default)]
    price: PriceTable,
    #[serde(default)]
    on_exhausted: OnExhausted,
    #[serde(default)]
    turn: Vec<Spanned<Turn>>,
    #[serde(default)]
    scenario: Vec<ScenarioTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct PriceTable {
    input: f64,
    output: f64,
    cache_read: f64,
    cache_write: f64,
}

impl From<PriceTable> for Price {
    fn from(table: PriceTable) -> Self {
        let PriceTable { input, output, cache_read, cache_write } = table;
        Self { input, output, cache_read, cache_write }
    }
}

/// What answers when all turns have been played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnExhausted {
    /// A final text.
    #[default]
    Stop,
    Error,
    /// The last turn again.
    Repeat,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioTable {
    name: Option<String>,
    #[serde(rename = "match")]
    pattern: String,
    #[serde(default)]
    turn: Vec<Spanned<Turn>>,
}

/// Turns for prompts that contain a text.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) pattern: String,
    pub(super) turns: Arc<[Turn]>,
}

/// The answer to one request: either `error` or any of the rest.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Turn {
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) call: Vec<Call>,
    pub(super) stop: Option<StopWord>,
    pub(super) usage: Option<UsageTable>,
    pub(super) delay_ms: Option<u64>,
    pub(super) expect: Option<Expect>,
    pub(super) error: Option<Failure>,
    /// How often this turn is played.
    pub(super) repeat: Option<NonZeroU32>,
}

impl Turn {
    fn check(&self) -> Result<(), String> {
        if self.error.is_some() {
            let others = [
                ("text", self.text.is_some()),
                ("thinking", self.thinking.is_some()),
                ("call", !self.call.is_empty()),
                ("stop", self.stop.is_some()),
                ("usage", self.usage.is_some()),
                ("delay_ms", self.delay_ms.is_some()),
                ("expect", self.expect.is_some()),
                ("repeat", self.repeat.is_some()),
            ];
            return match others.iter().find(|(_, present)| *present) {
                Some((key, _)) => Err(format!("{key}: a turn has either error or other keys")),
                None => Ok(()),
            };
        }
        template::check(self.text.as_deref().unwrap_or_default()).map_err(|problem| format!("text: {problem}"))?;
        for (index, call) in self.call.iter().enumerate() {
            call.check().map_err(|problem| format!("call {}: {problem}", index + 1))?;
        }
        Ok(())
    }
}

/// A tool call; without `args` and `raw_args` it has no arguments.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) tool: String,
    #[serde(default, deserialize_with = "json_object")]
    pub(super) args: Option<Map<String, Value>>,
    /// The exact argument text.
    pub(super) raw_args: Option<String>,
    pub(super) id: Option<String>,
}

impl Call {
    fn check(&self) -> Result<(), String> {
        if self.args.is_some() && self.raw_args.is_some() {
            return Err("raw_args: a call has either args or raw_args".into());
        }
        let mut problem = None;
        let mut args = Value::Object(self.args.clone().unwrap_or_default());
        template::visit_strings(&mut args, &mut |text| {
            problem = problem.take().or_else(|| template::check(text).err());
        });
        problem.map_or(Ok(()), |problem| Err(format!("args: {problem}")))
    }
}

/// A TOML table as JSON; dates become strings.
fn json_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error> {
    let table = toml::Table::deserialize(deserializer)?;
    let members: Option<_> = table.into_iter().map(|(key, value)| Some((key, json(value)?))).collect();
    members.map(Some).ok_or_else(|| serde::de::Error::custom("numbers that are not finite have no JSON form"))
}

fn json(value: toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)?.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        toml::Value::Table(table) => {
            let members = table.into_iter().map(|(key, value)| Some((key, json(value)?)));
            Value::Object(members.collect::<Option<_>>()?)
        }
    })
}

/// Why a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StopWord {
    Stop,
    Length,
    ToolUse,
    Refusal,
}

/// Tokens of a response; `input` and `output` are estimated when absent.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct UsageTable {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
}

/// A failed request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failure {
    #[serde(deserialize_with = "kind")]
    pub(super) kind: Kind,
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) message: Option<String>,
    pub(super) retry_after_ms: Option<u64>,
    /// How many requests fail before the next turn plays.
    #[serde(default = "once")]
    pub(super) times: NonZeroU32,
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    let word = String::deserialize(deserializer)?;
    Kind::from_word(&word).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::as_str).join(", ");
        serde::de::Error::custom(format!("unknown kind {word:?}, known are {known}"))
    })
}

fn once() -> NonZeroU32 {
    NonZeroU32::MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(content: &str, expected: &[&str]) {
        let problem = Script::parse(content, "a/mock.toml").unwrap_err().to_string();
        for part in ["mock script a/mock.toml: line "].iter().chain(expected) {
            assert!(problem.contains(part), "{problem:?} lacks {part:?}");
        }
    }

    #[test]
    fn the_documented_example_is_valid() {
        let script = Script::parse(include_str!("example.toml"), "example.toml").unwrap();
        let facts = script.facts();
        assert_eq!((facts.context_window, facts.max_tokens), (200_000, 32_000));
        assert_eq!(facts.price, Price { input: 3.0, output: 15.0, cache_read: 0.3, cache_write: 3.75 });
        assert_eq!((script.turns.len(), script.scenarios.len()), (5, 1));
        assert_eq!(script.on_exhausted, OnExhausted::Stop);
    }

    #[test]
    fn an_empty_script_has_defaults() {
        let script = Script::parse("version = 1", "x").unwrap();
        assert_eq!((script.facts().context_window, script.facts().max_tokens), (200_000, 32_000));
        assert_eq!(script.facts().price, Price::default());
    }

    #[test]
    fn errors_name_file_line_and_key() {
        refused("", &["version"]);
        refused("version = 2", &["line 1:", "version: expected 1, got 2"]);
        refused("version = 1\nturn = [", &["line 2:"]);
        refused("version = 1\nretries = 3", &["line 2:", "unknown field `retries`"]);
        refused("version = 1\ncontext_window = 0", &["line 2:", "context_window"]);
        refused("version = 1\non_exhausted = \"loop\"", &["line 2:", "`loop`", "`repeat`"]);
        refused("version = 1\n[[turn]]\n[[turn]]\ntexts = \"\"", &["line 4:", "unknown field `texts`"]);
        refused("version = 1\n[[turn]]\ndelay_ms = \"x\"", &["line 3:", "delay_ms", "string \"x\""]);
        refused("version = 1\n[[turn]]\nusage = { in = 1 }", &["line 3:", "`in`", "turn.usage"]);
        refused("version = 1\n[[turn]]\nexpect = { result = 1 }", &["line 3:", "`result`"]);
        refused("version = 1\n[[turn]]\nstop = \"end\"", &["line 3:", "`end`", "`refusal`"]);
        refused("version = 1\n[[turn]]\nrepeat = 0", &["line 3:", "repeat"]);
        refused("version = 1\n[[turn]]\nerror = { kind = \"odd\" }", &["line 3:", "kind", "\"odd\"", "rate_limit"]);
        refused("version = 1\n[[turn]]\nerror = { status = 1 }", &["line 3:", "kind"]);
        refused("version = 1\n[[turn]]\nerror = { kind = \"auth\", times = 0 }", &["line 3:", "times"]);
        refused(
            "version = 1\n[[turn]]\n[[turn]]\ntext = \"\"\nerror = { kind = \"auth\" }",
            &["line 3:", "turn 2: text: "],
        );
        refused("version = 1\n[[turn]]\ntext = \"{{x}}\"", &["line 2:", "turn 1: text: unknown placeholder {{x}}"]);
        refused("version = 1\n[[turn]]\n[[turn.call]]\nargs = {}", &["line 3:", "tool"]);
        refused(
            "version = 1\n[[turn]]\n[[turn.call]]\ntool = \"a\"\nargs = { b = [{ c = \"{{x}}\" }] }",
            &["turn 1: call 1: args: unknown placeholder {{x}}"],
        );
        refused(
            "version = 1\n[[turn]]\n[[turn.call]]\ntool = \"a\"\nargs = {}\nraw_args = \"\"",
            &["turn 1: call 1: raw_args: "],
        );
        refused("version = 1\n[[turn]]\n[[turn.call]]\ntool = \"a\"\nargs = { b = inf }", &["line 5:", "finite"]);
        refused(
            "version = 1\n[[scenario]]\nname = \"w\"\nmatch = \"\"\n[[scenario.turn]]\ntext = \"{{x}}\"",
            &["line 5:", "scenario \"w\", turn 1: text: "],
        );
        refused("version = 1\n[[scenario]]\nname = \"w\"", &["line 2:", "match"]);
    }

    #[test]
    fn the_first_file_that_exists_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, window: u32| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("version = 1\ncontext_window = {window}")).unwrap();
            path
        };
        let load = |named: Option<&Path>, model: &str| {
            let script = Script::load(named, &Script::candidates(dir.path(), model), model);
            script.map(|script| script.facts().context_window).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(load(None, "echo"), Ok(200_000));
        assert_eq!(load(None, "noop"), Ok(200_000));
        assert_eq!(load(None, "fail"), Ok(200_000));
        let missing = load(None, "default").unwrap_err();
        assert!(missing.contains("mock/default.toml, ") && missing.contains("echo, noop, fail"), "{missing}");
        write("mock.toml", 1);
        assert_eq!((load(None, "default"), load(None, "echo")), (Ok(1), Ok(1)));
        write("mock/default.toml", 2);
        assert_eq!((load(None, "default"), load(None, "echo"), load(None, "../mock")), (Ok(2), Ok(1), Ok(1)));
        let named = write("elsewhere.toml", 3);
        assert_eq!(load(Some(&named), "default"), Ok(3));
        assert!(
            load(Some(Path::new("/nowhere.toml")), "default").unwrap_err().contains("/nowhere.toml (AL_MOCK_SCRIPT)")
        );
    }
}
