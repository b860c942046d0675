//! An agent in a project of its own whose model is played by a scripted server.

use std::net::IpAddr;

use serde_json::Value;

use crate::support::al::{Done, Running};
use crate::support::docker::docker;
use crate::support::llm::{Answer, Llm, Request};
use crate::support::project::Project;

/// The key that is stored unless a test stores another one; as long as real ones are.
pub(super) const KEY: &str =
    "sk-ant-api03-Zm9vYmFyLXRoaXMtaXMtbm90LWEta2V5_but-it-has-the-length-of-one-0123456789-ABCDEFGHIJ-xyzwAA-4fA";
/// Thinks by budget; 3, 15, 0.3 and 3.75 dollars per million tokens.
pub(super) const MODEL: &str = "claude-sonnet-4-5";

/// The project, its one agent, and the server.
pub(super) struct Bench {
    pub(super) project: Project,
    pub(super) agent: String,
    pub(super) llm: Llm,
}

/// What one `al run` did.
pub(super) struct Run<'b> {
    pub(super) done: Done,
    bench: &'b Bench,
}

impl Bench {
    /// An agent with the usual model and its key.
    pub(super) fn new() -> Self {
        Self::with("", "")
    }

    /// As [`Bench::new`], with further settings of the agent and its model.
    pub(super) fn with(agent: &str, model: &str) -> Self {
        let bench = Self::with_model(agent, &format!("provider = 'anthropic'\nmodel = '{MODEL}'\n{model}"));
        bench.project.credential("anthropic_key", "token", KEY);
        bench
    }

    /// An agent with these settings and these lines in `[model]`, without any credential.
    pub(super) fn with_model(agent: &str, model: &str) -> Self {
        let project = Project::new();
        let llm = Llm::start(bridge());
        let name = project.name("llm");
        project.write(&format!("agents/{name}/ACTIONS.md"), "Do as you are told.\n");
        project.configure(&name, &format!("{agent}\n[model]\nbaseUrl = '{}'\n{model}\n", llm.url()));
        Self { project, agent: name, llm }
    }

    /// Runs the agent with `--json` while the server plays this script; gives what came of it and what the server was
    /// asked. Fails unless the run ended with this status and the script was played to its end.
    #[track_caller]
    pub(super) fn run(&self, status: i32, script: impl IntoIterator<Item = Answer>) -> (Run<'_>, Vec<Request>) {
        self.run_with(&["--json"], status, script)
    }

    /// As [`Bench::run`], with chosen arguments.
    #[track_caller]
    pub(super) fn run_with(
        &self,
        args: &[&str],
        status: i32,
        script: impl IntoIterator<Item = Answer>,
    ) -> (Run<'_>, Vec<Request>) {
        let running = self.start(args, script);
        let run = self.end(running);
        run.done.expect(status);
        (run, self.llm.finish())
    }

    /// Starts the program.
    pub(super) fn start(&self, args: &[&str], script: impl IntoIterator<Item = Answer>) -> Running<'_> {
        self.llm.play(script);
        self.project.al(&[&["run", &self.agent], args].concat()).start()
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub(super) fn end(&self, running: Running<'_>) -> Run<'_> {
        Run { done: running.finish(), bench: self }
    }
}

impl Run<'_> {
    /// Everything that can be seen of this run and those before it.
    pub(super) fn shown(&self) -> String {
        format!("{}{}{}", self.done.stdout, self.done.stderr, self.bench.project.all_logs())
    }

    /// Entries of the log with this message, those of earlier runs included.
    pub(super) fn log(&self, msg: &str) -> Vec<Value> {
        self.bench.project.logged(&self.bench.agent, msg)
    }

    /// The only entry of the log with this message.
    #[track_caller]
    pub(super) fn only(&self, msg: &str) -> Value {
        let mut entries = self.log(msg);
        assert_eq!(entries.len(), 1, "entries {msg:?}");
        entries.remove(0)
    }
}

/// Address of this host on the network of runs. The program has made it when the first project is there.
fn bridge() -> IpAddr {
    let address = docker(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "al-net"]);
    address.parse().unwrap_or_else(|error| panic!("{error}: {address:?}"))
}
