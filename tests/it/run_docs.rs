//! Examples of `docs/` and `agent-docs/` are carried out: what a page shows to type is typed, and what it says will be
//! seen is seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::support::docker::BASE;
use super::support::markdown::{Block, Page, codes, page, root};
use super::support::project::Project;
use super::support::workflow;

/// An environment in which every model is a script, so that pages can name a real one.
const WITHOUT_MODEL: &str = "scripted";

/// A machine of a reader: a home directory and a folder, and `al` on the search path.
struct Reader<'p> {
    project: &'p Project,
    dir: PathBuf,
    /// Names in pages and what they are called here, so that tests keep out of each other's way.
    names: Vec<(&'static str, String)>,
    path: String,
}

impl<'p> Reader<'p> {
    fn new(project: &'p Project, names: &[&'static str]) -> Self {
        let environments = project.home().join(".action-llama/environments");
        fs::create_dir_all(&environments).unwrap();
        let settings = format!("[model]\nprovider = \"mock\"\nmodel = \"default\"\n[local]\nbase = \"{BASE}\"\n");
        fs::write(environments.join(format!("{WITHOUT_MODEL}.toml")), settings).unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_al")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let names = names.iter().map(|name| (*name, project.name(name))).collect();
        Self { project, dir: project.root(), names, path }
    }

    /// A text of a page with the names that are used here.
    fn translated(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, own)| text.replace(name, own))
    }

    /// Puts a file of a page where it says.
    fn place(&self, block: &Block) {
        let path = self.dir.join(self.translated(block.file.as_deref().expect("it is a file")));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.translated(&block.text)).unwrap();
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.join(self.translated(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Types a script into a shell; it has to succeed.
    #[track_caller]
    fn types(&self, script: &str, variables: &[(&str, &str)]) -> String {
        let script = self.translated(script);
        let mut shell = Command::new("bash");
        shell.args(["-e", "-o", "pipefail", "-c", &script]).current_dir(&self.dir).env_clear().stdin(Stdio::null());
        shell.env("PATH", &self.path).env("HOME", self.project.home()).env("TERM", "dumb").env("AL_ENV", WITHOUT_MODEL);
        shell.envs(variables.iter().copied());
        let Output { status, stdout, stderr } = shell.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(stdout), text(stderr));
        assert!(status.success(), "{script}\n{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        stdout
    }
}

/// The block of a page that is this file.
#[track_caller]
fn file(page: &Page, name: &str) -> Block {
    let found = page.blocks().into_iter().find(|block| block.file.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("{} has no file {name}", page.name))
}

/// Lines without what is different each time: times, sizes, ids.
fn essence(text: &str, agent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.trim_end().lines() {
        let mut line = line.to_owned();
        for (at, _) in line.clone().match_indices(&format!("{agent}-")) {
            let start = at + agent.len() + 1;
            if line.get(start..start + 8).is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit())) {
                line.replace_range(start..start + 8, "########");
            }
        }
        // Short names of commits.
        let is_commit = |word: &&str| word.len() == 7 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(commit) = line.split(' ').find(is_commit).map(str::to_owned) {
            line = line.replace(&commit, "#######");
        }
        let mut plain = String::new();
        for c in line.trim_end_matches('─').chars() {
            let c = if c.is_ascii_digit() { '0' } else { c };
            if !(c == '0' && plain.ends_with('0')) {
                plain.push(c);
            }
        }
        lines.push(plain);
    }
    lines
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn the_first_steps_lead_to_a_run_that_looks_as_shown() {
    let project = Project::new();
    let mut reader = Reader::new(&project, &["hello"]);
    let (page, agents) = (page("docs/getting-started.md"), page("docs/agents.md"));
    let blocks = page.blocks();
    let mut story = blocks.iter().filter(|block| block.is_marked("story"));

    reader.types(&story.next().unwrap().text, &[]);
    reader.dir.push("demo");
    reader.place(&file(&page, "agents/hello/ACTIONS.md"));
    reader.place(&file(&agents, "agents/hello/mock.toml"));
    let seen = reader.types(&story.next().unwrap().text, &[]);
    assert_eq!(story.count(), 0);

    let own = project.name("hello");
    let seen = seen.replace(&own, "hello");
    let screen = &blocks.iter().find(|block| block.is_marked("screen")).unwrap().text;
    let first_run = seen.find("\nhello-").map(|end| &seen[..end + 1 + seen[end + 1..].find('\n').unwrap()]).unwrap();
    assert_eq!(essence(first_run, "hello"), essence(screen, "hello"), "{first_run}");
}

