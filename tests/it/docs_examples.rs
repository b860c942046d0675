//! The examples in pages work: files load, command lines are understood, links lead somewhere.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command as Program, Stdio};

use action_llama::config::webhook::PROVIDERS;
use serde_json::Value;

use super::support::command_table::{self, Command};
use super::support::markdown::{Block, Page, all_pages, codes, page, pages_in, root};
use super::support::project::Project;
use super::support::shell_words::commands;
use super::support::workflow;

/// What pages say is not built. When it is, they have to say so.
const NOT_BUILT: [&str; 2] = ["al push", "al env prov"];

/// What examples of agents may take for granted.
const SURROUNDINGS: &str = "[model]\nprovider = \"mock\"\nmodel = \"echo\"\n\
    [webhooks.github]\ntype = \"github\"\ncredential = \"default\"\n\
    [webhooks.sentry]\ntype = \"sentry\"\ncredential = \"default\"\n";

/// Directives of systemd units that our example may have, and their sections.
const DIRECTIVES: [(&str, &[&str]); 3] = [
    ("Unit", &["Description", "Wants", "After", "StartLimitIntervalSec"]),
    (
        "Service",
        &[
            "Type",
            "User",
            "SupplementaryGroups",
            "WorkingDirectory",
            "ExecStart",
            "Environment",
            "Restart",
            "RestartSec",
            "KillMode",
            "TimeoutStopSec",
            "RuntimeDirectory",
            "RuntimeDirectoryMode",
            "RuntimeDirectoryPreserve",
            "UMask",
            "LimitNOFILE",
            "LimitCORE",
            "OOMScoreAdjust",
            "NoNewPrivileges",
            "ProtectSystem",
            "ReadWritePaths",
            "ProtectHome",
            "PrivateTmp",
        ],
    ),
    ("Install", &["WantedBy"]),
];

fn blocks_of(pages: &[Page], languages: &[&str]) -> Vec<Block> {
    let blocks = pages.iter().flat_map(Page::blocks);
    let found: Vec<Block> = blocks.filter(|block| languages.contains(&block.language.as_str())).collect();
    assert!(!found.is_empty(), "no block of {languages:?}");
    found
}

#[test]
fn links_lead_to_pages_and_headings_that_exist() {
    let mut broken = Vec::new();
    let mut looked = 0;
    for from in all_pages() {
        for (line, target) in from.links() {
            if target.contains("://") {
                continue;
            }
            looked += 1;
            let (path, anchor) = from.resolve(&target);
            let known = |anchor: String| {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                page(&name).anchors().contains(&anchor)
            };
            if !path.exists() || !anchor.is_none_or(known) {
                broken.push(format!("{}:{line}: {target}", from.name));
            }
        }
    }
    assert!(broken.is_empty() && looked > 60, "{looked} links, broken: {broken:#?}");
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let mut reached = vec!["README.md".to_owned()];
    let mut next = 0;
    while let Some(name) = reached.get(next).cloned() {
        next += 1;
        let from = page(&name);
        for (_, target) in from.links().into_iter().filter(|(_, target)| !target.contains("://")) {
            let path = from.resolve(&target).0.canonicalize().unwrap();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if name.ends_with(".md") && !reached.contains(&name) {
                reached.push(name);
            }
        }
    }
    for page in all_pages() {
        assert!(reached.contains(&page.name), "{} cannot be reached", page.name);
    }
}

/// Files of a project as pages show them, by path.
type Files = BTreeMap<String, String>;

