//! What is started, and how it gets its prompt and its key (agent-session.md §22.1).

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::agent::report::Reporter;
use crate::agent::setup::{Paths, remove_if_there};
use crate::env::Environment;
use crate::session::ModelChoice;
use crate::wire::config::Harness;

const DEFAULT_THINKING: &str = "medium";
/// What a token for a vendor's own client begins with.
const OAUTH: &str = "sk-ant-oat";
const API_KEY: &str = "sk-ant-api";

/// How the prompt gets to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Stdin,
    /// As the last argument.
    Argument,
    /// The command names the file.
    File,
}

/// What the program prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Text,
    Claude,
    Codex,
    Pi,
}

/// A type of harness.
struct Kind {
    name: &'static str,
    /// Empty: there is none.
    command: &'static [&'static str],
    delivery: Delivery,
    /// Whether the system text stands before the prompt.
    system_first: bool,
    output: Output,
}

/// Stands for the system text itself, which only default commands may have.
const SYSTEM_TEXT: &str = "{systemText}";

#[rustfmt::skip]
const KINDS: [Kind; 5] = [
    Kind {
        name: "claude",
        command: &["claude", "-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions",
                   "--model", "{model}", "--append-system-prompt", SYSTEM_TEXT],
        delivery: Delivery::Stdin,
        system_first: false,
        output: Output::Claude,
    },
    Kind {
        name: "codex",
        command: &["codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox",
                   "-m", "{model}", "-"],
        delivery: Delivery::Stdin,
        system_first: true,
        output: Output::Codex,
    },
    Kind {
        name: "pi",
        command: &["pi", "-p", "--mode", "json", "--no-session", "--provider", "{provider}", "--model", "{model}",
                   "--thinking", "{thinking}"],
        delivery: Delivery::Argument,
        system_first: true,
        output: Output::Pi,
    },
    Kind {
        name: "goose",
        command: &["goose", "run", "--no-session", "-i", "-"],
        delivery: Delivery::Stdin,
        system_first: true,
        output: Output::Text,
    },
    Kind { name: "command", command: &[], delivery: Delivery::Stdin, system_first: false, output: Output::Text },
];

/// Everything about a program that is about to be started.
pub(super) struct Plan {
    /// Never empty.
    pub argv: Vec<String>,
    pub stdin: Option<String>,
    pub environment: Environment,
    pub dir: PathBuf,
    pub output: Output,
    /// Characters of the prompt.
    pub prompt_length: usize,
}

impl Plan {
    /// Finds out everything, and writes the files that the program may read.
    ///
    /// # Errors
    /// The configuration cannot be used, or a file cannot be written.
    pub(super) fn of(
        harness: &Harness,
        choice: Option<&ModelChoice>,
        system: String,
        prompt: String,
        paths: &Paths,
        mut environment: Environment,
        report: &Reporter,
    ) -> Result<Self> {
        let kind = KINDS.iter().find(|kind| kind.name == harness.kind);
        let kind = kind.with_context(|| format!("harness.type = \"{}\" does not exist", harness.kind))?;
        let delivery = match harness.prompt.as_deref() {
            None => kind.delivery,
            Some("stdin") => Delivery::Stdin,
            Some("arg") => Delivery::Argument,
            Some("file") => Delivery::File,
            Some(other) => bail!("harness.prompt = \"{other}\" does not exist; use stdin, arg or file"),
        };
        let output = match harness.output.as_deref() {
            None => kind.output,
            Some("text") => Output::Text,
            Some("claude-json") => Output::Claude,
            Some("codex-json") => Output::Codex,
            Some("pi-json") => Output::Pi,
            Some(other) => bail!("harness.output = \"{other}\" does not exist"),
        };
        let prompt_length = prompt.chars().count();
        let prompt = if kind.system_first { format!("{system}\n\n{prompt}") } else { prompt };
        let files = Files::write(&paths.tmp, &system, &prompt)?;
        let own: Vec<&str> = harness.command.iter().map(String::as_str).collect();
        let template = if own.is_empty() { kind.command } else { &own };
        ensure!(!template.is_empty(), "harness.command is missing; harness.type = \"command\" needs it");
        let is_named = template.iter().any(|part| part.contains("{promptFile}"));
        ensure!(
            delivery != Delivery::File || is_named,
            "harness.prompt = \"file\" needs {{promptFile}} in harness.command"
        );
        let mut argv = Vec::with_capacity(template.len() + 1);
        for part in template {
            argv.push(if own.is_empty() && *part == SYSTEM_TEXT {
                system.clone()
            } else {
                files.fill(part, choice)?
            });
        }
        if delivery == Delivery::Argument {
            argv.push(prompt.clone());
        }
        add_variables(harness, choice, &mut environment, report);
        let stdin = (delivery == Delivery::Stdin).then_some(prompt);
        Ok(Self { argv, stdin, environment, dir: paths.tmp.clone(), output, prompt_length })
    }

