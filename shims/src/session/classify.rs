//! What kind of failure an answer of a provider is (agent-session.md §9.1, §9.3, §9.4).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::error::{Kind, ModelError};
use super::json;
use crate::text;

/// Longest message kept of an error, in characters.
pub(super) const MESSAGE: usize = 2000;
/// Longest text shown of an answer that has no JSON in it, in characters.
const RAW: usize = 200;
/// The name under which a refusal of thinking that was sent back is reported.
pub(super) const THINKING_BLOCKS: &str = "thinking blocks";

/// Headers of an answer that matter for errors.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints {
    /// From `retry-after-ms` or `retry-after`.
    pub(super) wait: Option<Duration>,
    /// `x-should-retry`.
    pub(super) should_retry: Option<bool>,
    pub(super) request_id: Option<String>,
}

impl Hints {
    /// Reads them; `header` gives the value of a header by its name in lower case.
    pub(super) fn read<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Self {
        let millis = header("retry-after-ms").and_then(|value| seconds(value.trim())).map(|value| value / 1000);
        let wait = millis.or_else(|| retry_after(header("retry-after")?.trim()));
        let should_retry = header("x-should-retry").and_then(|value| value.trim().parse().ok());
        let request_id = header("request-id").or_else(|| header("x-request-id")).map(str::to_owned);
        Self { wait: wait.filter(|wait| !wait.is_zero()), should_retry, request_id }
    }
}

/// The error of an answer with a status outside 200–299, whose body is free of the key. `sent` are the optional
/// parameters of the request, by their names on the wire.
pub(super) fn of_answer(status: u16, body: &str, hints: &Hints, sent: &[&str]) -> ModelError {
    let report = Report::read(body);
    let kind = report.kind(Some(status), Kind::Server);
    let message = match (report.message.is_empty(), body.trim().is_empty()) {
        (false, _) => report.beginning().to_owned(),
        (true, false) => text::cut(body.trim(), RAW).to_owned(),
        (true, true) => "empty answer".to_owned(),
    };
    let mut error = report.error(kind, hints);
    error.message = format!("HTTP {status}: {message}");
    error.status = Some(status);
    if kind == Kind::InvalidRequest && matches!(status, 400 | 422) {
        error.rejected = rejected(&report, sent);
    }
    error
}

/// The error object of a stream, or of an answer that calls itself a success; its message may be long and have the key
/// in it.
pub(super) fn of_object(object: &Map<String, Value>, hints: &Hints) -> ModelError {
    of_object_or(object, hints, Kind::Server)
}

/// As [`of_object`], where errors that nobody knows are of the kind `unknown`.
pub(super) fn of_object_or(object: &Map<String, Value>, hints: &Hints, unknown: Kind) -> ModelError {
    let report = Report::of_object(object);
    // OpenRouter puts the status that it got into the number `code`.
    let status = report.number.filter(|number| (300..600).contains(number));
    let mut error = report.error(report.kind(status, unknown), hints);
    error.message = match (report.message.is_empty(), report.words.first()) {
        (false, _) => report.message,
        (true, Some(word)) => word.clone(),
        (true, None) => "the provider reported an error without saying which".into(),
    };
    error
}

/// What an error body says, whichever provider wrote it.
#[derive(Debug, Default)]
struct Report {
    message: String,
    /// Types, codes and status words.
    words: Vec<String>,
    /// A code that is a number.
    number: Option<u16>,
    param: Option<String>,
    request_id: Option<String>,
    /// Google's `RetryInfo`.
    wait: Option<Duration>,
    /// Nothing but white space.
    empty: bool,
}

impl Report {
    fn read(body: &str) -> Self {
        match first_object(body) {
            Some(object) => Self::of_object(&object),
            None => {
                Self { message: text::cut(body.trim(), RAW).into(), empty: body.trim().is_empty(), ..Self::default() }
            }
        }
    }

    /// The shapes: `{"error":{…}}`, `{"error":"…"}`, and the members of an error at the top.
    fn of_object(object: &Map<String, Value>) -> Self {
        let mut report = Self { request_id: text_of(object.get("request_id")), ..Self::default() };
        match object.get("error") {
            Some(Value::Object(inner)) => report.take(inner),
            Some(Value::String(message)) => {
                report.message.clone_from(message);
                report.take(object);
            }
            _ => report.take(object),
        }
        report
    }