/// Loads a project of examples as `al doctor` does. `warns`: its `config.toml` shows something that is warned about.
fn check(block: &Block, files: &Files, warns: bool) {
    let project = Project::without_docker("");
    project.write("config.toml", SURROUNDINGS);
    // Sources whose secret is not stored are warned about, and further models without a key.
    project.credential("google_key", "token", "12345678");
    PROVIDERS
        .iter()
        .filter_map(|provider| provider.secret)
        .for_each(|kind| project.credential(kind, "secret", "12345678"));
    let mut environment = Vec::new();
    for (path, text) in files {
        match path.strip_prefix("~/.action-llama/environments/") {
            Some(name) => {
                let dir = project.home().join(".action-llama/environments");
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join(name), text).unwrap();
                environment = vec!["-E", name.strip_suffix(".toml").unwrap()];
            }
            None => project.write(path, text),
        }
        if let Some(agent) = path.strip_suffix("/agent-config.toml").or(path.strip_suffix("/Dockerfile")) {
            if !files.contains_key(&format!("{agent}/ACTIONS.md")) {
                project.write(&format!("{agent}/ACTIONS.md"), "Do it.\n");
            }
            if !files.contains_key(&format!("{agent}/agent-config.toml")) {
                project.write(&format!("{agent}/agent-config.toml"), "schedule = \"@daily\"\n");
            }
        }
    }
    let strict: &[&str] = if warns { &[] } else { &["--strict"] };
    let words = [&["doctor", "-H", "--skip-host", "--skip-creds"], strict, &environment].concat();
    let done = project.al(&words).run();
    assert_eq!(done.status, 0, "{}:\n{}\n{}", block.place, block.text, done.stderr);
    assert!(warns || !done.stderr.contains("[warn]"), "{}: {}", block.place, done.stderr);
}

/// In a page, a `config.toml` begins a new project; everything else adds to the one there is.
#[test]
fn files_of_projects_load() {
    let mut checked = 0;
    for page in all_pages() {
        let (mut files, mut warns) = (Files::new(), false);
        for block in page.blocks() {
            let is_toml = block.language == "toml";
            let Some(file) = &block.file else {
                assert!(!is_toml, "{}: which file is it? ```toml <file>", block.place);
                continue;
            };
            let is_of_project = is_toml
                || file.ends_with("Dockerfile")
                || file.ends_with("ACTIONS.md")
                || file.ends_with("test-script.sh");
            if !is_of_project {
                continue;
            }
            if file == "config.toml" {
                files.clear();
                warns = block.is_marked("warns");
            }
            let mut text = block.text.clone();
            // Agents of `al run` need neither; what is checked here is one of `al start`.
            if file.ends_with("/agent-config.toml") && !text.contains("schedule =") && !text.contains("[[webhooks]]") {
                text.insert_str(0, "schedule = \"@daily\"\n");
            }
            files.insert(file.clone(), text);
            check(&block, &files, warns);
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} files");
}

#[test]
fn json_is_json() {
    for block in blocks_of(&all_pages(), &["json"]) {
        let parsed = serde_json::from_str::<Value>(&block.text);
        assert!(parsed.is_ok(), "{}: {parsed:?}", block.place);
    }
}

/// Scripts in a page: all of a shell block, and what is typed in a session.
fn scripts() -> Vec<Block> {
    let mut blocks = blocks_of(&all_pages(), &["sh", "bash", "console"]);
    for block in blocks.iter_mut().filter(|block| block.language == "console") {
        let typed = block.text.lines().filter_map(|line| line.strip_prefix("$ "));
        block.text = typed.map(|line| format!("{line}\n")).collect();
    }
    for block in blocks_of(&pages_in("docs"), &["yaml"]) {
        let steps = workflow::steps(&block.text);
        let of_step = |step: workflow::Step| Block {
            text: step.run,
            place: format!("{}, {}", block.place, step.name),
            ..block.clone()
        };
        blocks.extend(steps.into_iter().map(of_step));
    }
    blocks
}

#[test]
fn shell_examples_are_valid() {
    for block in scripts() {
        let mut shell = Program::new("bash");
        shell.arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        child.stdin.take().unwrap().write_all(block.text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{}: {stderr}", block.place);
    }
}

/// The words behind `al`, when that is what is run, also by `sudo`.
fn words_of_al(mut words: &[String]) -> Option<&[String]> {
    if words[0] == "sudo" {
        let skipped = words[1..].iter().position(|word| word == "al")?;
        words = &words[skipped + 1..];
    }
    let name = words[0].rsplit('/').next()?;
    (name == "al").then(|| &words[1..])
}

fn find<'c>(real: &'c [Command], words: &[String]) -> Option<&'c Command> {
    real.iter().filter(|command| words.starts_with(&command.path)).max_by_key(|command| command.path.len())
}

