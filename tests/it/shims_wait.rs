//! `al-wait`: follows calls to their end, across restarts of the gateway.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::shim::{Outcome, Shims};
use crate::support::stub_gateway::{Answer, Request, StubGateway};

const RUNNING: &str = r#"{"status":"running"}"#;
const PENDING: &str = r#"{"status":"pending"}"#;
const COMPLETED: &str = r#"{"status":"completed","returnValue":"ok"}"#;
const FAILED: &str = r#"{"status":"error","errorMessage":"agent run failed"}"#;

fn wait(stub: &StubGateway, args: &[&str]) -> Outcome {
    Shims::new().command("al-wait").args(args).gateway(stub).run()
}

/// The call that a request asks for.
fn id(request: &Request) -> String {
    let path = request.target.split('?').next().unwrap();
    path.strip_prefix("/calls/").unwrap_or_else(|| panic!("{path}")).to_owned()
}

#[test]
fn a_call_that_has_ended_is_reported_at_once() {
    for body in [COMPLETED, FAILED, r#"{"status":"completed"}"#] {
        let stub = StubGateway::answering(200, body);
        let outcome = wait(&stub, &["0b7c"]);
        outcome.expect(0, &format!("{{\"0b7c\":{body}}}\n"));
        assert!(outcome.took < Duration::from_secs(5), "{outcome:?}");
        let request = stub.request();
        assert_eq!((&*request.method, &*request.target), ("GET", "/calls/0b7c?secret=5f0e-s%26cret&wait=25"));
    }
}

#[test]
fn arguments_are_checked_after_the_gateway() {
    let stub = StubGateway::answering(200, COMPLETED);
    for args in
        [&[][..], &[""], &["--timeout", "5"], &["a", "--timeout"], &["a", "--timeout", "x"], &["a", "--timeout=-1"]]
    {
        wait(&stub, args).expect(9, "{\"error\":\"usage: al-wait <callId> [callId...] [--timeout N]\"}\n");
        let without = Shims::new().command("al-wait").args(args).run();
        without.expect(5, "{\"error\":\"no gateway\"}\n");
    }
    assert!(stub.requests().is_empty());
}

#[test]
fn several_calls_are_followed_at_the_same_time() {
    // Nobody is answered before all three have asked.
    let together = Arc::new(Barrier::new(3));
    let stub = StubGateway::start(move |request| {
        together.wait();
        match id(request).as_str() {
            "a" => Answer::json(200, COMPLETED),
            "b" => Answer::json(200, FAILED),
            other => Answer::json(200, &json!({"status": "completed", "returnValue": other}).to_string()),
        }
    });
    let outcome = wait(&stub, &["c%22", "--timeout", "20", "a", "b", "a"]);
    outcome.expect(
        0,
        &format!(
            "{{\"c%22\":{{\"status\":\"completed\",\"returnValue\":\"c%2522\"}},\"a\":{COMPLETED},\"b\":{FAILED}}}\n"
        ),
    );
    assert_eq!(stub.requests().len(), 3, "an id that is given twice is asked for once");
}

#[test]
fn ids_of_any_bytes_give_valid_json() {
    let stub = StubGateway::answering(404, r#"{"error":"call not found"}"#);
    let ids = ["a \"b\"", "back\\slash", "two\nlines", "ü🦀"];
    let outcome = wait(&stub, &ids);
    assert_eq!(outcome.status, 2);
    let expected: serde_json::Map<_, _> =
        ids.iter().map(|id| ((*id).to_owned(), json!({"error": "call not found"}))).collect();
    assert_eq!(outcome.json(), serde_json::Value::Object(expected));
}

#[test]
fn an_open_call_is_asked_for_again_with_growing_pauses_and_none_after_it_was_held() {
    let asked = AtomicUsize::new(0);
    let stub = StubGateway::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::json(200, PENDING),
        1 | 2 => Answer::json(200, RUNNING),
        3 => Answer::After(Duration::from_millis(1200), Box::new(Answer::json(200, RUNNING))),
        _ => Answer::json(200, COMPLETED),
    });
    wait(&stub, &["a"]).expect(0, &format!("{{\"a\":{COMPLETED}}}\n"));
    let times: Vec<Instant> = stub.requests().iter().map(|request| request.at).collect();
    let gaps: Vec<u128> = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).collect();
    assert_eq!(gaps.len(), 4, "{gaps:?}");
    for (gap, expected) in gaps.iter().zip([250, 500, 1000, 1200]) {
        assert!((expected - 10..expected + 900).contains(gap), "{gaps:?}");
    }
}

