//! `http`: one request whose answer goes into a file (containers.md §12.2).

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Uri};
use ureq::tls::TlsConfig;

use super::output::OutputFile;
use super::{LOG_LIMIT, Step, interpolate};
use crate::agent::report::Field;
use crate::session::http::{proxy, roots};
use crate::user_info::hide_user_info;

/// Most bytes of an answer.
const OUTPUT_LIMIT: u64 = 256 << 20;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest time without a byte.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
const REDIRECTS: u32 = 10;

/// Requests `url` and writes the answer's body to the file `output`.
///
/// # Errors
/// A parameter is missing or wrong, there is no complete answer, or its status is not 200–299.
pub(super) fn run(step: &Step<'_>) -> Result<()> {
    let (url, output) = (step.mandatory("url")?, step.mandatory("output")?);
    // What people configured, without the values of variables, goes into log and errors.
    let raw_url = &*hide_user_info(step.raw_mandatory("url")?);
    let method = step.optional("method").filter(|method| !method.is_empty()).unwrap_or_else(|| "GET".into());
    let method = method.to_uppercase();
    step.report.info("preflight http", &[("method", Field::Text(&method)), ("url", Field::Cut(raw_url, LOG_LIMIT))]);
    let body = step.optional("body");
    ensure!(body.is_none() || !["GET", "HEAD"].contains(&method.as_str()), "a {method} request cannot have a body");

    let request =
        request(step, &method, &url, body.unwrap_or_default()).with_context(|| format!("request {raw_url}"))?;
    let agent = agent(step, request.uri()).with_context(|| format!("request {raw_url}"))?;
    let mut answer =
        agent.run(request).map_err(|error| describe(&error)).with_context(|| format!("request {raw_url}"))?;
    let status = answer.status();
    ensure!(status.is_success(), "HTTP {} {} from {raw_url}", status.as_u16(), status.canonical_reason().unwrap_or(""));
    let mut file = OutputFile::create(step.path(&output), OUTPUT_LIMIT)?;
    let mut body = answer.body_mut().with_config().limit(u64::MAX).reader();
    io::copy(&mut body, &mut file).with_context(|| format!("receive the answer of {raw_url}"))?;
    file.flush().context("write the answer")?;
    let bytes = file.finish()?;
    let path = step.raw("output").unwrap_or_default();
    step.report.info("preflight http output written", &[("path", path.into()), ("bytes", bytes.into())]);
    Ok(())
}

fn request(step: &Step<'_>, method: &str, url: &str, body: String) -> Result<Request<Vec<u8>>> {
    let uri: Uri = url.parse().ok().context("not a URL")?;
    ensure!(
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some(),
        "the URL does not start with http:// or https:// and a host"
    );
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in step.params.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let Some(value) = value.as_str() else { continue };
        request = request.header(name, interpolate::text(value, step.environment));
    }
    // The reason would be about a value.
    request.body(body.into_bytes()).ok().context("the method or a header is not valid")
}

