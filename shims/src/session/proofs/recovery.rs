//! Failures that pass, and responses that are cut: what the model is asked next.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::error::Kind;
use super::{End, Fake, Format, Given, Seen, Surroundings, hold, hold_while, sse};

/// Holds a session that waits as long as nobody notices.
fn hold_patiently(format: Format, server: &Fake) -> Seen {
    hold_while(Surroundings::Container, format.table(&server.url), |delay| delay < Duration::from_millis(20))
}

#[test]
fn a_server_that_has_no_capacity_twice_is_asked_a_third_time() {
    for format in Format::ALL {
        for (status, kind) in [(529, Kind::Overloaded), (503, Kind::Overloaded), (429, Kind::RateLimit)] {
            let busy = || Given::json(status, "{}").header("retry-after-ms", "5");
            let server = Fake::start(vec![busy(), busy(), Given::stream(format.hello())]);
            let seen = hold_patiently(format, &server);
            let kinds: Vec<Kind> = seen.failures.iter().map(|error| error.kind).collect();
            assert!(matches!(seen.end, End::Completed), "{format:?} {status}: {:?}", seen.end);
            assert_eq!((kinds, seen.text.as_str(), seen.usage.turn_count), (vec![kind; 2], "Hello.", 1), "{format:?}");
            let bodies: Vec<Value> = server.received().into_iter().map(|request| request.body).collect();
            assert!(bodies.len() == 3 && bodies[0] == bodies[1] && bodies[1] == bodies[2], "{format:?}");

            // Its third refusal is not waited for in this way.
            let server = Fake::start(vec![busy(), busy(), busy()]);
            let seen = hold_patiently(format, &server);
            assert_eq!((seen.failures.len(), seen.wait.map(|wait| wait.1)), (3, Some(Duration::from_secs(30))));
        }
    }
}

impl Format {
    /// A response that reaches the output limit within the arguments of a call. Google's calls come whole.
    fn cut_call(self, raw: &str) -> Option<String> {
        Some(match self {
            Self::Anthropic => sse(&[
                json!({"type": "content_block_start", "index": 0, "content_block":
                    {"type": "tool_use", "id": "call_0", "name": "bash", "input": {}}}),
                json!({"type": "content_block_delta", "index": 0, "delta":
                    {"type": "input_json_delta", "partial_json": raw}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}),
                json!({"type": "message_stop"}),
            ]),
            Self::Responses => sse(&[
                json!({"type": "response.output_item.added", "output_index": 0, "item":
                    {"type": "function_call", "id": "fc_0", "call_id": "call_0", "name": "bash", "arguments": ""}}),
                json!({"type": "response.function_call_arguments.delta", "output_index": 0, "delta": raw}),
                json!({"type": "response.incomplete", "response": {"incomplete_details":
                    {"reason": "max_output_tokens"}}}),
            ]),
            Self::Chat => sse(&[json!({"choices": [{"finish_reason": "length", "delta": {"tool_calls": [{"index": 0,
                "id": "call_0", "function": {"name": "bash", "arguments": raw}}]}}]})]),
            Self::Google => return None,
        })
    }
}

#[test]
fn a_call_cut_by_the_output_limit_is_not_carried_out_and_the_model_is_told() {
    for format in Format::ALL {
        for raw in [r#"{"command":"echo carried out"#, r#"{"command":"echo carried out""#, "{", "\"", "[1]"] {
            let Some(cut) = format.cut_call(raw) else { continue };
            let server = Fake::start(vec![Given::stream(cut), Given::stream(format.hello())]);
            let seen = hold(format.table(&server.url));
            assert!(matches!(seen.end, End::Completed), "{format:?} {raw}: {:?} {:?}", seen.end, seen.failures);
            let request = server.received().remove(1).body.to_string();
            assert!(request.contains("cut off") && !request.contains("carried out\\n"), "{format:?} {raw}: {request}");
        }
    }
}

#[test]
fn calls_of_one_response_are_carried_out_and_answered_in_their_order() {
    for format in Format::ALL {
        let commands = ["sleep 0.05; echo first", "echo second; exit 3", "echo third"];
        let server = Fake::start(vec![Given::stream(format.calls(&commands)), Given::stream(format.hello())]);
        let seen = hold(format.table(&server.url));
        assert!(matches!(seen.end, End::Completed), "{format:?}: {:?} {:?}", seen.end, seen.failures);
        assert_eq!((seen.text.as_str(), seen.tools), ("Hello.", 3), "{format:?}");
        let request = server.received().remove(1).body.to_string();
        let results = ["\"first\\n\"", "second\\n\\nCommand exited with code 3", "\"third\\n\""];
        let places: Vec<_> = results.iter().map(|result| request.find(result)).collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{format:?}: {places:?} {request}");
    }
}
