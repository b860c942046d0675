//! A project of one test: in a directory of its own, with names of its own, and nothing of it is left afterwards.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use action_llama::model::names::ProjectHash;
use serde_json::Value;
use tempfile::TempDir;

use super::al::Al;
use super::docker::{self, BASE, containers, try_docker};
use super::wait;

/// Carries out the task that it is given: a shell script.
const CARRY_OUT_TASK: &str = r#"set -u
sed -n '/^<user-prompt>$/,/^<\/user-prompt>$/p' "$AL_PROMPT_FILE" | sed '1d;$d' > /tmp/task.sh
. /tmp/task.sh
"#;

/// Carries out the title of the webhook that it is started by, or its task when a person starts it.
const CARRY_OUT_TITLE: &str = r#"set -u
if grep -q '^<user-prompt>$' "$AL_PROMPT_FILE"; then
  sed -n '/^<user-prompt>$/,/^<\/user-prompt>$/p' "$AL_PROMPT_FILE" | sed '1d;$d' > /tmp/task.sh
else
  sed -n '/^<webhook-trigger>$/{n;p}' "$AL_PROMPT_FILE" | jq -r .title > /tmp/task.sh
fi
. /tmp/task.sh
"#;

/// A source of webhooks of type `test`, for [`Project::with_settings`].
pub(crate) const HOOK: &str = "[webhooks.hook]\ntype = \"test\"\n";

/// What an agent takes from it, for [`Project::configure`].
pub(crate) const ON_HOOK: &str = "[[webhooks]]\nsource = \"hook\"\n";

/// A schedule that never fires: its agent runs once at the start, and when a person wants it to.
pub(crate) const NEVER: &str = "schedule = \"0 0 31 2 *\"\n";

/// Waits in a script until [`Project::open_gate`].
pub(crate) const GATE: &str = "until [ -e /tmp/gate ]; do sleep 0.05; done";

/// A project directory, a home directory, and a record of what was run in them.
pub(crate) struct Project {
    dir: TempDir,
    /// First part of the names of all agents.
    prefix: String,
    /// What failures print.
    record: Mutex<String>,
}

impl Project {
    /// A project whose model is scripted, without agents.
    pub(crate) fn new() -> Self {
        Self::with_settings("")
    }

    /// As [`Project::new`], with these lines at the beginning of `config.toml` (a table `[local]` may be the last).
    pub(crate) fn with_settings(settings: &str) -> Self {
        docker::require();
        Self::without_docker(settings)
    }

    /// As [`Project::with_settings`], for tests of what happens without Docker.
    pub(crate) fn without_docker(settings: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("t{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let project = Self { dir: tempfile::tempdir().unwrap(), prefix, record: Mutex::default() };
        for dir in [project.root(), project.home(), project.temp()] {
            fs::create_dir(dir).unwrap();
        }
        let local = if settings.contains("[local]") { "" } else { "[local]\n" };
        let model = "[model]\nprovider = \"mock\"\nmodel = \"echo\"\n";
        project.write("config.toml", format!("{settings}\n{local}base = \"{BASE}\"\n\n{model}"));
        project
    }

    /// A copy of a fixture; its agents get names of this test.
    pub(crate) fn fixture(name: &str, settings: &str) -> Self {
        let project = Self::with_settings(settings);
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/projects").join(name);
        for entry in fs::read_dir(from.join("agents")).unwrap().map(Result::unwrap) {
            let agent = project.name(entry.file_name().to_str().unwrap());
            for file in fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
                let content = fs::read_to_string(file.path()).unwrap();
                project.write(&format!("agents/{agent}/{}", file.file_name().display()), &content);
            }
        }
        project
    }

    /// Has the base image built.
    pub(super) fn warm_up() -> Result<(), String> {
        let project = Self::without_docker("");
        let done = project.run(&project.agent("warm", "exit 0"), &[]);
        if done.status == 0 { Ok(()) } else { Err(format!("the base image cannot be made: {}", done.stderr)) }
    }