fn agent(step: &Step<'_>, uri: &Uri) -> Result<Agent> {
    let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
    let proxy = proxy(scheme, host, step.environment).map_err(|problem| anyhow!(problem))?;
    // A redirect may lead from http to https, so the certificates are needed in any case.
    let roots = roots(step.environment).map_err(|problem| anyhow!(problem))?;
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .max_redirects(REDIRECTS)
        .timeout_global(step.limit)
        .timeout_resolve(Some(CONNECT_LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_per_read(Some(IDLE_LIMIT))
        .timeout_per_write(Some(IDLE_LIMIT))
        .user_agent(format!("action-llama/{}", crate::VERSION))
        .proxy(proxy)
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build();
    Ok(config.new_agent())
}

/// What went wrong, without the URL, which may contain the values of variables.
fn describe(error: &ureq::Error) -> anyhow::Error {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) => anyhow!("not a URL that can be requested"),
        other => anyhow!("{other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::path::Path;
    use std::thread::{self, JoinHandle};

    use serde_json::{Value, json};

    use super::super::tests::run_steps;

    /// Serves one connection per answer; ends with the requests. `URL` in an answer is the server's own.
    fn serve(answers: &'static [&'static str]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let own = url.clone();
        let serving = thread::spawn(move || {
            let serve_one = |answer: &&str| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                let head = String::from_utf8(request).unwrap();
                let length = head
                    .to_lowercase()
                    .split_once("content-length: ")
                    .map_or(0, |(_, rest)| rest.split_once('\r').unwrap().0.parse().unwrap());
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                stream.write_all(answer.replace("URL", &own).as_bytes()).unwrap();
                head + &String::from_utf8(body).unwrap()
            };
            answers.iter().map(serve_one).collect()
        });
        (url, serving)
    }

    fn run(params: Value, tmp: &Path, variables: &[(&str, &str)]) -> (Option<String>, Vec<String>) {
        run_steps(json!([{"provider": "http", "params": params}]), tmp, variables)
    }

    #[test]
    fn the_body_goes_to_the_file_and_redirects_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (url, serving) = serve(&[
            "HTTP/1.1 302 Found\r\nLocation: URL/second\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n[1,2]",
        ]);
        let params = json!({"url": "${BASE}/first", "output": "data/${NAME}.json"});
        let (error, lines) = run(params, dir.path(), &[("BASE", &url), ("NAME", "list")]);
        assert_eq!(error, None);
        assert_eq!(fs::read_to_string(dir.path().join("data/list.json")).unwrap(), "[1,2]");
        let requests = serving.join().unwrap();
        assert!(requests[0].starts_with("GET /first ") && requests[1].starts_with("GET /second "), "{requests:?}");
        assert_eq!(
            lines[1..3],
            [
                r#"info preflight http {"method":"GET","url":"${BASE}/first"}"#,
                r#"info preflight http output written {"path":"data/${NAME}.json","bytes":5}"#,
            ]
        );
    }

    #[test]
    fn method_headers_and_body_are_sent() {
        let dir = tempfile::tempdir().unwrap();
        let (url, serving) = serve(&["HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]);
        let params = json!({
            "url": url, "output": "out", "method": "post", "body": "{\"q\":\"${Q}\"}",
            "headers": {"X-Token": "t-${Q}", "X-Number": 7},
        });
        let (error, _) = run(params, dir.path(), &[("Q", "42")]);
        assert_eq!(error, None);
        assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"");
        let request = serving.join().unwrap().remove(0);
        assert!(request.starts_with("POST / HTTP/1.1\r\n") && request.ends_with("\r\n\r\n{\"q\":\"42\"}"), "{request}");
        let head = request.to_lowercase();
        assert!(head.contains("\r\nx-token: t-42\r\n") && !head.contains("x-number"), "{request}");
    }

    #[test]
    fn other_statuses_are_errors_that_do_not_show_values() {
        let dir = tempfile::tempdir().unwrap();
        let (url, _serving) = serve(&["HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope"]);
        let params = json!({"url": "${BASE}/x?key=${KEY}", "output": "out"});
        let (error, _) = run(params, dir.path(), &[("BASE", &url), ("KEY", "hunter2")]);
        let error = error.unwrap();
        assert!(error.contains("HTTP 404 Not Found from ${BASE}/x?key=${KEY}"), "{error}");
        assert!(!dir.path().join("out").exists());
    }

    #[test]
    fn name_and_password_in_the_url_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        for url in ["http://ann:hunter2@127.0.0.1:1/x", "http://ann:hunter2@a|b/x", "ftp://ann:hunter2@a/x"] {
            let (error, lines) = run(json!({"url": url, "output": "out"}), dir.path(), &[("NO_PROXY", "*")]);
            let error = error.unwrap();
            assert!(error.contains("request") && error.contains("://***@"), "{error}");
            let said = format!("{error} {}", lines.join(" "));
            assert!(!said.contains("ann") && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn what_cannot_be_requested_is_refused_without_values() {
        #[track_caller]
        fn case(params: Value, expected: &str) {
            let dir = tempfile::tempdir().unwrap();
            let (error, lines) = run(params, dir.path(), &[("KEY", "hunter2 \n"), ("NO_PROXY", "*")]);
            let error = error.unwrap();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hunter2") && !lines.concat().contains("hunter2"), "{error}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let closed = format!("http://127.0.0.1:{closed}/${{KEY}}");
        case(json!({"url": "http://localhost/${KEY}", "output": "o"}), "not a URL");
        case(json!({"url": "ftp://localhost/", "output": "o"}), "http:// or https://");
        case(json!({"url": "http://localhost/", "output": "o", "body": "x"}), "a GET request cannot have a body");
        case(json!({"url": "http://localhost/", "output": "o", "headers": {"a": "${KEY}"}}), "header");
        case(json!({"url": closed.replace("/${KEY}", "/"), "output": "o"}), "refused");
    }

    #[test]
    fn a_body_cut_short_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (url, _serving) = serve(&["HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\nhalf"]);
        let (error, _) = run(json!({"url": url, "output": "out"}), dir.path(), &[]);
        assert!(error.unwrap().contains("receive the answer"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