    fn take(&mut self, error: &Map<String, Value>) {
        for name in ["type", "code", "status"] {
            match error.get(name) {
                Some(Value::String(word)) => self.words.push(word.clone()),
                Some(Value::Number(number)) => {
                    self.number = self.number.or(number.as_u64().and_then(|number| u16::try_from(number).ok()));
                }
                _ => {}
            }
        }
        if self.message.is_empty() {
            let message = ["message", "detail", "error"].into_iter().find_map(|name| match error.get(name)? {
                Value::String(message) => Some(message.clone()),
                Value::Null => None,
                other => Some(other.to_string()),
            });
            self.message = with_cause(message.unwrap_or_default(), error);
        }
        self.param = text_of(error.get("param"));
        for detail in error.get("details").and_then(Value::as_array).into_iter().flatten() {
            self.words.extend(text_of(detail.get("reason")));
            let delay = detail.get("retryDelay").and_then(Value::as_str);
            self.wait = self.wait.or(delay.and_then(|delay| seconds(delay.strip_suffix('s')?)));
        }
    }

    /// As much of the message as is kept, which is also what is judged: a whole one may be very long.
    fn beginning(&self) -> &str {
        text::cut(&self.message, MESSAGE)
    }

    fn error(&self, kind: Kind, hints: &Hints) -> ModelError {
        let mut error = ModelError::new(kind, "");
        error.wait = hints.wait.or(self.wait).or_else(|| wait_in_text(self.beginning())).filter(|wait| !wait.is_zero());
        error.should_retry = hints.should_retry;
        error.request_id = hints.request_id.clone().or_else(|| self.request_id.clone());
        error
    }

    /// The order of decision: unmistakable codes and texts, then the status, then type or code.
    fn kind(&self, status: Option<u16>, unknown: Kind) -> Kind {
        let telling = matches!(status, None | Some(400 | 402 | 403 | 413 | 422 | 429));
        let special = telling.then(|| self.special(status)).flatten();
        special.or_else(|| status.map(of_status)).or_else(|| self.by_word()).unwrap_or(unknown)
    }

    fn special(&self, status: Option<u16>) -> Option<Kind> {
        let has = |word: &str| self.words.iter().any(|seen| seen == word);
        let message = self.beginning().to_lowercase();
        if has("billing_error") || has("insufficient_quota") || message.contains("credit balance is too low") {
            return Some(Kind::Quota);
        }
        let bad_key = || message.contains("api key not valid") || message.contains("incorrect api key");
        if has("authentication_error") || (matches!(status, None | Some(400)) && (has("API_KEY_INVALID") || bad_key()))
        {
            return Some(Kind::Auth);
        }
        if has("tool_use_failed") {
            return Some(Kind::Malformed);
        }
        let refused = |word: &String| {
            matches!(word.as_str(), "refusal" | "content_filter" | "invalid_prompt") || word.contains("policy")
        };
        if self.words.iter().any(refused) {
            return Some(Kind::Refusal);
        }
        let silent = matches!(status, Some(400 | 413)) && self.empty;
        let overflow = status != Some(429) && (silent || self.is_overflow(&message));
        overflow.then_some(Kind::ContextOverflow)
    }

    fn is_overflow(&self, message: &str) -> bool {
        let text = format!("{message} {}", self.words.join(" ").to_lowercase());
        let about_rate = text.contains("rate limit") || text.contains("too many requests");
        !about_rate && OVERFLOW.iter().any(|pattern| matches(pattern, &text))
    }

    fn by_word(&self) -> Option<Kind> {
        self.words.iter().find_map(|word| {
            Some(match word.as_str() {
                "authentication_error" | "API_KEY_INVALID" => Kind::Auth,
                "permission_error" | "PERMISSION_DENIED" => Kind::Permission,
                "rate_limit_error" | "RESOURCE_EXHAUSTED" | "rate_limit_exceeded" => Kind::RateLimit,
                "overloaded_error" | "UNAVAILABLE" => Kind::Overloaded,
                "api_error" | "timeout_error" | "server_error" | "INTERNAL" | "DEADLINE_EXCEEDED" => Kind::Server,
                "invalid_request_error" | "not_found_error" | "INVALID_ARGUMENT" | "NOT_FOUND" => Kind::InvalidRequest,
                _ => return None,
            })
        })
    }
}

