//! Two faces: what each of them answers, and what it does not.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use action_llama::base::subnet::Subnet;
use action_llama::gateway::{ContainerListener, Containers, bind};
use serde_json::json;

use crate::support::gateway::{Bed, Setup};
use crate::support::http::{Answer, connect, exchange, get, read_all, request, request_from};

const CONTAINER_ROUTES: [(&str, &str); 12] = [
    ("POST", "/locks/acquire"),
    ("POST", "/locks/release"),
    ("POST", "/locks/heartbeat"),
    ("GET", "/locks/list"),
    ("POST", "/calls"),
    ("GET", "/calls/x"),
    ("POST", "/signals/rerun"),
    ("POST", "/signals/status"),
    ("POST", "/signals/trigger"),
    ("POST", "/signals/return"),
    ("POST", "/shutdown"),
    ("GET", "/credentials/x"),
];

const PUBLIC_ROUTES: [(&str, &str); 16] = [
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("POST", "/webhooks/github"),
    ("GET", "/control/status"),
    ("POST", "/control/pause"),
    ("POST", "/control/stop"),
    ("POST", "/control/trigger/dev"),
    ("GET", "/control/queue"),
    ("GET", "/locks/status"),
    ("GET", "/api/logs/scheduler"),
    ("GET", "/api/logs/agents/dev"),
    ("POST", "/api/auth/login"),
    ("GET", "/api/webhooks"),
    ("POST", "/api/webhooks/simulate"),
    ("GET", "/api/stats/summary"),
];

#[track_caller]
fn assert_unknown(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (404, "404 Not Found"), "{what}");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=UTF-8"), "{what}");
}

#[test]
fn no_face_answers_for_the_other() {
    let bed = Bed::new();
    for (method, path) in CONTAINER_ROUTES {
        assert_unknown(&request(bed.public, method, path, &bed.bearer(), "{}"), path);
        assert_ne!(request(bed.containers, method, path, "", "{}").status, 404, "{path}");
    }
    for (method, path) in PUBLIC_ROUTES {
        assert_unknown(&request(bed.containers, method, path, &bed.bearer(), "{}"), path);
        // An unknown source is 404, too, but says so.
        assert_ne!(request(bed.public, method, path, &bed.bearer(), "{}").body, "404 Not Found", "{path}");
    }
    assert!(bed.log().contains("\"path\":\"/credentials/…\""), "a secret may have been tried at the wrong face");
}

#[test]
fn paths_are_matched_exactly() {
    let bed = Bed::new();
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/Login"),
        ("GET", "/login/"),
        ("GET", "/health/"),
        ("POST", "/health"),
        ("PUT", "/login"),
        ("DELETE", "/logout"),
        ("GET", "/webhooks/github"),
        ("POST", "/webhooks/"),
        ("POST", "/webhooks/github/"),
        ("POST", "/webhooks/github/x"),
        ("GET", "/%6Cogin"),
        ("POST", "/control%2Fpause"),
        ("POST", "//control/pause"),
        ("POST", "/x/../control/pause"),
    ] {
        assert_unknown(&request(bed.public, method, path, "", ""), path);
    }
    for (method, path) in [("GET", "/control/status/"), ("GET", "/control/pause"), ("POST", "/control/trigger/")] {
        assert_unknown(&request(bed.public, method, path, &bed.bearer(), ""), path);
    }
    assert!(bed.seen().wishes.is_empty());
}

#[test]
fn health_is_open_on_both_faces_and_not_logged() {
    let bed = Bed::new();
    for address in [bed.public, bed.containers] {
        let answer = get(address, "/health");
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})));
    }
    assert!(!bed.log().contains("request "), "{}", bed.log());
}

#[test]
fn head_is_answered_like_get_without_a_body() {
    let bed = Bed::new();
    for path in ["/health", "/control/status", "/api/logs/scheduler", "/locks/status"] {
        let head = request(bed.public, "HEAD", path, &bed.bearer(), "");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("Content-Type"), Some("application/json"));
    }
    assert_eq!(request(bed.public, "HEAD", "/control/pause", &bed.bearer(), "").status, 404);
}

#[test]
fn bodies_have_limits_by_path() {
    let bed = Bed::new();
    for (path, limit) in [
        ("/login", 131_072),
        ("/control/pause", 131_072),
        ("/unknown", 131_072),
        ("/api/auth/login", 131_072),
        ("/webhooks/github", 10_485_760),
        ("/api/webhooks/simulate", 10_485_760),
    ] {
        // Refused before anything of it is read.
        let announced = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", limit + 1);
        let sock = connect(bed.public).unwrap();
        (&sock).write_all(announced.as_bytes()).unwrap();
        let answer = Answer::parse(&read_all(&sock).unwrap());
        assert_eq!((answer.status, answer.json()), (413, json!({"error": "payload too large"})), "{path}");
        let chunked = format!("POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", limit + 1);
        assert_eq!(Answer::parse(&exchange(bed.public, chunked.as_bytes()).unwrap()).status, 413, "{path}");
        assert_ne!(request(bed.public, "POST", path, "", &" ".repeat(limit)).status, 413, "{path}");
    }
    let refused = bed.logged("request completed with error");
    assert!(refused.iter().any(|entry| entry["status"] == 413 && entry["path"] == "/webhooks/github"));
}

#[test]
fn a_chunked_body_is_a_body() {
    let bed = Bed::new();
    let body = format!("{:x}\r\n{{\"clearQueue\":true\r\n1\r\n}}\r\n0\r\n\r\n", "{\"clearQueue\":true".len());
    let text = format!("POST /control/stop HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n{body}", bed.bearer());
    assert_eq!(Answer::parse(&exchange(bed.public, text.as_bytes()).unwrap()).status, 200);
    assert_eq!(format!("{:?}", bed.seen().wishes), "[Stop(StopWish { clear_queue: true, kill: false })]");
}

