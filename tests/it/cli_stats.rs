//! `al stats`: what ended runs came to, from the database, with and without a scheduler (cli-config.md §14.2).

use std::fs;

use action_llama::base::clock::UnixMs;
use action_llama::scheduler::lock::ProjectLock;
use action_llama::store::Store;
use expect_test::expect;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::project::Project;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// A project with two agents, of which one calls the other, and runs of the last days.
fn with_runs() -> Project {
    let project = Project::without_docker("");
    for agent in ["dev", "docs", "idle"] {
        project.write(&format!("agents/{agent}/agent-config.toml"), "schedule = \"0 8 * * *\"\n");
    }
    let dir = project.root().join(".al");
    fs::create_dir_all(&dir).unwrap();
    Store::open(&dir).unwrap().store.close().unwrap();
    let db = Connection::open(dir.join("state.db")).unwrap();
    let now = UnixMs::now().0;
    let add = |instance: &str,
               ago: i64,
               trigger: (&str, Option<&str>),
               result: (&str, Option<&str>),
               used: Option<(i64, f64)>| {
        let agent = instance.rsplit_once('-').unwrap().0;
        db.execute(
            "INSERT INTO runs (instance_id, agent, trigger, source, result, class, error, started_at, finished_at,
             duration_ms, total_tokens, cost, depth) VALUES (?, ?, ?, ?, ?, 'ok', ?, ?, ?, ?, ?, ?, ?)",
            rusqlite::params![
                instance,
                agent,
                trigger.0,
                trigger.1,
                result.0,
                result.1,
                now - ago,
                now - ago + 45_000,
                45_000,
                used.map(|used| used.0),
                used.map(|used| used.1),
                i64::from(trigger.0 == "agent")
            ],
        )
        .unwrap();
    };
    add("dev-00000001", 20 * DAY, ("schedule", None), ("completed", None), Some((1000, 0.5)));
    add("dev-00000002", 2 * DAY, ("webhook", Some("github")), ("error", Some("exit\nstatus 3")), Some((1500, 0.0123)));
    add("dev-00000003", 30 * MINUTE, ("manual", None), ("rerun", None), None);
    add("docs-00000001", MINUTE, ("agent", Some("dev")), ("completed", None), Some((1_234_567, 1.0)));
    project
}

fn shown(project: &Project, words: &[&str]) -> String {
    project.al(&[&["stats"], words].concat()).run().expect(0).stdout.clone()
}

#[test]
fn runs_are_summed_up_by_agent_since_a_time() {
    let project = with_runs();
    let week = expect![[r#"
        AGENT  RUNS  OK  ERRORS  AVG TIME  TOKENS     COST
        dev    2     1   1       45s       1,500      $0.0123
        docs   1     1   0       45s       1,234,567  $1.0000
        (all)  3     2   1       45s       1,236,067  $1.0123
    "#]];
    week.assert_eq(&shown(&project, &[]));
    expect![[r#"
        AGENT  RUNS  OK  ERRORS  AVG TIME  TOKENS     COST
        dev    1     1   0       45s       0          $0.0000
        docs   1     1   0       45s       1,234,567  $1.0000
        (all)  2     2   0       45s       1,234,567  $1.0000
    "#]]
    .assert_eq(&shown(&project, &["-s", "24h"]));
    let document: Value = serde_json::from_str(&shown(&project, &["--json", "--since=30d"])).unwrap();
    assert_eq!(
        document["agents"][0],
        json!({"agentName": "dev", "totalRuns": 3, "okRuns": 2, "errorRuns": 1,
        "avgDurationMs": 45_000, "totalTokens": 2500, "totalCost": 0.5123})
    );
    assert_eq!(document["total"]["totalRuns"], 4);
    // Nobody waits for a scheduler that has the database.
    let _lock = ProjectLock::for_scheduler(&project.root()).unwrap();
    week.assert_eq(&shown(&project, &[]));
}

#[test]
fn the_latest_runs_of_an_agent_are_listed() {
    let project = with_runs();
    let without_dates = |text: &str| -> String {
        text.lines()
            .map(|line| line.split("  ").filter(|cell| !cell.starts_with("20")).collect::<Vec<_>>().join("  ") + "\n")
            .collect()
    };
    expect![[r#"
        INSTANCE ID   STARTED              TRIGGER         RESULT     TIME  USAGE             ERROR
        dev-00000003  manual          rerun      45s   -
        dev-00000002  webhook:github  error      45s   1,500tok $0.0123  exit status 3
        dev-00000001  schedule        completed  45s   1,000tok $0.5000
    "#]]
    .assert_eq(&without_dates(&shown(&project, &["dev"])));
    assert_eq!(shown(&project, &["dev", "-n", "2"]).lines().count(), 3);
    assert_eq!(shown(&project, &["dev", "--since", "7d"]).lines().count(), 3);
    let document: Value = serde_json::from_str(&shown(&project, &["dev", "--json", "-n1"])).unwrap();
    assert_eq!(
        (&document["agent"], &document["total"], &document["runs"][0]["instanceId"], &document["runs"][0]["usage"]),
        (&json!("dev"), &json!(3), &json!("dev-00000003"), &Value::Null)
    );
    let document: Value = serde_json::from_str(&shown(&project, &["dev", "--json", "-n1", "-s7d"])).unwrap();
    assert_eq!((&document["total"], document["runs"].as_array().unwrap().len()), (&json!(2), 1), "of the same time");
    assert_eq!(shown(&project, &["idle"]), "No runs recorded.\n");
}

#[test]
fn which_agents_call_which_is_shown() {
    let project = with_runs();
    expect![[r#"
        CALLER  TARGET  COUNT  AVG DEPTH  AVG TIME
        dev     docs    1      1.0        45s
    "#]]
    .assert_eq(&shown(&project, &["--calls"]));
    let document: Value = serde_json::from_str(&shown(&project, &["--calls", "--json"])).unwrap();
    let expected =
        json!([{"callerAgent": "dev", "targetAgent": "docs", "count": 1, "avgDepth": 1.0, "avgDurationMs": 45_000}]);
    assert_eq!(document["calls"], expected);
}

#[test]
fn without_a_database_nothing_is_recorded_and_nothing_is_made() {
    let project = Project::without_docker("");
    assert_eq!(shown(&project, &[]), "No runs recorded.\n");
    let document: Value = serde_json::from_str(&shown(&project, &["--json"])).unwrap();
    assert_eq!((&document["agents"], &document["total"]["totalRuns"]), (&json!([]), &json!(0)));
    assert!(!project.root().join(".al").exists());
}

#[test]
fn mistakes_are_told() {
    let project = with_runs();
    for (words, message) in [
        (
            &["-s", "soon"][..],
            "error: option '-s, --since <span>' argument 'soon' is invalid. It must be a number with",
        ),
        (&["-n", "0"], "error: option '-n, --lines <N>' argument '0' is invalid."),
        (&["dve"], "Error: Agent \"dve\" not found.\nAvailable agents: dev, docs, idle\n(Did you mean dev?)"),
        (&["dev", "--calls"], "error: option '--calls' cannot be used with argument 'agent'"),
    ] {
        let done = project.al(&[&["stats"], words].concat()).run();
        assert!(done.expect(1).stderr.starts_with(message), "{words:?}: {}", done.stderr);
    }
}