    /// An agent that runs this script in place of a model. Gives its full name.
    pub(crate) fn agent(&self, name: &str, script: &str) -> String {
        let agent = self.name(name);
        self.write(&format!("agents/{agent}/ACTIONS.md"), "Do what is to be done.\n");
        self.configure(&agent, "");
        self.write(&format!("agents/{agent}/test-script.sh"), script);
        agent
    }

    /// An agent that carries out its task as a shell script.
    pub(crate) fn worker(&self, name: &str) -> String {
        self.agent(name, CARRY_OUT_TASK)
    }

    /// An agent whose model plays this script (`mock.toml`). Gives its full name.
    pub(crate) fn model_agent(&self, name: &str, mock: &str) -> String {
        let agent = self.name(name);
        self.write(&format!("agents/{agent}/ACTIONS.md"), "Do what is to be done.\n");
        self.configure(&agent, "[model]\nprovider = \"mock\"\nmodel = \"default\"\n");
        self.write(&format!("agents/{agent}/mock.toml"), mock);
        agent
    }

    /// An agent that carries out the titles of all webhooks of [`HOOK`] as shell scripts. `toml`: what else is set.
    pub(crate) fn on_hook(&self, name: &str, toml: &str) -> String {
        let agent = self.agent(name, CARRY_OUT_TITLE);
        self.configure(&agent, &format!("{toml}{ON_HOOK}"));
        agent
    }

    /// Lets a run go on that waits at a [`GATE`], as soon as its container runs.
    #[track_caller]
    pub(crate) fn open_gate(&self, instance: &str) {
        let container = format!("al-{instance}");
        let is_running = ["container", "inspect", "--format", "{{.State.Running}}", &container];
        let state = || try_docker(&is_running).1;
        wait::until(&format!("{container} to run"), state, |state| state == "true");
        // The container may end before the command in it has: what it says of its end says nothing.
        try_docker(&["exec", &container, "touch", "/tmp/gate"]);
    }

    /// Waits until a run has written this to its standard output.
    #[track_caller]
    pub(crate) fn wait_said(&self, agent: &str, text: &str) {
        let has_said = |log: &Vec<Value>| log.iter().any(|entry| entry["text"] == text);
        wait::until(&format!("{text:?} from {agent}"), || self.log(agent), has_said);
    }

    /// Replaces an agent's configuration. `agent` is a full name, here and everywhere below.
    pub(crate) fn configure(&self, agent: &str, toml: &str) {
        self.write(&format!("agents/{agent}/agent-config.toml"), toml);
    }