/// OpenRouter passes on what the server behind it said.
fn with_cause(message: String, error: &Map<String, Value>) -> String {
    let raw = error.get("metadata").and_then(|metadata| metadata.get("raw")).filter(|raw| !raw.is_null());
    match raw {
        Some(Value::String(raw)) => format!("{message}: {raw}"),
        Some(raw) => format!("{message}: {raw}"),
        None => message,
    }
}

fn of_status(status: u16) -> Kind {
    match status {
        401 => Kind::Auth,
        402 => Kind::Quota,
        403 => Kind::Permission,
        429 => Kind::RateLimit,
        503 | 529 => Kind::Overloaded,
        408 | 409 | 500.. => Kind::Server,
        _ => Kind::InvalidRequest,
    }
}

/// Texts by which providers say that the conversation is too long: `*` stands for anything, `#` for a number.
const OVERFLOW: [&str; 27] = [
    "prompt is too long",
    "exceed context limit",
    "request_too_large",
    "input is too long for requested model",
    "exceeds the context window",
    "input token count*exceeds the maximum",
    "maximum prompt length is #",
    "reduce the length of the messages",
    "maximum context length is # tokens",
    "exceeds the limit of #",
    "exceeds the available context size",
    "greater than the context length",
    "context window exceeds limit",
    "exceeded model token limit",
    "too large for model with # maximum context length",
    "prompt too long; exceeded context length",
    "prompt too long; exceeded max context length",
    "context_length_exceeded",
    "context_length exceeded",
    "context length_exceeded",
    "context length exceeded",
    "context window exceeded",
    "context windowexceeded",
    "contextwindow exceeded",
    "contextwindowexceeded",
    "too many tokens",
    "token limit exceeded",
];

/// Whether a text contains a pattern of [`OVERFLOW`].
fn matches(pattern: &str, text: &str) -> bool {
    let (head, rest) = pattern.split_at(pattern.find(['*', '#']).unwrap_or(pattern.len()));
    text.match_indices(head).any(|(at, _)| match_rest(rest, &text[at + head.len()..]))
}

fn match_rest(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix('*') {
        return matches(rest, text);
    }
    let Some(rest) = pattern.strip_prefix('#') else { return pattern.is_empty() };
    let after = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (literal, more) = rest.split_at(rest.find(['*', '#']).unwrap_or(rest.len()));
    after.len() < text.len() && after.strip_prefix(literal).is_some_and(|tail| match_rest(more, tail))
}

/// The context window in tokens that a provider names when it refuses a request as too long. Only a text that means
/// input and room for the answer together: `maximum context length is 8192 tokens`.
pub(super) fn named_window(message: &str) -> Option<u64> {
    let message = message.to_lowercase();
    let (_, rest) = message.split_once("maximum context length is ")?;
    let (number, _) = rest.split_once(" tokens")?;
    number.replace([',', '_'], "").parse().ok().filter(|tokens| *tokens > 0)
}

/// The parameter of ours that an error names: compared as whole words without regard to case and `_`; of several the
/// one that is named first. A word that starts with `reasoning`, `thinking` or `prompt_mode` means whichever parameter
/// of thinking was sent.
fn rejected(report: &Report, sent: &[&str]) -> Option<String> {
    let message = report.beginning().to_lowercase();
    let about_thinking =
        ["signature", "cannot be modified", "must start with"].iter().any(|word| message.contains(word));
    // OpenAI's sealed thinking is bound to the organisation, which another key of the same model may not belong to.
    let unreadable = report.words.iter().any(|word| word == "invalid_encrypted_content");
    if unreadable || (message.contains("thinking") && about_thinking) {
        return Some(THINKING_BLOCKS.into());
    }
    let text = format!("{} {}", report.param.as_deref().unwrap_or_default(), report.beginning());
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(plain).filter(|word| !word.is_empty());
    let mut words = words.map(|word| named_by(&word, sent));
    words.find_map(|named| named).map(str::to_owned)
}

fn named_by<'s>(word: &str, sent: &[&'s str]) -> Option<&'s str> {
    const OF_THINKING: [&str; 6] =
        ["reasoning_effort", "reasoning", "thinking", "thinkingConfig", "output_config", "prompt_mode"];
    let exact = sent.iter().find(|name| plain(name) == word);
    let about_thinking = || ["reasoning", "thinking", "promptmode"].iter().any(|stem| word.starts_with(stem));
    exact.or_else(|| sent.iter().find(|name| about_thinking() && OF_THINKING.contains(name))).copied()
}

fn plain(word: &str) -> String {
    word.replace('_', "").to_lowercase()
}

