//! What the providers answer when they refuse, in their own words: what kind of failure that is, whether the request is
//! sent again, the exit code of a run that ends with it, and what a person is told (agent-session.md §9.1, §10.6, §11.5,
//! §12.5, §13.6).

use std::time::Duration;

use serde_json::json;

use super::super::End;
use super::super::error::Kind;
use super::{Fake, Given, RetryPhase, hold};

/// What follows.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The run ends.
    Over,
    /// The same request after half a second, or a quarter less.
    Soon,
    /// The same request after so many milliseconds.
    After(u64),
    /// The same request after so many milliseconds of the slow phase.
    Late(u64),
    /// The request without this parameter, at once.
    Without(&'static str),
    /// Something else, at once: a shorter conversation.
    Shorter,
}

use Kind::*;
use Next::*;

type Case = (u16, &'static [(&'static str, &'static str)], &'static str, Kind, Next, &'static str);

fn exit_code(kind: Kind) -> i32 {
    match kind {
        Auth => 10,
        Permission => 11,
        Quota | RateLimit | Overloaded => 12,
        InvalidRequest => 13,
        Server | Network | Malformed => 14,
        ContextOverflow | Refusal | Limit => 15,
    }
}

/// Each answer alone, to a session with this provider.
#[track_caller]
fn assert_refusals(provider: &str, model: &str, cases: &[Case]) {
    for (status, headers, body, kind, next, words) in cases {
        let what = format!("{provider} {status} {body}");
        let given = headers.iter().fold(Given::json(*status, body), |given, (name, value)| given.header(name, value));
        let server = Fake::start(vec![given.header("x-request-id", "req_of_header")]);
        let seen = hold(json!({"provider": provider, "model": model, "baseUrl": server.url, "images": true}));
        let error = seen.failures.first().unwrap_or_else(|| panic!("{what}: {:?}", seen.end));
        assert_eq!((error.kind, error.kind.exit_code()), (*kind, exit_code(*kind)), "{what}: {error}");
        assert_eq!((error.status, error.request_id.as_deref()), (Some(*status), Some("req_of_header")), "{what}");
        assert!(error.message.contains(&format!("HTTP {status}: {words}")), "{what}: {error}");
        let fast = |delay| Some((RetryPhase::Fast, Duration::from_millis(delay)));
        let received = server.received();
        match *next {
            Over => {
                assert!(matches!(seen.end, End::Failed { .. }), "{what}: {:?}", seen.end);
                assert_eq!((seen.wait, received.len(), error.rejected.as_deref()), (None, 1, None), "{what}");
            }
            Soon => drop(seen.assert_retried_soon(&what)),
            After(delay) => assert_eq!(seen.wait, fast(delay), "{what}"),
            Late(delay) => assert_eq!(seen.wait, Some((RetryPhase::Slow, Duration::from_millis(delay))), "{what}"),
            Without(param) => {
                assert_eq!(error.rejected.as_deref(), Some(param), "{what}");
                let has = |at: usize| received[at].body.to_string().contains(&format!("\"{param}\":"));
                assert_eq!((received.len(), has(0), has(1)), (2, true, false), "{what}");
            }
            // There is nothing in this conversation that could be left out.
            Shorter => assert!(seen.wait.is_none() && received.len() <= 2, "{what}"),
        }
    }
}

#[test]
fn anthropic() {
    assert_refusals(
        "anthropic",
        "claude-sonnet-4-20250514",
        &[
            (
                400,
                &[],
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages: text content blocks must be non-empty"},"request_id":"req_1"}"#,
                InvalidRequest,
                Over,
                "messages: text content",
            ),
            (
                400,
                &[],
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length or `max_tokens` and try again"}}"#,
                ContextOverflow,
                Shorter,
                "input length and `max_tokens`",
            ),
            (
                400,
                &[],
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
                ContextOverflow,
                Shorter,
                "prompt is too long",
            ),
            (
                400,
                &[],
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."}}"#,
                Quota,
                Over,
                "Your credit balance is too low",
            ),
            (
                400,
                &[],
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"thinking: Extra inputs are not permitted"}}"#,
                InvalidRequest,
                Without("thinking"),
                "thinking: Extra",
            ),
            (
                401,
                &[],
                r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"},"request_id":"req_1"}"#,
                Auth,
                Over,
                "invalid x-api-key",
            ),
            (
                402,
                &[],
                r#"{"type":"error","error":{"type":"billing_error","message":"There is an issue with your billing."},"request_id":"req_1"}"#,
                Quota,
                Over,
                "There is an issue with your billing.",
            ),
            (
                403,
                &[],
                r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use this resource."}}"#,
                Permission,
                Over,
                "Your API key does not",
            ),
            (
                404,
                &[],
                r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-sonnet-4-20250514"}}"#,
                InvalidRequest,
                Over,
                "model: claude-sonnet-4-20250514 (this id is no longer served, consider claude-sonnet-5-5)",
            ),
            (
                413,
                &[],
                r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
                ContextOverflow,
                Shorter,
                "Request exceeds the maximum size",
            ),
            (
                429,
                &[("retry-after", "12")],
                r#"{"type": "error", "error": {"type": "rate_limit_error", "message": "This request would exceed your organization's rate limit"}, "request_id": "req_011CX"}"#,
                RateLimit,
                After(12_000),
                "This request would exceed your organization's rate limit",
            ),
            (
                429,
                &[],
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"Number of request tokens has exceeded your per-minute rate limit"}}"#,
                RateLimit,
                After(2000),
                "Number of request tokens",
            ),
            (
                500,
                &[],
                r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#,
                Server,
                Soon,
                "Internal server error",
            ),
            (
                504,
                &[],
                r#"{"type":"error","error":{"type":"timeout_error","message":"The request timed out"}}"#,
                Server,
                Soon,
                "The request timed out",
            ),
            (
                529,
                &[],
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Overloaded,
                After(2000),
                "Overloaded",
            ),
            (
                529,
                &[("retry-after", "7")],
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Overloaded,
                After(7000),
                "Overloaded",
            ),
            (
                529,
                &[("x-should-retry", "false")],
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Overloaded,
                Late(30_000),
                "Overloaded",
            ),
            (502, &[], "<html><body>502 Bad Gateway</body></html>", Server, Soon, "<html>"),
            (503, &[], "", Overloaded, After(2000), "empty answer"),
        ],
    );
}

