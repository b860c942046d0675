//! Who may use the public face: the API key, logging in and out, sessions, and where requests come from.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::gateway::{Bed, Setup};
use crate::support::http::{Answer, request};
use crate::support::wait;

fn error(text: &str) -> Value {
    json!({ "error": text })
}

/// The value of the session cookie that an answer sets.
#[track_caller]
fn session(answer: &Answer) -> String {
    let cookie = answer.header("Set-Cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
    let (value, rest) = cookie.strip_prefix("al_session=").unwrap().split_once(';').unwrap();
    assert_eq!(rest, " HttpOnly; SameSite=Strict; Path=/");
    value.to_owned()
}

#[track_caller]
fn log_in(bed: &Bed) -> String {
    let body = json!({"key": bed.key}).to_string();
    let answer = request(bed.public, "POST", "/api/auth/login", "", &body);
    assert_eq!((answer.status, answer.json()), (200, json!({"success": true})));
    session(&answer)
}

/// Status of a request with these header lines.
fn check(bed: &Bed, fields: &str) -> u16 {
    request(bed.public, "GET", "/api/auth/check", fields, "").status
}

fn with_cookie(value: &str) -> String {
    format!("Cookie: al_session={value}\r\n")
}

/// Posts the login form; `fields` are further header lines.
fn post_form(address: SocketAddr, fields: &str, body: &str) -> Answer {
    let fields = format!("{fields}Content-Type: application/x-www-form-urlencoded\r\n");
    request(address, "POST", "/login", &fields, body)
}

#[test]
fn everything_protected_wants_the_key_whether_it_exists_or_not() {
    let bed = Bed::new();
    for (method, path) in [
        ("GET", "/control/status"),
        ("HEAD", "/control/status"),
        ("POST", "/control/pause"),
        ("PUT", "/control/pause"),
        ("GET", "/control"),
        ("GET", "/control/"),
        ("GET", "/control/no/such/thing"),
        ("GET", "/dashboard"),
        ("GET", "/dashboard/agents/dev/logs"),
        ("GET", "/locks/status"),
        ("GET", "/api/logs"),
        ("GET", "/api/logs/scheduler"),
        ("GET", "/api/webhooks"),
        ("POST", "/api/webhooks/simulate"),
        ("GET", "/api/stats/activity"),
        ("GET", "/api/auth/check"),
    ] {
        let answer = request(bed.public, method, path, "", "");
        assert_eq!(answer.status, 401, "{method} {path}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        if method != "HEAD" {
            assert_eq!(answer.json(), error("Unauthorized"));
        }
        let answer = request(bed.public, method, path, "Accept: application/xhtml+xml,text/html;q=0.9\r\n", "");
        assert_eq!((answer.status, answer.header("Location"), answer.body.as_str()), (302, Some("/login"), ""));
    }
    for path in ["/control", "/control/no/such/thing", "/dashboard/x", "/api/logs", "/api/stats/x"] {
        let answer = bed.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 Not Found"), "{path}");
    }
    assert!(bed.seen().wishes.is_empty());
}

#[test]
fn the_key_is_compared_exactly() {
    let bed = Bed::new();
    let key = &bed.key;
    let bearer = |value: &str| check(&bed, &format!("Authorization: {value}\r\n"));
    assert_eq!(bearer(&format!("Bearer {key}")), 200);
    for wrong in [
        format!("bearer {key}"),
        format!("Bearer  {key}"),
        format!("Bearer {key}x"),
        format!("Bearer {}", &key[1..]),
        format!("Basic {key}"),
        key.clone(),
        "Bearer ".to_owned(),
        "Bearer".to_owned(),
    ] {
        assert_eq!(bearer(&wrong), 401, "{wrong}");
    }
    assert_eq!(check(&bed, &with_cookie(key)), 200);
    assert_eq!(check(&bed, &format!("Cookie: a=b; al_session=x; al_session={key}; c=d\r\n")), 200);
    assert_eq!(check(&bed, &format!("Cookie: al_session={key}; al_session=x\r\n")), 401);
    assert_eq!(check(&bed, &format!("Authorization: Bearer wrong\r\nCookie: al_session={key}\r\n")), 200);
    assert!(!bed.log().contains(key.as_str()), "{}", bed.log());
}

#[test]
fn the_login_page_lets_in_who_knows_the_key() {
    let bed = Bed::new();
    let page = request(bed.public, "GET", "/login", "", "");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=UTF-8")));
    for part in
        ["Action Llama", "method=\"POST\" action=\"/login\"", "name=\"key\"", "API Key", "gateway_api_key/default/key"]
    {
        assert!(page.body.contains(part), "{part} is not in {}", page.body);
    }
    for (field, value) in [
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    ] {
        assert_eq!(page.header(field), Some(value));
    }
    let policy = page.header("Content-Security-Policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe-inline"), "{policy}");

    let answer = post_form(bed.public, "", &format!("key={}", bed.key));
    assert_eq!((answer.status, answer.header("Location"), answer.body.as_str()), (302, Some("/dashboard"), ""));
    let value = session(&answer);
    assert!(value.len() == 64 && value != bed.key);
    assert_eq!(check(&bed, &with_cookie(&value)), 200);

    let multipart = format!("--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n{}\r\n--b--\r\n", bed.key);
    let fields = "Content-Type: multipart/form-data; boundary=b\r\n";
    assert_eq!(request(bed.public, "POST", "/login", fields, &multipart).status, 302);
}

