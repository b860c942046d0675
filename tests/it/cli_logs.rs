//! `al logs`: from files and from a gateway, the last entries and those to come (cli-config.md §6.8, scheduler.md §14).

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use action_llama::base::clock::UnixMs;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::fake_scheduler::{FakeScheduler, KEY, json, listen, log_api, not_found, refusal};
use crate::support::project::Project;
use crate::support::stub_gateway::{Answer, Request};
use crate::support::wait;

const DAY: i64 = 86_400_000;
const SECOND_OF_MARCH: i64 = 1_772_409_600_000;

/// A project with an agent `dev` and whatever logs it is given.
struct Bed {
    project: Project,
}

impl Bed {
    fn new() -> Self {
        let project = Project::without_docker("");
        for agent in ["dev", "dev-ops", "other"] {
            project.write(&format!("agents/{agent}/agent-config.toml"), "schedule = \"0 8 * * *\"\n");
        }
        fs::create_dir_all(project.root().join(".al/logs")).unwrap();
        Self { project }
    }

    fn path(&self, name: &str, time: i64) -> PathBuf {
        self.project.root().join(format!(".al/logs/{name}-{}.log", UnixMs(time).utc_date()))
    }

    fn append(&self, name: &str, time: i64, text: &str) {
        let path = self.path(name, time);
        OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Writes an entry into the file of its day.
    fn entry(&self, name: &str, time: i64, msg: &str, fields: Value) {
        let mut entry = json!({"level": 30, "time": time, "pid": 7, "hostname": "h", "name": name});
        entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        entry["msg"] = msg.into();
        self.append(name, time, &format!("{entry}\n"));
    }

    /// Output of a command that ends with this status, without times.
    #[track_caller]
    fn run(&self, args: &[&str], status: i32) -> (String, String) {
        let done = self.project.al(&[&["logs"], args].concat()).run();
        done.expect(status);
        (without_times(&done.stdout), done.stderr)
    }

    fn gateway(&self) -> FakeScheduler {
        let root = self.project.root();
        FakeScheduler::start(&self.project, move |request| log_api(&root, request).unwrap_or_else(not_found))
    }
}

fn without_times(text: &str) -> String {
    let line = |line: &str| {
        let is_time = |text: &str| text.bytes().zip(b"00:00:00").all(|(a, b)| a.is_ascii_digit() == b.is_ascii_digit());
        match line.get(..8).filter(|head| is_time(head)) {
            Some(_) => format!("T{}\n", &line[8..]),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// Entries of two days: two runs of `dev`, with much that the conversation hides.
fn two_days(bed: &Bed) {
    for (run, time) in [("dev-00000001", SECOND_OF_MARCH - 5000), ("dev-00000002", SECOND_OF_MARCH + 5000)] {
        let of = |fields: Value| {
            let mut fields = fields;
            fields["instance"] = run.into();
            fields
        };
        bed.entry("dev", time, "Starting dev container run (triggered by schedule)", of(json!({})));
        bed.entry("dev", time + 1, "bash", of(json!({"cmd": "git status"})));
        for hidden in 0..30 {
            bed.entry("dev", time + 2 + hidden, "event", of(json!({"level": 20, "type": "x"})));
        }
        bed.entry("dev", time + 40, "assistant", of(json!({"text": format!("Done with {run}.")})));
    }
    bed.append("dev", SECOND_OF_MARCH, "not an entry\n{\"half");
    bed.entry("dev-ops", SECOND_OF_MARCH, "not of dev", json!({}));
}

const CONVERSATION: &str = "\n\
    ── dev  dev-00000001 ─────────────────────────────────────────\n\
    T  [dev-00000001] Starting dev container run (triggered by schedule)\n\
    T  [dev-00000001] $ git status\n\
    T  [dev-00000001] Done with dev-00000001.\n\
    \n\
    ── dev  dev-00000002 ─────────────────────────────────────────\n\
    T  [dev-00000002] Starting dev container run (triggered by schedule)\n\
    T  [dev-00000002] $ git status\n\
    T  [dev-00000002] Done with dev-00000002.\n";

const NOTHING: &str = "No log entries found for \"dev\".\n";

#[test]
fn the_conversation_is_the_same_from_files_and_from_a_gateway() {
    let bed = Bed::new();
    two_days(&bed);
    let check = || {
        assert_eq!(bed.run(&["dev"], 0).0, CONVERSATION);
        // What is hidden is not counted, and headers are not.
        let last_four: String = CONVERSATION.lines().skip(4).map(|line| format!("{line}\n")).collect();
        assert_eq!(bed.run(&["dev", "-n", "4"], 0).0, last_four);
        assert_eq!(bed.run(&["dev", "-n1"], 0).0, "T  [dev-00000002] Done with dev-00000002.\n");
        let first_run: String = CONVERSATION.lines().take(5).map(|line| format!("{line}\n")).collect();
        for args in [
            &["dev", "-i", "00000001"][..],
            &["dev", "-i", "dev-00000001"],
            &["dev-00000001"],
            &["dev", "-d", "2026-03-01"],
        ] {
            assert_eq!(bed.run(args, 0).0, first_run, "{args:?}");
        }
        assert_eq!(bed.run(&["dev", "-i", "0000000f"], 0).0, NOTHING);
        assert_eq!(bed.run(&["dev", "-r", "-n", "1000"], 0).0.lines().count(), 66);
        // The text of the entry as it is stored, whatever of it is shown.
        assert_eq!(bed.run(&["dev", "-g", "\"text\":\"Done.*2"], 0).0, "T  [dev-00000002] Done with dev-00000002.\n");
        assert_eq!(bed.run(&["dev", "-g", "\"text\":\"Done.*2", "-i", "00000001"], 0).0, NOTHING);
        let second_run: String = CONVERSATION.lines().skip(5).map(|line| format!("{line}\n")).collect();
        for (args, expected) in [
            (&["--before", "2026-03-02"][..], first_run.as_str()),
            (&["--after", "2026-03-02"], &second_run),
            // From the instant on, and before it.
            (&["--after", "2026-03-02T00:00:05.040Z"], "T  [dev-00000002] Done with dev-00000002.\n"),
            (&["--before", "2026-03-02T00:00:05.000Z"], &first_run),
            (&["-d", "2026-03-01", "--after", "2026-03-02"], NOTHING),
            (&["-d", "2026-03-02", "--before", "3000-01-01", "--after", "2000-01-01"], &second_run),
            (&["--after", "1h"], NOTHING),
        ] {
            assert_eq!(bed.run(&[&["dev"], args].concat(), 0).0, expected, "{args:?}");
        }
        let all = bed.run(&["dev", "-a", "-n", "1000"], 0).0;
        assert_eq!((all.lines().count(), all.matches("T  event {\"type\":\"x\"}\n").count()), (70, 60), "{all}");
        assert_eq!(bed.run(&["dev", "-an1", "-i", "00000001"], 0).0, "T  [dev-00000001] Done with dev-00000001.\n");
    };
    check();
    let gateway = bed.gateway();
    check();
    let asked = gateway.asked();
    assert_eq!(asked[0], "GET /api/logs/agents/dev?lines=50");
    let day = SECOND_OF_MARCH - DAY;
    let expected = format!("GET /api/logs/agents/dev?lines=50&after={}&before={}", day - 1, SECOND_OF_MARCH);
    assert!(asked.contains(&expected) && asked.contains(&"GET /api/logs/agents/dev/dev-00000001?lines=50".to_owned()));
    assert!(asked.iter().any(|target| target.contains("&back_cursor=")), "{asked:?}");
    assert!(
        asked.contains(&"GET /api/logs/agents/dev?lines=50&grep=%22text%22%3A%22Done.%2A2".to_owned()),
        "{asked:?}"
    );
    assert!(gateway.requests().iter().all(|request| request.header("authorization").is_some()));
}

#[test]
fn raw_and_json_show_everything_of_every_entry() {
    let bed = Bed::new();
    bed.entry("scheduler", SECOND_OF_MARCH, "two\nlines", json!({"level": 40, "agent": "dev\u{9b}2J", "n": 1}));
    bed.append(
        "scheduler",
        SECOND_OF_MARCH,
        "{\"_log\":true,\"level\":\"error\",\"msg\":\"m\",\"ts\":1772409600000}\n",
    );
    let (stdout, _) = bed.run(&["-r"], 0);
    assert_eq!(stdout, "T WARN  two\\nlines {\"agent\":\"dev\\u009b2J\",\"n\":1}\nT ERROR m\n");
    let done = bed.project.al(&["logs", "--json"]).run();
    let entries: Vec<Value> = done.expect(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = json!({"level": 40, "time": SECOND_OF_MARCH, "pid": 7, "hostname": "h", "name": "scheduler",
        "agent": "dev\u{9b}2J", "n": 1, "msg": "two\nlines"});
    assert_eq!(entries, [first, json!({"level": 50, "time": SECOND_OF_MARCH, "msg": "m"})]);
    assert!(!done.stdout.contains('\u{9b}'));
    let (stdout, stderr) = bed.run(&["-r", "--json"], 1);
    assert!(stderr.contains("option '-r, --raw' cannot be used with option '--json'"), "{stdout}{stderr}");
}

#[test]
fn texts_in_a_log_cannot_do_anything_to_the_terminal() {
    let bed = Bed::new();
    let hostile = "a\u{1b}[2J\u{7}b\u{9b}\u{202e}\r";
    let fields = json!({"instance": "dev-1\n\u{1b}c", "text": hostile, "cmd": hostile, "tool": hostile, "container": hostile,
        "result": hostile, "elapsed": hostile, "agentName": hostile, "modelId": hostile, hostile: 1});
    let of_dev = ["assistant", "bash", "tool start", "output", "container launched", "container starting", hostile];
    for msg in of_dev.into_iter().chain(["Starting x run", "container finished"]) {
        bed.entry("dev", SECOND_OF_MARCH, msg, fields.clone());
    }
    for level in [40, 50] {
        let mut fields = fields.clone();
        fields["level"] = level.into();
        bed.entry("dev", SECOND_OF_MARCH, "tool error", fields.clone());
        bed.entry("dev", SECOND_OF_MARCH, hostile, fields);
    }
    let check = || {
        for args in [&["dev"][..], &["dev", "-r"], &["dev", "--json"]] {
            let done = bed.project.al(&[&["logs"], args].concat()).env("CLICOLOR_FORCE", "0").run();
            let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!done.expect(0).stdout.contains(hostile), "{args:?} {:?}", done.stdout);
        }
    };
    check();
    let _gateway = bed.gateway();
    check();
}

#[test]
fn more_than_is_kept_is_shown_all_the_same() {
    let bed = Bed::new();
    let line = |n: i64| {
        let level = if n % 2 == 0 { 20 } else { 30 };
        format!("{{\"level\":{level},\"time\":{},\"n\":{n},\"msg\":\"m{n}\"}}\n", SECOND_OF_MARCH + n)
    };
    bed.append("dev", SECOND_OF_MARCH - DAY, &(0..4000).map(line).collect::<String>());
    bed.append("dev", SECOND_OF_MARCH, &(4000..20_000).map(line).collect::<String>());
    let check = || {
        for wanted in [6000, 9999, 10_000, 1_000_000] {
            let done = bed.project.al(&["logs", "dev", "-n", &wanted.to_string()]).run();
            let shown: Vec<&str> = done.expect(0).stdout.lines().map(|line| line.rsplit('m').next().unwrap()).collect();
            let count = wanted.min(10_000);
            let expected: Vec<String> = (10_000 - count..10_000).map(|n| (2 * n + 1).to_string()).collect();
            assert!(shown == expected, "{wanted}: {} from {:?} to {:?}", shown.len(), shown.first(), shown.last());
        }
    };
    check();
    let _gateway = bed.gateway();
    check();
}

#[test]
fn a_gateway_that_cannot_page_backwards_gives_what_it_has() {
    let bed = Bed::new();
    let entries: Vec<Value> =
        (0..1000).map(|n| json!({"level": if n < 900 { 20 } else { 30 }, "time": n, "msg": format!("m{n}")})).collect();
    let gateway = FakeScheduler::start(&bed.project, move |request: &Request| {
        let lines: usize = request.query("lines").unwrap().parse().unwrap();
        json(&json!({"entries": &entries[1000 - lines..], "cursor": "x", "hasMore": false}))
    });
    assert_eq!(bed.run(&["dev", "-n", "80"], 0).0.lines().count(), 80);
    assert_eq!(gateway.asked(), ["GET /api/logs/agents/dev?lines=80"]);
    assert_eq!(bed.run(&["dev", "-n", "101"], 0).0.lines().count(), 100);
    assert_eq!(gateway.asked().last().unwrap(), "GET /api/logs/agents/dev?lines=1000");
}

#[test]
fn without_a_file_it_says_where_it_looked() {
    let bed = Bed::new();
    let dir = bed.project.root().join(".al/logs");
    let message =
        |name: &str, day: &str| format!("Error: No log file found for agent \"{name}\" ({day}) in {}\n", dir.display());
    assert_eq!(bed.run(&[], 1).1, message("scheduler", "today"));
    bed.entry("dev", SECOND_OF_MARCH, "m", json!({}));
    assert_eq!(bed.run(&["dev", "-d", "2026-03-01"], 1).1, message("dev", "2026-03-01"));
    assert_eq!(bed.run(&["../logs/dev"], 1).1, message("../logs/dev", "today"));
    assert!(bed.run(&["schedular"], 1).1.ends_with("\n(Did you mean scheduler?)\n"));
    bed.append("other", SECOND_OF_MARCH, "");
    assert_eq!(bed.run(&["other"], 0).0, "No log entries found for \"other\".\n");
    // From a gateway it is no error, unless nobody has such a name.
    let _gateway = bed.gateway();
    assert_eq!(bed.run(&["nosuch"], 1).1, message("nosuch", "today"));
    assert_eq!(bed.run(&["dev-ops"], 0).0, "No log entries found for \"dev-ops\".\n");
    assert_eq!(bed.run(&["scheduler"], 0).0, "No log entries found for \"scheduler\".\n");
}

#[test]
fn mistakes_on_the_command_line_are_told() {
    let bed = Bed::new();
    for (args, message) in [
        (&["-n", "0"][..], "option '-n, --lines <N>' argument '0' is invalid"),
        (&["-n", "x"], "option '-n, --lines <N>' argument 'x' is invalid"),
        (&["-d", "2025-13-40"], "option '-d, --date <YYYY-MM-DD>' argument '2025-13-40' is invalid"),
        (&["-g", "("], "option '-g, --grep <regex>' argument '(' is invalid. It must be a regular expression: "),
        (&["dev-00000001", "-i", "00000002"], "names another instance"),
        (&["--after", "soon"], "option '--after <t>' argument 'soon' is invalid. It must be an instant such as "),
        (&["--before", "-2h"], "option '--before <t>' argument '-2h' is invalid. It must be an instant such as "),
    ] {
        let (stdout, stderr) = bed.run(args, 1);
        assert!(stdout.is_empty() && stderr.contains(message), "{args:?} {stderr}");
    }
}

#[test]
fn what_is_wrong_with_a_running_gateway_is_an_error_not_a_reason_to_read_files() {
    let bed = Bed::new();
    two_days(&bed);
    let fake = FakeScheduler::start(&bed.project, |_| refusal(500, "no"));
    assert_eq!(bed.run(&["dev"], 1), (String::new(), "Error: no\n".to_owned()));
    bed.project.credential("gateway_api_key", "key", "wrong-0123456789");
    assert!(bed.run(&["dev"], 1).1.contains("al doctor"));
    drop(fake);
    // One that is starting has a log already.
    let _starting = FakeScheduler::starting(&bed.project, |_| not_found());
    assert_eq!(bed.run(&["dev"], 0).0, CONVERSATION);
}

#[test]
fn an_environments_logs_are_never_looked_for_here() {
    let bed = Bed::new();
    two_days(&bed);
    bed.project.credential("gateway_api_key", "key", KEY);
    let dir = bed.project.home().join(".action-llama/environments");
    fs::create_dir_all(&dir).unwrap();
    let gateway = listen(|_| json(&json!({"entries": [{"level": 30, "time": 0, "msg": "from there"}], "cursor": "x"})));
    fs::write(dir.join("prod.toml"), format!("[gateway]\nurl = \"http://127.0.0.1:{}\"\n", gateway.port())).unwrap();
    assert_eq!(bed.run(&["dev", "-E", "prod"], 0).0, "T  from there\n");
    drop(gateway);
    let (stdout, stderr) = bed.run(&["dev", "-E", "prod"], 1);
    assert!(stdout.is_empty() && stderr.contains("connection refused"), "{stderr}");
}

#[test]
fn following_shows_new_entries_and_ends_with_ctrl_c() {
    follow_over_midnight(&Bed::new());
}

#[test]
fn following_through_a_gateway_goes_over_midnight_too() {
    let bed = Bed::new();
    let _gateway = bed.gateway();
    follow_over_midnight(&bed);
}

/// A file grows, a line comes in two parts, the next day's file begins, and one is emptied and written anew.
fn follow_over_midnight(bed: &Bed) {
    let yesterday = UnixMs::now().0 - DAY;
    bed.entry("dev", yesterday, "one", json!({}));
    bed.entry("dev", yesterday, "two", json!({}));
    let following = bed.project.al(&["logs", "dev", "-f", "-n", "1"]).start();
    following.wait_for("  two\n");
    bed.append("dev", yesterday, "{\"level\":30,\"time\":0,\"msg\":\"thr");
    bed.append("dev", yesterday, "ee\"}\n");
    following.wait_for("  three\n");
    bed.entry("dev", yesterday + DAY, "today", json!({}));
    following.wait_for("  today\n");
    fs::write(bed.path("dev", yesterday + DAY), "{\"level\":30,\"time\":0,\"msg\":\"anew\"}\n").unwrap();
    following.wait_for("  anew\n");
    following.signal(Signal::INT);
    let done = following.finish();
    assert_eq!(without_times(&done.expect(0).stdout), "T  two\nT  three\nT  today\nT  anew\n");
    assert_eq!(done.stderr, "");
}

#[test]
fn following_goes_on_in_a_longer_file_that_took_the_place_of_the_other() {
    follow_over_rotation(&Bed::new());
}

#[test]
fn following_through_a_gateway_goes_on_there_too() {
    let bed = Bed::new();
    let _gateway = bed.gateway();
    follow_over_rotation(&bed);
}

/// Between two looks a file gets one more line, is renamed, and a longer one takes its place.
fn follow_over_rotation(bed: &Bed) {
    let now = UnixMs::now().0;
    bed.entry("dev", now, "old", json!({}));
    let following = bed.project.al(&["logs", "dev", "-f"]).start();
    following.wait_for("  old\n");
    for msg in ["first", "second", "third"] {
        bed.entry("new", now, msg, json!({}));
    }
    bed.entry("dev", now, "last", json!({}));
    let file = bed.path("dev", now);
    fs::rename(&file, file.with_extension("log.1")).unwrap();
    fs::rename(bed.path("new", now), file).unwrap();
    following.wait_for("  third\n");
    following.signal(Signal::INT);
    let done = following.finish();
    assert_eq!(without_times(&done.expect(0).stdout), "T  old\nT  last\nT  first\nT  second\nT  third\n");
}

#[test]
fn following_waits_for_a_file() {
    let bed = Bed::new();
    let following = bed.project.al(&["logs", "dev", "-f"]).start();
    following.wait_for("waiting for it");
    bed.entry("dev", UnixMs::now().0, "first", json!({}));
    following.wait_for("  first\n");
    following.signal(Signal::INT);
    following.finish().expect(0);
}

#[test]
fn following_a_gateway_outlives_its_failures_and_its_end() {
    let bed = Bed::new();
    let now = UnixMs::now().0;
    bed.entry("dev", now, "one", json!({}));
    let (root, works) = (bed.project.root(), Arc::new(AtomicBool::new(true)));
    let fake = FakeScheduler::start(&bed.project, {
        let works = Arc::clone(&works);
        move |request| match works.load(Ordering::SeqCst) {
            true => log_api(&root, request).unwrap_or_else(not_found),
            false => Answer::json(502, "<html>"),
        }
    });
    let following = bed.project.al(&["logs", "dev", "-f", "--json"]).start();
    following.wait_for("\"one\"");
    bed.entry("dev", now, "two", json!({}));
    following.wait_for("\"two\"");
    assert!(fake.requests().last().unwrap().query("cursor").is_some());
    works.store(false, Ordering::SeqCst);
    let before = fake.requests().len();
    wait::until("requests that fail", || fake.requests().len(), |count| *count > before + 1);
    bed.entry("dev", now, "three", json!({}));
    works.store(true, Ordering::SeqCst);
    following.wait_for("\"three\"");
    // The scheduler ends, and whoever has its port then does not see the key.
    let stranger = fake.leave_port();
    let asked = stranger.requests().len();
    bed.entry("dev", now, "four", json!({}));
    following.wait_for("\"four\"");
    assert!(stranger.requests().len() <= asked + 1, "one request may have been under way");
    following.signal(Signal::INT);
    let done = following.finish();
    let messages: Vec<Value> =
        done.expect(0).stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["msg"].clone()).collect();
    assert_eq!(messages, ["one", "two", "three", "four"]);
    assert_eq!(done.stderr, "");
}

#[test]
fn following_reads_on_at_once_while_there_is_more() {
    let bed = Bed::new();
    bed.entry("dev", SECOND_OF_MARCH, "first", json!({}));
    let _gateway = bed.gateway();
    let following = bed.project.al(&["logs", "dev", "-f", "-r"]).start();
    following.wait_for("first");
    let line = |n: i64| format!("{{\"level\":30,\"time\":{},\"msg\":\"m{n}.\"}}\n", SECOND_OF_MARCH + n);
    bed.append("dev", SECOND_OF_MARCH, &(0..3500).map(line).collect::<String>());
    following.wait_for("m3499.");
    following.signal(Signal::INT);
    assert_eq!(following.finish().expect(0).stdout.lines().count(), 3501);
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let bed = Bed::new();
    let line = |n: i64| format!("{{\"level\":30,\"time\":{n},\"msg\":\"m{n}\"}}\n");
    bed.append("dev", SECOND_OF_MARCH, &(0..20_000).map(line).collect::<String>());
    let done = bed.project.al(&["logs", "dev", "-n", "20000"]).read_until("m10\n").run();
    assert_eq!(done.expect(0).stderr, "");
}
