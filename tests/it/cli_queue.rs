//! `al queue`: work items of a scheduler that runs (scheduler.md §15.4).

use std::fs;

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::fake_scheduler::{FakeScheduler, json, not_found, refusal, success};
use crate::support::project::Project;
use crate::support::stub_gateway::{Answer, Request};

fn item(id: u64, state: &str) -> Value {
    let ago = action_llama::base::clock::UnixMs(action_llama::base::clock::UnixMs::now().0 - 125_000);
    json!({"id": id, "agent": "dev", "kind": "webhook", "source": "issues", "state": state, "attempts": 3,
        "enqueuedAt": ago.to_iso(), "notBefore": null, "startedAt": null, "finishedAt": null, "instanceId": null,
        "callId": null, "reason": "attempts_exhausted", "lastError": "image\u{1b}[2J not found"})
}

fn answers(request: &Request) -> Answer {
    match (request.method.as_str(), request.target.as_str()) {
        ("GET", target) if target.starts_with("/control/queue") => {
            json(&json!({"items": [item(7, "dead"), item(3, "queued")], "total": 9}))
        }
        ("GET", "/control/items/7") => {
            let mut item = item(7, "dead");
            item["context"] = json!({"event": "issues\u{9b}"});
            json(&item)
        }
        ("POST", "/control/items/7/retry") => success("Item 7 queued"),
        ("POST", "/control/items/8/retry") => refusal(409, "Item 8 is running"),
        ("POST", "/control/items/9/retry") => success("Item 9 queued"),
        ("POST", "/control/items/3/drop") => success("Item 3 dropped"),
        ("POST", "/control/queue/clear") => success("Cleared 4 item(s)"),
        ("POST", "/control/queue/a%2Fb/clear") => success("Cleared 1 item(s)"),
        ("POST" | "GET", target) if target.starts_with("/control/items/") => refusal(404, "Item not found"),
        _ => not_found(),
    }
}

struct Bed {
    project: Project,
    fake: FakeScheduler,
}

impl Bed {
    fn new() -> Self {
        let project = Project::without_docker("");
        let fake = FakeScheduler::start(&project, answers);
        Self { project, fake }
    }

    /// Output of a command that ends with this status.
    #[track_caller]
    fn run(&self, args: &[&str], status: i32) -> (String, String) {
        let done = self.project.al(&[&["queue"], args].concat()).run();
        done.expect(status);
        (done.stdout, done.stderr)
    }

    #[track_caller]
    fn json(&self, args: &[&str], status: i32) -> Value {
        serde_json::from_str(&self.run(args, status).0).unwrap()
    }
}