/// A broken file is told as the page says, and the command is run all the same.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn variables_last_for_later_calls_as_agents_are_told() {
    let project = Project::new();
    let blocks = page("agent-docs/skills/environment.md").blocks();
    let shown = &blocks.iter().find(|block| block.text.contains("setenv")).unwrap().text;
    let commands =
        [shown, "printf '<%s>' \"$ISSUE\" \"$TITLE\" \"$BRANCH\"", "echo 'exit 3' >>/tmp/env.sh", "echo run", "true"];
    // A string of JSON is one of TOML.
    let turn = |command: &&str| {
        format!(
            "[[turn]]\ntext = \"After {{{{last_result}}}}.\"\n  [[turn.call]]\n  tool = \"bash\"\n  args = {{ command = {} }}\n",
            Value::from(*command)
        )
    };
    let turns: Vec<String> = commands.iter().map(turn).collect();
    let agent = project.model_agent("dev", &format!("version = 1\n{}", turns.concat()));
    let done = project.run(&agent, &["--json"]);
    done.expect(0);
    let log = project.log_text(&agent);
    for seen in [
        "After set 2 variable(s)\\nset 1 variable(s).",
        "After <42><it's dark><fix-42>.",
        "After /tmp/env.sh ended the shell with status 3: correct or remove it; the command is run without it\\nrun.",
    ] {
        assert!(log.contains(seen), "{seen}: {log}");
    }
}

/// The picture leaves lines out.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn the_picture_in_the_readme_is_the_demo() {
    let project = Project::new();
    let reader = Reader::new(&project, &["fixer"]);
    let demo = root().join("examples/demo");
    let agent = project.name("fixer");
    for name in ["agent-config.toml", "ACTIONS.md", "mock.toml"] {
        let text = fs::read_to_string(demo.join("agents/fixer").join(name)).unwrap();
        project.write(&format!("agents/{agent}/{name}"), text);
    }
    project.write("config.toml", fs::read_to_string(demo.join("config.toml")).unwrap());
    let seen = reader.types("AL_ENV= al run fixer", &[]).replace(&agent, "fixer");
    let seen = essence(&seen, "fixer");
    let picture = page("README.md").blocks().into_iter().find(|block| block.is_marked("screen")).unwrap();
    let mut rest = seen.iter();
    for line in essence(&picture.text, "fixer").iter().filter(|line| line.trim() != "…") {
        assert!(rest.any(|seen| seen == line), "{line:?} is not seen, or not in this order: {seen:#?}");
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn agents_without_a_model_do_what_the_page_says() {
    let project = Project::new();
    let reader = Reader::new(&project, &["hello", "check"]);
    let page = page("docs/agents.md");
    for name in ["agents/hello/agent-config.toml", "agents/hello/mock.toml", "agents/check/test-script.sh"] {
        reader.place(&file(&page, name));
    }
    let story = page.blocks().into_iter().find(|block| block.is_marked("story")).unwrap();
    let result: Value = serde_json::from_str(&reader.types(&story.text, &[])).unwrap();
    assert_eq!((&result["result"], &result["returnValue"]), (&"completed".into(), &"the machine is fine".into()));
    reader.write("agents/check/agent-config.toml", "");
    let seen = reader.types("al run check", &[]);
    assert!(seen.contains("\nreturned: everything is there\n"), "{seen}");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn webhooks_as_files_start_a_run_with_what_they_say() {
    let project = Project::new();
    let agent = project.agent("dev", "sed -n '/^<webhook-trigger>$/{n;p}' \"$AL_PROMPT_FILE\"\n");
    let files =
        page("docs/webhooks.md").blocks().into_iter().filter(|block| block.file.as_deref() == Some("webhook.json"));
    for (number, block) in files.enumerate() {
        project.write("webhook.json", &block.text);
        let said = project.run(&agent, &["--webhook", "webhook.json", "--json"]).expect(0).said();
        let context: Value = serde_json::from_str(&said[0]).unwrap();
        let seen = ["event", "action", "repo", "title"].map(|name| context[name].as_str().unwrap());
        assert_eq!(seen, ["issues", "labeled", "acme/app", "Dark mode"], "form {number}");
        assert_eq!((&context["number"], &context["labels"][0]), (&42.into(), &"agent".into()), "form {number}");
    }
}

/// What the runner of the workflow does: variables from files, one shell per step.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn the_workflow_installs_al_and_has_the_pull_request_reviewed() {
    let project = Project::new();
    let mut reader = Reader::new(&project, &["reviewer"]);
    let page = page("docs/ci.md");
    for name in ["config.toml", "agents/reviewer/agent-config.toml", "agents/reviewer/ACTIONS.md"] {
        reader.place(&file(&page, name));
    }
    let script = "version = 1\n[[turn]]\n\
        expect = { prompt_contains = '\"event\":\"pull_request\",\"action\":\"opened\",\"repo\":\"acme/app\"', \
        system_contains = 'You review one pull request' }\n  [[turn.call]]\n  tool = \"bash\"\n  \
        args = { command = 'test \"$GITHUB_TOKEN\" = ghs_1 && al-return \"2 findings\"' }\n\
        [[turn]]\nexpect = { is_error = false }\ntext = \"Done.\"\n";
    reader.write("agents/reviewer/mock.toml", script);
    let event = r#"{"action":"opened","number":7,"repository":{"full_name":"acme/app"},"sender":{"login":"ann"},
        "pull_request":{"number":7,"title":"Add dark mode","html_url":"https://github.com/acme/app/pull/7","user":{"login":"ann"},
        "labels":[],"head":{"ref":"dark"}}}"#;
    reader.write("event.json", event);
    // As `make dist` packs it.
    let pack = format!(
        "mkdir -p tools p/al-1 && ln {} p/al-1/al && tar -czf tools/al-1.tar.gz -C p al-1",
        env!("CARGO_BIN_EXE_al")
    );
    reader.types(&pack, &[]);
    // From here on there is only the program that the workflow installs.
    reader.path = std::env::var("PATH").unwrap();

    let text = file(&page, ".github/workflows/review.yml").text;
    let root = reader.dir.clone();
    let of_runner = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let [paths, event, summary] = ["paths", "event.json", "summary.md"].map(of_runner);
    let secrets = [("${{ secrets.ANTHROPIC_KEY }}", "sk-ant-api-1"), ("${{ github.token }}", "ghs_1")];
    let mut output = String::new();
    for step in workflow::steps(&text) {
        let mut variables = vec![("CI", "true"), ("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_NAME", "pull_request")];
        variables.extend([
            ("GITHUB_PATH", paths.as_str()),
            ("GITHUB_EVENT_PATH", &event),
            ("GITHUB_STEP_SUMMARY", &summary),
        ]);
        for (name, value) in &step.env {
            let (_, secret) = secrets.iter().find(|(expression, _)| expression == value).expect("a known secret");
            variables.push((name, secret));
        }
        output += &reader.types(&step.run, &variables);
        if let Ok(added) = fs::read_to_string(&paths) {
            reader.path = format!("{}:{}", added.trim(), std::env::var("PATH").unwrap());
        }
    }
    assert!(output.contains("::group::") && output.contains(" completed ("), "{output}");
    let summary = fs::read_to_string(&summary).unwrap();
    assert!(summary.contains("2 findings") && summary.contains("completed"), "{summary}");
}

