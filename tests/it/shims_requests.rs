//! Commands that ask the gateway and print its answer: `rlock`, `runlock`, `rlock-heartbeat`, `al-call`, `al-check`,
//! `al-shutdown`, `al-shim health`.

use std::ffi::OsStr;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::shim::{SECRET, Shims};
use crate::support::stub_gateway::{Answer, StubGateway};

/// The commands whose exit status is that of the answer, with their shortest arguments.
const ASKING: [&[&str]; 5] = [
    &["rlock", "key"],
    &["runlock", "key"],
    &["rlock-heartbeat", "key"],
    &["al-call", "reviewer"],
    &["al-check", "0b7c"],
];

/// An address on which nobody listens.
fn deserted() -> SocketAddr {
    StubGateway::answering(200, "{}").stop()
}

#[test]
fn the_status_of_the_answer_decides_about_the_exit_status() {
    let shims = Shims::new();
    for (status, exit) in
        [(200, 0), (409, 1), (404, 2), (403, 3), (400, 4), (503, 5), (418, 7), (502, 10), (504, 11), (500, 12)]
    {
        // A body that says the contrary of most statuses, to be printed as it is.
        let body = format!("{{\"ok\": true, \"status\":\"completed\",\"n\":{status} }}");
        let stub = StubGateway::answering(status, &body);
        for [name, argument] in ASKING.map(|argv| [argv[0], argv[1]]) {
            let outcome = shims.command(name).args([argument]).gateway(&stub).run();
            outcome.expect(exit, &format!("{body}\n"));
            assert_eq!(outcome.stderr, "", "{name}");
        }
        shims.command("al-shutdown").gateway(&stub).run().expect(0, &format!("{body}\n"));
        let health = if status == 200 { 0 } else { 6 };
        shims.command("al-shim").args(["health"]).gateway(&stub).run().expect(health, &format!("{body}\n"));
        assert_eq!(stub.requests().len(), 7, "one request each");
    }
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = StubGateway::answering(200, "{}");
    let location = elsewhere.url();
    let stub = StubGateway::start(move |_| {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}/\r\nContent-Length: 2\r\n\r\n{{}}");
        Answer::Raw(head.into_bytes())
    });
    Shims::new().command("rlock").args(["key"]).gateway(&stub).run().expect(7, "{}\n");
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn requests_are_exactly_these() {
    let shims = Shims::new();
    #[track_caller]
    fn case(shims: &Shims, argv: &[&str], stdin: &str, method: &str, target: &str, body: &str) {
        let stub = StubGateway::answering(200, "{}");
        let outcome = shims.command(argv[0]).args(&argv[1..]).stdin(stdin).gateway(&stub).run();
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let request = stub.request();
        assert_eq!((request.method.as_str(), request.target.as_str()), (method, target));
        assert_eq!(String::from_utf8_lossy(&request.body), body);
        assert_eq!(request.header("connection"), Some("close"));
        assert_eq!(request.header("host"), Some(stub.url().trim_start_matches("http://")));
        assert_eq!(request.header("content-type"), (method == "POST").then_some("application/json"));
    }
    let lock = r#"{"secret":"5f0e-s&cret","resourceKey":"github issue acme/app#42"}"#;
    let key = "github issue acme/app#42";
    case(&shims, &["rlock", key], "", "POST", "/locks/acquire", lock);
    case(&shims, &["runlock", key, "ignored"], "", "POST", "/locks/release", lock);
    case(&shims, &["rlock-heartbeat", key], "", "POST", "/locks/heartbeat", lock);
    let call = r##"{"secret":"5f0e-s&cret","targetAgent":"reviewer","context":"\nReview \"#42\"\\\n\tnow"}"##;
    case(&shims, &["al-call", "reviewer", "x"], "\nReview \"#42\"\\\n\tnow\n\n", "POST", "/calls", call);
    let empty = r#"{"secret":"5f0e-s&cret","targetAgent":"reviewer","context":""}"#;
    case(&shims, &["al-call", "reviewer"], "", "POST", "/calls", empty);
    case(&shims, &["al-check", "0b7c", "x"], "", "GET", "/calls/0b7c?secret=5f0e-s%26cret", "");
    case(&shims, &["al-check", "../a?b ü"], "", "GET", "/calls/..%2Fa%3Fb%20%C3%BC?secret=5f0e-s%26cret", "");
    let default = r#"{"secret":"5f0e-s&cret","reason":"agent requested shutdown"}"#;
    case(&shims, &["al-shutdown"], "", "POST", "/shutdown", default);
    case(&shims, &["al-shutdown", "", "x"], "", "POST", "/shutdown", default);
    let given = r#"{"secret":"5f0e-s&cret","reason":"a \"leak\""}"#;
    case(&shims, &["al-shutdown", "a \"leak\"", "x"], "", "POST", "/shutdown", given);
    case(&shims, &["al-shim", "health"], "", "GET", "/health", "");
    case(&shims, &["al-shim", "rlock", key], "", "POST", "/locks/acquire", lock);
}

