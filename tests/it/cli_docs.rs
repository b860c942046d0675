//! `al docs`: the pages of `docs/`, out of the program.

use super::support::markdown::pages_in;
use super::support::project::Project;

#[test]
fn every_page_is_in_the_program() {
    let project = Project::without_docker("");
    for page in pages_in("docs") {
        let name = page.name.strip_prefix("docs/").and_then(|name| name.strip_suffix(".md")).unwrap();
        let words: &[&str] = if name == "README" { &["docs"] } else { &["docs", name] };
        assert_eq!(project.al(words).run().expect(0).stdout, page.text, "{name}");
    }
    let topics = project.al(&["__complete", "docs", "we"]).run();
    assert_eq!(topics.stdout, "webhooks\n");
}

#[test]
fn a_topic_that_there_is_not_gets_the_list_of_them() {
    let project = Project::without_docker("");
    let done = project.al(&["docs", "webhook"]).run();
    let text = &done.expect(1).stderr;
    assert!(text.starts_with("error: argument 'topic' 'webhook' is invalid. It must be one of agents, "), "{text}");
    assert!(text.ends_with("\n(Did you mean webhooks?)\n") && done.stdout.is_empty(), "{text}");
}

#[test]
fn a_pager_is_used_at_a_terminal_only() {
    let project = Project::without_docker("");
    let pager = "sed 's/^/paged: /'";
    let done = project.al(&["docs", "models"]).env("PAGER", pager).run();
    assert!(done.expect(0).stdout.starts_with("# Models\n"), "{}", done.stdout);
    let done = project.al(&["docs", "models"]).on_terminal(100).env("PAGER", pager).run();
    assert!(done.expect(0).stdout.starts_with("paged: # Models\r\n"), "{}", done.stdout);
}

#[test]
fn a_page_is_printed_when_the_pager_cannot_be_started() {
    let project = Project::without_docker("");
    for pager in ["no-such-pager -R", "/etc/passwd"] {
        let done = project.al(&["docs", "models"]).on_terminal(100).env("PAGER", pager).run();
        assert!(done.expect(0).stdout.contains("# Models\r\n"), "{}", done.stdout);
    }
    let done = project.al(&["docs", "models"]).on_terminal(100).env("PAGER", "exit 3").run();
    let text = format!("{}{}", done.expect(1).stdout, done.stderr);
    assert!(text.contains("Error: the pager ended with exit status: 3 (PAGER=exit 3)"), "{text}");
}

#[test]
fn ctrl_c_is_for_the_pager() {
    let project = Project::without_docker("");
    for pager in ["kill -INT $PPID; sed 's/^/paged: /'", "kill -QUIT $PPID; sed 's/^/paged: /'"] {
        let done = project.al(&["docs", "models"]).on_terminal(100).env("PAGER", pager).run();
        assert!(done.expect(0).stdout.starts_with("paged: # Models\r\n"), "{}", done.stdout);
    }
}