#[test]
fn the_time_is_that_of_the_clock() {
    // The gateway holds as long as it is asked to, like the real one.
    let stub = StubGateway::start(|request| {
        let hold = request.query("wait").unwrap().parse().unwrap();
        Answer::After(Duration::from_secs(hold), Box::new(Answer::json(200, RUNNING)))
    });
    let outcome = wait(&stub, &["--timeout=2", "a", "b"]);
    outcome.expect(8, &format!("{{\"a\":{RUNNING},\"b\":{RUNNING}}}\n"));
    assert!((1.9..6.0).contains(&outcome.took.as_secs_f32()), "{outcome:?}");
    assert_eq!(stub.requests()[0].query("wait"), Some("2"), "never held longer than the time that is left");

    let stub = StubGateway::answering(200, RUNNING);
    let outcome = wait(&stub, &["a", "--timeout", "5", "--timeout", "1"]);
    outcome.expect(8, &format!("{{\"a\":{RUNNING}}}\n"));
    assert!((0.9..5.0).contains(&outcome.took.as_secs_f32()), "{outcome:?}");
}

#[test]
fn no_time_means_one_look() {
    let stub = StubGateway::answering(200, PENDING);
    wait(&stub, &["a", "b", "--timeout", "0"]).expect(8, &format!("{{\"a\":{PENDING},\"b\":{PENDING}}}\n"));
    assert_eq!(stub.requests().len(), 2);
    assert_eq!(stub.requests()[0].query("wait"), Some("0"));
}

#[test]
fn refusals_end_a_call_and_name_the_worst() {
    let script = |request: &Request| match id(request).as_str() {
        "ok" => Answer::json(200, COMPLETED),
        "open" => Answer::json(200, RUNNING),
        status => Answer::json(status.parse().unwrap(), &format!("{{\"error\":\"{status}\"}}")),
    };
    #[track_caller]
    fn case(stub: &StubGateway, ids: &[&str], exit: i32) {
        let outcome = wait(stub, &[ids, &["--timeout", "1"]].concat());
        assert_eq!(outcome.status, exit, "{ids:?}: {outcome:?}");
        assert_eq!(outcome.json().as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>(), ids);
    }
    let stub = StubGateway::start(script);
    case(&stub, &["404"], 2);
    case(&stub, &["403"], 3);
    case(&stub, &["400"], 4);
    case(&stub, &["ok", "400", "404", "403"], 3);
    case(&stub, &["ok", "400", "404"], 2);
    case(&stub, &["400", "open", "ok"], 4);
    case(&stub, &["ok", "open"], 8);
    case(&stub, &["409"], 8);
    case(&stub, &["418"], 8);
    let stub = StubGateway::start(script);
    let outcome = wait(&stub, &["403", "404", "418"]);
    outcome.expect(3, "{\"403\":{\"error\":\"403\"},\"404\":{\"error\":\"404\"},\"418\":{\"error\":\"418\"}}\n");
    assert_eq!(stub.requests().len(), 3, "none of them is asked for again");
}