    /// Name of an agent, unique to this test.
    pub(crate) fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.prefix)
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Stores a field of a credential.
    pub(crate) fn credential(&self, kind: &str, field: &str, value: &str) {
        let mut path = self.home().join(".action-llama");
        for part in ["credentials", kind, "default", field] {
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            path.push(part);
        }
        fs::write(&path, value).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The project directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// The home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// `TMPDIR`.
    pub(crate) fn temp(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    /// The directory that holds all of them.
    pub(crate) fn outer(&self) -> &Path {
        self.dir.path()
    }

    /// `al` with these arguments, about to be run in the project.
    pub(crate) fn al(&self, args: &[&str]) -> Al<'_> {
        Al::new(self, args)
    }

    /// Runs an agent to its end; `args` are those after its name.
    pub(crate) fn run(&self, agent: &str, args: &[&str]) -> super::al::Done {
        self.al(&[&["run", agent], args].concat()).run()
    }

    /// A search path on which `docker` behaves so: an arm of a shell's `case` about its first argument. All other
    /// commands go to the real one.
    pub(crate) fn docker_that(&self, arm: &str) -> String {
        let path = std::env::var("PATH").expect("PATH is set");
        let real = path.split(':').map(|dir| Path::new(dir).join("docker")).find(|file| file.is_file());
        let real = real.expect("docker is on PATH");
        let dir = self.outer().join("bin");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("docker"), format!("#!/bin/sh\ncase $1 in {arm};; esac\nexec {} \"$@\"\n", real.display()))
            .unwrap();
        fs::set_permissions(dir.join("docker"), fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:{path}", dir.display())
    }

    /// Label of this project's containers.
    pub(crate) fn label(&self) -> String {
        format!("al.project={}", self.hash())
    }

    fn hash(&self) -> ProjectHash {
        ProjectHash::of(&self.root())
    }

    /// Entries of an agent's log.
    pub(crate) fn log(&self, name: &str) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = self.log_text(name);
        // The last one may be being written just now.
        text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().map(parse).collect()
    }

    /// Entries of an agent's log with this message.
    pub(crate) fn logged(&self, name: &str, msg: &str) -> Vec<Value> {
        self.log(name).into_iter().filter(|entry| entry["msg"] == msg).collect()
    }

    /// The files of an agent's log, or of all logs.
    pub(crate) fn log_text(&self, name: &str) -> String {
        let mut files: Vec<PathBuf> = fs::read_dir(self.root().join(".al/logs"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(name))
            .collect();
        files.sort();
        files.iter().map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()).collect()
    }

    /// Everything that was logged.
    pub(crate) fn all_logs(&self) -> String {
        self.log_text("")
    }

    /// Directories that runs of this project have now.
    pub(crate) fn staging(&self) -> Vec<PathBuf> {
        let uid = rustix::process::geteuid().as_raw();
        let start = format!("{}.", self.hash());
        [
            "/run/action-llama".into(),
            format!("/dev/shm/action-llama-{uid}"),
            format!("{}/.al/run", self.root().display()),
        ]
        .iter()
        .flat_map(|root| fs::read_dir(root).into_iter().flatten())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&start))
        .collect()
    }

    /// What runs have left behind: containers, staging directories, temporary files.
    pub(crate) fn remains(&self) -> Vec<String> {
        let files = fs::read_dir(self.temp()).unwrap().map(|entry| entry.unwrap().path());
        let paths = self.staging().into_iter().chain(files).map(|path| path.display().to_string());
        containers(&self.label()).into_iter().chain(paths).collect()
    }

    /// Fails unless everything that runs needed is gone.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let remains = self.remains();
        assert!(remains.is_empty(), "left behind: {remains:?}");
    }

    /// Notes something for the report of a failure.
    pub(super) fn note(&self, text: &str) {
        self.record.lock().unwrap().push_str(text);
    }

    fn report(&self) -> String {
        let mut report = self.record.lock().unwrap().clone();
        let _ = write!(report, "=== logs\n{}=== files\n", tail(&self.all_logs()));
        list(self.dir.path(), &mut report);
        report
    }

    fn clean_up(&self) {
        let label = format!("label={}", self.label());
        let (_, ids, _) = try_docker(&["ps", "-aq", "--filter", &label]);
        let ids: Vec<&str> = ids.split_whitespace().collect();
        let mut images = String::new();
        if !ids.is_empty() {
            (_, images, _) = try_docker(&[&["container", "inspect", "--format", "{{.Image}}"], &ids[..]].concat());
            try_docker(&[&["rm", "-f"], &ids[..]].concat());
        }
        // The project's base has one tag for each project.
        let of_prefix = format!("reference=al-{}-*", self.prefix);
        let of_project = format!("reference=al-project-base:{}", self.hash());
        let list = ["images", "--filter", &of_prefix, "--filter", &of_project, "--format", "{{.Repository}}:{{.Tag}}"];
        let (_, names, _) = try_docker(&list);
        let names: Vec<&str> = names.split_whitespace().collect();
        if !names.is_empty() {
            try_docker(&[&["rmi", "-f"], &names[..]].concat());
        }
        // Those that a run went on with while their names went to newer ones.
        for image in images.split_whitespace() {
            if try_docker(&["image", "inspect", "--format", "{{len .RepoTags}}", image]).1 == "0" {
                try_docker(&["rmi", image]);
            }
        }
        for dir in self.staging() {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
        self.clean_up();
    }
}

/// The end of a long text.
pub(super) fn tail(text: &str) -> &str {
    action_llama::base::text::tail(text, 20_000)
}

fn list(dir: &Path, to: &mut String) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(found) = path.symlink_metadata() else { continue };
        let _ = writeln!(to, "{:o} {:>8} {}", found.permissions().mode(), found.len(), path.display());
        if found.is_dir() {
            list(&path, to);
        }
    }
}
