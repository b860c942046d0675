//! `al doctor` and the loading of projects, with the projects in `tests/fixtures` as data. Their `expected.json` and
//! `expected-error.txt` say what must come out.
//!
//! Keys that belong to other commands are tested with those: `credsLs`, `roundTrip`, `script`,
//! `expectedRun`, `expectedRuns`, `rawProjectConfig`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use action_llama::base::Secret;
use action_llama::base::clock::UnixMs;
use action_llama::base::error::ConfigError;
use action_llama::config::project::ProjectDockerfile;
use action_llama::config::schedule::Schedule;
use action_llama::config::{self, Agent, Home, Loaded, Selection};
use action_llama::credentials::{Status, Store};
use action_llama::model::names::CredentialRef;
use serde_json::{Map, Value, json};

/// A fixture in a directory of its own, and the home directory that goes with it.
struct Fixture {
    _dir: tempfile::TempDir,
    project: PathBuf,
    home: PathBuf,
}

impl Fixture {
    fn copy(family: &str, name: &str) -> Self {
        let from = fixtures(family).join(name);
        let dir = tempfile::tempdir().unwrap();
        // Messages contain the path; a fragment must not be found by chance in the fixture's name.
        let project = dir.path().join("project");
        copy_tree(&from, &project);
        let home = dir.path().join("home");
        fs::create_dir_all(&home).unwrap();
        if from.join("home").is_dir() {
            copy_tree(&from.join("home"), &home);
        }
        Self { _dir: dir, project, home }
    }

    fn expected(&self) -> Value {
        let text = fs::read_to_string(self.project.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        for (path, content) in expected["create"].as_object().into_iter().flatten() {
            let path = match path.strip_prefix("home/") {
                Some(path) => self.home.join(path),
                None => self.project.join(path),
            };
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content.as_str().unwrap()).unwrap();
        }
        expected
    }

    fn store(&self) -> Store {
        Store::at(self.home.join(".action-llama/credentials"))
    }

    fn load(&self, selection: &Selection) -> anyhow::Result<Loaded> {
        config::load(&self.project, &Home::at(self.home.join(".action-llama")), selection)
    }

    /// Runs the program in the project: exit status, stdout, stderr.
    fn al(&self, arguments: &[&str]) -> (i32, String, String) {
        self.al_on(&std::env::var_os("PATH").unwrap(), arguments)
    }

    /// The same, where no program is found.
    fn al_without_docker(&self, arguments: &[&str]) -> (i32, String, String) {
        self.al_on(self.home.join("nothing").as_os_str(), arguments)
    }