/// What is wrong with a command line, as far as the table of commands tells.
fn problem(real: &[Command], words: &[String]) -> Option<String> {
    match find(real, words) {
        Some(command) => command.problem(&words[command.path.len()..]),
        // `al queue` alone is `al queue ls`.
        None if words.first().is_some_and(|word| word == "queue") => {
            let words = [&["queue".to_owned(), "ls".to_owned()], &words[1..]].concat();
            find(real, &words)?.problem(&words[2..])
        }
        None if words.first().is_none_or(|word| word == "help" || word.starts_with('-')) => None,
        None => Some("there is no such command".to_owned()),
    }
}

#[test]
fn command_lines_in_examples_are_understood() {
    let project = Project::without_docker("");
    let real = command_table::commands(&project);
    let mut checked = 0;
    for block in scripts() {
        for words in commands(&block.text) {
            let Some(words) = words_of_al(&words) else { continue };
            let line = format!("{}: al {}", block.place, words.join(" "));
            if let Some(problem) = problem(&real, words) {
                panic!("{line}: {problem}");
            }
            // The program itself looks at options and their values before it prints its help.
            let words: Vec<&str> =
                words.iter().map(String::as_str).take_while(|word| *word != "--").chain(["--help"]).collect();
            let done = project.al(&words).run();
            assert_eq!((done.status, done.stderr.as_str()), (0, ""), "{line}");
            checked += 1;
        }
    }
    assert!(checked > 70, "only {checked} command lines");
}

/// A line in which every placeholder is one word: `<agent or instance>`.
fn without_placeholders(code: &str) -> String {
    let mut is_inside = false;
    let word = |c: char| {
        is_inside = (is_inside || c == '<') && c != '>';
        if is_inside || c == '>' { '_' } else { c }
    };
    code.replace('\n', " ").chars().map(word).collect()
}