#[test]
fn openai() {
    assert_refusals(
        "openai",
        "gpt-5",
        &[
            (
                401,
                &[],
                r#"{"error":{"message":"Incorrect API key provided: sk-x. You can find your API key at the dashboard.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
                Auth,
                Over,
                "Incorrect API key provided",
            ),
            (
                403,
                &[],
                r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","param":null,"code":"unsupported_country_region_territory"}}"#,
                Permission,
                Over,
                "Country, region",
            ),
            (
                404,
                &[],
                r#"{"error":{"message":"The model `gpt-5` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
                InvalidRequest,
                Over,
                "The model `gpt-5` does not exist",
            ),
            (
                429,
                &[],
                r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
                Quota,
                Over,
                "You exceeded your current quota",
            ),
            (
                429,
                &[("retry-after", "30")],
                r#"{"error":{"message":"You exceeded your current quota.","type":"tokens","param":null,"code":"insufficient_quota"}}"#,
                Quota,
                Over,
                "You exceeded your current quota",
            ),
            (
                429,
                &[],
                r#"{"error":{"message":"Rate limit reached for gpt-5 on tokens per min (TPM): Limit 30000, Used 29000. Please try again in 1.5s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                RateLimit,
                After(1500),
                "Rate limit reached",
            ),
            (
                429,
                &[("retry-after-ms", "2500"), ("retry-after", "3")],
                r#"{"error":{"message":"Rate limit reached. Please try again in 1.5s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
                RateLimit,
                After(2500),
                "Rate limit reached",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","type":"invalid_request_error","param":"input","code":"context_length_exceeded"}}"#,
                ContextOverflow,
                Shorter,
                "Your input exceeds",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"Unsupported value: 'reasoning.effort' does not support 'medium' with this model.","type":"invalid_request_error","param":"reasoning.effort","code":"unsupported_value"}}"#,
                InvalidRequest,
                Without("reasoning"),
                "Unsupported value",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"Unsupported parameter: 'prompt_cache_key' is not supported.","type":"invalid_request_error","param":"prompt_cache_key","code":"unsupported_parameter"}}"#,
                InvalidRequest,
                Without("prompt_cache_key"),
                "Unsupported parameter",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"Unsupported parameter: 'temperature' is not supported with this model.","type":"invalid_request_error","param":"temperature","code":"unsupported_parameter"}}"#,
                InvalidRequest,
                Over,
                "Unsupported parameter",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"Invalid prompt: your prompt was flagged.","type":"invalid_request_error","param":null,"code":"invalid_prompt"}}"#,
                Refusal,
                Over,
                "Invalid prompt",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"This request was blocked.","type":"invalid_request_error","param":null,"code":"cyber_policy_violation"}}"#,
                Refusal,
                Over,
                "This request was blocked",
            ),
            (
                500,
                &[],
                r#"{"error":{"message":"The server had an error while processing your request.","type":"server_error","param":null,"code":null}}"#,
                Server,
                Soon,
                "The server had an error",
            ),
            (
                503,
                &[],
                r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"server_error","param":null,"code":null}}"#,
                Overloaded,
                After(2000),
                "The engine is currently overloaded",
            ),
            (
                409,
                &[],
                r#"{"error":{"message":"Conflict","type":"x","param":null,"code":null}}"#,
                Server,
                Soon,
                "Conflict",
            ),
        ],
    );
}