    fn al_on(&self, path: &OsStr, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_al"));
        command.args(arguments).current_dir(&self.project).stdin(Stdio::null()).env_clear();
        command.env("PATH", path).env("HOME", &self.home).env("TERM", "dumb");
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn fixtures(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(family)
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs a check for every fixture of a family and fails with all complaints at once.
fn for_each(family: &str, check: impl Fn(&Fixture, &mut Vec<String>)) {
    let mut names: Vec<String> = fs::read_dir(fixtures(family))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 10, "the fixtures are not there");
    let mut complaints = Vec::new();
    for name in names {
        let mut found = Vec::new();
        check(&Fixture::copy(family, &name), &mut found);
        complaints.extend(found.into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// Complains when the expected value is not contained in the actual one: members that are not listed are not compared,
/// except below filters and params.
fn compare(path: &str, expected: &Value, actual: &Value, complaints: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            if (path.ends_with(".filter") || path.contains(".params")) && expected.len() != actual.len() {
                complaints.push(format!("{path}: expected {expected:?}, got {actual:?}"));
            }
            for (name, value) in expected {
                compare(&format!("{path}.{name}"), value, actual.get(name).unwrap_or(&Value::Null), complaints);
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(&format!("{path}[{index}]"), expected, actual, complaints);
            }
        }
        (Value::Number(expected), Value::Number(actual)) if expected.as_f64() == actual.as_f64() => {}
        (expected, actual) if expected == actual => {}
        (expected, actual) => complaints.push(format!("{path}: expected {expected}, got {actual}")),
    }
}

/// `a` with the members of `b` that it lacks.
fn filled(mut a: Map<String, Value>, b: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in b {
        match (a.remove(&name), value) {
            (Some(Value::Object(ours)), Value::Object(theirs)) => {
                a.insert(name, Value::Object(filled(ours, theirs)));
            }
            (None | Some(Value::Null), theirs) => drop(a.insert(name, theirs)),
            (Some(ours), _) => drop(a.insert(name, ours)),
        }
    }
    a
}

/// The effective configuration of a project as the fixtures describe it.
fn effective(loaded: &Loaded) -> Value {
    let project = &loaded.project;
    let Value::Object(mut settings) = serde_json::to_value(&project.settings).unwrap() else { panic!("an object") };
    settings.insert("environment".into(), json!(project.environment.as_ref().map(|environment| &environment.name)));
    Value::Object(filled(settings, project.to_json()))
}

fn resolved(agent: &Agent) -> Value {
    let triggers = agent.triggers.iter().map(|trigger| {
        let filter = Some(serde_json::to_value(&trigger.filter).unwrap()).filter(|filter| *filter != json!({}));
        json!({"source": trigger.source, "type": trigger.provider.name, "filter": filter})
    });
    let baked = agent.baked();
    json!({
        "model": baked.model_list().first(),
        "scale": agent.scale,
        "timeout": agent.timeout,
        "schedule": agent.schedule.as_ref().map(Schedule::text),
        "credentials": baked.credentials,
        "triggers": triggers.collect::<Vec<_>>(),
        "preflight": baked.preflight,
        "params": agent.params,
        "dockerfile": if agent.has_dockerfile { "own" } else { "none" },
    })
}

fn compare_agents(path: &str, expected: &Value, loaded: &Loaded, complaints: &mut Vec<String>) {
    for (name, expected) in expected.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let Some(agent) = loaded.agent(name) else {
            complaints.push(format!("{path}: is not there"));
            continue;
        };
        let mut expected = expected.clone();
        if let Some(key) = expected.as_object_mut().and_then(|members| members.remove("modelKey")) {
            let staged: Vec<String> =
                agent.run_credentials().into_iter().map(|(reference, _)| reference.to_string()).collect();
            if !staged.iter().any(|reference| *reference == key) {
                complaints.push(format!("{path}.modelKey: a run gets {staged:?} without {key}"));
            }
        }
        compare(&path, &expected, &resolved(agent), complaints);
    }
}

/// `-E big`, `AL_ENV=staging -E big`, `(from .env.toml)`.
fn selection(text: &str) -> Selection {
    let words: Vec<&str> = text.split(' ').collect();
    let flag = words.iter().position(|word| *word == "-E").map(|at| words[at + 1]);
    let variable = words.iter().find_map(|word| word.strip_prefix("AL_ENV="));
    Selection::of(flag, &variable.map(|name| ("AL_ENV", name)).into_iter().collect())
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn dockerfile_word(found: ProjectDockerfile) -> &'static str {
    match found {
        ProjectDockerfile::Absent => "absent",
        ProjectDockerfile::Bare => "bare",
        ProjectDockerfile::Customised => "customised",
    }
}

#[test]
fn good_projects_are_loaded_as_expected() {
    for_each("projects", |fixture, complaints| {
        let expected = fixture.expected();
        let loaded = fixture.load(&Selection::default()).unwrap();
        let needs = loaded.needs();
        let names =
            |needs: &[config::needs::Need]| needs.iter().map(|need| need.reference.to_string()).collect::<Vec<_>>();
        let enabled: Vec<_> = loaded.enabled().map(|agent| agent.name.to_string()).collect();
        let is_over = |agent: &&Agent| agent.schedule.as_ref().is_some_and(|found| found.never_fires(UnixMs::now()));
        let never_firing: Vec<_> = loaded.agents.iter().filter(is_over).map(|agent| agent.name.to_string()).collect();
        let mut same = |key: &str, actual: Value| {
            if let Some(expected) = expected.get(key) {
                compare(key, expected, &actual, complaints);
            }
        };
        same("agents", json!(loaded.discovered));
        same("enabled", json!(enabled));
        same("credentialRefs", json!(names(&needs.required)));
        same("skippedRefs", json!(names(&needs.skipped)));
        same("neverFires", json!(never_firing));
        same("projectName", json!(loaded.project.settings.project_name));
        same("project", effective(&loaded));
        same("projectDockerfile", json!(dockerfile_word(loaded.project.dockerfile)));
        for (name, word) in expected["variants"].as_object().into_iter().flatten() {
            let text = fs::read_to_string(fixture.project.join(format!("variants/{name}.Dockerfile"))).unwrap();
            compare(name, word, &json!(dockerfile_word(ProjectDockerfile::of(&text))), complaints);
        }
        compare_agents("resolved", &expected["resolved"], &loaded, complaints);
        for (how, expected) in expected["resolvedWith"].as_object().into_iter().flatten() {
            compare_agents(how, expected, &fixture.load(&selection(how)).unwrap(), complaints);
        }
        for (how, expected) in expected["merged"].as_object().into_iter().flatten() {
            let loaded = fixture.load(&selection(how));
            match expected.as_str() {
                Some("ConfigError") => assert!(loaded.unwrap_err().is::<ConfigError>(), "{how}"),
                Some(same) => {
                    let other = fixture.load(&selection(same.strip_prefix("same as ").unwrap())).unwrap();
                    assert_eq!(effective(&loaded.unwrap()), effective(&other), "{how}");
                }
                None => compare(how, expected, &effective(&loaded.unwrap()), complaints),
            }
        }
        for reference in texts(&expected["notMounted"]) {
            let is_staged =
                |agent: &Agent| agent.run_credentials().iter().any(|(found, _)| found.to_string() == reference);
            if loaded.agents.iter().any(is_staged) {
                complaints.push(format!("a run would get {reference}"));
            }
        }
    });
}

#[test]
fn stored_credentials_of_good_projects_are_read_as_expected() {
    for_each("projects", |fixture, complaints| {
        let expected = fixture.expected();
        for (reference, status) in expected["credentialStatus"].as_object().into_iter().flatten() {
            let found = match fixture.store().status(&CredentialRef::parse(reference).unwrap()).unwrap() {
                Status::Complete => "ok".to_owned(),
                Status::Missing => "missing".to_owned(),
                Status::Incomplete(fields) => format!("incomplete: {}", fields.join(", ")),
            };
            compare(reference, status, &json!(found), complaints);
        }
        for (path, value) in expected["fieldValues"].as_object().into_iter().flatten() {
            let (reference, field) = path.rsplit_once('/').unwrap();
            let found = fixture.store().read(&CredentialRef::parse(reference).unwrap(), field).unwrap();
            compare(path, value, &json!(found.as_ref().map(Secret::expose)), complaints);
        }
    });
}

/// References in the lines of a listing that begin with a mark, such as `[MISSING]`.
fn marked(output: &str, marks: &[&str]) -> Vec<String> {
    let line = |line: &str| {
        let rest = marks.iter().find_map(|mark| line.trim().strip_prefix(mark))?;
        let (_, reference) = rest.split(':').next().and_then(|_| rest.rsplit_once('('))?;
        Some(reference.split(')').next().unwrap().to_owned())
    };
    output.lines().filter_map(line).collect()
}

fn store_all(fixture: &Fixture, references: &[String]) {
    for reference in references {
        let reference = CredentialRef::parse(reference).unwrap();
        let known = shims::credential_types::find(reference.kind()).unwrap();
        let fields = known.fields.iter().map(|field| (field.name.to_owned(), Secret::new("value-for-tests")));
        fixture.store().write(&reference, &fields.collect::<BTreeMap<_, _>>()).unwrap();
    }
}

#[test]
fn doctor_lists_what_good_projects_lack_and_passes_when_it_is_there() {
    for_each("projects", |fixture, complaints| {
        let expected = fixture.expected();
        let needed = texts(&expected["credentialRefs"]);
        let is_stored = |reference: &String| {
            fixture.store().status(&CredentialRef::parse(reference).unwrap()).unwrap() == Status::Complete
        };
        let missing: Vec<String> = needed.iter().filter(|reference| !is_stored(reference)).cloned().collect();
        let mut lines = vec![vec!["doctor", "--skip-host"]];
        let more = texts(&expected["validWith"]);
        lines.extend(more.iter().map(|flag| vec!["doctor", "--skip-host", flag.as_str()]));
        let mut look = |line: &[&str], missing: &[String]| {
            let (status, out, err) = fixture.al(line);
            let mut say = |what: String| complaints.push(format!("{line:?}: {what}\nstdout:\n{out}stderr:\n{err}"));
            if status != i32::from(!missing.is_empty()) {
                say(format!("exit status {status}"));
            }
            if marked(&out, &["[MISSING]", "[INCOMPLETE]"]) != missing {
                say(format!("should list {missing:?}"));
            }
            let summary = format!("{} credential(s) missing: {}", missing.len(), missing.join(", "));
            let is_summed_up = err.contains("Credential error: ") && err.contains(&summary);
            if !missing.is_empty() && !is_summed_up {
                say("has no summary".to_owned());
            }
            let warnings: Vec<&str> = err.lines().filter(|line| line.starts_with("  [warn] ")).collect();
            for fragment in texts(&expected["warnings"]) {
                if !warnings.iter().any(|warning| warning.contains(&fragment)) {
                    say(format!("no warning has {fragment:?}"));
                }
            }
            for fragment in texts(&expected["noWarnings"]) {
                if warnings.iter().any(|warning| warning.contains(&fragment)) {
                    say(format!("a warning has {fragment:?}"));
                }
            }
            for fragment in texts(&expected["doctorOutputContains"]) {
                if !out.contains(&fragment) {
                    say(format!("lacks {fragment:?}"));
                }
            }
            let skipped = texts(&expected["skippedRefs"]);
            for reference in skipped.iter().filter(|reference| !out.contains(&format!("[skip] {reference} (agent"))) {
                say(format!("does not say that {reference} is skipped"));
            }
            if [&out, &err].iter().any(|text| text.contains('\x1b')) {
                say("has an escape character".to_owned());
            }
        };
        lines.iter().for_each(|line| look(line, &missing));
        store_all(fixture, &needed);
        lines.iter().for_each(|line| look(line, &[]));
    });
}

#[test]
fn commands_say_what_is_wrong_with_bad_projects() {
    for_each("projects-bad", |fixture, complaints| {
        let text = fs::read_to_string(fixture.project.join("expected-error.txt")).unwrap();
        let expected: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(": ").unwrap()).collect();
        let all = |name: &'static str| expected.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value);
        let command: Vec<&str> = all("command").next().unwrap().split(' ').collect();
        // Environments that cannot be pushed to cannot be checked either, for the same reasons.
        let command = match command[1..] {
            ["push", "-E", environment] => vec!["env", "check", environment],
            ref command => command.to_vec(),
        };
        let (status, out, err) = fixture.al(&command);
        let mut say = |what: String| complaints.push(format!("{what}\nstdout:\n{out}stderr:\n{err}"));
        if status.to_string() != all("exit").next().unwrap() {
            say(format!("exit status {status}"));
        }
        let first = err.lines().find(|line| !line.starts_with("  [warn] ")).unwrap_or_default();
        if !first.starts_with(all("prefix").next().unwrap()) {
            say("begins otherwise".to_owned());
        }
        let both = format!("{out}{err}");
        for fragment in all("contains").filter(|fragment| !both.contains(fragment)) {
            say(format!("lacks {fragment:?}"));
        }
        for fragment in all("not-contains").filter(|fragment| both.contains(fragment)) {
            say(format!("has {fragment:?}"));
        }
    });
}

/// A project with one agent that needs a token of GitHub and the secret of a webhook, and no Docker on its path.
fn wanting() -> crate::support::project::Project {
    let project =
        crate::support::project::Project::without_docker("[webhooks.hub]\ntype = 'github'\ncredential = 'hub'\n");
    project.write("agents/dev/ACTIONS.md", "x");
    let agent = "credentials = ['mintlify_token']\n[[webhooks]]\nsource = 'hub'\nevents = ['push']\n";
    project.write("agents/dev/agent-config.toml", agent);
    project
}

#[test]
fn a_person_is_asked_for_what_is_missing() {
    let project = wanting();
    project.credential("mintlify_token", "token", "stored-before");
    let credentials = project.home().join(".action-llama/credentials");
    fs::set_permissions(
        credentials.join("mintlify_token/default/token"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let mut al = project.al(&["doctor", "--skip-host"]).on_pty();
    al.wait_for("Checking 2 credential(s)...").wait_for("  [ok] Mintlify API Token (mintlify_token)");
    al.answer("GitHub Webhook Secret — Webhook Secret:", "tea and cake");
    al.wait_for("Done. 1 already present, 1 configured.").wait_for("Gateway API key: ").wait_for("[fixed]");
    let (status, screen) = al.finish();
    assert_eq!(status, 0, "{screen:?}");
    let read = |path: &str| fs::read_to_string(credentials.join(path)).unwrap();
    assert_eq!(read("github_webhook_secret/hub/secret"), "tea and cake\n");
    let key = read("gateway_api_key/default/key");
    assert!(screen.contains(&format!("Gateway API key: {}", key.trim())), "{screen:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(credentials.join("mintlify_token/default/token")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    let mut al = project.al(&["doctor", "--skip-host"]).on_pty();
    al.wait_for("Done. 2 already present, 0 configured.").wait_for("  [ok] Gateway API key already configured.");
    let (status, screen) = al.finish();
    assert!(status == 0 && !screen.join("\n").contains(key.trim()), "{screen:?}");
}

#[test]
fn what_is_declined_is_still_missing() {
    let project = wanting();
    // Nobody listens there, so the provider does not say; the person says no.
    project.write(
        "agents/dev/agent-config.toml",
        "schedule = '@daily'\ncredentials = ['vultr_api_key', 'mintlify_token']\n",
    );
    let mut al = project
        .al(&["doctor", "--skip-host"])
        .env("AL_HTTP_OVERRIDE", "https://api.vultr.com=http://127.0.0.1:1")
        .on_pty();
    al.answer("Vultr API Key — API Key:", "x").answer("Save anyway? (Y/n)", "n").answer("API Token:", "y");
    al.wait_for("Done. 0 already present, 1 configured.").wait_for("1 credential(s) missing: vultr_api_key");
    assert_eq!(al.finish().0, 1);
}

#[test]
fn breaking_off_keeps_what_was_answered() {
    let project = wanting();
    let mut al = project.al(&["doctor", "--skip-host"]).on_pty();
    al.answer("API Token:", "first").wait_for("Webhook Secret:").type_in("\x03");
    assert_eq!(al.finish().0, 130);
    let credentials = project.home().join(".action-llama/credentials");
    assert!(credentials.join("mintlify_token").exists() && !credentials.join("github_webhook_secret").exists());
}

#[test]
fn without_a_person_nothing_is_written_or_shown() {
    let project = wanting();
    for flags in [&["-H"][..], &["--check"], &[]] {
        let done = project.al(&[&["doctor", "--skip-host"], flags].concat()).run();
        assert!(done.expect(1).stderr.contains("2 credential(s) missing: mintlify_token, github_webhook_secret:hub"));
        assert!(!done.stdout.contains("Gateway API key"), "{}", done.stdout);
    }
    let done = project.al(&["doctor", "--skip-host", "--skip-creds"]).run();
    assert!(!done.expect(0).stdout.contains("credential"), "{}", done.stdout);
    assert!(!project.home().join(".action-llama").exists());
}

#[test]
fn the_report_is_one_json_document() {
    let project = wanting();
    let look = |flags: &[&str]| {
        let done = project.al(&[&["doctor", "--json", "--skip-host"], flags].concat()).run();
        (
            done.status,
            serde_json::from_str::<Value>(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stdout)),
        )
    };
    let (status, report) = look(&[]);
    assert_eq!((status, &report["ok"], &report["agents"]), (1, &json!(false), &json!(["dev"])));
    assert_eq!(
        report["credentials"][0],
        json!({"ref": "mintlify_token", "label": "Mintlify API Token", "status": "missing", "fields": ["token"], "neededBy": ["dev"]})
    );
    assert_eq!(look(&["--skip-creds"]).0, 0);
    project.write("agents/dev/agent-config.toml", "schedule = 'often'\n");
    let (status, report) = look(&[]);
    assert_eq!(status, 1);
    let error = &report["errors"][0];
    assert_eq!((&error["file"], &error["key"]), (&json!("agents/dev/agent-config.toml"), &json!("schedule")));
    project.write("config.toml", "[[[");
    let (status, report) = look(&[]);
    assert_eq!((status, &report["error"]["kind"]), (1, &json!("config")));
}

#[test]
fn this_machine_is_looked_at_and_only_warned_about() {
    let project = wanting();
    project.write(".env.toml", "[gateway]\nport = 1\n[local]\nmemory = '9999g'\n");
    fs::create_dir(project.root().join(".git")).unwrap();
    let path = project.docker_that(
        "info) echo 'Cannot connect to the Docker daemon at x. Is the docker daemon running?' >&2; exit 1",
    );
    let look =
        |flags: &[&str]| project.al(&[&["doctor", "-H", "--skip-creds"], flags].concat()).env("PATH", &path).run();
    let done = look(&["--strict"]);
    assert!(done.expect(0).stdout.contains("  [note] schedules are read in time zone"), "{}", done.stdout);
    assert!(done.stderr.contains("  [warn] ") && done.stderr.to_lowercase().contains("docker"), "{}", done.stderr);
    let done = look(&["--skip-host"]);
    assert!(!done.expect(0).stdout.contains("time zone") && done.stderr.is_empty(), "{}", done.stderr);
    project.write("agents/dev/agent-config.toml", "schedule = '@daily'\n");
    assert!(look(&[]).stderr.contains("[webhooks.hub] is used by no agent"));
}

#[test]
fn a_container_asks_whether_it_can_reach_this_machine() {
    let project = crate::support::project::Project::new();
    let agent = project.agent("dev", "exit 0");
    // The first run makes the base image and the network.
    project.run(&agent, &[]).expect(0);
    project.configure(&agent, "schedule = '@daily'\n");
    let done = project.al(&["doctor", "-H"]).run();
    assert!(!done.expect(0).stderr.contains("reach"), "{}", done.stderr);
    project.write(".env.toml", "[gateway]\ncontainerHost = '192.0.2.1'\n");
    let done = project.al(&["doctor", "-H"]).run();
    assert!(done.expect(0).stderr.contains("containers cannot reach"), "{}", done.stderr);
    project.assert_clean();
}

#[test]
fn providers_are_asked_about_keys_and_models_only_when_that_is_wanted() {
    let project = wanting();
    project.write("config.toml", "[model]\nprovider = 'groq'\nmodel = 'openai/gpt-oss-120b'\n");
    project.write("agents/dev/agent-config.toml", "schedule = '@daily'\n");
    project.credential("groq_key", "token", "gsk_secret");
    let ask = |answer: &'static str| {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let replaced = format!("https://api.groq.com=http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 2000];
            let count = stream.read(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&head[..count]).into_owned()
        });
        let done = project.al(&["doctor", "-H", "--skip-host", "--online"]).env("AL_HTTP_OVERRIDE", replaced).run();
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /openai/v1/models ") && request.contains("Bearer gsk_secret"), "{request}");
        done
    };
    let good = ask("HTTP/1.1 200 OK\r\nContent-Length: 39\r\n\r\n{\"data\":[{\"id\":\"openai/gpt-oss-120b\"}]}");
    assert!(good.expect(0).stdout.contains("groq:openai/gpt-oss-120b accepts the key"), "{}", good.stdout);
    let unknown = ask("HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n{\"data\":[{\"id\":\"openai/gpt-oss-20b\"}]}");
    assert!(unknown.expect(1).stderr.contains("near it: openai/gpt-oss-20b"), "{}", unknown.stderr);
    let wrong_clock = ask("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\n{}");
    let warning = "  [warn] the clock of this machine is ";
    assert!(wrong_clock.expect(0).stderr.contains(warning) && wrong_clock.stderr.contains(" s ahead; set it"));
    let refused = ask("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    assert!(
        refused.expect(1).stderr.contains("the key is refused (HTTP 401)") && !refused.stderr.contains("gsk_secret")
    );
}