#[test]
fn who_does_not_know_the_key_is_told_so() {
    let bed = Bed::new();
    let json = json!({"key": bed.key}).to_string();
    for (content_type, body) in [
        ("application/x-www-form-urlencoded", "key=wrong"),
        ("application/x-www-form-urlencoded", "key="),
        ("application/x-www-form-urlencoded", "other=x"),
        ("application/x-www-form-urlencoded", ""),
        ("application/json", json.as_str()),
    ] {
        let answer = request(bed.public, "POST", "/login", &format!("Content-Type: {content_type}\r\n"), body);
        assert_eq!(answer.status, 401, "{body}");
        assert!(answer.body.contains("Invalid API key") && answer.header("Set-Cookie").is_none());
    }
}

#[test]
fn scripts_are_told_so_in_json() {
    let bed = Bed::new();
    let answer = |body: &str| request(bed.public, "POST", "/api/auth/login", "", body);
    for body in [r#"{"key":"wrong"}"#, r#"{"key":7}"#, "{}"] {
        assert_eq!((answer(body).status, answer(body).json()), (401, error("Invalid API key")), "{body}");
    }
    assert_eq!((answer("[]").status, answer("").json()), (400, error("invalid JSON body")));
}

#[test]
fn a_session_ends_by_logging_out() {
    let bed = Bed::new();
    let (first, second) = (log_in(&bed), log_in(&bed));
    assert_ne!(first, second);
    let gone = "al_session=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0";
    let answer = request(bed.public, "POST", "/logout", &with_cookie(&first), "");
    assert_eq!(
        (answer.status, answer.header("Location"), answer.header("Set-Cookie")),
        (302, Some("/login"), Some(gone))
    );
    assert_eq!((check(&bed, &with_cookie(&first)), check(&bed, &with_cookie(&second))), (401, 200));
    let answer = request(bed.public, "POST", "/api/auth/logout", &with_cookie(&second), "");
    assert_eq!((answer.json(), answer.header("Set-Cookie")), (json!({"success": true}), Some(gone)));
    assert_eq!(check(&bed, &with_cookie(&second)), 401);
    assert_eq!(request(bed.public, "POST", "/logout", "", "").status, 302);
    assert_eq!(request(bed.public, "GET", "/logout", "", "").status, 404);
}

#[test]
fn a_new_key_counts_without_a_restart_and_ends_all_sessions() {
    let bed = Bed::new();
    let value = log_in(&bed);
    let file = bed.credentials.root().join("gateway_api_key/default/key");
    std::fs::write(&file, "another-key\n").unwrap();
    wait::until("the new key", || check(&bed, "Authorization: Bearer another-key\r\n"), |status| *status == 200);
    assert_eq!((check(&bed, &bed.bearer()), check(&bed, &with_cookie(&value))), (401, 401));
    let count =
        || bed.store.read(|db| Ok(db.query_row("SELECT COUNT(*) FROM sessions", [], |row| row.get::<_, i64>(0))?));
    assert_eq!(count().unwrap(), 0);
    let log = bed.log();
    assert!(log.contains("API key changed") && !log.contains("another-key"), "{log}");
}