#[test]
fn a_base_path_is_kept_and_a_missing_secret_is_sent_empty() {
    let shims = Shims::new();
    let stub = StubGateway::answering(400, r#"{"error":"missing secret"}"#);
    let rlock = shims.command("rlock").args(["key"]).env("SHUTDOWN_SECRET", "");
    let outcome = rlock.env("GATEWAY_URL", format!("{}/al/", stub.url())).run();
    outcome.expect(4, "{\"error\":\"missing secret\"}\n");
    assert_eq!(stub.request().target, "/al/locks/acquire");
    assert_eq!(stub.request().json(), json!({"secret": "", "resourceKey": "key"}));
}

#[test]
fn names_are_resolved() {
    // `localhost` is 127.0.0.1 everywhere, so this one listener cannot be a stub on its own address.
    let address = "127.0.0.1:0".parse().unwrap();
    let stub = StubGateway::listen(address, |_| Answer::json(200, "{}"));
    let url = stub.url().replace("127.0.0.1", "localhost");
    Shims::new().command("rlock").args(["key"]).env("GATEWAY_URL", url).run().expect(0, "{}\n");
}

#[test]
fn proxy_variables_are_ignored() {
    let shims = Shims::new();
    let proxy = StubGateway::answering(502, "{}");
    let stub = StubGateway::answering(200, "{}");
    let mut shim = shims.command("rlock").args(["key"]).gateway(&stub);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"] {
        shim = shim.env(name, proxy.url());
    }
    shim.run().expect(0, "{}\n");
    assert!(proxy.requests().is_empty());
}

#[test]
fn any_text_arrives_whole() {
    let shims = Shims::new();
    let long = "ü\"\\\n".repeat(40 << 10);
    assert_eq!(long.len(), 200 << 10);
    for text in ["a \"b\"", "back\\slash", "two\nlines", "grüße 日本 🦀", "\u{1}\u{7f}\t", "--x", &long[..100 << 10]]
    {
        let stub = StubGateway::answering(200, "{}");
        shims.command("rlock").args([text]).gateway(&stub).run().expect(0, "{}\n");
        assert_eq!(stub.request().json(), json!({"secret": SECRET, "resourceKey": text}));
    }
    let stub = StubGateway::answering(200, "{}");
    shims.command("al-call").args(["reviewer"]).stdin(long.as_bytes()).gateway(&stub).run().expect(0, "{}\n");
    assert_eq!(stub.request().json()["context"], *long.trim_end_matches('\n'));
}

#[test]
fn what_is_not_utf8_is_replaced() {
    let shims = Shims::new();
    let bytes = b"caf\xe9 \xf0\x9f";
    let text = "caf\u{fffd} \u{fffd}";
    let stub = StubGateway::answering(200, "{}");
    shims.command("rlock").args([OsStr::from_bytes(bytes)]).gateway(&stub).run().expect(0, "{}\n");
    assert_eq!(stub.request().json()["resourceKey"], text);

    let stub = StubGateway::answering(200, "{}");
    shims.command("al-call").args(["reviewer"]).stdin(bytes).gateway(&stub).run().expect(0, "{}\n");
    assert_eq!(stub.request().json()["context"], text);

    let stub = StubGateway::answering(200, "{}");
    shims.command("al-check").args([OsStr::from_bytes(b"\xe9")]).gateway(&stub).run().expect(0, "{}\n");
    assert_eq!(stub.request().target, "/calls/%EF%BF%BD?secret=5f0e-s%26cret");
}

#[test]
fn a_context_may_have_eight_mebibytes() {
    let shims = Shims::new();
    let mut context = vec![b'x'; 8 << 20];
    let stub = StubGateway::answering(200, "{}");
    shims.command("al-call").args(["reviewer"]).stdin(context.clone()).gateway(&stub).run().expect(0, "{}\n");
    assert_eq!(stub.request().json()["context"].as_str().map(str::len), Some(8 << 20));

    context.push(b'x');
    let stub = StubGateway::answering(200, "{}");
    let outcome = shims.command("al-call").args(["reviewer"]).stdin(context).gateway(&stub).run();
    outcome.expect(4, "{\"ok\":false,\"reason\":\"context too large\"}\n");
    assert!(stub.requests().is_empty(), "nothing may be sent");
}