#[test]
fn items_are_listed_newest_first() {
    let bed = Bed::new();
    let (stdout, stderr) = bed.run(&[], 0);
    expect![[r#"
        ID  AGENT  KIND     SOURCE  STATE   ATTEMPTS  AGE   ERROR
        7   dev    webhook  issues  dead    3         2m5s  attempts_exhausted: image�[2J not found
        3   dev    webhook  issues  queued  3         2m5s  attempts_exhausted: image�[2J not found
    "#]]
    .assert_eq(&stdout);
    assert!(stderr.contains("newest 2 of 9"), "{stderr}");
    for args in [&["ls", "dev", "--state", "dead,failed"][..], &["dev", "--state=dead,failed"]] {
        bed.run(args, 0);
    }
    let expected = "GET /control/queue?agent=dev&state=dead%2Cfailed";
    assert_eq!(bed.fake.asked(), ["GET /control/queue", expected, expected]);
    let document = bed.json(&["--json"], 0);
    assert_eq!((document["items"].as_array().unwrap().len(), &document["total"]), (2, &json!(9)));
    assert!(
        bed.run(&["--state", "lost"], 1).1.contains("argument 'lost' is invalid. It must be one or more of queued")
    );
}

#[test]
fn an_item_is_shown_as_json_that_a_terminal_can_take() {
    let bed = Bed::new();
    let (stdout, _) = bed.run(&["show", "7"], 0);
    assert!(stdout.starts_with("{\n  \"id\": 7,\n") && !stdout.contains(['\u{9b}', '\u{1b}']), "{stdout}");
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["context"]["event"], "issues\u{9b}");
    assert_eq!(bed.run(&["show", "5"], 1).1, "Error: Item not found\n");
}

#[test]
fn every_item_is_tried_and_any_refusal_is_a_failure() {
    let bed = Bed::new();
    assert_eq!(bed.run(&["retry", "7"], 0), ("Item 7 queued\n".into(), String::new()));
    let (stdout, stderr) = bed.run(&["retry", "7", "8", "9"], 1);
    assert_eq!((stdout.as_str(), stderr.as_str()), ("Item 7 queued\nItem 9 queued\n", "Error: Item 8 is running\n"));
    let document = bed.json(&["retry", "8", "9", "--json"], 1);
    let expected = json!({"results": [{"id": 8, "error": "Item 8 is running"},
        {"id": 9, "success": true, "message": "Item 9 queued"}]});
    assert_eq!(document, expected);
    assert_eq!(bed.json(&["drop", "3", "--json"], 0), json!({"success": true, "message": "Item 3 dropped"}));
    assert_eq!(bed.json(&["retry", "8", "--json"], 1)["error"]["message"], "Item 8 is running");
    assert_eq!(bed.run(&["clear"], 0).0, "Cleared 4 item(s)\n");
    assert_eq!(bed.run(&["clear", "a/b"], 0).0, "Cleared 1 item(s)\n");
}

#[test]
fn all_dead_letters_are_retried_once() {
    let project = Project::without_docker("");
    let fake = FakeScheduler::start(&project, |request| {
        if request.method == "GET" {
            // It stays dead whatever is done.
            json(&json!({"items": [item(7, "dead"), item(8, "dead")], "total": 2}))
        } else {
            answers(request)
        }
    });
    let done = project.al(&["queue", "retry", "--all-dead"]).run();
    assert_eq!(
        (done.expect(1).stdout.as_str(), done.stderr.as_str()),
        ("Item 7 queued\n", "Error: Item 8 is running\n")
    );
    let list = "GET /control/queue?state=dead&limit=1000";
    assert_eq!(fake.asked(), [list, "POST /control/items/7/retry", "POST /control/items/8/retry", list]);
    drop(fake);
    let _fake = FakeScheduler::start(&project, |_| json(&json!({"items": [], "total": 0})));
    assert_eq!(project.al(&["queue", "retry", "--all-dead"]).run().expect(0).stdout, "No dead letters.\n");
    assert_eq!(project.al(&["queue", "retry", "--all-dead", "--json"]).run().expect(0).stdout, "{\"results\":[]}\n");
    assert_eq!(project.al(&["queue"]).run().expect(0).stdout, "No work items.\n");
}

#[test]
fn what_is_typed_wrongly_asks_nobody() {
    let bed = Bed::new();
    for (args, message) in [
        (&["retry"][..], "error: missing required argument 'id'\n"),
        (&["retry", "7", "--all-dead"], "error: option '--all-dead' cannot be used with an id\n"),
        (&["drop"], "error: missing required argument 'id'\n"),
        (&["retry", "7", "x"], "error: argument 'id' \"x\" is invalid. It must be a positive integer.\n"),
        (&["show", "0"], "error: argument 'id' \"0\" is invalid. It must be a positive integer.\n"),
    ] {
        assert_eq!(bed.run(args, 1), (String::new(), message.to_owned()));
    }
    assert!(bed.fake.asked().is_empty());
}

#[test]
fn what_is_wrong_with_the_gateway_is_said_once() {
    let project = Project::without_docker("");
    let fake = FakeScheduler::start(&project, |_| Answer::Close);
    let done = project.al(&["queue", "retry", "1", "2", "3"]).run();
    assert_eq!(done.expect(1).stderr.matches("Error: ").count(), 1, "{}", done.stderr);
    assert_eq!(fake.requests().len(), 1);
}

#[test]
fn a_corrupt_database_stays_for_the_scheduler_to_set_aside() {
    let project = Project::without_docker("");
    let file = project.root().join(".al/state.db");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let content = "not a database, but long enough".repeat(99);
    fs::write(&file, &content).unwrap();
    let reason =
        "Cause: it is corrupt (file is not a database); the next `al start` sets it aside and makes a new one\n";
    for (words, what) in [
        (&["queue", "ls"][..], "open"),
        (&["queue", "show", "1"], "open"),
        (&["queue", "clear"], "open"),
        (&["stats"], "read"),
    ] {
        let done = project.al(words).run();
        assert_eq!(done.expect(1).stderr, format!("Error: {what} {}\n{reason}", file.display()), "{words:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), content, "{words:?}");
    }
    let names = fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("corrupt")));
}
