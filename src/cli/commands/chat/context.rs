//! What the model of a chat is told about the project or the agent. Pure.

use std::fmt::Write as _;

use serde_json::Value;

use crate::config::{Agent, Loaded};
use crate::model::names::CredentialRef;
use crate::run::prompt::context_line;
use crate::setup::templates::TEMPLATES;

/// What every agent's image has, besides a shell and its usual tools.
const BASE_TOOLS: &str = "bash, git, curl, jq, ssh";

/// The project's own text and what there is in the project.
pub(super) fn of_project(text: &str, loaded: &Loaded) -> String {
    let rest = match agent_list(loaded) {
        list if list.is_empty() => first_agent(),
        list => format!("## Agents of this project\n\n{list}"),
    };
    format!("{}\n\n{rest}", text.trim_end())
}

/// What the person says first in a chat about the project.
pub(super) fn first_message(loaded: &Loaded) -> String {
    match loaded.discovered.len() {
        0 => "Help me to create the first agent of this project.".to_owned(),
        1 => format!("This project has 1 agent:\n{}\nWhat shall we do?", agent_list(loaded)),
        count => format!("This project has {count} agents:\n{}\nWhat shall we do?", agent_list(loaded)),
    }
}

/// A line for each agent.
fn agent_list(loaded: &Loaded) -> String {
    let mut list = String::new();
    for name in &loaded.discovered {
        let schedule = loaded.agent(name).and_then(|agent| agent.schedule.as_ref());
        let schedule = schedule.map_or("webhook-only", |schedule| schedule.text());
        let _ = writeln!(list, "- {name}: schedule={schedule}");
    }
    list
}

/// How the first agent is made.
fn first_agent() -> String {
    let mut text = format!(
        "## The first agent\n\n\
         This project has no agents yet. Help the operator to create the first one:\n\n\
         1. Say which templates there are and ask what the operator needs. Only go on when you know what the agent is to do.\n\
         2. Create the directory agents/<name>/ and write agent-config.toml and ACTIONS.md into it. Copy the ACTIONS.md of \
         the template verbatim; adapt [params] in agent-config.toml to what the operator says.\n\
         3. Leave [model] out unless the operator asks for a model: agents inherit the project's.\n\
         4. Write a Dockerfile only when what the agent does needs tools that the base image does not have. It has: \
         {BASE_TOOLS}.\n\
         5. Then tell the operator to run `al doctor`, which checks everything and asks for the credentials.\n\n\
         Never ask for credentials, never read or write them, and never run `al doctor` or `al creds` yourself.\n\n\
         ## Templates\n"
    );
    for template in &TEMPLATES {
        let _ = write!(text, "\n### {}: {}\n", template.id, template.about);
        for (name, content) in template.files() {
            let fence = "`".repeat(longest_fence(&content).max(2) + 1);
            let _ = write!(text, "\n{}/{name}:\n\n{fence}\n{}\n{fence}\n", template.id, content.trim_end());
        }
    }
    text
}

fn longest_fence(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// An agent, with the credentials that the tools have.
pub(super) fn of_agent(agent: &Agent, loaded: &[CredentialRef]) -> String {
    let mut text = format!(
        "You are talking with the operator of the agent \"{name}\", in the agent's directory on the operator's own machine. \
         This is not one of the agent's runs: there is no container around your commands, and locks, calls and the commands \
         that begin with al- or rlock are not there.\n\n",
        name = agent.name
    );
    let mut lines: Vec<String> = Vec::new();
    for line in loaded.iter().filter_map(|reference| context_line(reference.kind())) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    match lines.is_empty() {
        true => text += "No credentials are loaded.\n\n",
        false => {
            let _ = write!(text, "Credentials that your commands have:\n{}\n\n", lines.join("\n"));
            text += "Never show a credential and never send it anywhere it is not meant for.\n\n";
        }
    }
    let params = Value::Object(agent.params.clone());
    let _ = write!(text, "The agent's params:\n\n{params:#}\n\n");
    text += "What follows is the agent's ACTIONS.md. It is for reference: it says what the agent does in its runs. Do not \
             carry it out by yourself; do what the operator asks for.\n\n";
    match agent.instructions.trim() {
        "" => text += "(ACTIONS.md is empty)",
        instructions => text += instructions,
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Home, Selection, load};
    use std::fs;

    fn loaded(agents: &[(&str, &str, &str)]) -> (tempfile::TempDir, Loaded) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.toml"), "[model]\nprovider = \"mock\"\nmodel = \"echo\"\n").unwrap();
        for (name, config, actions) in agents {
            let agent = dir.path().join("agents").join(name);
            fs::create_dir_all(&agent).unwrap();
            fs::write(agent.join("agent-config.toml"), config).unwrap();
            fs::write(agent.join("ACTIONS.md"), actions).unwrap();
        }
        let loaded = load(dir.path(), &Home::at(dir.path()), &Selection::default()).unwrap();
        (dir, loaded)
    }

    #[test]
    fn a_project_with_agents_lists_them() {
        let (_dir, loaded) = loaded(&[("dev", "schedule = \"0 * * * *\"", ""), ("hook", "", "")]);
        let list = "- dev: schedule=0 * * * *\n- hook: schedule=webhook-only\n";
        assert_eq!(of_project("# About\n", &loaded), format!("# About\n\n## Agents of this project\n\n{list}"));
        assert_eq!(first_message(&loaded), format!("This project has 2 agents:\n{list}\nWhat shall we do?"));
    }

    #[test]
    fn a_project_without_agents_is_helped_to_its_first_one() {
        let (_dir, loaded) = loaded(&[]);
        let text = of_project("# About", &loaded);
        for template in &TEMPLATES {
            for (_, content) in template.files() {
                assert!(text.contains(content.trim_end()), "{}", template.id);
            }
        }
        for part in ["al doctor", "[params]", "verbatim", "curl", "Never ask for credentials"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(first_message(&loaded).contains("first agent"));
    }

    #[test]
    fn an_agent_is_described_with_what_its_commands_have() {
        let config =
            "schedule = \"0 * * * *\"\ncredentials = [\"github_token\", \"git_ssh\"]\n[params]\norg = \"acme\"";
        let (_dir, loaded) = loaded(&[("dev", config, "# Dev\n\nFind issues.\n")]);
        let agent = loaded.agent("dev").unwrap();
        let text = of_agent(agent, &agent.credentials[..1]);
        for part in ["\"dev\"", "GITHUB_TOKEN", "\"org\": \"acme\"", "Do not carry it out"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("GIT_SSH_COMMAND") && text.ends_with("# Dev\n\nFind issues."), "{text}");
        assert!(of_agent(agent, &[]).contains("No credentials"));
    }
}
