//! What a scheduler writes: entries that others rely on, lines of its output, and what must not be in either (scheduler.md
//! §12, §13).

use std::fs;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::docker::docker;
use crate::support::project::{GATE, HOOK, ON_HOOK, Project};

/// Entries with this message have these fields besides those that all have, in any order.
#[track_caller]
fn fields_of(entries: &[Value], fields: &[&str]) {
    assert!(!entries.is_empty(), "no such entry");
    let common = ["level", "time", "pid", "hostname", "name", "instance", "msg"];
    for entry in entries {
        let names = entry.as_object().unwrap().keys().map(String::as_str);
        let mut extra: Vec<&str> = names.filter(|name| !common.contains(name)).collect();
        extra.sort_unstable();
        let mut expected = fields.to_vec();
        expected.sort_unstable();
        assert_eq!(extra, expected, "{entry}");
    }
}

#[test]
fn the_life_of_a_run_is_in_its_agents_log() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("good", "echo plain; echo oops >&2; al-return v; exit 0");
    daemon.work("bad", "exit 3");
    daemon.work("again", "exit 42");
    daemon.wait_for_items("done", 2);
    daemon.wait_for_items("failed", 1);
    daemon.stop().expect(0);
    let entries = |msg: &str| project.logged(&agent, msg);
    let level = |msg: &str| entries(msg).first().map(|entry| entry["level"].clone()).unwrap_or_default();
    fields_of(&entries(&format!("Starting {agent} container run (triggered by webhook)")), &[]);
    fields_of(&entries("container launched"), &["container"]);
    fields_of(&entries("container starting"), &["agentName", "modelId", "gatewayUrl"]);
    fields_of(&entries("container finished"), &["exitCode", "elapsed"]);
    fields_of(&entries("container finished (rerun requested)"), &["exitCode", "elapsed"]);
    fields_of(&entries("container exited with error"), &["exitCode", "elapsed"]);
    fields_of(&entries("output"), &["text"]);
    fields_of(&entries("container stderr"), &["stderr"]);
    fields_of(&entries("signal-result"), &["type", "value"]);
    fields_of(&entries("run completed"), &["outputLength"]);
    assert_eq!(
        ["container launched", "container finished", "container exited with error", "output", "container stderr"]
            .map(level),
        [30, 30, 50, 30, 40]
    );
    assert_eq!(entries("container stderr")[0]["stderr"], "oops");
    assert_eq!(entries("container finished (rerun requested)")[0]["exitCode"], 42);
    let elapsed = entries("container finished")[0]["elapsed"].as_str().unwrap().to_owned();
    let number = elapsed.strip_suffix('s').and_then(|text| text.split_once('.')).unwrap_or_default();
    assert!(number.0.parse::<u32>().is_ok() && number.1.len() == 1, "{elapsed}");
    // Every line of a run says whose it is.
    for entry in project.log(&agent) {
        assert!(entry["instance"].as_str().unwrap().starts_with(&agent), "{entry}");
        assert_eq!(entry["name"], agent.as_str());
    }
}

