//! Where things are inside a container.

/// Directory of the in-container programs; first on `PATH`.
pub const BIN_DIR: &str = "/app/bin";
/// The entry program.
pub const AL_AGENT: &str = "/app/bin/al-agent";
/// Baked files of an agent's image; working directory of the model's tools.
pub const STATIC_DIR: &str = "/app/static";
/// Reference texts for the model.
pub const DOCS_DIR: &str = "/app/agent-docs";
/// Staged credentials, read-only: `<type>/<instance>/<field>`.
pub const CREDENTIALS_DIR: &str = "/credentials";
/// Staged files of one run, read-only.
pub const RUN_DIR: &str = "/run/al";
/// Run file in [`RUN_DIR`], see [`super::run_file::RunFile`].
pub const RUN_FILE: &str = "/run/al/run.json";
/// Dynamic part of the prompt.
pub const PROMPT_FILE: &str = "/run/al/prompt.txt";
/// The one writable place.
pub const TMP_DIR: &str = "/tmp";

/// Baked configuration of the agent, below [`STATIC_DIR`]; see [`super::config::AgentConfig`].
pub const CONFIG_NAME: &str = "agent-config.json";
/// The agent's instructions, below [`STATIC_DIR`].
pub const INSTRUCTIONS_NAME: &str = "ACTIONS.md";
/// Static part of the prompt, below [`STATIC_DIR`].
pub const SKELETON_NAME: &str = "prompt-static.txt";
/// Time limit of a run in decimal seconds, below [`STATIC_DIR`].
pub const TIMEOUT_NAME: &str = "timeout";
/// Script that runs instead of a model session when it exists, below [`STATIC_DIR`].
pub const SCRIPT_NAME: &str = "test-script.sh";

/// The in-container commands: names under which `al-shim` is linked.
pub const COMMANDS: [&str; 11] = [
    "al-call",
    "al-check",
    "al-wait",
    "al-status",
    "al-return",
    "al-rerun",
    "al-exit",
    "al-shutdown",
    "rlock",
    "runlock",
    "rlock-heartbeat",
];