#[test]
fn a_start_asks_a_person_for_what_is_missing() {
    let project = wanting();
    let mut al = project.al(&["start"]).on_pty();
    al.wait_for("2 credential(s) need to be configured:").wait_for("API Token:").type_in("\x03");
    assert_eq!(al.finish().0, 130);
    let (status, screen) = project.al(&["start", "-H"]).on_pty().finish();
    let text = screen.join("\n");
    assert!(status == 1 && text.contains("[MISSING] Mintlify API Token (mintlify_token)"), "{text}");
    assert!(text.contains("2 credential(s) missing: mintlify_token, github_webhook_secret:hub"), "{text}");
}

#[test]
fn a_file_that_is_not_utf8_is_named_with_line_and_byte() {
    let project = crate::support::project::Project::without_docker("");
    project.write("agents/dev/agent-config.toml", b"schedule = '@daily'\n# caf\xe9\n");
    project.write("agents/dev/ACTIONS.md", "Do it.\n");
    let expected = "agents/dev/agent-config.toml: is not UTF-8: line 2, byte 26 of the file is 0xe9";
    for command in [
        &["doctor", "-H", "--skip-host"][..],
        &["stat", "dev"],
        &["agent", "list", "--json"],
        &["agent", "config", "dev", "--unset", "scale"],
    ] {
        let done = project.al(command).run();
        let output = format!("{}{}", done.stdout, done.stderr);
        assert!(output.contains("is not UTF-8: line 2, byte 26 of the file is 0xe9"), "{command:?}: {output}");
        assert!(output.contains(expected) || command[0] == "agent", "{command:?}: {output}");
    }
    fs::write(project.root().join("config.toml"), b"\xff").unwrap();
    let done = project.al(&["doctor", "-H"]).run();
    let expected = "config.toml: is not UTF-8: line 1, byte 1 of the file is 0xff";
    assert!(done.expect(1).stderr.contains(expected), "{}", done.stderr);
}