#[test]
fn the_schedulers_log_has_what_others_look_for() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "scale = 2\n");
    let daemon = Daemon::start(&project);
    daemon.work("e1", GATE);
    let first = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.work("e2", GATE);
    daemon.wait_for_runs(&agent, 2);
    daemon.work("e3", "exit 0");
    project.open_gate(&first);
    daemon.wait_for_items("done", 2);
    for target in ["/control/pause", "/control/resume"] {
        daemon.post(target, &json!({}));
    }
    daemon.post(&format!("/control/trigger/{agent}"), &json!({"prompt": "exit 0"}));
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
    let entries = |msg: &str| project.logged("scheduler", msg);
    fields_of(&entries("Created runner pool"), &["agent", "scale"]);
    assert_eq!(entries("Created runner pool")[0]["scale"], 2);
    fields_of(&entries("Built agent image"), &["agent", "image"]);
    fields_of(&entries("Docker infrastructure ready"), &[]);
    fields_of(&entries("Webhook endpoint registered"), &["url"]);
    fields_of(&entries("webhook triggering agent"), &["agent", "event", "action"]);
    fields_of(&entries("webhook queued"), &["agent", "event", "queueSize"]);
    fields_of(&entries("draining queued webhook"), &["agent", "event", "ageMs"]);
    fields_of(&entries("Scheduler paused via control API"), &[]);
    fields_of(&entries("Scheduler resumed via control API"), &[]);
    fields_of(&entries("manual trigger via control API"), &["agent"]);
    fields_of(&entries("Stop requested via control API"), &[]);
    assert_eq!(entries("webhook queued")[0]["queueSize"], 1);
    // The order of the keys is part of the format.
    let text = fs::read_dir(project.root().join(".al/logs")).unwrap().map(|entry| entry.unwrap().path());
    let file =
        text.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("scheduler-")).unwrap();
    for line in fs::read_to_string(file).unwrap().lines() {
        assert!(line.starts_with("{\"level\":"), "{line}");
        let places: Vec<usize> =
            ["\"level\":", "\"time\":", "\"pid\":", "\"hostname\":", "\"name\":\"scheduler\"", "\"msg\":"]
                .iter()
                .map(|key| line.find(key).unwrap_or_else(|| panic!("{key} in {line}")))
                .collect();
        assert!(places.is_sorted() && line.ends_with("\"}"), "{line}");
    }
}

/// A line of output without what differs from run to run.
#[track_caller]
fn shape(line: &str) -> String {
    let (time, rest) =
        line.strip_prefix('[').and_then(|line| line.split_once("] ")).unwrap_or_else(|| panic!("{line:?}"));
    let digits = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
    assert_eq!(digits(time), "0000-00-00T00:00:00.000Z", "{line}");
    match rest.rsplit_once('(') {
        Some((before, elapsed)) if elapsed.ends_with("s)") && elapsed.len() < 9 => format!("{before}(<elapsed>)"),
        _ => rest.to_owned(),
    }
}

#[test]
fn lines_of_output_have_their_exact_form_and_nothing_else_is_written() {
    let project = Project::with_settings(HOOK);
    project.write(".env.toml", "projectName = \"acme\"\n");
    let agent = project
        .agent("dev", &format!("[ \"$AL_TRIGGER_TYPE\" = webhook ] && exit 3; al-status 'at work'; {GATE}; exit 0"));
    project.configure(&agent, &format!("schedule = \"0 0 1 1 *\"\n{ON_HOOK}"));
    let daemon = Daemon::with(&project, &["-w"]);
    daemon.wait_for(": at work");
    let first = daemon.wait_for_runs(&agent, 1).remove(0);
    project.open_gate(&first);
    daemon.wait_for("next run: ");
    daemon.work("push", "");
    daemon.wait_for(": error: ");
    let second = daemon.items("failed,running")[0]["instanceId"].as_str().unwrap().to_owned();
    daemon.wait_until_idle();
    let next = daemon.agent(&agent)["nextRunAt"].as_str().unwrap().to_owned();
    let port = daemon.port;
    let done = daemon.stop();
    done.expect(0);
    assert!(!done.stdout.contains('\u{1b}') && !done.stdout.contains('\r'), "{:?}", done.stdout);
    let lines: Vec<String> = done.stdout.lines().map(shape).collect();
    let name = format!("[acme] {agent}");
    let building = format!("{name}: building: ");
    assert_eq!(lines[0], "scheduler initializing");
    assert!(lines[1..].iter().any(|line| *line == format!("{building}Building agent image")), "{lines:#?}");
    let rest: Vec<&str> = lines[1..].iter().map(String::as_str).filter(|line| !line.starts_with(&building)).collect();
    let expected = [
        format!("scheduler started (mode=docker, runtime=local, gateway=:{port}, cron_jobs=1, webhooks=active)"),
        format!("listening: http://localhost:{port}/webhooks/test"),
        format!("dashboard: http://localhost:{port}/dashboard"),
        format!("{name}: {first} started (schedule)"),
        format!("{name}: running (schedule)"),
        format!("{name}: running (schedule): at work"),
        format!("{name}: {first} completed (<elapsed>)"),
        format!("{name}: completed (<elapsed>)"),
        format!("{name}: next run: {next}"),
        format!("{name}: {second} started (webhook)"),
        format!("{name}: running (webhook (push))"),
        format!("{name}: {second} error (<elapsed>)"),
        format!("{name}: error: Container exited with code 3"),
        "scheduler stopped".to_owned(),
    ];
    let (mut expected, mut rest) = (expected.to_vec(), rest);
    rest.retain(|line| *line != "[acme] webhook: test: dispatched to 1 agent");
    // The start itself and its initial run overlap; the next run is said after every run.
    expected.sort();
    rest.sort_unstable();
    rest.dedup();
    assert_eq!(rest, expected, "{lines:#?}");
}

