//! `al cron`.

use serde_json::{Value, json};

use super::support::al::Done;
use super::support::project::Project;

/// Runs `al cron` in New York.
fn cron(project: &Project, args: &[&str]) -> Done {
    project.al(&[&["cron"], args].concat()).env("TZ", "America/New_York").run()
}

#[track_caller]
fn document(done: &Done) -> Value {
    assert!(done.stdout.ends_with('\n') && done.stdout.lines().count() == 1, "one document: {}", done.stdout);
    serde_json::from_str(&done.stdout).unwrap()
}

/// The message of a failure with `--json`, which has to be of this kind and to stand on stderr, too.
#[track_caller]
fn refusal(done: &Done, kind: &str) -> String {
    done.expect(1);
    let document = document(done);
    let message = document["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!((&document["ok"], &document["error"]["kind"]), (&json!(false), &json!(kind)), "{document}");
    assert!(done.stderr.contains(&message), "{}", done.stderr);
    message
}

#[test]
fn an_expression_is_explained_and_its_firings_are_listed() {
    let project = Project::without_docker("");
    let line = ["0 9 * * 1-5", "--tz", "Europe/Berlin", "--from", "2025-03-28T12:00:00Z", "-n", "2"];
    let done = cron(&project, &line);
    assert_eq!(
        done.expect(0).stdout,
        "\"0 9 * * 1-5\" (Europe/Berlin)\n\
         At minute 0, hour 9, on day of week Monday to Friday.\n\
         2025-03-31T07:00:00.000Z  Mon 2025-03-31 09:00:00 +02:00\n\
         2025-04-01T07:00:00.000Z  Tue 2025-04-01 09:00:00 +02:00\n"
    );
    assert_eq!(done.stderr, "");
}

#[test]
fn five_firings_from_now_are_listed_in_the_zone_of_tz() {
    let project = Project::without_docker("");
    let done = cron(&project, &["*/10 * * * * *"]);
    let lines: Vec<&str> = done.expect(0).stdout.lines().collect();
    assert_eq!(lines[0], "\"*/10 * * * * *\" (America/New_York)");
    assert_eq!(lines.len(), 7);
    assert!(lines[2..].iter().all(|line| line.ends_with(" -05:00") || line.ends_with(" -04:00")), "{lines:?}");
    assert!(lines[2..].is_sorted(), "{lines:?}");
}

#[test]
fn a_clock_change_is_shown() {
    let project = Project::without_docker("");
    let done = cron(&project, &["30 2 * * *", "--from", "2025-03-08T12:00Z", "-n2"]);
    assert_eq!(
        done.expect(0).stdout.lines().skip(2).collect::<Vec<_>>(),
        [
            "2025-03-09T07:30:00.000Z  Sun 2025-03-09 03:30:00 -04:00",
            "2025-03-10T06:30:00.000Z  Mon 2025-03-10 02:30:00 -04:00"
        ]
    );
}

#[test]
fn an_instant_without_a_zone_is_read_in_the_zone() {
    let project = Project::without_docker("");
    let done = cron(&project, &["--json", "--from", "2031-05-01T08:59:59", "-n", "3", "2031-05-01T09:00:00.250"]);
    let expected = json!({
        "expr": "2031-05-01T09:00:00.250",
        "tz": "America/New_York",
        "from": "2031-05-01T12:59:59.000Z",
        "next": ["2031-05-01T13:00:00.250Z"],
    });
    assert_eq!(document(done.expect(0)), expected);
    let done = cron(&project, &["--from", "2031-05-01T08:59:59", "2031-05-01T09:00:00.250"]);
    let last = done.last_line().to_owned();
    assert_eq!(last, "2031-05-01T13:00:00.250Z  Thu 2031-05-01 09:00:00.250 -04:00");
}

#[test]
fn what_never_fires_is_told_and_no_failure() {
    let project = Project::without_docker("");
    let done = cron(&project, &["0 0 31 2 *"]);
    assert_eq!(done.expect(0).last_line(), "never fires");
    assert_eq!(document(cron(&project, &["0 0 31 2 *", "--json"]).expect(0))["next"], json!([]));
}

#[test]
fn an_agents_schedule_is_explained_even_if_the_agent_is_disabled_or_broken_elsewhere() {
    let project = Project::without_docker("");
    project.write("agents/dev/agent-config.toml", "schedule = '@weekly'\nscale = 0\ncredentials = ['no_such_type']\n");
    let done = cron(&project, &["dev", "--json", "--from", "2025-01-01T00:00Z", "-n", "1"]);
    let expected = json!({
        "expr": "@weekly",
        "tz": "America/New_York",
        "from": "2025-01-01T00:00:00.000Z",
        "next": ["2025-01-05T05:00:00.000Z"],
        "agent": "dev",
    });
    assert_eq!(document(done.expect(0)), expected);
    let elsewhere = Project::without_docker("");
    let done = cron(&elsewhere, &["dev", "-p", project.root().to_str().unwrap()]);
    assert!(done.expect(0).stdout.starts_with("\"@weekly\" (America/New_York)\n"));
}

#[test]
fn an_agent_without_a_usable_schedule_is_an_error() {
    let project = Project::without_docker("");
    project.write("agents/dev/agent-config.toml", "schedule = '61 6 * * *'\n");
    project.write("agents/hook/agent-config.toml", "[[webhooks]]\nsource = 'github'\n");
    project.write("agents/torn/agent-config.toml", "schedule = [\n");
    let done = cron(&project, &["nope"]);
    assert_eq!(done.expect(1).stderr, "Error: Agent \"nope\" not found.\nAvailable agents: dev, hook, torn\n");
    assert_eq!(done.stdout, "");
    assert_eq!(done.stderr, project.al(&["run", "nope"]).run().expect(1).stderr, "what al run says");
    assert!(refusal(&cron(&project, &["nope", "--json"]), "agent").starts_with("Agent \"nope\" not found."));
    let message = refusal(&cron(&project, &["hook", "--json"]), "config");
    assert!(message.contains("\"hook\"") && message.contains("schedule"), "{message}");
    let message = refusal(&cron(&project, &["dev", "--json"]), "config");
    for part in ["agent \"dev\"", "schedule", "\"61 6 * * *\"", "minute", "\"61\"", "0 to 59"] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    let message = refusal(&cron(&project, &["torn", "--json"]), "config");
    assert!(message.contains("agents/torn/agent-config.toml"), "{message}");
}

#[test]
fn a_rejected_expression_is_an_error_with_its_reason() {
    let project = Project::without_docker("");
    let done = cron(&project, &["0 0 * * MONDAY"]);
    assert_eq!(
        done.expect(1).stderr,
        "Configuration error: \"0 0 * * MONDAY\" is not a schedule: day-of-week \"MONDAY\": it is no name; names have \
         three letters: SUN MON TUE WED THU FRI SAT\n"
    );
    assert_eq!(done.stdout, "");
    assert!(refusal(&cron(&project, &["5/15 * * * *", "--json"]), "config").contains("*/15"));
}

#[test]
fn wrong_options_are_usage_errors_that_name_the_value() {
    let project = Project::without_docker("");
    for (option, display, value) in [
        ("--tz", "--tz <zone>", "Mars/Phobos"),
        ("--from", "--from <instant>", "yesterday"),
        ("-n", "-n, --count <N>", "0"),
        ("-n", "-n, --count <N>", "1001"),
        ("--count", "-n, --count <N>", "-5"),
    ] {
        let done = cron(&project, &["* * * * *", option, value]);
        let start = format!("error: option '{display}' argument '{value}' is invalid. ");
        assert!(done.expect(1).stderr.starts_with(&start), "{}", done.stderr);
        assert_eq!(done.stdout, "");
        let message = refusal(&cron(&project, &["* * * * *", "--json", option, value]), "usage");
        assert!(message.starts_with(start.trim_start_matches("error: ")), "{message}");
    }
    assert_eq!(cron(&project, &["* * * * *", "-n", "1000"]).expect(0).stdout.lines().count(), 1002);
}

#[test]
fn words_that_cannot_be_read_are_told_in_json_too() {
    let project = Project::without_docker("");
    assert!(refusal(&cron(&project, &["--json"]), "usage").contains("missing required argument"));
    assert!(refusal(&cron(&project, &["--json", "* * * * *", "--bogus"]), "usage").contains("'--bogus'"));
    assert!(cron(&project, &["*", "*", "*", "*", "*"]).expect(1).stderr.contains("Expected 1 argument but got 5."));
}

#[test]
fn an_invalid_tz_is_utc_with_a_warning_on_stderr() {
    let project = Project::without_docker("");
    let done = project.al(&["cron", "@daily"]).env("TZ", "Mars/Phobos").run();
    assert!(done.expect(0).stdout.starts_with("\"@daily\" (UTC)\n"));
    assert!(done.stderr.starts_with("Warning: ") && done.stderr.contains("\"Mars/Phobos\""), "{}", done.stderr);
    let done = project.al(&["cron", "@daily", "--tz", "Asia/Tokyo"]).env("TZ", "Mars/Phobos").run();
    assert_eq!((done.expect(0).stderr.as_str(), &done.stdout[..21]), ("", "\"@daily\" (Asia/Tokyo)"));
}