#[test]
fn requests_are_logged_by_path_without_what_may_be_secret() {
    let bed = Bed::new();
    request(
        bed.public,
        "GET",
        "/control/status?key=s3cret-in-the-query",
        "Authorization: Bearer s3cret-header\r\n",
        "",
    );
    bed.get("/api/logs/agents/dev?lines=1");
    let completed = bed.logged("request completed with error");
    assert_eq!(completed.len(), 1);
    let entry = &completed[0];
    assert_eq!(
        (&entry["level"], &entry["method"], &entry["path"], &entry["status"], &entry["reason"]),
        (&json!(40), &json!("GET"), &json!("/control/status"), &json!(401), &json!("Unauthorized"))
    );
    assert!(entry["duration"].is_u64());
    assert_eq!(bed.logged("request received")[1]["path"], "/api/logs/agents/dev");
    assert_eq!(
        (bed.logged("request completed")[0]["level"].clone(), bed.logged("request received").len()),
        (json!(20), 2)
    );
    assert!(!bed.log().contains("s3cret") && !bed.log().contains(bed.key.as_str()), "{}", bed.log());
}

#[test]
fn without_a_bridge_containers_come_through_loopback_to_the_public_listener() {
    let bed = Bed::with(Setup { containers: Containers::Loopback, ..Setup::default() });
    for (method, path) in CONTAINER_ROUTES {
        let answer = request(bed.public, method, path, "", "{}");
        assert!([400, 403].contains(&answer.status), "{path} {answer:?}");
    }
    for (method, path) in PUBLIC_ROUTES {
        assert_ne!(request(bed.public, method, path, &bed.bearer(), "{}").body, "404 Not Found", "{path}");
    }
    assert_eq!(request(bed.public, "GET", "/locks/status", "", "").status, 401);
    assert!(bed.log().contains("containers are served by the public listener"));
    let sock = connect(bed.public).unwrap();
    (&sock).write_all(b"POST /calls HTTP/1.1\r\nContent-Length: 10485761\r\n\r\n").unwrap();
    assert_eq!(Answer::parse(&read_all(&sock).unwrap()).status, 413);
    assert_eq!(request(bed.public, "POST", "/calls", "", &" ".repeat(10_485_760)).status, 400);
}

/// An address of this host that is not loopback: that of its way out, or of Docker's bridge.
fn other_address() -> Ipv4Addr {
    let towards = |address: Ipv4Addr| {
        // Nothing is sent: connecting a datagram socket only chooses the way.
        let sock = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        sock.connect((address, 9)).ok()?;
        match sock.local_addr().ok()? {
            SocketAddr::V4(own) if !own.ip().is_loopback() => Some(*own.ip()),
            _ => None,
        }
    };
    let found = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(172, 17, 0, 1)].into_iter().find_map(towards);
    found.expect("this host has an address beside loopback")
}

#[test]
fn the_container_routes_of_the_public_listener_are_for_loopback_only() {
    let bed = Bed::with(Setup { containers: Containers::Loopback, address: Ipv4Addr::UNSPECIFIED, ..Setup::default() });
    let public = SocketAddr::from((other_address(), bed.public.port()));
    for (method, path) in CONTAINER_ROUTES {
        assert_unknown(&request(public, method, path, "", "{}"), path);
        // A proxy on this host, which comes from loopback like the containers.
        let forwarded = request(bed.public, method, path, "X-Forwarded-For: 198.51.100.7\r\n", "{}");
        assert_unknown(&forwarded, path);
    }
    assert_eq!(get(public, "/health").status, 200);
    assert_eq!(request_from(Ipv4Addr::new(127, 0, 0, 9), bed.public, "POST", "/calls", "", "{}").status, 400);
}

#[test]
fn the_container_face_moves_while_the_process_runs() {
    let bed = Bed::new();
    let gateway = bed.gateway.as_ref().unwrap();
    let listener = bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let moved = gateway.start_container_face(ContainerListener { listener, peers: Subnet::LOOPBACK }).unwrap();
    assert_eq!(get(moved, "/health").status, 200);
    assert_eq!(request(moved, "POST", "/calls", "", "{}").json(), json!({"error": "missing secret"}));
    assert!(connect(bed.containers).is_err(), "the old address is given up");
    assert_eq!(get(bed.public, "/health").status, 200);
}

#[test]
fn clients_of_a_bound_listener_wait_until_it_is_served() {
    let bed = Bed::new();
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let early = connect(address).unwrap();
    (&early).write_all(b"GET /health HTTP/1.1\r\n\r\n").unwrap();
    let gateway = bed.gateway.as_ref().unwrap();
    gateway.start_container_face(ContainerListener { listener, peers: Subnet::LOOPBACK }).unwrap();
    assert_eq!(Answer::parse(&read_all(&early).unwrap()).status, 200);
}

#[test]
fn stopping_refuses_new_connections_on_both_faces_and_takes_no_longer_than_the_grace() {
    let mut bed = Bed::new();
    let half_open = [bed.public, bed.containers].map(|address| {
        let sock = connect(address).unwrap();
        (&sock).write_all(b"GET /hea").unwrap();
        sock
    });
    let before = Instant::now();
    bed.gateway.take().unwrap().stop();
    assert!(before.elapsed() < Duration::from_secs(4), "nothing was left to wait for");
    for (address, sock) in [bed.public, bed.containers].into_iter().zip(half_open) {
        assert!(connect(address).is_err());
        assert_eq!(read_all(&sock).unwrap_or_default(), b"");
    }
}