#[test]
fn groq() {
    assert_refusals(
        "groq",
        "openai/gpt-oss-120b",
        &[
            (
                401,
                &[],
                r#"{"error":{"message":"Invalid API Key","type":"invalid_request_error","code":"invalid_api_key"}}"#,
                Auth,
                Over,
                "Invalid API Key",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"Failed to call a function. Please adjust your prompt.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<tool-use>x"}}"#,
                Malformed,
                Soon,
                "Failed to call a function",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"The model `gone` has been decommissioned and is no longer supported.","type":"invalid_request_error","code":"model_decommissioned"}}"#,
                InvalidRequest,
                Over,
                "The model `gone`",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"reasoning_effort must be one of low, medium or high","type":"invalid_request_error"}}"#,
                InvalidRequest,
                Without("reasoning_effort"),
                "reasoning_effort must",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"Please reduce the length of the messages or completion.","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
                ContextOverflow,
                Shorter,
                "Please reduce",
            ),
            (
                413,
                &[],
                r#"{"error":{"message":"Request too large for model `openai/gpt-oss-120b` on tokens per minute (TPM): Limit 8000, Requested 9000","type":"tokens","code":"rate_limit_exceeded"}}"#,
                InvalidRequest,
                Over,
                "Request too large",
            ),
            (
                429,
                &[],
                r#"{"error": {"message": "Rate limit reached for model `llama-3.3-70b-versatile`. Please try again in 7.66s.", "type": "tokens", "code": "rate_limit_exceeded"}}"#,
                RateLimit,
                After(7660),
                "Rate limit reached",
            ),
            (
                429,
                &[("retry-after", "8")],
                r#"{"error": {"message": "Rate limit reached. Please try again in 7.66s.", "type": "tokens", "code": "rate_limit_exceeded"}}"#,
                RateLimit,
                After(8000),
                "Rate limit reached",
            ),
            (
                429,
                &[],
                r#"{"error":{"message":"Rate limit reached on requests per day (RPD). Please try again in 2m52.8s.","type":"requests","code":"rate_limit_exceeded"}}"#,
                RateLimit,
                Late(172_800),
                "Rate limit reached",
            ),
            (
                498,
                &[],
                r#"{"error":{"message":"Flex tier capacity exceeded","type":"x"}}"#,
                InvalidRequest,
                Over,
                "Flex tier",
            ),
            (
                500,
                &[],
                r#"{"error":{"message":"Internal Server Error","type":"internal_server_error"}}"#,
                Server,
                Soon,
                "Internal Server Error",
            ),
            (502, &[], "error code: 502", Server, Soon, "error code: 502"),
            (
                503,
                &[],
                r#"{"error":{"message":"Service Unavailable","type":"internal_server_error"}}"#,
                Overloaded,
                After(2000),
                "Service Unavailable",
            ),
        ],
    );
}

