//! `al stat` and `al status`: tables, JSON, with and without a scheduler (cli-config.md §6.8, §14.4).

use std::fs;

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::fake_scheduler::{FakeScheduler, KEY, json, listen, not_found, refusal};
use crate::support::project::Project;
use crate::support::stub_gateway::{Answer, Request};

/// A project with agents of every kind.
fn project() -> Project {
    let project = Project::without_docker("[webhooks.gh]\ntype = \"github\"\nallowUnsigned = true\n");
    let hook = "[[webhooks]]\nsource = \"gh\"\nevents = [\"issues\", \"push\"]\nrepos = [\"acme/app\"]\n";
    for (agent, config) in [
        ("both", format!("schedule = \"0 8 * * *\"\nscale = 2\ntimeout = 60\n{hook}[[webhooks]]\nsource = \"gh\"\n")),
        ("cron", "schedule = \"0 8 * * *\"\n".to_owned()),
        ("hook", hook.to_owned()),
        ("off", "schedule = \"0 8 * * *\"\nscale = 0\n".to_owned()),
        ("hand", String::new()),
        ("broken", "schedule = [\n".to_owned()),
        ("wrong", "schedule = 7\n".to_owned()),
    ] {
        project.write(&format!("agents/{agent}/agent-config.toml"), config);
        project.write(&format!("agents/{agent}/ACTIONS.md"), "Do it.\n");
    }
    project
}

fn agent(name: &str, scale: u32, running: u32, enabled: bool) -> Value {
    json!({"name": name, "state": "idle", "enabled": enabled, "statusText": null, "lastError": null, "lastRunAt": null,
        "lastRunDuration": null, "nextRunAt": null, "queuedWebhooks": 0, "scale": scale, "runningCount": running,
        "taskUrl": null, "runReason": null, "lastRunUsage": null, "cumulativeUsage": null})
}

fn status() -> Value {
    json!({
        "scheduler": {"mode": "docker", "runtime": "local", "gatewayPort": 8080, "cronJobCount": 2,
            "webhooksActive": true, "webhookUrls": [], "startedAt": "2026-01-02T03:00:00.000Z", "paused": false,
            "initializing": false},
        "instances": [
            {"id": "both-a1b2c3d4", "agentName": "both", "status": "running", "startedAt": "2026-01-02T03:04:05.000Z",
                "trigger": "webhook:github", "statusText": null, "depth": 0, "rerunRequested": false},
            {"id": "a-name-that-is-long-00000001", "agentName": "elsewhere", "status": "running",
                "startedAt": "2026-01-02T03:04:05.000Z", "trigger": "agent:both", "statusText": "x", "depth": 1,
                "rerunRequested": false}
        ],
        "agents": [agent("both", 2, 1, true), agent("cron", 1, 0, true), agent("hook", 1, 0, false),
            agent("off", 0, 0, false), agent("elsewhere", 1, 1, true)],
        "running": 2,
        "queueSizes": {"cron": 3}
    })
}

fn locks() -> Value {
    let ago = |seconds: i64| action_llama::base::clock::UnixMs::now().0 - seconds * 1000;
    json!({"locks": [{"resourceKey": "github issue acme/app#42", "agentName": "both", "holder": "both-a1b2c3d4",
        "heldSince": ago(3 * 3600 + 120), "expiresAt": ago(-60)}]})
}

fn answers(request: &Request) -> Answer {
    match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/control/status") => json(&status()),
        ("GET", "/locks/status") => json(&locks()),
        _ => not_found(),
    }
}

/// Output without the parts that differ from test to test.
fn plain(project: &Project, fake: Option<&FakeScheduler>, text: &str) -> String {
    let text = text.replace(&project.root().display().to_string(), "<project>");
    fake.map_or(text.clone(), |fake| text.replace(&fake.port().to_string(), "<port>"))
}