/// The first JSON object in a body: some servers send errors as events, lists, or after a line of text.
fn first_object(body: &str) -> Option<Map<String, Value>> {
    let starts = body.match_indices('{').map(|(at, _)| at).take(16);
    starts.into_iter().find_map(|at| {
        let body = &body[at..];
        let mut values = serde_json::Deserializer::from_str(body).into_iter::<Map<String, Value>>();
        match values.next()? {
            Ok(object) => Some(object),
            Err(_) => json::parse(body.trim_end()).ok(),
        }
    })
}

fn text_of(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}

/// A number of seconds, fractions allowed.
fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// `retry-after`: seconds or an HTTP date.
fn retry_after(value: &str) -> Option<Duration> {
    seconds(value).or_else(|| {
        let at = UNIX_EPOCH + Duration::from_secs(http_date(value)?);
        at.duration_since(SystemTime::now()).ok()
    })
}

/// Seconds since the epoch of a date like `Wed, 21 Oct 2026 07:28:00 GMT`, or in one of the two older forms of HTTP:
/// `Wednesday, 21-Oct-26 07:28:00 GMT` and `Wed Oct 21 07:28:00 2026`.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (parts, is_newer) = match text.split_once(", ") {
        Some((_, rest)) => (rest.replace('-', " "), true),
        None => (text.split_once(' ')?.1.to_owned(), false),
    };
    let parts: Vec<&str> = parts.split_whitespace().collect();
    let (day, month, year, clock) = match (&parts[..], is_newer) {
        (&[day, month, year, clock, "GMT"], true) | (&[month, day, clock, year], false) => (day, month, year, clock),
        _ => return None,
    };
    let number = |text: &str, limit: u64| text.parse::<u64>().ok().filter(|number| *number <= limit);
    let month = MONTHS.iter().position(|known| *known == month)? as u64 + 1;
    let year = number(year, 9999)?;
    let year = if year < 100 { year + 2000 } else { year };
    let mut clock = clock.split(':').map(|part| number(part, 60));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let days = days_before(Some(year).filter(|year| *year >= 1970)?, month, number(day, 31)?)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from the epoch to a date of the Gregorian calendar.
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    // Counting years from March puts the leap day at the end of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    days.checked_sub(719_469)
}