/// The few lines for every other system, with the agent of the same page.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn the_lines_for_any_other_ci_run_the_agent_of_the_page() {
    let project = Project::new();
    let reader = Reader::new(&project, &["reviewer"]);
    let page = page("docs/ci.md");
    for name in ["config.toml", "agents/reviewer/agent-config.toml", "agents/reviewer/ACTIONS.md"] {
        reader.place(&file(&page, name));
    }
    reader.write(
        "agents/reviewer/mock.toml",
        "version = 1\n[[turn]]\nexpect = { prompt_contains = \"Review the branch topic.\" }\ntext = \"Reviewed.\"\n",
    );
    let story = page.blocks().into_iter().find(|block| block.is_marked("story")).unwrap();
    let variables = [("ANTHROPIC_KEY", "sk-ant-api-1"), ("TOKEN", "ghs_1"), ("BRANCH", "topic")];
    let seen = reader.types(&story.text, &variables);
    assert!(seen.contains("Reviewed.") && seen.contains(" completed ("), "{seen}");
}

/// Whether an answer is of the form that a page shows: the same members, texts up to an ellipsis.
fn is_as_shown(shown: &Value, real: &Value) -> bool {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let names = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            // Answers about several calls have the ids as names.
            let is_by_id = shown.values().all(Value::is_object);
            (is_by_id || names(shown) == names(real))
                && shown.iter().zip(real).all(|((name, shown), (_, real))| {
                    ["holder", "callId", "returnValue"].contains(&name.as_str()) && real.is_string()
                        || is_as_shown(shown, real)
                })
        }
        (Value::String(shown), Value::String(real)) => {
            let shown = shown.replace("9f8e7d6c", "");
            let (start, _) = shown.split_once('…').unwrap_or((&shown, ""));
            // Whose name it is, is no part of the form.
            let start = start.trim_end_matches("dev-");
            real.starts_with(start.trim_end_matches("web ")) && (shown.len() != start.len() || real == start)
        }
        (Value::Number(_), Value::Number(real)) => real.as_i64() > Some(1_700_000_000_000),
        (shown, real) => shown == real,
    }
}