/// `al …` between backticks in running text and tables.
#[test]
fn command_lines_in_texts_are_understood() {
    let project = Project::without_docker("");
    let real = command_table::commands(&project);
    let groups: Vec<&str> =
        real.iter().filter(|command| command.path.len() > 1).map(|command| command.path[0].as_str()).collect();
    let mut wrong = Vec::new();
    for page in all_pages() {
        let mut text = page.text.clone();
        for block in page.blocks() {
            text = text.replace(&block.text, "");
        }
        for code in codes(&text.replace("```", "")).into_iter().filter(|code| code.starts_with("al ")) {
            let is_not_built = NOT_BUILT.iter().any(|known| code.starts_with(known));
            let line = without_placeholders(code);
            let words = commands(&line).remove(0).split_off(1);
            // A command may be mentioned by its name alone.
            let is_name = find(&real, &words).is_some_and(|command| command.path == words);
            let is_group = words.len() == 1 && groups.contains(&words[0].as_str());
            // Usage lines have brackets, which mean nothing here.
            let problem = problem(&real, &words).filter(|_| !is_group && !is_name && !code.contains(['[', '…']));
            if problem.is_some() != is_not_built {
                wrong.push(format!("{}: `{code}`: {problem:?}", page.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_workflow_is_well_formed() {
    let [block] = &blocks_of(&pages_in("docs"), &["yaml"])[..] else { panic!("one workflow") };
    assert!(block.file.as_ref().is_some_and(|file| file.starts_with(".github/workflows/")), "{}", block.place);
    let top: Vec<&str> =
        block.text.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(':').next()).collect();
    assert_eq!(top, ["name", "on", "permissions", "jobs"]);
    for line in block.text.lines() {
        let indent = line.len() - line.trim_start().len();
        assert!(!line.contains('\t') && line.trim_end() == line, "{line:?}");
        let is_script = indent >= 10;
        let is_key = line.contains(':') || line.trim_start().starts_with('#');
        assert!(is_script || (indent % 2 == 0 && is_key), "{line:?}");
    }
    let steps = workflow::steps(&block.text);
    let last = steps.last().unwrap();
    assert!(last.run.contains("al run reviewer --headless --webhook -"), "{last:?}");
    // Secrets come into variables of one step, never into a script.
    for step in &steps {
        assert!(!step.run.contains("${{"), "{step:?}");
    }
    assert!(
        steps.iter().flat_map(|step| &step.env).all(|(_, value)| value.starts_with("${{ ") && value.ends_with(" }}"))
    );
}

#[test]
fn the_service_is_well_formed() {
    let [block] = &blocks_of(&pages_in("docs"), &["ini"])[..] else { panic!("one unit") };
    let mut section = "";
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for line in block.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let known = DIRECTIVES.iter().find(|(name, _)| *name == section).unwrap_or_else(|| panic!("[{section}]")).1;
        assert!(known.contains(&key) && !value.is_empty(), "[{section}] {line}");
        assert_eq!(values.insert(key, value), None, "{key} twice");
    }
    let real = command_table::commands(&Project::without_docker(""));
    let start = commands(values["ExecStart"]).remove(0);
    assert!(start[0].starts_with('/'), "{start:?}");
    assert_eq!(problem(&real, words_of_al(&start).unwrap()), None);
    // Runs go on over a restart, and what they were given stays where they look for it.
    assert_eq!((values["KillMode"], values["RuntimeDirectoryPreserve"]), ("mixed", "yes"));
    let runtime = format!("XDG_RUNTIME_DIR=/run/{}", values["RuntimeDirectory"]);
    let home = format!("HOME={}", values["ReadWritePaths"]);
    assert_eq!(values["Environment"].split(' ').collect::<Vec<_>>(), [home.as_str(), runtime.as_str()]);
    assert!(values["WorkingDirectory"].starts_with(values["ReadWritePaths"]));
}

/// The words behind every `al` of a source that begins a command line: in quotes, or behind a colon.
fn command_lines_of(source: &str) -> Vec<(Vec<String>, &str)> {
    let begins = |before: &str| before.ends_with(['`', '\'', '"']) || before.ends_with(": ");
    let is_word = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let found = source.match_indices("al ").filter(|(at, _)| begins(&source[..*at]));
    found
        .map(|(at, name)| {
            let rest = &source[at + name.len()..];
            let line = rest.split(|c: char| !c.is_ascii_alphanumeric() && !"- ".contains(c)).next().unwrap_or_default();
            (line.split(' ').take_while(is_word).map(str::to_owned).collect(), rest)
        })
        .collect()
}

/// What messages and help texts advise can be typed.
#[test]
fn command_lines_in_messages_are_of_commands_that_there_are() {
    let project = Project::without_docker("");
    let real = command_table::commands(&project);
    let is_command = |words: &[String]| {
        let is_group = |word: &String| real.iter().any(|command| command.path.len() > 1 && command.path[0] == *word);
        find(&real, words).is_some() || words == ["help"] || (words.len() == 1 && is_group(&words[0]))
    };
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for (file, text) in ["src", "shims/src"].into_iter().flat_map(super::tidy::sources) {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let code: String = text.lines().filter(is_code).map(|line| format!("{}\n", line.trim_start())).collect();
        for (words, rest) in command_lines_of(&code) {
            let said = rest.get(..200).unwrap_or(rest);
            let line = format!("al {}", words.join(" "));
            let is_told = NOT_BUILT.contains(&line.as_str()) && said.contains("not built yet");
            if words.is_empty() {
                continue;
            }
            if !is_told && !is_command(&words) {
                wrong.push(format!("{file}: {line}"));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty() && checked > 50, "{checked} command lines, wrong: {wrong:#?}");
}

/// Messages that a page explains, `**`message`.**`, are words of the programs; numbers and addresses differ.
#[test]
fn messages_that_are_explained_are_those_of_the_programs() {
    fn read(path: &std::path::Path, text: &mut String) {
        match std::fs::read_dir(path) {
            Ok(entries) => entries.for_each(|entry| read(&entry.unwrap().path(), text)),
            Err(_) => text.push_str(&std::fs::read_to_string(path).unwrap_or_default()),
        }
    }
    let mut source = String::new();
    ["src", "shims/src"].iter().for_each(|folder| read(&root().join(folder), &mut source));
    let page = page("docs/troubleshooting.md");
    let messages: Vec<&str> = page.text.split("**`").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    assert!(messages.len() > 5, "{messages:?}");
    for message in messages {
        let parts = message.split(|c: char| c.is_ascii_digit() || ".\"".contains(c));
        let longest = parts.max_by_key(|part| part.len()).unwrap();
        assert!(source.contains(longest), "{longest:?} of {message:?} is in no program");
    }
}