#[test]
fn a_context_that_cannot_be_read_is_a_local_error() {
    let stub = StubGateway::answering(200, "{}");
    let shims = Shims::new();
    let output = Command::new(shims.path().join("al-call"))
        .arg("reviewer")
        .env("GATEWAY_URL", stub.url())
        .stdin(Stdio::from(File::open("/").unwrap()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(output.stdout.starts_with(br#"{"ok":false,"reason":"read standard input: "#), "{output:?}");
    assert!(stub.requests().is_empty(), "nothing may be sent");
}

#[test]
fn without_a_gateway_locks_are_free_and_calls_are_impossible() {
    let shims = Shims::new();
    for url in [None, Some("")] {
        let run = |argv: &[&str]| {
            let shim = shims.command(argv[0]).args(&argv[1..]).stdin("context");
            url.map_or(shim, |_| shims.command(argv[0]).args(&argv[1..]).env("GATEWAY_URL", "")).run()
        };
        for name in ["rlock", "runlock", "rlock-heartbeat"] {
            run(&[name, "key"]).expect(0, "{\"ok\":true}\n");
            run(&[name]).expect(0, "{\"ok\":true}\n");
        }
        for argv in [&["al-call", "reviewer"][..], &["al-call"]] {
            run(argv).expect(5, "{\"ok\":false,\"reason\":\"no gateway\"}\n");
        }
        for argv in [&["al-check", "0b7c"][..], &["al-check"]] {
            run(argv).expect(5, "{\"status\":\"error\",\"errorMessage\":\"no gateway\"}\n");
        }
        run(&["al-shutdown", "reason"]).expect(0, "");
        run(&["al-shim", "health"]).expect(6, "{\"ok\":false,\"reason\":\"no gateway\"}\n");
    }
}

#[test]
fn missing_arguments_are_a_usage_error() {
    let shims = Shims::new();
    let stub = StubGateway::answering(200, "{}");
    for argument in [None, Some("")] {
        let run = |name: &str| shims.command(name).args(argument).gateway(&stub).run();
        for name in ["rlock", "runlock", "rlock-heartbeat"] {
            run(name).expect(9, &format!("{{\"ok\":false,\"error\":\"usage: {name} <resourceKey>\"}}\n"));
        }
        run("al-call").expect(9, "{\"ok\":false,\"reason\":\"usage: echo ctx | al-call <agent>\"}\n");
        run("al-check").expect(9, "{\"status\":\"error\",\"errorMessage\":\"usage: al-check <callId>\"}\n");
        assert_eq!(run("al-shim").status, 9);
    }
    assert!(stub.requests().is_empty());
}

#[test]
fn only_http_is_spoken() {
    let shims = Shims::new();
    for argv in ASKING {
        let outcome = shims.command(argv[0]).args(&argv[1..]).env("GATEWAY_URL", "https://127.0.0.1:1").run();
        assert_eq!(outcome.status, 6, "{outcome:?}");
        let line = outcome.json();
        let reason = line.get("reason").or(line.get("errorMessage")).unwrap().as_str().unwrap();
        assert!(reason.starts_with("gateway unreachable: ") && reason.contains("https"), "{reason}");
        assert!(outcome.took < Duration::from_secs(4), "nothing is tried again: {outcome:?}");
    }
}

#[test]
fn a_gateway_that_is_not_there_is_waited_for_and_then_unreachable() {
    let shims = Shims::new();
    let url = format!("http://{}", deserted());
    thread::scope(|scope| {
        for argv in ASKING {
            let shim = shims.command(argv[0]).args(&argv[1..]).env("GATEWAY_URL", &url);
            scope.spawn(move || {
                let outcome = shim.run();
                outcome.expect(
                    6,
                    match argv[0] {
                        "al-check" => "{\"status\":\"error\",\"errorMessage\":\"gateway unreachable\"}\n",
                        _ => "{\"ok\":false,\"reason\":\"gateway unreachable\"}\n",
                    },
                );
                assert!(outcome.stderr.contains("refused") && !outcome.stderr.contains(SECRET), "{outcome:?}");
                let took = outcome.took.as_secs_f32();
                assert!((4.9..9.0).contains(&took), "{outcome:?}");
            });
        }
        for (argv, status) in [(&["al-shutdown"][..], 0), (&["al-shim", "health"], 6)] {
            let shim = shims.command(argv[0]).args(&argv[1..]).env("GATEWAY_URL", &url);
            scope.spawn(move || {
                let outcome = shim.run();
                outcome.expect(status, "{\"ok\":false,\"reason\":\"gateway unreachable\"}\n");
                assert!(outcome.took < Duration::from_secs(4), "one attempt only: {outcome:?}");
            });
        }
    });
}

#[test]
fn a_gateway_that_restarts_is_found() {
    let shims = Shims::new();
    let address = deserted();
    let url = format!("http://{address}");
    let restarting = thread::spawn(move || {
        // Long enough for several attempts.
        thread::sleep(Duration::from_millis(600));
        StubGateway::listen(address, |_| Answer::json(200, "{\"ok\":true}"))
    });
    shims.command("rlock").args(["key"]).env("GATEWAY_URL", url).run().expect(0, "{\"ok\":true}\n");
    assert_eq!(restarting.join().unwrap().requests().len(), 1);
}

#[test]
fn a_silent_gateway_is_given_up_after_ten_seconds() {
    let shims = Shims::new();
    let stub = StubGateway::start(|_| Answer::Silence);
    thread::scope(|scope| {
        let (shims, stub) = (&shims, &stub);
        for (argv, status, seconds) in ASKING
            .map(|argv| (argv, 6, 10.0))
            .into_iter()
            .chain([(&["al-wait", "a", "b", "--timeout", "0"][..], 6, 10.0)])
            .chain([(&["al-shutdown"][..], 0, 10.0), (&["al-shim", "health"], 6, 5.0)])
        {
            scope.spawn(move || {
                let outcome = shims.command(argv[0]).args(&argv[1..]).gateway(stub).run();
                assert_eq!(outcome.status, status, "{outcome:?}");
                outcome.json();
                assert!(outcome.stderr.contains("no answer in time"), "{outcome:?}");
                let posted = !["al-check", "al-wait", "al-shim"].contains(&argv[0]);
                assert_eq!(outcome.stderr.contains("may have carried out"), posted, "{outcome:?}");
                assert!((seconds - 0.1..seconds + 4.0).contains(&outcome.took.as_secs_f32()), "{outcome:?}");
            });
        }
    });
    assert_eq!(stub.requests().len(), 9, "a request that was sent is not sent again");
}

#[test]
fn a_connection_that_breaks_is_not_tried_again() {
    let shims = Shims::new();
    let stub = StubGateway::start(|_| Answer::Close);
    let outcome = shims.command("al-call").args(["reviewer"]).gateway(&stub).run();
    outcome.expect(6, "{\"ok\":false,\"reason\":\"gateway unreachable\"}\n");
    assert_eq!(stub.requests().len(), 1);
}

#[test]
fn answers_in_every_framing_are_read_and_hostile_ones_are_not_believed() {
    let shims = Shims::new();
    #[track_caller]
    fn case(shims: &Shims, answer: impl Into<Vec<u8>>, status: i32, stdout: &str) {
        let answer = answer.into();
        let stub = StubGateway::start(move |_| Answer::Raw(answer.clone()));
        shims.command("rlock").args(["key"]).gateway(&stub).run().expect(status, stdout);
    }
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    case(&shims, format!("{chunked}7\r\n{{\"ok\":t\r\n4;x=y\r\nrue}}\r\n0\r\n\r\n"), 0, "{\"ok\":true}\n");
    case(&shims, "HTTP/1.0 409 Conflict\r\n\r\n{\"ok\":false}", 1, "{\"ok\":false}\n");
    case(&shims, "HTTP/1.1 404 Not Found\r\n\r\n404 Not Found", 2, "404 Not Found\n");
    case(&shims, "HTTP/1.1 500 E\r\n\r\n", 12, "{\"ok\":false,\"reason\":\"empty answer with status 500\"}\n");
    let unreadable = "{\"ok\":false,\"reason\":\"unreadable answer of the gateway\"}\n";
    case(&shims, "SSH-2.0-OpenSSH_9.2\r\n", 7, unreadable);
    case(&shims, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", 7, unreadable);
    case(&shims, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}", 7, unreadable);
    case(&shims, format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)), 7, unreadable);
    case(&shims, format!("HTTP/1.1 200 OK\r\n\r\n{}", "y".repeat((16 << 20) + 1)), 7, unreadable);
    case(&shims, format!("{chunked}fffffff\r\n"), 7, unreadable);
}

#[test]
fn help_asks_nobody() {
    let shims = Shims::new();
    let stub = StubGateway::answering(200, "{}");
    for name in shims::wire::paths::COMMANDS {
        let outcome = shims.command(name).args(["--help"]).gateway(&stub).run();
        assert!(outcome.status == 0 && outcome.stdout.starts_with("usage: "), "{outcome:?}");
    }
    assert!(stub.requests().is_empty());
    assert!(!shims.signals().exists());
}