#[test]
fn tokens_and_cost_are_shown_when_they_are_known() {
    let project = Project::with_settings(HOOK);
    let agent = project.model_agent("dev", "version = 1\n[[turn]]\ntext = \"Done.\"\n");
    project.configure(&agent, &format!("{ON_HOOK}[model]\nprovider = \"mock\"\nmodel = \"default\"\n"));
    let daemon = Daemon::start(&project);
    daemon.work("e", "");
    daemon.wait_for(" tokens ($");
    let output = daemon.running().output();
    let line = output.lines().find(|line| line.contains(" tokens ($")).unwrap();
    let (before, after) = line.split_once("s) | ").unwrap();
    assert!(before.contains(&format!("{agent}: completed (")), "{line}");
    let (tokens, cost) = after.split_once(" tokens ($").unwrap();
    let cost = cost.strip_suffix(')').unwrap();
    assert!(
        tokens.parse::<u64>().is_ok() && cost.split_once('.').is_some_and(|(_, digits)| digits.len() == 4),
        "{line}"
    );
    assert_eq!(daemon.agent(&agent)["lastRunUsage"]["totalTokens"].to_string(), tokens);
    daemon.stop().expect(0);
}

/// Files below a directory that contain one of these.
fn files_with(dir: &std::path::Path, wanted: &[String], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_with(&path, wanted, found);
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        found.extend(
            wanted
                .iter()
                .filter(|secret| text.contains(secret.as_str()))
                .map(|secret| format!("{secret} in {}", path.display())),
        );
    }
}

#[test]
fn what_a_run_prints_of_its_credentials_is_nowhere() {
    let token = "ghp_Planted0Value1That2Nobody3May4See5";
    let project = Project::with_settings(HOOK);
    project.credential("github_token", "token", token);
    let agent = project.on_hook("dev", "credentials = [\"github_token\"]\n");
    let daemon = Daemon::start(&project);
    let script = format!(
        "t=$GITHUB_TOKEN; echo \"known ${{#t}}\"
echo \"plain $t\"; echo \"error $t\" >&2; printf %s \"$t\" | base64 -w0; echo
echo \"my own $SHUTDOWN_SECRET\"
echo '{{\"_log\":true,\"level\":\"error\",\"msg\":\"tool error\",\"tool\":\"bash\",\"cmd\":\"x\",\"result\":\"'$t'\"}}'
al-status \"busy with $t\"; printf %s \"$t\" | al-return
echo up; {GATE}; exit 3"
    );
    daemon.work("e", &script);
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    let container = format!("al-{instance}");
    let secret =
        docker(&["exec", &container, "sh", "-c", "jq -r .shutdownSecret /run/al/run.json 2>/dev/null || true"]);
    let key = fs::read_to_string(project.home().join(".action-llama/credentials/gateway_api_key/default/key")).unwrap();
    let encoded = docker(&["exec", &container, "sh", "-c", "base64 -w0 /credentials/github_token/default/token"]);
    let mut secrets = vec![token.to_owned(), key.trim().to_owned(), encoded];
    if secret.len() > 8 && secret != "null" {
        secrets.push(secret);
    }
    let inspected = docker(&["inspect", &container]);
    let history = docker(&["history", "--no-trunc", &docker(&["inspect", "--format", "{{.Image}}", &container])]);
    let mut lines = String::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        lines.push_str(&fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default());
    }
    let status = daemon.get("/control/status").body;
    let logs = daemon.get(&format!("/api/logs/agents/{agent}?lines=1000")).body;
    for secret in &secrets {
        for (what, text) in
            [("inspect", &inspected), ("history", &history), ("/proc", &lines), ("status", &status), ("logs", &logs)]
        {
            assert!(!text.contains(secret), "{secret} in {what}");
        }
    }
    project.open_gate(&instance);
    daemon.wait_for_items("failed", 1);
    daemon.wait_until_idle();
    let mut found = Vec::new();
    files_with(&project.root().join(".al"), &secrets, &mut found);
    assert_eq!(found, [""; 0]);
    let done = daemon.stop();
    files_with(&project.root().join(".al"), &secrets, &mut found);
    assert_eq!(found, [""; 0]);
    assert!(secrets.iter().all(|secret| !done.stdout.contains(secret) && !done.stderr.contains(secret)));
    // It did print them.
    let said: Vec<String> =
        project.logged(&agent, "output").iter().map(|entry| entry["text"].as_str().unwrap().to_owned()).collect();
    assert!(said.contains(&"plain ***".to_owned()) && said.contains(&format!("known {}", token.len())), "{said:?}");
    assert!(said.contains(&"my own ***".to_owned()), "{said:?}");
    project.assert_clean();
}