#[test]
fn xai() {
    assert_refusals(
        "xai",
        "grok-3-mini",
        &[
            (
                400,
                &[],
                r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***ey. You can obtain an API key from https://console.x.ai."}"#,
                Auth,
                Over,
                "Incorrect API key provided",
            ),
            (
                400,
                &[],
                r#"{"code":"Client specified an invalid argument","error":"Argument not supported on this model: reasoning_effort"}"#,
                InvalidRequest,
                Without("reasoning_effort"),
                "Argument not supported",
            ),
            (
                400,
                &[],
                r#"{"code":"Client specified an invalid argument","error":"This model's maximum prompt length is 131072 but the request contains 537812 tokens."}"#,
                ContextOverflow,
                Shorter,
                "This model's maximum prompt length",
            ),
            (
                403,
                &[],
                r#"{"code":"The caller does not have permission to execute the specified operation","error":"Your team has either used all available credits or reached its spending limit."}"#,
                Permission,
                Over,
                "Your team has",
            ),
            (
                404,
                &[],
                r#"{"code":"Some requested entity was not found","error":"The model grok-3-mini does not exist or your team does not have access to it."}"#,
                InvalidRequest,
                Over,
                "The model grok-3-mini",
            ),
            (
                422,
                &[],
                "Failed to deserialize the JSON body into the target type",
                InvalidRequest,
                Over,
                "Failed to deserialize",
            ),
            (
                429,
                &[],
                r#"{"code":"Some resource has been exhausted","error":"Too many requests for team. Please slow down."}"#,
                RateLimit,
                After(2000),
                "Too many requests",
            ),
            (
                500,
                &[],
                r#"{"code":"Internal error","error":"Internal server error"}"#,
                Server,
                Soon,
                "Internal server error",
            ),
            (502, &[], "<html>bad gateway</html>", Server, Soon, "<html>bad"),
            (
                503,
                &[],
                r#"{"code":"The service is currently unavailable","error":"Service temporarily unavailable. The model is at capacity."}"#,
                Overloaded,
                After(2000),
                "Service temporarily unavailable",
            ),
            (504, &[], "", Server, Soon, "empty answer"),
            (520, &[], "error code: 520", Server, Soon, "error code: 520"),
        ],
    );
}

