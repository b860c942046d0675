//! The four tools: `read`, `bash`, `edit`, `write` (agent-session.md §6.3, §7).
//!
//! [`schemas`] is what models are told, [`execute`] runs one call. A failing tool is a result like any other, with
//! `is_error` set: nothing here ends a session.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

use super::Permit;
use super::message::{Content, ToolCall, ToolResult};
use crate::cancel::Cancel;
use crate::env::Environment;
use crate::secret::Masker;

mod args;
mod bash;
mod edit;
mod groups;
mod image;
mod paths;
mod read;
mod truncate;
mod write;

pub use groups::ToolGroups;
use paths::ToolPath;

/// What tools work with.
#[derive(Clone)]
pub struct Context {
    /// Relative paths start here, and shells run here.
    pub dir: PathBuf,
    /// The session's own: `bash` puts the full text of long output there, and variables that outlive a call.
    pub tmp_dir: PathBuf,
    /// The whole environment of shells; `~` in paths is its `HOME`.
    pub environment: Environment,
    /// Ends the running call.
    pub cancel: Cancel,
    /// The processes that calls have started; one value for the whole session.
    pub groups: ToolGroups,
    pub surroundings: Surroundings,
    /// What is cut is not cut inside one of these: half a secret would not be recognised any more.
    pub secrets: Masker,
    /// Seconds that a command may take at most, also when its call says nothing.
    pub bash_timeout: Option<u64>,
    /// What commands print is reported while they run.
    pub stream: bool,
}

/// Where a session runs; decides how shells are detached and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// Nobody is waiting: a cancelled shell gets SIGTERM and 2 s before SIGKILL.
    Container,
    /// Somebody is: shells get a session without the terminal, a cancelled one SIGKILL at once.
    Terminal,
}

/// One tool as models are told about it.
#[derive(Debug, Deserialize)]
pub struct Schema {
    pub name: &'static str,
    pub description: &'static str,
    /// JSON schema of the arguments, an object.
    pub parameters: Value,
}

/// The tools in the order in which they are always sent.
pub fn schemas() -> &'static [Schema] {
    static SCHEMAS: LazyLock<Vec<Schema>> =
        LazyLock::new(|| serde_json::from_str(include_str!("schemas.json")).expect("the schemas are valid JSON"));
    &SCHEMAS
}

/// What a tool gives back; the error is the text of an error result.
type Answer = Result<Vec<Content>, String>;

/// Who is there while a call runs.
pub trait Attendant {
    /// Decides just before it runs. `target` is the file that it is about, if it is about one.
    fn permit(&mut self, target: Option<&Path>) -> Permit {
        let _ = target;
        Permit::Granted
    }

    /// Hears a line that a command has printed, at once.
    fn printed(&mut self, line: &str) {
        let _ = line;
    }
}

/// Nobody: everything may run.
impl Attendant for () {}

/// Runs one call. Calls with an unknown tool, incomplete or unfitting arguments run nothing and say so; all others need a
/// permit. Lines that a command prints are told if the context says so.
pub fn execute(call: &ToolCall, context: &Context, attendant: &mut dyn Attendant) -> ToolResult {
    let answer = answer(call, context, attendant);
    let is_error = answer.is_err();
    let content = answer.unwrap_or_else(|text| vec![Content::Text(text)]);
    ToolResult { call_id: call.id.clone(), tool: call.name.clone(), content, is_error }
}

fn answer(call: &ToolCall, context: &Context, attendant: &mut dyn Attendant) -> Answer {
    let Some(schema) = schemas().iter().find(|schema| schema.name == call.name) else {
        return Err(unknown(&call.name));
    };
    if !call.complete {
        return Err(format!(
            "The arguments of this {} call were cut off or are not a valid JSON object; nothing was executed. Send the \
             call again with complete arguments.",
            call.name
        ));
    }
    let args = args::check(schema, &call.args, &context.secrets)?;
    if context.cancel.is_cancelled() {
        return Err("Aborted before it started".into());
    }
    let target = match schema.name {
        "read" => Some(ToolPath::existing(args.text("path"), context)),
        "edit" | "write" => Some(ToolPath::new(args.text("path"), context)),
        _ => None,
    };
    if let Permit::Refused(reason) = attendant.permit(target.as_ref().map(ToolPath::full)) {
        return Err(reason);
    }
    match schema.name {
        "read" => read::run(&args, context),
        "bash" => bash::run(&args, context, &mut |line| attendant.printed(line)),
        "edit" => edit::run(&args, context),
        "write" => write::run(&args, context),
        other => Err(unknown(other)),
    }
}

fn unknown(name: &str) -> String {
    let known = schemas().iter().map(|schema| schema.name).collect::<Vec<_>>().join(", ");
    format!("Unknown tool {name:?}; the tools are: {known}")
}

fn text(text: impl Into<String>) -> Answer {
    Ok(vec![Content::Text(text.into())])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A context in a fresh directory; `home` and `tmp` exist below it.
    pub(super) fn context() -> (tempfile::TempDir, Context) {
        let base = tempfile::tempdir().unwrap();
        for name in ["home", "tmp"] {
            std::fs::create_dir(base.path().join(name)).unwrap();
        }
        let mut environment = Environment::of_process();
        environment.set("HOME", base.path().join("home"));
        let context = Context {
            dir: base.path().to_owned(),
            tmp_dir: base.path().join("tmp"),
            environment,
            cancel: Cancel::new(),
            groups: ToolGroups::default(),
            surroundings: Surroundings::Container,
            secrets: Masker::default(),
            bash_timeout: None,
            stream: false,
        };
        (base, context)
    }

    /// Runs a tool; the text of its result, `Err` when that is an error.
    pub(super) fn call(context: &Context, tool: &str, args: Value) -> Result<String, String> {
        let result = execute(&ToolCall::from_raw("1", tool, args.to_string()), context, &mut ());
        if result.is_error { Err(result.text()) } else { Ok(result.text()) }
    }

    #[test]
    fn models_are_told_of_four_tools() {
        let names: Vec<_> = schemas().iter().map(|schema| schema.name).collect();
        assert_eq!(names, ["read", "bash", "edit", "write"]);
        for schema in schemas() {
            assert_eq!(schema.parameters["type"], "object");
            for required in schema.parameters["required"].as_array().unwrap() {
                assert!(schema.parameters["properties"].get(required.as_str().unwrap()).is_some());
            }
        }
    }

    #[test]
    fn unknown_tools_are_named_with_the_known_ones() {
        let (_base, context) = context();
        assert_eq!(
            call(&context, "grep", json!({})).unwrap_err(),
            r#"Unknown tool "grep"; the tools are: read, bash, edit, write"#
        );
    }

    #[test]
    fn cut_off_arguments_run_nothing() {
        let (base, context) = context();
        let cut = ToolCall::from_raw("7", "write", r#"{"path": "a", "content": "half of"#);
        let result = execute(&cut, &context, &mut ());
        assert!(result.is_error && result.text().contains("nothing was executed"), "{}", result.text());
        assert_eq!((result.call_id.as_str(), result.tool.as_str()), ("7", "write"));
        assert!(!base.path().join("a").exists());
    }

    #[test]
    fn a_cancelled_session_starts_nothing() {
        let (base, context) = context();
        context.cancel.cancel();
        let answer = call(&context, "write", json!({"path": "a", "content": ""}));
        assert!(answer.unwrap_err().contains("Aborted"));
        assert!(!base.path().join("a").exists());
    }
}
