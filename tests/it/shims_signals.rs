//! `al-status`, `al-return`, `al-rerun`, `al-exit`: the file decides, the gateway is told.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use serde_json::json;

use crate::support::shim::{SECRET, Shims};
use crate::support::stub_gateway::{Answer, StubGateway};

const OK: &str = "{\"ok\":true}\n";

/// The commands with a request, and the file of each.
const TOLD: [(&[&str], &str); 3] =
    [(&["al-status", "text"], "status"), (&["al-return", "value"], "return"), (&["al-rerun"], "rerun")];

#[test]
fn the_file_is_written_and_the_gateway_told() {
    #[track_caller]
    fn case(argv: &[&str], stdin: &str, file: &str, content: &str, path: &str, body: serde_json::Value) {
        let shims = Shims::new();
        let stub = StubGateway::answering(200, "{\"ok\":true}");
        shims.command(argv[0]).args(&argv[1..]).stdin(stdin).gateway(&stub).run().expect(0, OK);
        assert_eq!(fs::read_to_string(shims.signals().join(file)).unwrap(), content);
        assert_eq!(fs::read_dir(shims.signals()).unwrap().count(), 1, "no other file");
        let request = stub.request();
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", path));
        assert_eq!(request.json(), body);
    }
    let hard = "a \"b\" \\ c\nd ü 🦀";
    let long = "ü\"\\\n".repeat(20 << 10) + ".";
    for text in [hard, &long] {
        case(&["al-status", text, "x"], "", "status", text, "/signals/status", json!({"secret": SECRET, "text": text}));
        let body = json!({"secret": SECRET, "value": format!("{text} x")});
        case(&["al-return", text, "x"], "", "return", &format!("{text} x"), "/signals/return", body);
        let body = json!({"secret": SECRET, "value": text});
        case(&["al-return"], &format!("{text}\n\n"), "return", text, "/signals/return", body);
    }
    let body = json!({"secret": SECRET, "value": ""});
    case(&["al-return"], "", "return", "", "/signals/return", body);
    case(&["al-rerun"], "", "rerun", "", "/signals/rerun", json!({"secret": SECRET}));
}

#[test]
fn the_gateway_is_not_needed() {
    for (argv, file) in TOLD {
        let shims = Shims::new();
        shims.command(argv[0]).args(&argv[1..]).run().expect(0, OK);
        assert!(shims.signals().join(file).exists());
    }
}

#[test]
fn whatever_the_gateway_answers_the_file_decides() {
    for answer in [
        Answer::json(403, "{}"),
        Answer::json(404, "{}"),
        Answer::json(413, "{}"),
        Answer::json(500, "no"),
        Answer::Close,
        Answer::Raw(b"nonsense".to_vec()),
    ] {
        let stub = StubGateway::start(move |_| answer.clone());
        for (argv, file) in TOLD {
            let shims = Shims::new();
            shims.command(argv[0]).args(&argv[1..]).gateway(&stub).run().expect(0, OK);
            assert!(shims.signals().join(file).exists());
        }
    }
}

#[test]
fn a_silent_or_absent_gateway_does_not_hold_the_run_up() {
    let silent = StubGateway::start(|_| Answer::Silence);
    let absent = format!("http://{}", StubGateway::answering(200, "{}").stop());
    thread::scope(|scope| {
        for (argv, file) in TOLD {
            for (url, longest) in [(silent.url(), 7.0), (absent.clone(), 2.0), ("https://x".into(), 2.0)] {
                scope.spawn(move || {
                    let shims = Shims::new();
                    let outcome = shims.command(argv[0]).args(&argv[1..]).env("GATEWAY_URL", url).run();
                    outcome.expect(0, OK);
                    assert!(outcome.took.as_secs_f32() < longest, "{outcome:?}");
                    assert!(shims.signals().join(file).exists());
                });
            }
        }
    });
}

#[test]
fn the_exit_code_is_for_the_run_alone() {
    let shims = Shims::new();
    let stub = StubGateway::answering(200, "{}");
    for (args, content) in [(&[][..], "15"), (&["0"], "0"), (&["255"], "255"), (&["3", "x"], "3")] {
        shims.command("al-exit").args(args).gateway(&stub).run().expect(0, OK);
        assert_eq!(fs::read_to_string(shims.signals().join("exit")).unwrap(), content);
    }
    assert!(stub.requests().is_empty());
}

