//! The templates of agents (cli-config.md §8). They are part of the program.

use crate::base::packed;

/// All files, packed by `build.rs`.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/templates.deflate"));

/// A template.
#[derive(Debug)]
pub struct Template {
    pub id: &'static str,
    /// A few words.
    pub about: &'static str,
}

/// All templates, in the order in which they are offered.
pub static TEMPLATES: [Template; 5] = [
    Template { id: "dev", about: "works on GitHub issues and opens pull requests" },
    Template { id: "reviewer", about: "reviews pull requests and merges what is good" },
    Template { id: "planner", about: "plans GitHub issues before somebody works on them" },
    Template { id: "reddit-moderator", about: "watches a subreddit and removes what breaks its rules" },
    Template { id: "devops", about: "files issues for failed workflows and Sentry errors" },
];

/// What `al agent new` calls an agent without a template.
pub const CUSTOM: &str = "custom";

impl Template {
    /// The template with this id.
    pub fn find(id: &str) -> Option<&'static Self> {
        TEMPLATES.iter().find(|template| template.id == id)
    }

    /// Its files: name and content.
    pub fn files(&self) -> Vec<(String, String)> {
        let own = |(name, content): (String, String)| {
            let name = name.strip_prefix(self.id)?.strip_prefix('/')?.to_owned();
            Some((name, content))
        };
        packed::files(PACKED).into_iter().filter_map(own).collect()
    }
}

/// The files of an agent without a template.
pub fn custom(name: &str) -> Vec<(String, String)> {
    let config =
        "credentials = []\n# When it runs: a schedule, or [[webhooks]] triggers.\n# schedule = \"0 9 * * 1-5\"\n";
    let actions = format!(
        "# {name} Agent\n\nYou are {name}. Say here what the agent is for.\n\n## What to do\n\n1. Find work.\n2. Do it.\n3. Report with \
         `al-status`.\n\n## Rules\n\n- Never print a credential.\n"
    );
    vec![("agent-config.toml".to_owned(), config.to_owned()), ("ACTIONS.md".to_owned(), actions)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the instructions of every template have to tell about.
    const TOLD: [&str; 8] = [
        "<agent-config>",
        "rlock \"",
        "rlock-heartbeat",
        "runlock",
        "al-status",
        "al-rerun",
        "<webhook-trigger>",
        "## Rules",
    ];

    #[test]
    fn every_template_is_packed_with_what_it_needs() {
        for template in &TEMPLATES {
            let files = template.files();
            let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
            match template.id {
                "reddit-moderator" => assert_eq!(names, ["ACTIONS.md", "agent-config.toml"]),
                _ => assert_eq!(names, ["ACTIONS.md", "Dockerfile", "agent-config.toml"]),
            }
            let (_, actions) = &files[0];
            for told in TOLD {
                let is_scheduled_only = template.id == "reddit-moderator" && told == "<webhook-trigger>";
                assert!(is_scheduled_only || actions.contains(told), "{}: {told}", template.id);
            }
            let (_, config) = files.last().unwrap();
            assert!(config.parse::<toml::Table>().is_ok(), "{}", template.id);
        }
    }
}