    /// The program as it was named.
    pub(super) fn program(&self) -> &str {
        &self.argv[0]
    }
}

/// What an error about a program says that does not start.
pub(super) fn cannot_start(program: &str, agent: &str) -> String {
    format!(
        "harness: cannot start {program}; the image al-{agent} must contain it: install it in agents/{agent}/Dockerfile"
    )
}

/// Texts as files.
struct Files {
    system: PathBuf,
    prompt: PathBuf,
}

impl Files {
    fn write(dir: &Path, system: &str, prompt: &str) -> Result<Self> {
        let file = |name: &str, text: &str| -> Result<PathBuf> {
            let path = dir.join(name);
            remove_if_there(&path)?;
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
            written.with_context(|| format!("write {}", path.display()))?;
            Ok(path)
        };
        Ok(Self { system: file("al-system.md", system)?, prompt: file("al-prompt.md", prompt)? })
    }

    /// A part of a command with its placeholders filled in.
    fn fill(&self, part: &str, choice: Option<&ModelChoice>) -> Result<String> {
        let model = choice.map(|choice| &choice.config);
        let thinking = model.map(|model| model.thinking_level.as_deref().unwrap_or(DEFAULT_THINKING));
        let values = [
            ("{model}", model.map(|model| model.model.clone())),
            ("{provider}", model.map(|model| model.provider.clone())),
            ("{thinking}", thinking.map(str::to_owned)),
            ("{systemFile}", Some(self.system.display().to_string())),
            ("{promptFile}", Some(self.prompt.display().to_string())),
        ];
        let (mut filled, mut rest) = (String::new(), part);
        // What stands in a value is no placeholder.
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let (name, value) = match values.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, value)) => (*name, value.clone().with_context(|| format!("{part:?}: there is no model"))?),
                None => ("{", "{".to_owned()),
            };
            filled.push_str(&value);
            rest = &rest[name.len()..];
        }
        Ok(filled + rest)
    }
}

/// Adds the key and what else a program is told by variables.
fn add_variables(harness: &Harness, choice: Option<&ModelChoice>, environment: &mut Environment, report: &Reporter) {
    if let Some(choice) = choice {
        if harness.kind == "goose" {
            environment.set("GOOSE_PROVIDER", &choice.config.provider);
            environment.set("GOOSE_MODEL", &choice.config.model);
        }
        if let Some(key) = &choice.key {
            let names = key_variables(harness, choice, key.expose());
            if names.is_empty() && harness.kind != "command" {
                let fields =
                    [("harness", harness.kind.as_str().into()), ("provider", choice.config.provider.as_str().into())];
                report.warn("the harness takes no key of this provider", &fields);
            }
            names.iter().for_each(|name| environment.set(*name, key.expose()));
        }
    }
    harness.env.iter().for_each(|(name, value)| environment.set(name, value));
}

/// The variables in which a program looks for its key.
fn key_variables(harness: &Harness, choice: &ModelChoice, key: &str) -> &'static [&'static str] {
    let provider = choice.config.provider.as_str();
    let is_oauth = match key {
        key if key.starts_with(OAUTH) => true,
        key if key.starts_with(API_KEY) => false,
        _ => choice.config.auth_type.as_deref() == Some("oauth_token"),
    };
    match (harness.kind.as_str(), provider) {
        ("claude", "anthropic" | "custom") if is_oauth => &["CLAUDE_CODE_OAUTH_TOKEN"],
        ("claude", "anthropic" | "custom") => &["ANTHROPIC_API_KEY"],
        ("codex", "openai" | "custom") => &["CODEX_API_KEY", "OPENAI_API_KEY"],
        ("pi" | "goose", "anthropic") if is_oauth => &["ANTHROPIC_OAUTH_TOKEN"],
        ("pi" | "goose", "anthropic") => &["ANTHROPIC_API_KEY"],
        ("pi" | "goose", "openai") => &["OPENAI_API_KEY"],
        ("pi" | "goose", "google") => &["GEMINI_API_KEY"],
        ("pi" | "goose", "groq") => &["GROQ_API_KEY"],
        ("pi" | "goose", "xai") => &["XAI_API_KEY"],
        ("pi" | "goose", "mistral") => &["MISTRAL_API_KEY"],
        ("pi" | "goose", "openrouter") => &["OPENROUTER_API_KEY"],
        _ => &[],
    }
}
