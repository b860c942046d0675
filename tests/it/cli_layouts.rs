//! What commands print is the same on a pipe and on terminals of any width, with and without colour; what has colour has it
//! only where it can be seen (cli-config.md §2.3).

use std::fs;

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::fake_scheduler::{FakeScheduler, json, not_found};
use crate::support::project::Project;

const WIDTHS: [u16; 2] = [80, 120];

/// A project with an agent, an environment and credentials, in which nothing is wrong.
fn project() -> Project {
    let project = Project::without_docker("[webhooks.gh]\ntype = \"github\"\ncredential = \"default\"\n");
    project.write(
        "agents/dev/agent-config.toml",
        "schedule = \"0 8 * * 1-5\"\ncredentials = [\"github_token\", \"git_ssh:bot\"]\n[[webhooks]]\nsource = \"gh\"\n",
    );
    project.write("agents/dev/ACTIONS.md", "Do it.\n");
    for (reference, fields) in
        [("github_token", r#"x"#), ("git_ssh:bot", r#"{"username":"Bot","email":"b@example.com"}"#)]
    {
        project.al(&["creds", "add", reference, "--stdin", "--no-verify"]).stdin(fields).run().expect(0);
    }
    project.credential("github_webhook_secret", "secret", "x");
    project.al(&["env", "init", "prod", "-t", "server"]).run().expect(0);
    project
}

fn used() -> Value {
    json!({"inputTokens": 1, "outputTokens": 1, "cacheReadTokens": 0, "cacheWriteTokens": 0, "totalTokens": 1500,
        "cost": 0.0123, "turnCount": 2})
}

/// A scheduler with a run that goes on, an item and nothing that changes with time.
fn scheduler(project: &Project) -> FakeScheduler {
    FakeScheduler::start(project, |request| match request.target.split('?').next().unwrap() {
        "/control/status" => json(&json!({
            "scheduler": {"mode": "docker", "runtime": "local", "paused": false},
            "agents": [{"name": "dev", "enabled": true, "scale": 1, "runningCount": 1, "queuedWebhooks": 2,
                "lastRunUsage": used(), "cumulativeUsage": used()}],
            "instances": [{"id": "dev-a1b2c3d4", "agentName": "dev", "status": "running", "trigger": "schedule",
                "startedAt": "2026-01-02T03:04:05.000Z"}],
            "queueSizes": {"dev": 2}
        })),
        "/locks/status" => json(&json!({"locks": []})),
        "/control/queue" => json(&json!({"items": [{"id": 7, "agent": "dev", "kind": "webhook", "source": "issues",
            "state": "dead", "attempts": 3, "enqueuedAt": "never", "reason": "attempts_exhausted",
            "lastError": "image not found: a text that is longer than the whole line of a terminal of the usual width"}],
            "total": 1})),
        "/control/items/7" => json(&json!({"id": 7, "context": {"event": "issues"}})),
        _ => not_found(),
    })
}

/// The output of a command, which has to be the same everywhere.
#[track_caller]
fn everywhere(project: &Project, args: &[&str]) -> String {
    let al = || project.al(args).env("AL_NO_INPUT", "1").env("TZ", "UTC");
    let plain = al().run();
    plain.expect(0);
    for columns in WIDTHS {
        for (name, value) in [("NO_COLOR", "1"), ("NO_COLOR", "")] {
            let (status, bytes) = al().env(name, value).on_pty_of(columns).bytes_and_finish();
            assert_eq!(bytes.replace("\r\n", "\n"), plain.stdout, "{args:?} at {columns} columns, {name}={value:?}");
            assert_eq!(status, 0);
        }
    }
    plain.stdout
}

#[test]
fn tables_are_the_same_on_a_pipe_and_on_any_terminal() {
    let project = project();
    let check = || {
        for args in [
            &["stat"][..],
            &["stat", "dev"],
            &["status"],
            &["stats"],
            &["creds", "types"],
            &["creds", "check", "git_ssh:bot"],
            &["env", "show", "prod"],
            &["config", "show"],
            &["agent", "list"],
            &["agent", "show", "dev"],
            &["cron", "0 8 * * 1-5", "--from", "2031-05-01T09:00:00Z"],
            &["version"],
        ] {
            assert!(!everywhere(&project, args).is_empty());
        }
    };
    check();
    let scheduler = scheduler(&project);
    check();
    assert!(everywhere(&project, &["queue", "show", "7"]).contains("\"event\": \"issues\""));
    expect![[r#"
        ID  AGENT  KIND     SOURCE  STATE  ATTEMPTS  AGE  ERROR
        7   dev    webhook  issues  dead   3              attempts_exhausted: image not found: a text that is longer than the whole line …
    "#]]
    .assert_eq(&everywhere(&project, &["queue", "ls"]));
    let port = scheduler.port().to_string();
    let text = everywhere(&project, &["status"]).replace(&port, "<port>");
    expect![[r#"
        AL Status — <project>

        Scheduler:
          Status: Running
          Mode: docker
          Runtime: local
          Gateway: http://localhost:<port>

        Agents:
        AGENT           TRIGGER         STATUS      INSTANCES   USAGE                   QUEUE
        ----------------------------------------------------------------------------------------
        dev             cron + webhook  Running     1 running   1,500tok $0.0123        2

        Running Instances:
        AGENT           INSTANCE ID             STATUS      TRIGGER             STARTED
        --------------------------------------------------------------------------------------------
        dev             dev-a1b2c3d4            running     schedule            2026-01-02 03:04:05
    "#]]
    .assert_eq(&text.replace(&project.root().display().to_string(), "<project>"));
}

#[test]
fn lists_of_credentials_and_environments_and_the_doctor_are_the_same_everywhere() {
    let project = project();
    // Every line is indented, which `expect!` would take away.
    let stored = "\n  SSH Key & Git Identity (git_ssh)\n    git_ssh:bot  (email, username)\n\n  GitHub Personal Access Token \
                  (github_token)\n    github_token  (token)\n\n  GitHub Webhook Secret (github_webhook_secret)\n    \
                  github_webhook_secret  (secret)\n\n";
    assert_eq!(everywhere(&project, &["creds", "ls"]), stored);
    expect![[r#"
        Environments:
          prod (server)
    "#]]
    .assert_eq(&everywhere(&project, &["env", "list"]));
    expect![[r#"
        model.model = "echo"  # config.toml
        model.provider = "mock"  # config.toml
        webhooks.gh.credential = "default"  # config.toml
        webhooks.gh.type = "github"  # config.toml
    "#]]
    .assert_eq(&without_base(&everywhere(&project, &["env", "show", "--merged"])));
    expect![[r#"
        Checking 3 credential(s)...
          [ok] GitHub Personal Access Token (github_token)
          [ok] SSH Key & Git Identity (git_ssh:bot)
          [ok] GitHub Webhook Secret (github_webhook_secret)
        3 credential(s) verified.
    "#]]
    .assert_eq(&everywhere(&project, &["doctor", "-H", "--skip-host"]));
    let types = everywhere(&project, &["creds", "types"]);
    let ends: Vec<&str> = [types.lines().next(), types.lines().nth(1)].into_iter().flatten().collect();
    expect![[r#"
        TYPE                     LABEL                               FIELDS                                                                ENV VARS
        github_token             GitHub Personal Access Token        token                                                                 GITHUB_TOKEN"#]]
    .assert_eq(&ends.join("\n"));
}

fn without_base(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("local.base")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_conversation_has_colour_only_where_it_can_be_seen() {
    let project = project();
    fs::create_dir_all(project.root().join(".al/logs")).unwrap();
    let entries = [
        json!({"level": 30, "msg": "Starting dev container run (triggered by schedule)", "container": "al-dev-1"}),
        json!({"level": 30, "msg": "container launched", "container": "al-dev-1"}),
        json!({"level": 30, "msg": "container starting", "agentName": "dev", "modelId": "m"}),
        json!({"level": 20, "msg": "tool start", "tool": "bash"}),
        json!({"level": 30, "msg": "bash", "cmd": "git status"}),
        json!({"level": 50, "msg": "tool error", "tool": "bash", "cmd": "x", "result": "no"}),
        json!({"level": 30, "msg": "assistant", "text": "One.\nTwo."}),
        json!({"level": 30, "msg": "output", "text": "plain"}),
        json!({"level": 40, "msg": "careful"}),
        json!({"level": 50, "msg": "it broke", "err": {"message": "why"}}),
        json!({"level": 30, "msg": "token-usage", "inputTokens": 1, "outputTokens": 2, "cost": 0.5}),
        json!({"level": 30, "msg": "run completed, rerun requested"}),
        json!({"level": 30, "msg": "container finished", "elapsed": "1.0s"}),
        json!({"level": 30, "msg": "something else"}),
    ];
    let line = |entry: &Value| {
        let mut entry = entry.clone();
        entry["time"] = 1_767_323_045_000_i64.into();
        entry["instance"] = "dev-00000001".into();
        format!("{entry}\n")
    };
    project.write(".al/logs/dev-2026-01-02.log", entries.iter().map(line).collect::<String>());
    let al = || project.al(&["logs", "dev"]).env("TZ", "UTC");
    let plain = al().run().expect(0).stdout.clone();
    expect![[r#"

        ── dev  dev-00000001  al-dev-1 ───────────────────────────────
        03:04:05  [dev-00000001] Starting dev container run (triggered by schedule) (al-dev-1)
        03:04:05  Container launched al-dev-1
        03:04:05  Container starting: dev model=m
        03:04:05  ▸ bash
        03:04:05  [dev-00000001] $ git status
        03:04:05  [dev-00000001] ✗ bash failed
                  $ x
                  no
        03:04:05  [dev-00000001] One.
                  Two.
        03:04:05  [dev-00000001] plain
        03:04:05  WARN: careful
        03:04:05  ERROR: it broke {"message":"why"}
        03:04:05  Tokens: 1 in, 2 out, $0.5000
        03:04:05  Run completed (rerun requested)
        03:04:05  Container finished (1.0s)
        03:04:05  something else
    "#]]
    .assert_eq(&plain);
    let coloured = al().env("CLICOLOR_FORCE", "1").run().expect(0).stdout.clone();
    expect![[r#"

        <2>──<0><1;35> dev  dev-00000001  al-dev-1 <0><2>───────────────────────────────<0>
        <2>03:04:05<0>  <35>[dev-00000001] <0><1;35>Starting dev container run (triggered by schedule)<0><2> (al-dev-1)<0>
        <2>03:04:05<0>  <2>Container launched al-dev-1<0>
        <2>03:04:05<0>  <1;35>Container starting: dev<0><2> model=m<0>
        <2>03:04:05<0>  <34>▸ bash<0>
        <2>03:04:05<0>  <35>[dev-00000001] <0><36>$ git status<0>
        <2>03:04:05<0>  <35>[dev-00000001] <0><31>✗ bash failed<0>
                  <2>$ x<0>
                  <2>no<0>
        <2>03:04:05<0>  <35>[dev-00000001] <0><1;37>One.<0>
                  <37>Two.<0>
        <2>03:04:05<0>  <35>[dev-00000001] <0>plain
        <2>03:04:05<0>  <33>WARN: careful<0>
        <2>03:04:05<0>  <1;31>ERROR: it broke<0><2> {"message":"why"}<0>
        <2>03:04:05<0>  <2>Tokens: 1 in, 2 out, $0.5000<0>
        <2>03:04:05<0>  <1;32>Run completed<0><33> (rerun requested)<0>
        <2>03:04:05<0>  <2>Container finished (1.0s)<0>
        <2>03:04:05<0>  <2>something else<0>
    "#]]
    .assert_eq(&with_visible_codes(&coloured));
    for columns in WIDTHS {
        let on_terminal = |name: &str, value: &str| {
            let (status, bytes) = al().env(name, value).on_pty_of(columns).bytes_and_finish();
            assert_eq!(status, 0);
            bytes.replace("\r\n", "\n")
        };
        assert_eq!(on_terminal("NO_COLOR", ""), coloured, "at {columns} columns");
        assert_eq!(on_terminal("NO_COLOR", "1"), plain, "at {columns} columns");
    }
    let (_, dumb) = al().env("TERM", "dumb").on_dumb_pty().bytes_and_finish();
    assert_eq!(dumb.replace("\r\n", "\n"), plain);
    assert_eq!(al().env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").run().stdout, plain);
}

/// Escape sequences for colour as `<31>`.
fn with_visible_codes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    let part = |part: &str| part.split_once('m').map(|(code, rest)| format!("<{code}>{rest}")).unwrap();
    first + &parts.map(part).collect::<String>()
}

#[test]
fn help_is_wrapped_to_the_terminal() {
    let project = Project::without_docker("");
    for group in ["agent", "config", "creds", "env", "queue", "logs", "doctor", "run", "start", "stats"] {
        let args = ["help", group];
        for columns in WIDTHS {
            let (status, bytes) = project.al(&args).on_pty_of(columns).bytes_and_finish();
            assert_eq!(status, 0);
            let longest = bytes.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= usize::from(columns) && !bytes.contains('\u{1b}'), "{longest}: {bytes}");
            if columns == 80 {
                assert_eq!(bytes.replace("\r\n", "\n"), project.al(&args).run().expect(0).stdout);
            }
        }
    }
    let at = |columns| project.al(&["help", "logs"]).on_pty_of(columns).bytes_and_finish().1.replace("\r\n", "\n");
    expect![[r#"
        Usage: al logs [agent] [options]

        Show the log of an agent or of the scheduler.

        Arguments:
          agent  an agent, the id of an instance, or gateway (default: scheduler)

        Options:
          -p, --project <dir>      project directory (default: .)
          -E, --env <name>         use a named environment
          -n, --lines <N>          show the last N entries (default: 50)
          -f, --follow             go on with new entries until Ctrl-C
          -d, --date <YYYY-MM-DD>  entries of this day (UTC)
          -r, --raw                one line per entry with everything in it
          -i, --instance <N>       entries of this instance: its id, or the part behind
                                   the agent's name
          -g, --grep <regex>       entries whose JSON text this regular expression
                                   matches
          --after <t>              entries from this instant on: 2026-01-31T09:00,
                                   2026-01-31 (its beginning in UTC), 2h or 3d (ago)
          --before <t>             entries before this instant, in the same forms
          -a, --all                hide nothing of the conversation, whatever its level
          --json                   print every entry as it is stored, one per line
          -h, --help               print help
    "#]]
    .assert_eq(&at(80));
    expect![[r#"
        Usage: al logs [agent] [options]

        Show the log of an agent or of the scheduler.

        Arguments:
          agent  an agent, the id of an instance, or gateway (default: scheduler)

        Options:
          -p, --project <dir>      project directory (default: .)
          -E, --env <name>         use a named environment
          -n, --lines <N>          show the last N entries (default: 50)
          -f, --follow             go on with new entries until Ctrl-C
          -d, --date <YYYY-MM-DD>  entries of this day (UTC)
          -r, --raw                one line per entry with everything in it
          -i, --instance <N>       entries of this instance: its id, or the part behind the agent's name
          -g, --grep <regex>       entries whose JSON text this regular expression matches
          --after <t>              entries from this instant on: 2026-01-31T09:00, 2026-01-31 (its beginning in UTC), 2h or 3d
                                   (ago)
          --before <t>             entries before this instant, in the same forms
          -a, --all                hide nothing of the conversation, whatever its level
          --json                   print every entry as it is stored, one per line
          -h, --help               print help
    "#]].assert_eq(&at(120));
}