#[test]
fn mistral() {
    assert_refusals(
        "mistral",
        "magistral-medium-latest",
        &[
            (401, &[], r#"{"message":"Unauthorized","request_id":"a1"}"#, Auth, Over, "Unauthorized"),
            (
                400,
                &[],
                r#"{"object":"error","message":"Prompt contains 140000 tokens and 0 draft tokens, too large for model with 131072 maximum context length","type":"invalid_request_error","param":null,"code":"3051"}"#,
                ContextOverflow,
                Shorter,
                "Prompt contains",
            ),
            (
                400,
                &[],
                r#"{"object":"error","message":"Expected last role User or Tool but got assistant","type":"invalid_request_message_order","param":null,"code":"3230"}"#,
                InvalidRequest,
                Over,
                "Expected last role",
            ),
            (
                400,
                &[],
                r#"{"object":"error","message":"Invalid model: magistral-medium-latest","type":"invalid_model","param":null,"code":"1500"}"#,
                InvalidRequest,
                Over,
                "Invalid model",
            ),
            (
                422,
                &[],
                r#"{"detail":[{"type":"extra_forbidden","loc":["body","prompt_mode"],"msg":"Extra inputs are not permitted","input":"reasoning"}]}"#,
                InvalidRequest,
                Without("prompt_mode"),
                "[{\"type\":\"extra_forbidden\"",
            ),
            (
                422,
                &[],
                r#"{"object":"error","message":{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required"}]},"type":"invalid_request_error","param":null,"code":null}"#,
                InvalidRequest,
                Over,
                "{\"detail\":",
            ),
            (
                429,
                &[],
                r#"{"object":"error","message":"Service tier capacity exceeded for this model.","type":"service_tier_capacity_exceeded","param":null,"code":"3505"}"#,
                RateLimit,
                After(2000),
                "Service tier capacity",
            ),
            (
                429,
                &[],
                r#"{"message":"Requests rate limit exceeded"}"#,
                RateLimit,
                After(2000),
                "Requests rate limit exceeded",
            ),
            (
                500,
                &[],
                r#"{"object":"error","message":"Service unavailable.","type":"internal_server_error","param":null,"code":"3000"}"#,
                Server,
                Soon,
                "Service unavailable.",
            ),
            (502, &[], "", Server, Soon, "empty answer"),
            (
                503,
                &[],
                r#"{"object":"error","message":"Service unavailable.","type":"unreachable_backend","param":null,"code":"1100"}"#,
                Overloaded,
                After(2000),
                "Service unavailable.",
            ),
            (520, &[], "<html>520: Web server is returning an unknown error</html>", Server, Soon, "<html>520"),
        ],
    );
}

#[test]
fn openrouter() {
    assert_refusals(
        "openrouter",
        "x-ai/grok-4",
        &[
            (401, &[], r#"{"error":{"message":"User not found.","code":401}}"#, Auth, Over, "User not found."),
            (
                402,
                &[],
                r#"{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}"#,
                Quota,
                Over,
                "This request requires more credits",
            ),
            (
                403,
                &[],
                r#"{"error":{"message":"Input was flagged","code":403,"metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#,
                Permission,
                Over,
                "Input was flagged",
            ),
            (
                404,
                &[],
                r#"{"error":{"message":"No endpoints found that support tool use.","code":404}}"#,
                InvalidRequest,
                Over,
                "No endpoints found",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"reasoning is not supported\"}}","provider_name":"xAI"}}}"#,
                InvalidRequest,
                Without("reasoning"),
                "Provider returned error: {\"error\"",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens","code":400}}"#,
                ContextOverflow,
                Shorter,
                "This endpoint's maximum context length",
            ),
            (408, &[], r#"{"error":{"message":"Request timed out","code":408}}"#, Server, Soon, "Request timed out"),
            (
                429,
                &[],
                r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"x-ai/grok-4 is temporarily rate-limited upstream","provider_name":"xAI"}}}"#,
                RateLimit,
                After(2000),
                "Provider returned error: x-ai/grok-4 is temporarily",
            ),
            (
                500,
                &[],
                r#"{"error":{"message":"Internal Server Error","code":500}}"#,
                Server,
                Soon,
                "Internal Server Error",
            ),
            (
                502,
                &[],
                r#"{"error":{"code":502,"message":"Provider returned error","metadata":{"provider_name":"Anthropic","raw":"upstream closed"}}}"#,
                Server,
                Soon,
                "Provider returned error: upstream closed",
            ),
            (
                503,
                &[],
                r#"{"error":{"message":"No available model provider that meets your routing requirements","code":503}}"#,
                Overloaded,
                After(2000),
                "No available model provider",
            ),
            (524, &[], "error code: 524", Server, Soon, "error code: 524"),
            (
                529,
                &[],
                r#"{"error":{"message":"Provider overloaded","code":529}}"#,
                Overloaded,
                After(2000),
                "Provider overloaded",
            ),
        ],
    );
}