/// Whether a line of `al stat` is that of an agent.
fn has_row(text: &str, agent: &str) -> bool {
    text.lines().any(|line| line.split(' ').next() == Some(agent))
}

#[test]
fn stat_shows_every_agent_of_good_projects() {
    for_each("projects", |fixture, complaints| {
        let expected = fixture.expected();
        let agents = texts(&expected["agents"]);
        let (status, out, err) = fixture.al(&["stat"]);
        // Those of an environment are asked of its gateway, which is not there.
        if status == 1 && err.starts_with("Error: cannot ask the gateway at https://agents.example.com: ") {
            return;
        }
        if status != 0 || !err.is_empty() || out.contains("(invalid config)") {
            complaints.push(format!("exit status {status}:\n{out}{err}"));
        }
        for agent in agents.iter().filter(|agent| !has_row(&out, agent)) {
            complaints.push(format!("{agent} is missing:\n{out}"));
        }
        let (_, out, _) = fixture.al(&["stat", "--json"]);
        let document: Value = serde_json::from_str(&out).unwrap();
        let names: Vec<&str> =
            document["agents"].as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap()).collect();
        if names != agents {
            complaints.push(format!("as JSON there are {names:?}"));
        }
        for agent in &agents {
            let (status, out, err) = fixture.al(&["stat", agent]);
            if status != 0 || !out.starts_with(&format!("Agent: {agent}\nConfig:\n  Schedule: ")) {
                complaints.push(format!("{agent}: exit status {status}:\n{out}{err}"));
            }
        }
    });
}