/// What a public answer may be about, whatever a run did: everything that is shown of work, runs, locks and logs.
fn public_answers(daemon: &Daemon<'_>, agents: &[&str]) -> Vec<(String, String)> {
    let mut targets: Vec<String> =
        ["/control/status", "/control/instances", "/locks/status", "/api/stats/activity", "/api/stats/summary"]
            .map(str::to_owned)
            .into();
    targets.push("/api/logs/scheduler?lines=1000".to_owned());
    targets.push("/control/queue?state=queued,running,done,failed,dead".to_owned());
    for agent in agents {
        targets.push(format!("/api/logs/agents/{agent}?lines=1000"));
        targets.push(format!("/api/stats/agents/{agent}/runs"));
        targets.push(format!("/control/queue/{agent}"));
        let runs = daemon.get(&format!("/api/stats/agents/{agent}/runs")).json();
        let runs = runs["runs"].as_array().unwrap().clone();
        targets.extend(runs.iter().map(|run| format!("/api/stats/triggers/{}", run["instanceId"].as_str().unwrap())));
    }
    let items = daemon.items("queued,running,done,failed,dead");
    targets.extend(items.iter().map(|item| format!("/control/items/{}", item["id"])));
    targets.into_iter().map(|target| (daemon.get(&target).body, target)).map(|(body, target)| (target, body)).collect()
}

/// Hands on what it can of `$1`, its text and its base64, in every way that there is; `$2` is whom it calls.
const HAND_ON: &str = r#"
hand_on() {
  coded=$(printf %s "$1" | base64 -w0); joined=$(printf 'user:%s' "$1" | base64 -w0)
  for text in "$1" "$coded" "$joined" "$(echo "$1" | base64 -w0)"; do
    echo "printed $text"; echo "warned $text" >&2
    echo '{"_log":true,"level":"error","msg":"tool error","tool":"bash","cmd":"x '$text'","result":"y '$text'"}'
    echo '{"_log":true,"level":"info","msg":"signal-result","type":"exit","exitCode":15,"reason":"'$text'"}'
    echo '{"_log":true,"level":"warn","msg":"session error","provider":"p","model":"'$text'","error":"'$text'"}'
    echo '{"_log":true,"level":"info","msg":"about '$text'","'$text'":{"deep":["'$text'"]}}'
    until id=$(printf 'use [%s]' "$text" | al-call "$2" 2>/dev/null); do sleep 0.05; done
    al-wait "$(echo "$id" | jq -r .callId)" --timeout 60
    rlock "key $text"; rlock "other $text"; rlock-heartbeat "key $text"; rlock-heartbeat "no $text"; runlock "key $text"
    al-call "no $text" < /dev/null; al-check "no-$text"
    al-status "busy with $text"; al-return "found $text"
  done
  rlock "kept $1"
}
"#;