#[test]
fn google() {
    assert_refusals(
        "google",
        "gemini-2.5-pro",
        &[
            (
                400,
                &[],
                r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#,
                Auth,
                Over,
                "API key not valid",
            ),
            (
                400,
                &[],
                r#"[{"error":{"code":400,"message":"API key expired.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}]"#,
                Auth,
                Over,
                "API key expired",
            ),
            (
                400,
                &[],
                r#"{"error":{"code":400,"message":"Request contains an invalid argument.","status":"INVALID_ARGUMENT"}}"#,
                InvalidRequest,
                Over,
                "Request contains an invalid argument.",
            ),
            (
                400,
                &[],
                r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#,
                InvalidRequest,
                Over,
                "User location",
            ),
            (
                400,
                &[],
                r#"{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
                ContextOverflow,
                Shorter,
                "The input token count",
            ),
            (
                400,
                &[],
                r#"{"error":{"code":400,"message":"Thinking level MINIMAL is not supported for this model.","status":"INVALID_ARGUMENT"}}"#,
                InvalidRequest,
                Without("thinkingConfig"),
                "Thinking level",
            ),
            (
                401,
                &[],
                r#"{"error":{"code":401,"message":"Request had invalid authentication credentials.","status":"UNAUTHENTICATED"}}"#,
                Auth,
                Over,
                "Request had invalid",
            ),
            (
                403,
                &[],
                r#"{"error":{"code":403,"message":"Generative Language API has not been used in project 1 before or it is disabled.","status":"PERMISSION_DENIED"}}"#,
                Permission,
                Over,
                "Generative Language API",
            ),
            (
                404,
                &[],
                r#"{"error":{"code":404,"message":"models/gemini-2.5-pro is not found for API version v1beta","status":"NOT_FOUND"}}"#,
                InvalidRequest,
                Over,
                "models/gemini-2.5-pro is not found",
            ),
            (
                429,
                &[],
                r#"{"error": {"code": 429, "message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}]}}"#,
                RateLimit,
                After(37_000),
                "You exceeded your current quota",
            ),
            (
                429,
                &[],
                r#"[{"error": {"code": 429, "message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure"}, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "90.5s"}]}}]"#,
                RateLimit,
                Late(90_500),
                "You exceeded your current quota",
            ),
            (
                429,
                &[],
                r#"{"error":{"code":429,"message":"Resource has been exhausted (e.g. check quota).","status":"RESOURCE_EXHAUSTED"}}"#,
                RateLimit,
                After(2000),
                "Resource has been exhausted",
            ),
            (
                500,
                &[],
                r#"{"error":{"code":500,"message":"An internal error has occurred.","status":"INTERNAL"}}"#,
                Server,
                Soon,
                "An internal error",
            ),
            (
                503,
                &[],
                r#"{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}"#,
                Overloaded,
                After(2000),
                "The model is overloaded",
            ),
            (
                504,
                &[],
                r#"{"error":{"code":504,"message":"Deadline expired before operation could complete.","status":"DEADLINE_EXCEEDED"}}"#,
                Server,
                Soon,
                "Deadline expired",
            ),
        ],
    );
}

#[test]
fn servers_of_ones_own() {
    assert_refusals(
        "custom",
        "m",
        &[
            (
                400,
                &[],
                r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error"}}"#,
                ContextOverflow,
                Shorter,
                "the request exceeds",
            ),
            (
                400,
                &[],
                r#"{"object":"error","message":"This model's maximum context length is 8192 tokens. However, you requested 18284 tokens","type":"BadRequestError","param":null,"code":400}"#,
                ContextOverflow,
                Shorter,
                "This model's maximum context length",
            ),
            (
                400,
                &[],
                r#"{"error":{"message":"Unrecognized request argument supplied: stream_options"}}"#,
                InvalidRequest,
                Without("stream_options"),
                "Unrecognized",
            ),
            (
                401,
                &[],
                r#"{"error":{"message":"Authentication Error, Invalid proxy server token passed.","type":"auth_error","param":"None","code":"401"}}"#,
                Auth,
                Over,
                "Authentication Error",
            ),
            (404, &[], r#"{"error":"model 'm' not found"}"#, InvalidRequest, Over, "model 'm' not found"),
            (413, &[], "", ContextOverflow, Shorter, "empty answer"),
            (
                500,
                &[],
                "event: error\ndata: {\"error\":{\"message\":\"cannot load the model\"}}\n\n",
                Server,
                Soon,
                "cannot load the model",
            ),
            (
                503,
                &[("retry-after", "20")],
                r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
                Overloaded,
                After(20_000),
                "Loading model",
            ),
        ],
    );
}
