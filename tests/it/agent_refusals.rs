//! `al-agent` with models that cannot be had: each provider's way of saying so ends with the exit code of what it means,
//! and the log says what the provider said.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};

use crate::agent_bed::{Bed, Ran};
use crate::support::llm::{Answer, Llm, Reply, text};

const KEY: &str = "key-0123456789-abcdefghijklmnopqrstuvwxyz";

/// An agent with a model of a provider. There is so little time that no wait for another attempt is begun.
fn bed(llm: &Llm, provider: &str, model: &str) -> Bed {
    let table = json!({"provider": provider, "model": model, "baseUrl": llm.url(), "idleTimeout": 1});
    let bed = Bed::new(&json!({"name": "dev", "credentials": [], "model": table}));
    bed.write(&format!("credentials/{provider}_key/default/token"), KEY);
    bed.write("static/timeout", "5");
    bed.variable("PROMPT", "Go on.")
}

struct Provider {
    name: &'static str,
    model: &'static str,
    llm: Llm,
}

impl Provider {
    fn new(name: &'static str, model: &'static str) -> Self {
        Self { name, model, llm: Llm::start(IpAddr::V4(Ipv4Addr::LOCALHOST)) }
    }

    /// A run that gets this answer ends with this code and a line about an error of this kind with these words.
    #[track_caller]
    fn case(&self, answer: Answer, code: i32, kind: &str, words: &str) -> Map<String, Value> {
        self.llm.play([answer.header("x-request-id", "req_7")]);
        let ran = bed(&self.llm, self.name, self.model).run().expect_code(code);
        self.llm.finish();
        self.assert_error(&ran, kind, words)
    }

    /// The same for an answer that has a status and an object as body.
    #[track_caller]
    fn refuses(&self, status: u16, body: &Value, code: i32, kind: &str, words: &str) {
        let error = self.case(Answer::json(status, body), code, kind, &format!("HTTP {status}: {words}"));
        assert_eq!((&error["status"], &error["requestId"]), (&json!(status), &json!("req_7")), "{error:?}");
    }

    #[track_caller]
    fn assert_error(&self, ran: &Ran, kind: &str, words: &str) -> Map<String, Value> {
        let error = ran.line("session error").fields;
        let seen = ["kind", "provider", "model"].map(|name| error[name].as_str().unwrap());
        assert_eq!(seen, [kind, self.name, self.model], "{error:?}");
        assert!(error["error"].as_str().unwrap().contains(words), "no {words:?} in {error:?}");
        assert_eq!(ran.line("token-usage").fields["turnCount"], 0);
        assert!(!ran.stdout.contains("completed") && !ran.stdout.contains("prompt returned"), "{}", ran.stdout);
        assert!(!ran.stdout.contains(KEY), "{}", ran.stdout);
        error
    }
}

#[test]
fn anthropic() {
    let provider = Provider::new("anthropic", "claude-opus-5-5");
    let error = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
    provider.refuses(400, &error("invalid_request_error", "bad"), 13, "invalid_request", "bad");
    provider.refuses(401, &error("authentication_error", "invalid x-api-key"), 10, "auth", "invalid x-api-key");
    provider.refuses(402, &error("billing_error", "no money"), 12, "quota", "no money");
    provider.refuses(403, &error("permission_error", "not yours"), 11, "permission", "not yours");
    provider.refuses(404, &error("not_found_error", "model: x"), 13, "invalid_request", "model: x");
    provider.refuses(413, &error("request_too_large", "large"), 15, "context_overflow", "large");
    provider.refuses(429, &error("rate_limit_error", "slowly"), 12, "rate_limit", "slowly");
    provider.refuses(500, &error("api_error", "oops"), 14, "server", "oops");
    provider.refuses(504, &error("timeout_error", "late"), 14, "server", "late");
    provider.refuses(529, &error("overloaded_error", "Overloaded"), 12, "overloaded", "Overloaded");
    provider.case(Answer::error_within(&text("So"), "api_error", "oops"), 14, "server", "oops");
    provider.case(text("No").stop("refusal").stream(), 15, "refusal", "refused to answer");
}

#[test]
fn openai() {
    let provider = Provider::new("openai", "gpt-6-sol");
    let error = |kind: &str, code: &str, message: &str| json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    let request = "invalid_request_error";
    provider.refuses(401, &error(request, "invalid_api_key", "Incorrect"), 10, "auth", "Incorrect");
    provider.refuses(403, &error(request, "unsupported_country", "not there"), 11, "permission", "not there");
    provider.refuses(404, &error(request, "model_not_found", "unknown"), 13, "invalid_request", "unknown");
    provider.refuses(429, &error("insufficient_quota", "insufficient_quota", "check your plan"), 12, "quota", "check");
    provider.refuses(429, &error("tokens", "rate_limit_exceeded", "slowly"), 12, "rate_limit", "slowly");
    provider.refuses(400, &error(request, "context_length_exceeded", "long"), 15, "context_overflow", "long");
    provider.refuses(400, &error(request, "invalid_prompt", "flagged"), 15, "refusal", "flagged");
    provider.refuses(500, &error("server_error", "x", "oops"), 14, "server", "oops");
    provider.refuses(503, &error("server_error", "x", "busy"), 12, "overloaded", "busy");
    provider.case(text("No").stop("refusal").responses(), 15, "refusal", "refused to answer");
}