#[test]
fn wrong_arguments_leave_no_trace() {
    let shims = Shims::new();
    let stub = StubGateway::answering(200, "{}");
    for with_gateway in [true, false] {
        let run = |argv: &[&str]| {
            let shim = shims.command(argv[0]).args(&argv[1..]);
            if with_gateway { shim.gateway(&stub).run() } else { shim.run() }
        };
        for argv in [&["al-status"][..], &["al-status", ""]] {
            run(argv).expect(9, "{\"ok\":false,\"error\":\"usage: al-status \\\"<text>\\\"\"}\n");
        }
        for code in ["256", "-1", "fifteen"] {
            run(&["al-exit", code]).expect(9, "{\"ok\":false,\"error\":\"usage: al-exit [0-255]\"}\n");
        }
    }
    let large = shims.command("al-return").stdin(vec![b'x'; (1 << 20) + 1]).gateway(&stub).run();
    large.expect(4, "{\"ok\":false,\"error\":\"value too large\"}\n");
    assert!(stub.requests().is_empty() && !shims.signals().exists());
}

#[test]
fn help_is_text_unless_it_stands_alone() {
    let shims = Shims::new();
    shims.command("al-status").args(["--help", "me"]).run().expect(0, OK);
    assert_eq!(fs::read_to_string(shims.signals().join("status")).unwrap(), "--help");
    shims.command("al-return").args(["--help", "me"]).run().expect(0, OK);
    assert_eq!(fs::read_to_string(shims.signals().join("return")).unwrap(), "--help me");
}

#[test]
fn a_value_of_any_bytes_is_taken() {
    let shims = Shims::new();
    let bytes = b"caf\xe9";
    shims.command("al-return").args([OsStr::from_bytes(bytes)]).run().expect(0, OK);
    assert_eq!(fs::read_to_string(shims.signals().join("return")).unwrap(), "caf\u{fffd}");
    shims.command("al-return").stdin(*bytes).run().expect(0, OK);
    assert_eq!(fs::read_to_string(shims.signals().join("return")).unwrap(), "caf\u{fffd}");
    let largest = vec![b'x'; 1 << 20];
    shims.command("al-return").stdin(largest.clone()).run().expect(0, OK);
    assert_eq!(fs::read(shims.signals().join("return")).unwrap(), largest);
}

#[test]
fn a_file_that_cannot_be_written_is_reported_and_the_gateway_not_told() {
    let shims = Shims::new();
    let stub = StubGateway::answering(200, "{}");
    // A file in the place of the directory; a directory in the place of the file.
    fs::write(shims.signals(), "").unwrap();
    for argv in TOLD.map(|(argv, _)| argv).into_iter().chain([&["al-exit"][..]]) {
        let outcome = shims.command(argv[0]).args(&argv[1..]).gateway(&stub).run();
        assert_eq!(outcome.status, 7, "{outcome:?}");
        let line = outcome.json();
        assert_eq!(line["ok"], false);
        assert!(line["error"].as_str().unwrap().contains(shims.signals().to_str().unwrap()), "{line}");
    }
    fs::remove_file(shims.signals()).unwrap();
    fs::create_dir_all(shims.signals().join("rerun/x")).unwrap();
    assert_eq!(shims.command("al-rerun").gateway(&stub).run().status, 7);
    assert_eq!(fs::read_dir(shims.signals()).unwrap().count(), 1, "no temporary file is left");
    assert!(stub.requests().is_empty());
}

#[test]
fn the_directory_is_the_one_of_the_variable() {
    let shims = Shims::new();
    let odd = shims.path().join(OsStr::from_bytes(b"od\xffd")).join("deep");
    shims.command("al-rerun").env("AL_SIGNAL_DIR", &odd).run().expect(0, OK);
    assert!(odd.join("rerun").exists());
    assert_eq!(fs::metadata(odd.join("rerun")).unwrap().permissions().mode() & 0o400, 0o400);
}