#[test]
fn failed_logins_are_limited_per_client() {
    let bed = Bed::new();
    let fail = |client: &str| post_form(bed.public, &format!("X-Forwarded-For: {client}\r\n"), "key=wrong");
    for _ in 0..10 {
        assert_eq!(fail("198.51.100.7").status, 401);
    }
    let answer = fail("198.51.100.7");
    assert_eq!((answer.status, answer.header("Retry-After")), (429, Some("60")));
    assert!(answer.body.contains("<form"));
    let right = format!("key={}", bed.key);
    assert_eq!(
        post_form(bed.public, "X-Forwarded-For: 198.51.100.7\r\n", &right).status,
        429,
        "also with the right key"
    );
    let body = json!({"key": bed.key}).to_string();
    let answer = request(bed.public, "POST", "/api/auth/login", "X-Forwarded-For: 198.51.100.7\r\n", &body);
    assert_eq!((answer.status, answer.header("Retry-After")), (429, Some("60")));
    assert_eq!(fail("198.51.100.8").status, 401);
    for _ in 0..15 {
        assert_eq!(post_form(bed.public, "X-Forwarded-For: 198.51.100.9\r\n", &right).status, 302);
    }
}

#[test]
fn the_cookie_is_secure_when_the_proxy_speaks_https() {
    let cookie = |proxies: Vec<&'static str>, proto: &str| {
        let bed = Bed::with(Setup { trusted_proxies: proxies, ..Setup::default() });
        let fields = format!("X-Forwarded-Proto: {proto}\r\n");
        let answer = post_form(bed.public, &fields, &format!("key={}", bed.key));
        answer.header("Set-Cookie").unwrap().ends_with("; Secure")
    };
    assert!(cookie(vec!["127.0.0.0/8"], "https"));
    assert!(!cookie(vec!["127.0.0.0/8"], "http"));
    assert!(!cookie(vec!["10.0.0.0/8"], "https"), "anyone could say so");
}

#[test]
fn pages_of_others_change_nothing_with_our_cookie() {
    let bed = Bed::new();
    let cookie = with_cookie(&log_in(&bed));
    let pause = |fields: &str| request(bed.public, "POST", "/control/pause", fields, "");
    // The client of the tests says `Host: test`.
    for own in ["", "Origin: http://test\r\n", "Origin: https://TEST\r\n", "Origin: http://test:80\r\n"] {
        assert_eq!(pause(&format!("{cookie}{own}")).status, 200, "{own}");
    }
    for foreign in ["http://evil.example", "http://test:8080", "http://test.evil.example", "null", "test"] {
        let answer = pause(&format!("{cookie}Origin: {foreign}\r\n"));
        assert_eq!((answer.status, answer.json()), (403, error("Forbidden")), "{foreign}");
        assert_eq!(pause(&format!("{}Origin: {foreign}\r\n", bed.bearer())).status, 200, "no browser sends that");
        let read = request(bed.public, "GET", "/control/status", &format!("{cookie}Origin: {foreign}\r\n"), "");
        assert_eq!(read.status, 200);
    }
    assert_eq!(bed.seen().wishes.len(), 9);
}

#[test]
fn nobody_logs_in_or_out_when_that_cannot_be_stored() {
    let bed = Bed::new();
    let cookie = with_cookie(&log_in(&bed));
    bed.store.close().unwrap();
    let body = json!({"key": bed.key}).to_string();
    for (path, fields, body) in
        [("/api/auth/login", "", body.as_str()), ("/logout", &cookie, ""), ("/api/auth/logout", &cookie, "")]
    {
        let answer = request(bed.public, "POST", path, fields, body);
        assert_eq!((answer.status, answer.json()), (503, error("storage unavailable")), "{path}");
        assert!(answer.header("Retry-After").is_some() && answer.header("Set-Cookie").is_none());
    }
    assert_eq!(check(&bed, &bed.bearer()), 200);
    assert_eq!(check(&bed, &cookie), 503);
}