#[test]
fn a_start_of_a_good_project_lacks_credentials_and_then_docker_and_nothing_else() {
    for_each("projects", |fixture, complaints| {
        let expected = fixture.expected();
        let needed = texts(&expected["credentialRefs"]);
        let mut start = |reason: &str| {
            let (status, out, err) = fixture.al_without_docker(&["start", "-H"]);
            let first = err.lines().find(|line| !line.starts_with("  [")).unwrap_or_default().to_owned();
            // An environment with a server: nothing of this machine is involved but one program.
            let is_remote = err.contains("cannot be started: program `ssh` not found");
            if status != 1 || !(first.contains(reason) || is_remote) {
                complaints.push(format!("exit status {status} without {reason:?}:\n{out}{err}"));
            }
        };
        let is_stored = |reference: &String| {
            fixture.store().status(&CredentialRef::parse(reference).unwrap()).unwrap() == Status::Complete
        };
        let missing: Vec<String> = needed.iter().filter(|reference| !is_stored(reference)).cloned().collect();
        if !missing.is_empty() {
            start(&format!("{} credential(s) missing: {}", missing.len(), missing.join(", ")));
        }
        store_all(fixture, &needed);
        start(if expected["agents"] == json!([]) { "no agents found" } else { "program `docker` not found" });
    });
}

