//! Where requests go and how they introduce themselves (agent-session.md §2.2, §8).

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use super::super::{ModelChoice, providers};
use super::{Fake, Format, Given, ask, choice, connect};
use crate::env::Environment;
use crate::secret::Secret;

/// A provider, a model of it, and what the table of providers says: format, base URL, path, header and value of the
/// key.
struct Row {
    provider: &'static str,
    model: &'static str,
    format: Format,
    base: &'static str,
    path: &'static str,
    key: [&'static str; 2],
}

const BEARER: [&str; 2] = ["authorization", "bearer key-for-tests"];
const CHAT: &str = "/chat/completions";

const fn row(
    provider: &'static str,
    model: &'static str,
    format: Format,
    base: &'static str,
    path: &'static str,
    key: [&'static str; 2],
) -> Row {
    Row { provider, model, format, base, path, key }
}

const ROWS: [Row; 7] = [
    row(
        "anthropic",
        "claude-opus-5-5",
        Format::Anthropic,
        "https://api.anthropic.com",
        "/v1/messages",
        ["x-api-key", "key-for-tests"],
    ),
    row("openai", "gpt-6-sol", Format::Responses, "https://api.openai.com/v1", "/responses", BEARER),
    row("groq", "openai/gpt-oss-120b", Format::Chat, "https://api.groq.com/openai/v1", CHAT, BEARER),
    row(
        "google",
        "gemini-3.8-flash",
        Format::Google,
        "https://generativelanguage.googleapis.com/v1beta",
        "/models/gemini-3.8-flash:streamgeneratecontent?alt=sse",
        ["x-goog-api-key", "key-for-tests"],
    ),
    row("xai", "grok-4.7", Format::Chat, "https://api.x.ai/v1", CHAT, BEARER),
    row("mistral", "mistral-large-latest", Format::Chat, "https://api.mistral.ai/v1", CHAT, BEARER),
    row("openrouter", "x-ai/grok-4.3", Format::Chat, "https://openrouter.ai/api/v1", CHAT, BEARER),
];

/// Every header that may carry a key.
const KEY_HEADERS: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];

#[track_caller]
fn assert_sent(table: Value, key: Option<&str>, path: &str, auth: Option<[&str; 2]>, format: Format) {
    let server = Fake::start(vec![Given::stream(format.hello())]);
    let mut table = table;
    let base = table["baseUrl"].as_str().unwrap_or_default().replace("SERVER", &server.url);
    table["baseUrl"] = base.into();
    let what = table.to_string();
    let choice = ModelChoice { key: key.map(Secret::new), ..choice(table) };
    let provider = providers::connect(&choice, &Environment::default(), &mut |_| {});
    ask(&mut *provider.unwrap_or_else(|error| panic!("{what}: {error}"))).1.unwrap();
    let request = server.received().remove(0);
    assert!(request.head.starts_with(&format!("post {path} http/1.1\r\n")), "{what}: {}", request.head);
    for name in KEY_HEADERS {
        let expected = auth.filter(|auth| auth[0] == name).map(|auth| auth[1]);
        assert_eq!(request.header(name), expected, "{what}: {name}");
    }
    for (name, value) in [
        ("content-type", "application/json"),
        ("accept", "text/event-stream"),
        ("accept-encoding", "identity"),
        ("user-agent", concat!("action-llama/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(request.header(name), Some(value), "{what}");
    }
}

#[test]
fn every_provider_has_its_address_path_and_header() {
    for row in ROWS {
        let table = json!({"provider": row.provider, "model": row.model});
        assert_eq!(connect(table.clone()).model().base_url.as_deref(), Some(row.base), "{}", row.provider);
        // The path of the base URL is part of what is asked for.
        let inside = row.base.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
        for slash in ["", "/"] {
            let mut table = table.clone();
            table["baseUrl"] = format!("SERVER{inside}{slash}").into();
            let path = format!("{inside}{}", row.path);
            assert_sent(table, Some("key-for-tests"), &path, Some(row.key), row.format);
        }
    }
    let mock = connect(json!({"provider": "mock", "model": "echo"}));
    assert_eq!((mock.model().base_url.as_deref(), mock.model().api), (None, "mock"));
}

#[test]
fn openai_can_be_asked_in_the_other_format() {
    let table = json!({"provider": "openai", "model": "gpt-6-sol", "api": "chat"});
    assert_eq!(connect(table.clone()).model().base_url.as_deref(), Some("https://api.openai.com/v1"));
    let at = |api: &str| json!({"provider": "openai", "model": "gpt-6-sol", "api": api, "baseUrl": "SERVER/v1"});
    assert_sent(at("chat"), Some("key-for-tests"), "/v1/chat/completions", Some(BEARER), Format::Chat);
    assert_sent(at("responses"), Some("key-for-tests"), "/v1/responses", Some(BEARER), Format::Responses);
}

#[test]
fn a_server_of_ones_own_speaks_any_format_with_any_header_or_none() {
    for (api, base, path, format, own) in [
        (None, "/v1", "/v1/chat/completions", Format::Chat, BEARER),
        (Some("chat"), "/v1", "/v1/chat/completions", Format::Chat, BEARER),
        (Some("responses"), "/v1", "/v1/responses", Format::Responses, BEARER),
        (Some("anthropic"), "", "/v1/messages", Format::Anthropic, ["x-api-key", "key-for-tests"]),
        (
            Some("google"),
            "/v1beta",
            "/v1beta/models/my%2fmodel%20%c3%bc:streamgeneratecontent?alt=sse",
            Format::Google,
            ["x-goog-api-key", "key-for-tests"],
        ),
    ] {
        let mut table = json!({"provider": "custom", "model": "my/model ü", "baseUrl": format!("SERVER{base}")});
        if let Some(api) = api {
            table["api"] = api.into();
        }
        assert_sent(table.clone(), Some("key-for-tests"), path, Some(own), format);
        assert_sent(table.clone(), Some("  key-for-tests\n"), path, Some(own), format);
        assert_sent(table.clone(), None, path, None, format);
        assert_sent(table.clone(), Some(" \n"), path, None, format);
        table["authHeader"] = "API-Key".into();
        assert_sent(table, Some("key-for-tests"), path, Some(["api-key", "key-for-tests"]), format);
    }
}

/// Pasting leaves such things behind. No server would understand it, and waiting would not help.
#[test]
fn a_key_that_cannot_be_one_is_named_before_anything_is_sent() {
    for format in Format::ALL {
        for key in ["hunter2-\nhunter2", "hunter2-\u{200b}", "hunter2-\u{a0}x", "hunter2-\u{436}", "hunter2-\u{7f}"] {
            let table = format.table("http://127.0.0.1:1");
            let name = format!("{}_key", table["provider"].as_str().unwrap());
            let choice = ModelChoice { key: Some(Secret::new(key)), ..choice(table) };
            let error =
                providers::connect(&choice, &Environment::default(), &mut |_| {}).err().expect("this is no key");
            assert!(error.contains(&format!("the {name} credential has characters")), "{error}");
            assert!(error.contains(&format!("al creds add {name}")) && !error.contains("hunter2"), "{error}");
        }
    }
    let table = json!({"provider": "custom", "baseUrl": "http://x", "model": "m", "credential": "my_key:team"});
    let choice = ModelChoice { key: Some(Secret::new("hunter2-\u{436}")), ..choice(table) };
    let error = providers::connect(&choice, &Environment::default(), &mut |_| {}).err().unwrap();
    assert!(error.contains("al creds add my_key:team"), "{error}");
}

/// The host as it is resolved and connected to. A proxy hears it, and nothing goes any further.
#[test]
fn requests_go_to_the_host_of_the_address() {
    for row in ROWS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let heard = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            stream.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n").unwrap();
            String::from_utf8_lossy(&head).into_owned()
        });
        let choice = choice(json!({"provider": row.provider, "model": row.model}));
        let environment = Environment::from_iter([("HTTPS_PROXY", proxy.as_str())]);
        let mut provider = providers::connect(&choice, &environment, &mut |_| {}).ok().unwrap();
        ask(&mut *provider).1.unwrap_err();
        let host = row.base.trim_start_matches("https://").split('/').next().unwrap();
        let heard = heard.join().unwrap();
        assert!(heard.starts_with(&format!("CONNECT {host}:443 HTTP/1.1\r\n")), "{}: {heard}", row.provider);
        assert!(!heard.contains("key-for-tests"), "{heard}");
    }
}