#[test]
fn groq_and_xai() {
    let provider = Provider::new("groq", "openai/gpt-oss-120b");
    let error = |code: &str, message: &str| json!({"error": {"message": message, "type": "x", "code": code}});
    provider.refuses(401, &error("invalid_api_key", "Invalid API Key"), 10, "auth", "Invalid API Key");
    provider.refuses(400, &error("tool_use_failed", "Failed to call"), 14, "malformed", "Failed to call");
    provider.refuses(429, &error("rate_limit_exceeded", "try again in 7s"), 12, "rate_limit", "try again");
    provider.refuses(500, &error("x", "oops"), 14, "server", "oops");
    provider.refuses(502, &error("x", "oops"), 14, "server", "oops");
    provider.refuses(503, &error("x", "busy"), 12, "overloaded", "busy");

    let provider = Provider::new("xai", "grok-4.7");
    let error = |error: &str| json!({"code": "Some words", "error": error});
    provider.refuses(400, &error("Incorrect API key provided: x"), 10, "auth", "Incorrect API key");
    provider.refuses(403, &error("not allowed"), 11, "permission", "not allowed");
    provider.refuses(429, &error("slowly"), 12, "rate_limit", "slowly");
    provider.refuses(500, &error("oops"), 14, "server", "oops");
    provider.refuses(503, &error("busy"), 12, "overloaded", "busy");
}

#[test]
fn mistral_and_openrouter() {
    let provider = Provider::new("mistral", "mistral-large-latest");
    let error = |message: &str| json!({"object": "error", "message": message, "type": "x", "code": "3000"});
    provider.refuses(401, &json!({"message": "Unauthorized", "request_id": "r"}), 10, "auth", "Unauthorized");
    provider.refuses(422, &json!({"detail": [{"msg": "Field required"}]}), 13, "invalid_request", "[{\"msg\"");
    provider.refuses(429, &error("slowly"), 12, "rate_limit", "slowly");
    provider.refuses(500, &error("oops"), 14, "server", "oops");
    provider.refuses(503, &error("busy"), 12, "overloaded", "busy");

    let provider = Provider::new("openrouter", "x-ai/grok-4.3");
    let error = |code: u16, message: &str| json!({"error": {"code": code, "message": message}});
    provider.refuses(401, &error(401, "User not found."), 10, "auth", "User not found.");
    provider.refuses(402, &error(402, "more credits"), 12, "quota", "more credits");
    provider.refuses(403, &error(403, "flagged"), 11, "permission", "flagged");
    provider.refuses(408, &error(408, "late"), 14, "server", "late");
    provider.refuses(502, &error(502, "upstream"), 14, "server", "upstream");
    provider.refuses(503, &error(503, "nobody"), 12, "overloaded", "nobody");
    let raw = json!({"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "closed"}}});
    provider.case(Answer::chunks(&[raw]), 14, "server", "Provider returned error: closed");
    provider.case(Answer::chunks(&[error(402, "spent")]), 12, "quota", "spent");
}

#[test]
fn google() {
    let provider = Provider::new("google", "gemini-3.8-flash");
    let error =
        |code: u16, status: &str, message: &str| json!({"error": {"code": code, "message": message, "status": status}});
    let invalid = json!([{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}]);
    provider.refuses(400, &invalid, 10, "auth", "API key not valid.");
    provider.refuses(400, &error(400, "INVALID_ARGUMENT", "bad"), 13, "invalid_request", "bad");
    provider.refuses(400, &error(400, "FAILED_PRECONDITION", "place"), 13, "invalid_request", "place");
    provider.refuses(403, &error(403, "PERMISSION_DENIED", "disabled"), 11, "permission", "disabled");
    provider.refuses(404, &error(404, "NOT_FOUND", "no model"), 13, "invalid_request", "no model");
    provider.refuses(429, &error(429, "RESOURCE_EXHAUSTED", "quota"), 12, "rate_limit", "quota");
    provider.refuses(500, &error(500, "INTERNAL", "oops"), 14, "server", "oops");
    provider.refuses(503, &error(503, "UNAVAILABLE", "busy"), 12, "overloaded", "busy");
    provider.refuses(504, &error(504, "DEADLINE_EXCEEDED", "late"), 14, "server", "late");
    provider.case(text("No").stop("SAFETY").gemini(), 15, "refusal", "SAFETY");
    provider.case(text("So").stop("OTHER").gemini(), 14, "malformed", "OTHER");
}

/// Provider, model, and how its responses look.
type Format = (&'static str, &'static str, fn(&Reply) -> Answer);

const FORMATS: [Format; 4] = [
    ("anthropic", "claude-opus-5-5", Reply::stream),
    ("openai", "gpt-6-sol", Reply::responses),
    ("groq", "openai/gpt-oss-120b", Reply::chat),
    ("google", "gemini-3.8-flash", Reply::gemini),
];

fn assert_breakdowns((name, model, format): Format) {
    let provider = Provider::new(name, model);
    let half = || format(&text("This half will be withdrawn."));
    provider.case(half().cut_behind("half"), 14, "network", "broke off");
    provider.case(half().garbled_behind("half"), 14, "malformed", "JSON");
    provider.case(Answer::raw(200, "text/html", "<html>Sign in</html>"), 14, "malformed", "(text/html)");
    provider.case(Answer::raw(200, "text/event-stream", ""), 14, "network", "stream ended early");
    provider.case(Answer::raw(302, "text/plain", "there"), 13, "invalid_request", "HTTP 302");
    for silent in [Answer::silence(), half().silent_after_head(), half().silent_behind("half")] {
        provider.case(silent, 14, "network", "nothing received for 1 s");
    }
    provider.llm.close();
    let ran = bed(&provider.llm, name, model).run().expect_code(14);
    provider.assert_error(&ran, "network", "onnection refused");
}

#[test]
fn servers_that_break_off_fall_silent_or_talk_nonsense() {
    // Much of it is waiting.
    std::thread::scope(|scope| {
        for format in FORMATS {
            scope.spawn(move || assert_breakdowns(format));
        }
    });
}
