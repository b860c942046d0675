//! Providers are asked before a credential is stored: what they are asked, and what comes of their answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::support::al::Done;
use crate::support::project::Project;

/// A server in the place of a provider. It gives every request the same answers by turns and remembers all of it.
struct Provider {
    origin: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    /// `answers`: status line with further header lines, and body.
    fn answering(answers: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let answers: Vec<(String, String)> =
            answers.iter().map(|(head, body)| ((*head).into(), (*body).into())).collect();
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for (stream, (head, body)) in listener.incoming().zip(answers.iter().cycle()) {
                let mut stream = BufReader::new(stream.unwrap());
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") && stream.read_line(&mut request).unwrap() > 0 {}
                let length = request
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .map(|rest| rest.lines().next().unwrap().parse());
                let mut content = vec![0; length.map_or(0, |length: Result<usize, _>| length.unwrap())];
                stream.read_exact(&mut content).unwrap();
                request += &String::from_utf8(content).unwrap();
                seen.lock().unwrap().push(request);
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        });
        Self { origin, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A type with how it is asked about: origin, path, what the request must contain, an answer that accepts it.
struct Case {
    kind: &'static str,
    origin: &'static str,
    path: &'static str,
    sent: &'static str,
    good: &'static str,
    /// Part of the message when it is refused.
    named: &'static str,
}

const fn case(
    kind: &'static str,
    origin: &'static str,
    path: &'static str,
    sent: &'static str,
    good: &'static str,
    named: &'static str,
) -> Case {
    Case { kind, origin, path, sent, good, named }
}

const CASES: [Case; 13] = [
    case(
        "github_token",
        "https://api.github.com",
        "GET /user ",
        "authorization: bearer tea-secret",
        r#"{"login":"ann"}"#,
        "GitHub",
    ),
    case(
        "anthropic_key",
        "https://api.anthropic.com",
        "GET /v1/models?limit=1 ",
        "x-api-key: tea-secret",
        "{}",
        "Anthropic",
    ),
    case(
        "sentry_token",
        "https://sentry.io",
        "GET /api/0/organizations/ ",
        "authorization: bearer tea-secret",
        r#"[{"slug":"acme","name":"Acme"}]"#,
        "Sentry",
    ),
    case(
        "linear_token",
        "https://api.linear.app",
        "POST /graphql ",
        "authorization: tea-secret",
        r#"{"data":{"viewer":{"name":"Ann"}}}"#,
        "Linear",
    ),
    case(
        "linear_oauth",
        "https://api.linear.app",
        "POST /graphql ",
        "authorization: bearer tea-secret",
        r#"{"data":{}}"#,
        "Linear OAuth",
    ),
    case(
        "netlify_token",
        "https://api.netlify.com",
        "GET /api/v1/user ",
        "authorization: bearer tea-secret",
        r#"{"email":"a@b.example"}"#,
        "Netlify",
    ),
    case(
        "x_twitter_api",
        "https://api.x.com",
        "GET /2/users/by/username/x ",
        "authorization: bearer tea-secret",
        "{}",
        "X (Twitter)",
    ),
    case("bugsnag_token", "https://api.bugsnag.com", "GET /user ", "authorization: token tea-secret", "{}", "Bugsnag"),
    case(
        "vultr_api_key",
        "https://api.vultr.com",
        "GET /v2/account ",
        "authorization: bearer tea-secret",
        "{}",
        "Vultr",
    ),
    case(
        "hetzner_api_key",
        "https://api.hetzner.cloud",
        "GET /v1/server_types ",
        "authorization: bearer tea-secret",
        "{}",
        "Hetzner",
    ),
    case(
        "cloudflare_api_token",
        "https://api.cloudflare.com",
        "GET /client/v4/user/tokens/verify ",
        "authorization: bearer tea-secret",
        r#"{"success":true,"result":{"status":"active"}}"#,
        "Cloudflare",
    ),
    case(
        "reddit_oauth",
        "https://www.reddit.com",
        "POST /api/v1/access_token ",
        "grant_type=password&username=tea-secret&password=tea-secret",
        r#"{"access_token":"x"}"#,
        "Reddit",
    ),
    case("mintlify_token", "https://nobody.example", "", "", "", ""),
];

/// Adds a credential whose every field is `tea-secret`.
fn add(project: &Project, kind: &str, origin: &str, provider: &Provider, more: &[&str]) -> Done {
    let known = shims::credential_types::find(kind).unwrap();
    let fields: serde_json::Map<_, _> =
        known.fields.iter().map(|field| (field.name.into(), json!("tea-secret"))).collect();
    let input = if known.fields.len() == 1 { "tea-secret\n".to_owned() } else { json!(fields).to_string() };
    let replaced = format!("{origin}={}", provider.origin);
    project
        .al(&[&["creds", "add", kind, "--stdin"], more].concat())
        .env("AL_HTTP_OVERRIDE", replaced)
        .stdin(input)
        .run()
}

fn is_stored(project: &Project, kind: &str) -> bool {
    project.home().join(".action-llama/credentials").join(kind).exists()
}

#[test]
fn providers_are_asked_as_specified_and_what_they_accept_is_stored() {
    for Case { kind, origin, path, sent, good, .. } in CASES {
        let project = Project::without_docker("");
        let provider = Provider::answering(&[("200 OK", good)]);
        let done = add(&project, kind, origin, &provider, &[]);
        assert_eq!(done.expect(0).stdout, format!("Credential \"{kind}\" saved.\n"));
        assert!(is_stored(&project, kind), "{kind}");
        let requests = provider.requests();
        assert_eq!(requests.is_empty(), path.is_empty(), "{kind}: {requests:?}");
        if let Some(first) = requests.first() {
            assert!(first.starts_with(path), "{kind}: {first}");
            assert!(first.to_lowercase().contains(sent), "{kind}: {first}");
            let agent = format!("user-agent: action-llama/{}", env!("CARGO_PKG_VERSION"));
            assert!(kind == "reddit_oauth" || first.to_lowercase().contains(&agent), "{kind}: {first}");
        }
    }
}

#[test]
fn what_a_provider_refuses_is_not_stored_and_not_shown() {
    for Case { kind, origin, named, .. } in CASES.into_iter().filter(|case| !case.named.is_empty()) {
        let project = Project::without_docker("");
        let provider =
            Provider::answering(&[("401 Unauthorized", r#"{"message":"bad tea-secret","echo":"tea-secret"}"#)]);
        let done = add(&project, kind, origin, &provider, &[]);
        assert!(done.expect(1).stderr.starts_with("Credential error: "), "{kind}: {}", done.stderr);
        assert!(done.stderr.contains(named) && done.stderr.contains("401"), "{kind}: {}", done.stderr);
        assert!(!format!("{}{}", done.stdout, done.stderr).contains("tea-secret"), "{kind}: {}", done.stderr);
        assert!(!is_stored(&project, kind), "{kind}");
    }
}

#[test]
fn what_nobody_could_say_is_stored_only_without_asking() {
    for Case { kind, origin, named, .. } in CASES.into_iter().filter(|case| !case.named.is_empty()) {
        for head in ["500 Oops", "429 Slow down"] {
            // With this one a token is known to be accepted.
            if kind == "x_twitter_api" && head.starts_with("429") {
                continue;
            }
            let project = Project::without_docker("");
            let provider = Provider::answering(&[(head, "tea-secret is busy")]);
            let done = add(&project, kind, origin, &provider, &[]);
            assert!(
                done.expect(1).stderr.contains("--no-verify") && done.stderr.contains(named),
                "{kind}: {}",
                done.stderr
            );
            assert!(!done.stderr.contains("tea-secret") && !is_stored(&project, kind), "{kind}: {}", done.stderr);
            let asked = provider.requests().len();
            add(&project, kind, origin, &provider, &["--no-verify"]).expect(0);
            assert!(is_stored(&project, kind) && provider.requests().len() == asked, "{kind}");
        }
    }
}

#[test]
fn a_person_decides_about_what_nobody_could_say() {
    let project = Project::without_docker("");
    let provider = Provider::answering(&[("503 Busy", "")]);
    let ask = || {
        let replaced = format!("https://api.vultr.com={}", provider.origin);
        let mut al = project.al(&["creds", "add", "vultr_api_key"]).env("AL_HTTP_OVERRIDE", replaced).on_pty();
        al.answer("API Key:", "tea-secret").wait_for("Validating Vultr API Key...").wait_for("(HTTP 503)");
        al
    };
    let mut al = ask();
    al.answer("Save anyway? (Y/n)", "n").wait_for("Aborted.");
    assert_eq!(al.finish().0, 0);
    assert!(!is_stored(&project, "vultr_api_key"));
    let mut al = ask();
    al.answer("Save anyway? (Y/n)", "").wait_for("saved.");
    assert_eq!(al.finish().0, 0);
    assert!(is_stored(&project, "vultr_api_key"));
}

#[test]
fn a_signal_after_a_question_ends_the_command_as_well() {
    let project = Project::without_docker("");
    // Nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let replaced = format!("https://api.vultr.com=http://{}", silent.local_addr().unwrap());
    let mut al = project.al(&["creds", "add", "vultr_api_key"]).env("AL_HTTP_OVERRIDE", replaced).on_pty();
    al.answer("API Key:", "tea-secret").wait_for("Validating Vultr API Key...").signal(Signal::TERM);
    assert_eq!(al.finish().0, -Signal::TERM.as_raw());
    assert!(!is_stored(&project, "vultr_api_key"));
}

#[test]
fn a_token_of_github_without_scopes_is_warned_about() {
    let project = Project::without_docker("");
    let provider =
        Provider::answering(&[("200 OK\r\nX-OAuth-Scopes: repo, gist", r#"{"login":"ann"}"#), ("200 OK", "[1,2]")]);
    let replaced = format!("https://api.github.com={}", provider.origin);
    let mut al = project.al(&["creds", "add", "github_token"]).env("AL_HTTP_OVERRIDE", replaced).on_pty();
    al.answer("Token:", "ghp_secret").wait_for("GitHub user ann, 2 repositories").wait_for("lacks the scope workflow");
    al.wait_for("saved.");
    assert_eq!(al.finish().0, 0);
    assert!(provider.requests()[1].starts_with("GET /user/repos?sort=updated&per_page=100 "));
}

#[test]
fn the_kind_of_an_anthropic_key_decides_how_it_is_checked() {
    let project = Project::without_docker("");
    let mut al = project.al(&["creds", "add", "anthropic_key"]).on_pty();
    al.wait_for("OAuth token").type_in("o\r").answer("OAuth token:", "x sk-ant-oat01");
    al.answer("begins with sk-ant-oat.", "sk-ant-oat01-abc").wait_for("saved.");
    assert_eq!(al.finish().0, 0);
    let mut al = project.al(&["creds", "add", "anthropic_key"]).on_pty();
    al.answer("Found existing Anthropic API Credential. Use it? (Y/n)", "").wait_for("authType: oauth_token");
    al.wait_for("left as it is");
    assert_eq!(al.finish().0, 0);
}

#[test]
fn secrets_are_never_sent_to_another_machine_by_the_override() {
    let project = Project::without_docker("");
    for target in ["http://192.0.2.1:80", "https://127.0.0.1:1", "http://localhost.example", "x"] {
        let done = project
            .al(&["creds", "add", "vultr_api_key", "--stdin"])
            .env("AL_HTTP_OVERRIDE", format!("https://api.vultr.com={target}"))
            .stdin("tea-secret")
            .run();
        assert!(done.expect(1).stderr.contains("AL_HTTP_OVERRIDE"), "{}", done.stderr);
    }
}

#[test]
fn what_is_stored_is_checked_without_storing_anything() {
    let project = Project::without_docker("");
    project.credential("github_token", "token", "ghp_1");
    project.credential("netlify_token", "token", "nfp_1");
    project.credential("openai_key", "token", "wrong");
    project.credential("mintlify_token", "token", "x");
    project.credential("git_ssh", "username", "Bot");
    let good = Provider::answering(&[("200 OK", r#"{"login":"octo"}"#), ("200 OK", "[]")]);
    let bad = Provider::answering(&[("401 Unauthorized", r#"{"message":"no"}"#)]);
    let origins = format!("https://api.github.com={},https://api.netlify.com={}", good.origin, bad.origin);
    let check =
        |args: &[&str]| project.al(&[&["creds", "check"], args].concat()).env("AL_HTTP_OVERRIDE", &origins).run();
    let done = check(&[]);
    for line in [
        "  [INVALID] SSH Key & Git Identity (git_ssh)\n    incomplete: email\n",
        "  [ok] GitHub Personal Access Token (github_token)\n",
        "  [not asked] Mintlify API Token (mintlify_token)\n",
        "  [INVALID] Netlify Personal Access Token (netlify_token)\n",
        "  [INVALID] OpenAI API Credential (openai_key)\n    token: ",
    ] {
        assert!(done.expect(1).stdout.contains(line), "{line}: {}", done.stdout);
    }
    assert!(!done.stdout.contains("ghp_1") && !done.stdout.contains("nfp_1"));
    check(&["github_token", "mintlify_token"]).expect(0);
    let nobody = || project.al(&["creds", "check", "netlify_token", "mintlify_token", "--json"]);
    let done = nobody().env("AL_HTTP_OVERRIDE", "https://api.netlify.com=http://127.0.0.1:1").run();
    assert!(done.expect(1).stderr.starts_with("Warning: 1 of 2 credential(s) could not be checked"), "{}", done.stderr);
    let document: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&document["ok"], &document["credentials"][0]["status"]), (&json!(false), &json!("unknown")));
    let document: serde_json::Value =
        serde_json::from_str(&check(&["netlify_token", "--json"]).expect(1).stdout).unwrap();
    assert_eq!((&document["ok"], &document["credentials"][0]["status"]), (&json!(false), &json!("invalid")));
    let done = check(&["nothing", "a:b:c"]);
    assert!(
        done.expect(1).stderr.contains("\"nothing\" not found") && done.stderr.contains("a:b:c"),
        "{}",
        done.stderr
    );
}