#[test]
fn what_a_run_hands_on_of_its_credentials_is_nowhere() {
    let token = "ghp_Planted0Value1That2Nobody3May4See5";
    let project = Project::with_settings(HOOK);
    project.credential("github_token", "token", token);
    let dev = project.worker("dev");
    project.configure(&dev, &format!("credentials = [\"github_token\"]\n{ON_HOOK}"));
    let helper = project.agent("helper", "grep -o 'use \\[[^]]*]' \"$AL_PROMPT_FILE\"; al-return done");
    project.configure(&helper, ON_HOOK);
    let mut daemon = Daemon::start(&project);
    let script = format!("{HAND_ON}hand_on \"$GITHUB_TOKEN\" {helper}");
    let second_gate = GATE.replace("gate", "second-gate");
    let task = format!("{script}; echo up; {GATE}; {script}; echo again; {second_gate}; exit 15");
    let instance = daemon.trigger(&dev, &task);
    project.wait_said(&dev, "up");
    let mut secrets = vec![token.to_owned()];
    for line in [token.to_owned(), format!("{token}\n"), format!("user:{token}")] {
        secrets.push(docker(&[
            "exec",
            &format!("al-{instance}"),
            "sh",
            "-c",
            &format!("printf '{line}' | base64 -w0"),
        ]));
    }
    let look = |daemon: &Daemon<'_>| {
        for (target, body) in public_answers(daemon, &[&dev, &helper]) {
            assert!(secrets.iter().all(|secret| !body.contains(secret)), "{target}: {body}");
        }
        let mut found = Vec::new();
        files_with(&project.root(), &secrets, &mut found);
        assert_eq!(found, [""; 0]);
    };
    look(&daemon);
    let locks = daemon.get("/locks/status").json();
    assert_eq!(locks["locks"][0]["resourceKey"], "kept ***");
    // A run that is adopted says all of it again from the first moment on.
    daemon.crash();
    project.open_gate(&instance);
    let daemon = daemon.again();
    project.wait_said(&dev, "again");
    docker(&["exec", &format!("al-{instance}"), "touch", "/tmp/second-gate"]);
    daemon.wait_until_idle();
    daemon.trigger(&dev, "al-shutdown \"leaked $GITHUB_TOKEN\"; sleep 60");
    daemon.wait_until_idle();
    look(&daemon);
    let runs = daemon.get(&format!("/api/stats/agents/{dev}/runs")).json();
    assert_eq!(runs["runs"][0]["error"].as_str().unwrap().matches("leaked ***").count(), 1, "{runs}");
    assert_eq!(runs["runs"][1]["returnValue"], "found ***", "{runs}");
    assert_eq!(runs["runs"][1]["exitReason"], "***", "{runs}");
    daemon.stop().expect(0);
    let mut found = Vec::new();
    files_with(&project.root(), &secrets, &mut found);
    assert_eq!(found, [""; 0]);
    // It did hand them on.
    let said = project.logged(&helper, "output");
    assert_eq!(said.iter().filter(|entry| entry["text"] == "use [***]").count(), 6, "{said:?}");
    project.assert_clean();
}

#[test]
fn an_agents_log_is_not_that_of_one_with_a_longer_name() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let tools = project.on_hook("dev-tools", "");
    let daemon = Daemon::start(&project);
    daemon.work("e", "echo \"I am $AL_AGENT_NAME\"; exit 0");
    daemon.wait_for_items("done", 2);
    daemon.stop().expect(0);
    let logs = project.al(&["logs", &agent]).run();
    logs.expect(0);
    assert!(logs.stdout.contains(&format!("I am {agent}\n")) && !logs.stdout.contains(&tools), "{}", logs.stdout);
    let logs = project.al(&["logs", &tools]).run();
    assert!(logs.stdout.contains(&format!("I am {tools}\n")), "{}", logs.stdout);
}