/// Rows of the tables `Command | Answer | Status` of pages for agents: command, status, answers.
fn answers_shown() -> Vec<(String, i32, Vec<Value>)> {
    let mut found = Vec::new();
    for name in ["resource-locks", "calls"] {
        let tables = page(&format!("agent-docs/skills/{name}.md")).tables();
        let table = tables.iter().find(|table| table.header == ["Command", "Answer", "Status"]).unwrap();
        let mut command = String::new();
        for row in &table.rows {
            command = codes(&row[0]).first().map_or(command, |code| (*code).to_owned());
            let status = row[2].chars().take_while(char::is_ascii_digit).collect::<String>();
            let answers = codes(&row[1]).into_iter().filter_map(|code| serde_json::from_str(code).ok());
            found.push((command.clone(), status.parse().unwrap(), answers.collect()));
        }
    }
    found
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn answers_of_commands_in_a_run_are_those_that_agents_are_told() {
    let project = Project::new();
    let report = "report() { printf '%s\\t%s\\t%s\\n' \"$1\" \"$3\" \"$2\"; }\n\
        try() { answer=$(\"$@\" </dev/null); status=$?; report \"$1\" \"$answer\" $status; }\n";
    // Called by the other one, which holds a lock.
    let called = format!(
        "{report}{{ try rlock 'deploy api'; try runlock 'deploy api'; try rlock-heartbeat 'deploy api'; }} | al-return\n"
    );
    let reviewer = project.agent("reviewer", &called);
    let dev = project.name("dev");
    let script = format!(
        "{report}try rlock 'deploy api'\ntry rlock 'deploy web'\ntry rlock-heartbeat 'deploy api'\n\
         id=$(echo 'look at it' | al-call {reviewer} | jq -r .callId)\ntry al-wait \"$id\" --timeout 60\ntry al-check \"$id\"\n\
         al-check \"$id\" | jq -r .returnValue\n\
         try runlock 'deploy api'\ntry runlock 'deploy api'\ntry rlock-heartbeat 'deploy api'\n\
         try al-call {dev}\ntry al-call {reviewer}\ntry al-check nothing\n\
         for c in al-status al-return al-rerun al-exit; do try $c 0; done\n"
    );
    project.agent("dev", &script);
    let said = project.run(&dev, &["--json"]).expect(0).said().join("\n");
    let mut seen = 0;
    let shown = answers_shown();
    for line in said.lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        let [command, status, answer] = parts[..] else { continue };
        let (status, answer): (i32, Value) = (status.parse().unwrap(), serde_json::from_str(answer).unwrap());
        seen += 1;
        if ["al-status", "al-return", "al-rerun", "al-exit"].contains(&command) {
            assert_eq!((status, answer.to_string().as_str()), (0, r#"{"ok":true}"#), "{line}");
            continue;
        }
        let is_shown = shown.iter().any(|(of, code, answers)| {
            // Heartbeats fail as `runlock` does.
            let is_of = of == command || (command == "rlock-heartbeat" && status != 0 && of == "runlock");
            is_of && *code == status && answers.iter().any(|shown| is_as_shown(shown, &answer))
        });
        assert!(is_shown, "no page for agents shows this answer: {line}");
    }
    assert_eq!(seen, 18, "{said}");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn places_variables_and_blocks_of_a_run_are_those_that_agents_are_told() {
    let project = Project::new();
    project.credential("mintlify_token", "token", "m-1234567");
    let page = page("agent-docs/skills/environment.md");
    let table = |first: &str, number: usize| {
        page.tables().into_iter().filter(|table| table.header[0] == first).nth(number).unwrap()
    };
    let mut script = String::new();
    for row in table("Path", 0).rows.iter().filter(|row| row[0].starts_with('`')) {
        for path in codes(&row[0]) {
            let path =
                path.replace("<type>", "mintlify_token").replace("<instance>", "default").replace("<field>", "token");
            let refused = if row[1] == "read-only" { "! " } else { "" };
            script += &format!("[ -r {path} ] || echo 'no {path}'\n");
            script += &format!("{refused}touch {path} 2>/dev/null || echo 'wrong about {path}'\n");
        }
    }
    for name in table("Variable", 0).rows.iter().flat_map(|row| codes(&row[0])).filter(|name| *name != "GITHUB_TOKEN") {
        script += &format!("printenv {name} >/dev/null || echo 'no {name}'\n");
    }
    let blocks = table("Block", 0);
    let here =
        |row: &&Vec<String>| ["always", "with a gateway", "started by hand with a task"].contains(&row[1].as_str());
    for block in blocks.rows.iter().filter(here).flat_map(|row| codes(&row[0])) {
        script += &format!(
            "(cat /app/static/prompt-static.txt; echo; cat \"$AL_PROMPT_FILE\") | grep -qx '{block}' || echo 'no {block}'\n"
        );
    }
    let agent = project.agent("dev", &format!("{script}echo looked\n"));
    project.configure(&agent, "credentials = [\"mintlify_token\"]\n");
    let said = project.run(&agent, &["look around", "--json"]).expect(0).said();
    assert_eq!(said, ["looked"]);
}