#[test]
fn start_and_stat_say_what_is_wrong_with_bad_projects() {
    for_each("projects-bad", |fixture, complaints| {
        let text = fs::read_to_string(fixture.project.join("expected-error.txt")).unwrap();
        let expected: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(": ").unwrap()).collect();
        let all = |name: &'static str| expected.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value);
        let (status, out, err) = fixture.al_without_docker(&["stat"]);
        if ![0, 1].contains(&status) || err.contains("internal error") || (status == 0) != out.starts_with("AL Status")
        {
            complaints.push(format!("stat ends with {status}:\n{out}{err}"));
        }
        if all("command").next() != Some("al doctor") || all("prefix").next() == Some("Error:") {
            return;
        }
        let (status, out, err) = fixture.al_without_docker(&["start", "-H"]);
        let prefix = all("prefix").next().unwrap();
        // Of an agent's directory a start says `Error:`.
        let is_told = err.lines().any(|line| line.starts_with(prefix) || line.contains("agent directory"));
        let lacking: Vec<&str> = all("contains").filter(|part| !format!("{out}{err}").contains(part)).collect();
        let of_doctor = ["al doctor", "doctor"];
        if status != 1 || !is_told || lacking.iter().any(|part| !of_doctor.contains(part)) {
            complaints.push(format!("start ends with {status}, lacking {lacking:?}:\n{out}{err}"));
        }
    });
}