#[test]
fn server_errors_are_passing() {
    for status in [500, 502, 503, 504] {
        let asked = AtomicUsize::new(0);
        let stub = StubGateway::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::json(status, "Internal \"Server\" Error"),
            1 => Answer::Close,
            _ => Answer::json(200, COMPLETED),
        });
        wait(&stub, &["a"]).expect(0, &format!("{{\"a\":{COMPLETED}}}\n"));
        let stub = StubGateway::answering(status, "Internal \"Server\" Error");
        let outcome = wait(&stub, &["a", "--timeout", "0"]);
        outcome.expect(8, "{\"a\":{\"error\":\"Internal \\\"Server\\\" Error\"}}\n");
    }
}

#[test]
fn the_gateway_may_restart_in_between() {
    let stub = StubGateway::start(|_| Answer::Silence);
    let url = stub.url();
    let waiting = thread::spawn(move || {
        Shims::new().command("al-wait").args(["a", "b", "--timeout", "20"]).env("GATEWAY_URL", url).run()
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while stub.requests().len() < 2 {
        assert!(Instant::now() < deadline, "nobody asked");
        thread::sleep(Duration::from_millis(10));
    }
    // Both requests are being held; the connections are cut, and for a while nobody listens.
    let address = stub.stop();
    thread::sleep(Duration::from_millis(400));
    let stub = StubGateway::listen(address, |_| Answer::json(200, COMPLETED));
    let outcome = waiting.join().unwrap();
    outcome.expect(0, &format!("{{\"a\":{COMPLETED},\"b\":{COMPLETED}}}\n"));
    assert_eq!(stub.requests().len(), 2);
    assert!(outcome.took < Duration::from_secs(10), "{outcome:?}");
}

#[test]
fn a_gateway_that_never_answers_is_unreachable() {
    let unreachable = "{\"a\":{\"status\":\"error\",\"errorMessage\":\"gateway unreachable\"}}\n";
    let address = StubGateway::answering(200, COMPLETED).stop();
    let wait_for = |url: &str, timeout: &str| {
        Shims::new().command("al-wait").args(["a", "--timeout", timeout]).env("GATEWAY_URL", url).run()
    };
    let outcome = wait_for(&format!("http://{address}"), "1");
    outcome.expect(6, unreachable);
    assert!((0.9..5.0).contains(&outcome.took.as_secs_f32()), "{outcome:?}");
    assert!(outcome.stderr.contains("refused"), "{outcome:?}");

    let outcome = wait_for("https://127.0.0.1:1", "900");
    assert_eq!(outcome.status, 6, "{outcome:?}");
    assert!(outcome.stdout.contains("https") && outcome.took < Duration::from_secs(5), "{outcome:?}");

    let stub = StubGateway::start(|_| Answer::Raw(b"nonsense\r\n".to_vec()));
    let outcome = wait_for(&stub.url(), "1");
    assert_eq!((outcome.status, stub.requests().len() > 1), (6, true), "{outcome:?}");
    outcome.json();
}

#[test]
fn any_returns_with_the_first_call_that_ends() {
    let stub = StubGateway::start(|request| match (id(request).as_str(), request.query("wait")) {
        ("quick", Some(wait)) if wait != "0" => {
            Answer::After(Duration::from_millis(300), Box::new(Answer::json(200, COMPLETED)))
        }
        ("unknown", _) => Answer::json(404, "{}"),
        (_, Some("0")) => Answer::json(200, RUNNING),
        _ => Answer::Silence,
    });
    let outcome = wait(&stub, &["--any", "slow", "unknown", "quick", "--timeout", "20"]);
    outcome.expect(0, &format!("{{\"slow\":{RUNNING},\"unknown\":{{}},\"quick\":{COMPLETED}}}\n"));
    assert!(outcome.took < Duration::from_secs(5), "{outcome:?}");
    wait(&stub, &["--any", "unknown"]).expect(2, "{\"unknown\":{}}\n");
}

#[test]
fn more_calls_than_threads_are_followed_too() {
    let stub = StubGateway::answering(200, COMPLETED);
    let ids: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let outcome = wait(&stub, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(outcome.json().as_object().unwrap().keys().collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    assert_eq!(stub.requests().len(), 200);
}