/// The wait in texts like "try again in 7.66s" or "in 1m20.5s" or "in 350ms".
fn wait_in_text(message: &str) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    let mut rest = lower.split_once("try again in ")?.1;
    let mut wait = Duration::ZERO;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse::<f64>() else { break };
        let unit = &rest[digits..];
        let after = unit.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let scale = match &unit[..unit.len() - after.len()] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => break,
        };
        wait = wait.saturating_add(Duration::try_from_secs_f64(number * scale).ok()?);
        rest = after;
    }
    Some(wait).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> ModelError {
        of_answer(status, body, &Hints::default(), &[])
    }

    fn in_stream(body: &str) -> ModelError {
        of_object(&serde_json::from_str(body).unwrap(), &Hints::default())
    }

    #[test]
    fn kinds_of_answers() {
        #[track_caller]
        fn case(status: u16, body: &str, expected: Kind) {
            assert_eq!(answer(status, body).kind, expected, "{status} {body}");
        }
        let error = |kind: &str, message: &str| format!(r#"{{"error":{{"type":"{kind}","message":"{message}"}}}}"#);
        case(401, &error("authentication_error", "invalid x-api-key"), Kind::Auth);
        case(403, "", Kind::Permission);
        case(402, "", Kind::Quota);
        case(400, &error("invalid_request_error", "Your credit balance is too low to access"), Kind::Quota);
        case(429, r#"{"error":{"code":"insufficient_quota","message":"x"}}"#, Kind::Quota);
        case(429, &error("rate_limit_error", "too many tokens this minute"), Kind::RateLimit);
        case(503, "<html>down</html>", Kind::Overloaded);
        case(529, &error("overloaded_error", "Overloaded"), Kind::Overloaded);
        case(500, &error("api_error", "prompt is too long"), Kind::Server);
        case(408, "", Kind::Server);
        case(409, "", Kind::Server);
        case(599, "", Kind::Server);
        case(302, "", Kind::InvalidRequest);
        case(404, &error("not_found_error", "model: x"), Kind::InvalidRequest);
        case(400, &error("invalid_request_error", "max_tokens: 65000 tokens, status 500"), Kind::InvalidRequest);
        case(400, r#"[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]"#, Kind::Auth);
        case(400, r#"{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}"#, Kind::Auth);
        case(400, r#"{"error":{"code":"tool_use_failed"}}"#, Kind::Malformed);
        case(400, r#"{"error":{"code":"invalid_prompt"}}"#, Kind::Refusal);
        case(403, r#"{"error":{"code":"content_policy_violation"}}"#, Kind::Refusal);
        case(400, &error("invalid_request_error", "the usage policy of refusals"), Kind::InvalidRequest);
    }

    #[test]
    fn overflow_by_text_or_silence() {
        #[track_caller]
        fn case(status: u16, message: &str, expected: bool) {
            let body = serde_json::json!({"error": {"message": message, "type": "invalid_request_error"}}).to_string();
            assert_eq!(answer(status, &body).kind == Kind::ContextOverflow, expected, "{message}");
        }
        case(400, "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000", true);
        case(400, "Prompt is too long: 200001 tokens > 200000 maximum", true);
        case(400, "This model's maximum context length is 128000 tokens.", true);
        case(400, "maximum context length is unknown tokens", false);
        case(400, "The input token count (1200000) exceeds the maximum number of tokens", true);
        case(400, "too large for model with 4096 maximum context length", true);
        case(400, "prompt too long; exceeded max context length by 3", true);
        case(400, "ContextWindowExceeded", true);
        case(400, "too many tokens", true);
        case(400, "rate limit: too many tokens", false);
        case(413, "exceeds the limit of 20", true);
        case(413, "exceeds the limit of twenty", false);
        case(429, "too many tokens", false);
        assert_eq!(answer(413, r#"{"error":{"type":"request_too_large"}}"#).kind, Kind::ContextOverflow);
        assert_eq!(answer(400, r#"{"error":{"code":"context_length_exceeded"}}"#).kind, Kind::ContextOverflow);
        assert_eq!(answer(400, "  ").kind, Kind::ContextOverflow);
        assert_eq!(answer(422, "").kind, Kind::InvalidRequest);
    }

    #[test]
    fn some_providers_name_their_window() {
        let vllm = "This model's maximum context length is 8192 tokens. However, you requested 18284 tokens (1900 in \
                    the messages, 16384 in the completion).";
        assert_eq!(named_window(vllm), Some(8192));
        assert_eq!(named_window("Maximum context length is 131,072 tokens"), Some(131_072));
        assert_eq!(named_window("maximum context length is unknown tokens"), None);
        assert_eq!(named_window("prompt is too long: 5000 tokens > 4000 maximum"), None);
    }

    #[test]
    fn kinds_inside_a_stream() {
        #[track_caller]
        fn case(body: &str, expected: Kind) {
            assert_eq!(in_stream(body).kind, expected, "{body}");
        }
        case(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Kind::Overloaded);
        case(r#"{"type":"error","error":{"type":"something_new","message":"x"}}"#, Kind::Server);
        case(r#"{"error":{"code":429,"message":"slow"}}"#, Kind::RateLimit);
        case(r#"{"error":{"code":502,"message":"upstream"}}"#, Kind::Server);
        case(r#"{"error":{"message":"prompt is too long"}}"#, Kind::ContextOverflow);
        case(r#"{"error":"boom"}"#, Kind::Server);
        case(r#"{"error":{"code":"tool_use_failed","message":"x"}}"#, Kind::Malformed);
        case(r#"{"error":{"code":403,"message":"flagged","metadata":{"reasons":["x"]}}}"#, Kind::Permission);
        case(r#"{"error":{"message":"x","metadata":{"raw":"prompt is too long"}}}"#, Kind::ContextOverflow);
        case(r#"{"object":"error","message":"x","type":"BadRequestError","code":400}"#, Kind::InvalidRequest);
        assert_eq!(in_stream(r#"{"error":"boom"}"#).message, "boom");
    }

    #[test]
    fn what_an_unknown_error_is_depends_on_the_format() {
        let kind = |body: &str| {
            let object = serde_json::from_str(body).unwrap();
            of_object_or(&object, &Hints::default(), Kind::InvalidRequest).kind
        };
        assert_eq!(kind(r#"{"code":"brand_new","message":"x"}"#), Kind::InvalidRequest);
        assert_eq!(kind(r#"{"code":"server_error","message":"x"}"#), Kind::Server);
        assert_eq!(kind(r#"{"code":503,"message":"x"}"#), Kind::Overloaded);
    }

    #[test]
    fn says_what_the_provider_said() {
        #[track_caller]
        fn case(body: &str, expected: &str) {
            assert_eq!(answer(418, body).message, expected);
        }
        case(r#"{"error":{"message":"no tea"}}"#, "HTTP 418: no tea");
        case(r#"{"detail":"no tea"}"#, "HTTP 418: no tea");
        case("event: error\ndata: {\"error\":{\"message\":\"no tea\"}}\n\n", "HTTP 418: no tea");
        case("  no tea ", "HTTP 418: no tea");
        case(r#"{"error":{"message":"no","metadata":{"raw":"tea"}}}"#, "HTTP 418: no: tea");
        case(r#"{"error":{"message":"no","metadata":{"raw":{"tea":1}}}}"#, r#"HTTP 418: no: {"tea":1}"#);
        case("", "HTTP 418: empty answer");
        case(r#"{"error":{}}"#, r#"HTTP 418: {"error":{}}"#);
        case(&"x".repeat(9999), &format!("HTTP 418: {}", "x".repeat(200)));
        assert_eq!(answer(418, r#"{"request_id":"req_1"}"#).request_id.as_deref(), Some("req_1"));
    }

    #[test]
    fn a_refused_parameter_is_named() {
        #[track_caller]
        fn case(sent: &[&str], param: Option<&str>, message: &str, expected: Option<&str>) {
            let body = serde_json::json!({"error": {"message": message, "param": param}}).to_string();
            let error = of_answer(400, &body, &Hints::default(), sent);
            assert_eq!(error.rejected.as_deref(), expected, "{message}");
        }
        case(&["thinking", "cache_control"], None, "adaptive thinking is not supported", Some("thinking"));
        case(&["thinking", "output_config"], None, "output_config.effort: bad value", Some("output_config"));
        case(&["reasoning_effort"], Some("reasoning.effort"), "unsupported value", Some("reasoning_effort"));
        case(&["thinking"], None, "thinking_budget too large", Some("thinking"));
        case(&["store", "stream_options"], None, "unknown: streamOptions, store", Some("stream_options"));
        case(&["store"], None, "see our storefront", None);
        case(&["thinking"], None, "messages: too few", None);
        case(&[], None, "thinking is unknown", None);
        case(&["thinking"], None, "Invalid `signature` in `thinking` block", Some(THINKING_BLOCKS));
        let server = of_answer(500, r#"{"error":{"message":"thinking"}}"#, &Hints::default(), &["thinking"]);
        assert_eq!(server.rejected, None);
    }

    #[test]
    fn waits_come_from_headers_then_bodies() {
        let header = |name: &'static str, value: &'static str| Hints::read(move |n| (n == name).then_some(value)).wait;
        assert_eq!(header("retry-after", "12"), Some(Duration::from_secs(12)));
        assert_eq!(header("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(header("retry-after", "0"), None);
        assert_eq!(header("retry-after", "-3"), None);
        assert_eq!(header("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert!(header("retry-after", "Wed, 21 Oct 2199 07:28:00 GMT").unwrap() > Duration::from_secs(1 << 30));
        assert_eq!(http_date("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(http_date("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        assert_eq!(http_date("Wednesday, 21-Oct-15 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(http_date("Wed Oct 21 07:28:00 2015"), Some(1_445_412_480));
        assert_eq!(http_date("Tue Feb  1 00:00:00 2000"), Some(949_363_200));
        for wrong in
            ["21 Oct 2015", "Wed, 21 Oct 2015 07:28 GMT", "Wed, 99 Oct 2015 07:28:00 GMT", "x, y z", "", "Wed "]
        {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }

        let wait = |body: &str| answer(429, body).wait;
        assert_eq!(wait(r#"{"error":{"details":[{"retryDelay":"37s"}]}}"#), Some(Duration::from_secs(37)));
        assert_eq!(wait(r#"{"error":{"message":"Please try again in 7.66s."}}"#), Some(Duration::from_millis(7660)));
        assert_eq!(wait(r#"{"error":{"message":"try again in 1m20s"}}"#), Some(Duration::from_secs(80)));
        assert_eq!(wait(r#"{"error":{"message":"try again in 350ms"}}"#), Some(Duration::from_millis(350)));
        assert_eq!(wait(r#"{"error":{"message":"try again in a while"}}"#), None);
    }
}