#[test]
fn without_a_scheduler_the_configuration_is_shown() {
    let project = project();
    let done = project.al(&["stat"]).run();
    expect![[r#"
        AL Status — <project>

        Agents:
        AGENT           TRIGGER         STATUS      INSTANCES
        --------------------------------------------------------
        both            cron + webhook  Idle        -
        broken          (invalid config) -           -
        cron            cron            Idle        -
        hand            (manual)        Idle        -
        hook            webhook         Idle        -
        off             cron            Disabled    -
        wrong           (invalid config) -           -
    "#]]
    .assert_eq(&plain(&project, None, &done.expect(0).stdout));
    assert_eq!(done.stderr, "");
    let document: Value = serde_json::from_str(&project.al(&["stat", "--json"]).run().expect(0).stdout).unwrap();
    assert_eq!(
        (&document["scheduler"], &document["instances"], &document["locks"]),
        (&Value::Null, &json!([]), &json!([]))
    );
    let agents = document["agents"].as_array().unwrap();
    assert_eq!(agents.len(), 7);
    assert_eq!(
        (&agents[0]["name"], &agents[0]["scale"], &agents[0]["enabled"]),
        (&json!("both"), &json!(2), &json!(true))
    );
    assert_eq!((&agents[1]["state"], &agents[1]["enabled"]), (&json!("error"), &json!(false)));
    assert!(agents[1]["lastError"].as_str().unwrap().contains("agents/broken/agent-config.toml"));
    assert!(!project.root().join(".al").exists(), "looking leaves nothing");
}

#[test]
fn with_a_scheduler_its_state_is_laid_over_it() {
    let project = project();
    let fake = FakeScheduler::start(&project, answers);
    let done = project.al(&["stat"]).run();
    expect![[r#"
        AL Status — <project>

        Scheduler:
          Status: Running
          Mode: docker
          Runtime: local
          Gateway: http://localhost:<port>

        Agents:
        AGENT           TRIGGER         STATUS      INSTANCES
        --------------------------------------------------------
        both            cron + webhook  Running     1 running
        broken          (invalid config) -           -
        cron            cron            Idle        0 running
        elsewhere       -               Running     1 running
        hand            (manual)        -           -
        hook            webhook         PAUSED      0 running
        off             cron            Disabled    0 running
        wrong           (invalid config) -           -

        Running Instances:
        AGENT           INSTANCE ID             STATUS      TRIGGER             STARTED
        --------------------------------------------------------------------------------------------
        both            both-a1b2c3d4           running     webhook:github      2026-01-02 03:04:05
        elsewhere       ...-is-long-00000001    running     agent:both          2026-01-02 03:04:05

        Active locks:
          both: github issue acme/app#42 (held for 3h2m)
    "#]]
    .assert_eq(&plain(&project, Some(&fake), &done.expect(0).stdout));
    assert_eq!(fake.asked(), ["GET /control/status", "GET /locks/status"]);
    let with_queue = project.al(&["status"]).run().expect(0).stdout.clone();
    let rows: Vec<&str> =
        with_queue.lines().filter(|line| line.contains("INSTANCES") || line.starts_with("cron ")).collect();
    expect![[r#"
        AGENT           TRIGGER         STATUS      INSTANCES   QUEUE
        cron            cron            Idle        0 running   3"#]]
    .assert_eq(&rows.join("\n"));
    let document: Value = serde_json::from_str(&project.al(&["stat", "--json"]).run().expect(0).stdout).unwrap();
    let expected = json!({"scheduler": status()["scheduler"], "agents": status()["agents"],
        "instances": status()["instances"], "locks": document["locks"]});
    assert_eq!(document, expected);
    assert_eq!(document["locks"].as_array().unwrap().len(), 1);
}

#[test]
fn tokens_and_cost_are_shown_where_a_run_has_used_any() {
    let project = project();
    let used = |tokens: u64, cost: f64| {
        json!({"inputTokens": tokens, "outputTokens": 0, "cacheReadTokens": 0, "cacheWriteTokens": 0,
            "totalTokens": tokens, "cost": cost, "turnCount": 2})
    };
    let fake = FakeScheduler::start(&project, move |request| {
        let mut status = status();
        status["agents"][0]["lastRunUsage"] = used(1500, 0.0123);
        status["agents"][0]["cumulativeUsage"] = used(1_234_567, 0.98765);
        if request.target == "/locks/status" { json(&json!({"locks": []})) } else { json(&status) }
    });
    let shown = |words: &[&str]| plain(&project, Some(&fake), &project.al(words).run().expect(0).stdout);
    let table = |text: &str| text.split("Agents:\n").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    expect![[r#"
        AGENT           TRIGGER         STATUS      INSTANCES   USAGE
        --------------------------------------------------------------------------------
        both            cron + webhook  Running     1 running   1,234,567tok $0.9877
        broken          (invalid config) -           -           -
        cron            cron            Idle        0 running   -
        elsewhere       -               Running     1 running   -
        hand            (manual)        -           -           -
        hook            webhook         PAUSED      0 running   -
        off             cron            Disabled    0 running   -
        wrong           (invalid config) -           -           -"#]]
    .assert_eq(&table(&shown(&["stat"])));
    expect![[r#"
        AGENT           TRIGGER         STATUS      INSTANCES   USAGE                   QUEUE
        ----------------------------------------------------------------------------------------
        both            cron + webhook  Running     1 running   1,234,567tok $0.9877    0"#]]
    .assert_eq(&table(&shown(&["status"])).lines().take(3).collect::<Vec<_>>().join("\n"));
    let one = shown(&["stat", "both"]);
    assert!(one.contains("\nUsage:\n  Last run: 1,500tok $0.0123\n  Since start: 1,234,567tok $0.9877\n\n"), "{one}");
}

#[test]
fn one_agent_is_shown_with_its_configuration() {
    let project = project();
    let shown = |name: &str| project.al(&["stat", name]).run().expect(0).stdout.clone();
    expect![[r#"
        Agent: both
        Config:
          Schedule: 0 8 * * *
          Webhooks:
            gh: issues, push; repos: acme/app
            gh: all events
          Scale: 2
          Timeout: 60s
    "#]]
    .assert_eq(&shown("both"));
    assert_eq!(shown("hand"), "Agent: hand\nConfig:\n  Schedule: (none)\n");
    assert!(
        shown("broken").contains("Config:\n  (invalid config)\n  agents/broken/agent-config.toml"),
        "{}",
        shown("broken")
    );
    let _fake = FakeScheduler::start(&project, answers);
    expect![[r#"
        Agent: hook
          Status: PAUSED
        Config:
          Schedule: (none)
          Webhooks:
            gh: issues, push; repos: acme/app

        No running instances.
    "#]]
    .assert_eq(&shown("hook"));
    assert!(shown("both").ends_with("both-a1b2c3d4           running     webhook:github      2026-01-02 03:04:05\n"));
    assert!(shown("elsewhere").contains("(not in this project)\n\nRunning Instances:\n"));
    let done = project.al(&["stat", "nobody"]).run();
    expect![[r#"
        Error: Agent "nobody" not found.
        Available agents: both, broken, cron, hand, hook, off, wrong
    "#]]
    .assert_eq(&done.expect(1).stderr);
    let document: Value =
        serde_json::from_str(&project.al(&["stat", "cron", "--json"]).run().expect(0).stdout).unwrap();
    assert_eq!((document["agents"].as_array().unwrap().len(), &document["instances"]), (1, &json!([])));
}

#[test]
fn special_states_of_the_scheduler_are_told() {
    let project = Project::without_docker("");
    let shown = |member: &'static str, value: Value| {
        let fake = FakeScheduler::start(&project, move |request| {
            let mut status = status();
            match member {
                "scheduler" => status["scheduler"] = value.clone(),
                member => status["scheduler"][member] = value.clone(),
            }
            if request.target == "/locks/status" { json(&json!({"locks": []})) } else { json(&status) }
        });
        let text = project.al(&["stat"]).run().expect(0).stdout.clone();
        drop(fake);
        text
    };
    assert!(shown("paused", json!(true)).contains("  Status: PAUSED\n"));
    assert!(shown("scheduler", json!(null)).contains("  Status: Starting\n"));
    let text = shown("dockerError", json!("no such\nsocket\u{1b}[2J"));
    assert!(text.contains("  Docker: not answering: no such socket\u{fffd}[2J\n"), "{text}");
}

#[test]
fn on_this_machine_a_gateway_that_refuses_is_a_warning() {
    let project = project();
    for answer in [refusal(503, "Status tracker not available"), Answer::json(200, "{}"), Answer::Close] {
        let fake = FakeScheduler::start(&project, move |_| answer.clone());
        let done = project.al(&["stat"]).run();
        assert!(done.expect(0).stderr.starts_with("Warning: "), "{}", done.stderr);
        assert!(
            done.stdout.contains("cron            cron            Idle        -\n")
                && !done.stdout.contains("Scheduler:")
        );
        drop(fake);
    }
    let fake = FakeScheduler::start(&project, answers);
    project.credential("gateway_api_key", "key", "wrong-0123456789");
    let done = project.al(&["stat"]).run();
    assert!(done.expect(0).stderr.contains("Warning: ") && done.stderr.contains("al doctor"), "{}", done.stderr);
    drop(fake);
    let _starting = FakeScheduler::starting(&project, answers);
    let done = project.al(&["stat"]).run();
    assert!(done.expect(0).stderr.contains("is starting or stopping"), "{}", done.stderr);
    assert!(done.took.as_secs() < 5, "the configuration is shown at once");
}

#[test]
fn of_an_environment_it_is_an_error() {
    let project = project();
    let dir = project.home().join(".action-llama/environments");
    fs::create_dir_all(&dir).unwrap();
    let gateway = listen(|_| refusal(503, "Status tracker not available"));
    fs::write(dir.join("prod.toml"), format!("[gateway]\nurl = \"http://127.0.0.1:{}\"\n", gateway.port())).unwrap();
    project.credential("gateway_api_key", "key", KEY);
    let done = project.al(&["stat", "-E", "prod"]).run();
    assert_eq!((done.expect(1).stdout.as_str(), done.stderr.as_str()), ("", "Error: Status tracker not available\n"));
    let url = format!("http://127.0.0.1:{}", gateway.port());
    drop(gateway);
    let done = project.al(&["stat", "-E", "prod"]).run();
    assert!(done.expect(1).stderr.contains(&url) && done.stderr.contains("connection refused"), "{}", done.stderr);
}