#[test]
fn what_is_stored_and_not_needed_is_listed_when_asked_for() {
    let project = wanting();
    for kind in ["mintlify_token", "netlify_token", "gateway_api_key"] {
        let field = if kind == "gateway_api_key" { "key" } else { "token" };
        project.credential(kind, field, "x");
    }
    project.al(&["creds", "add", "github_webhook_secret:hub", "--stdin"]).stdin("x").run().expect(0);
    let line = "  [note] Netlify Personal Access Token (netlify_token) is stored, and nothing here names it\n";
    let done = project.al(&["doctor", "-H", "--skip-host", "-v"]).run();
    assert_eq!(done.expect(0).stdout.matches("nothing here names it").count(), 1, "{}", done.stdout);
    assert!(done.stdout.contains(line), "{}", done.stdout);
    assert!(!project.al(&["doctor", "-H", "--skip-host"]).run().stdout.contains("names it"));
    let done = project.al(&["doctor", "--json", "--skip-host", "-v"]).run();
    let report: Value = serde_json::from_str(&done.expect(0).stdout).unwrap();
    assert!(report["notes"].to_string().contains("netlify_token"), "{report}");
}

#[test]
fn a_person_is_asked_whether_texts_of_older_releases_are_to_be_replaced() {
    let project = wanting();
    project.credential("gateway_api_key", "key", "x");
    project.write("agents/dev/agent-config.toml", "schedule = '@daily'\n");
    project.write("AGENTS.md", "Old, and mine.\n\n<!-- action-llama 0.1.0 -->\n");
    std::os::unix::fs::symlink("node_modules/x/AGENTS.md", project.root().join("CLAUDE.md")).unwrap();
    let mut al = project.al(&["doctor", "--skip-host"]).on_pty();
    al.answer("Changes of your own would be lost. (y/N)", "").answer("is a link to nothing.", "y");
    assert_eq!(al.finish().0, 0);
    let read = |name: &str| fs::read_to_string(project.root().join(name)).unwrap();
    assert!(read("AGENTS.md").starts_with("Old") && read("CLAUDE.md").contains("Action Llama Project"));
    let mut al = project.al(&["doctor", "--skip-host"]).on_pty();
    al.answer("is of release 0.1.0.", "y").wait_for("[fixed]");
    assert_eq!(al.finish().0, 0);
    assert_eq!(read("AGENTS.md"), read("CLAUDE.md"));
    // Whoever cannot be asked is not bothered.
    assert!(!project.al(&["doctor", "-H", "--skip-host"]).run().stdout.contains("release"));
}
