//! Whole sessions with servers of every wire format: what they say of a conversation that is too long, and how a
//! conversation that began in one format goes on in another.

use serde_json::{Value, json};

use super::bench::{Bench, name};
use crate::cancel::Cancel;
use crate::secret::Secret;
use crate::session::error::Kind;
use crate::session::event::Event;
use crate::session::fake::{Fake, Given, Received};
use crate::session::{End, ModelChoice, Outcome, run};

const FORMATS: [Format; 4] = [Format::Anthropic, Format::Responses, Format::Chat, Format::Google];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Anthropic,
    Responses,
    Chat,
    Google,
}

fn sse(events: impl IntoIterator<Item = Value>) -> String {
    events.into_iter().map(|event| format!("data: {event}\n\n")).collect()
}

impl Format {
    /// A model table for a server. `which` makes it a model of its own.
    fn table(self, url: &str, which: &str) -> Value {
        let (api, model) = match self {
            Self::Anthropic => ("anthropic", "claude-model"),
            Self::Responses => ("responses", "gpt-model"),
            Self::Chat => ("chat", "chat-model"),
            Self::Google => ("google", "gemini-3-model"),
        };
        json!({"provider": "custom", "api": api, "baseUrl": url, "model": format!("{model}{which}"), "reasoning": true,
               "images": true})
    }

    /// A response that thinks, says something and calls bash.
    fn calls(self, mark: &str, command: &str) -> Given {
        let args = json!({"command": command});
        let (raw, signature) = (args.to_string(), self.signature(mark));
        let (thought, said) = (format!("thought {mark}"), format!("said {mark}"));
        Given::stream(match self {
            Self::Anthropic => sse([
                json!({"type": "message_start", "message": {"usage": {"input_tokens": 12}}}),
                json!({"type": "content_block_start", "index": 0, "content_block":
                    {"type": "thinking", "thinking": thought, "signature": signature}}),
                json!({"type": "content_block_start", "index": 1, "content_block":
                    {"type": "redacted_thinking", "data": signature}}),
                json!({"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": said}}),
                json!({"type": "content_block_start", "index": 3, "content_block":
                    {"type": "tool_use", "id": format!("toolu_{mark}"), "name": "bash", "input": args}}),
                json!({"type": "content_block_stop", "index": 3}),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
                json!({"type": "message_stop"}),
            ]),
            Self::Responses => sse([
                json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "reasoning",
                    "id": format!("rs_{mark}"), "summary": [{"type": "summary_text", "text": thought}],
                    "encrypted_content": signature}}),
                json!({"type": "response.output_item.done", "output_index": 1, "item": {"type": "message",
                    "id": format!("msg_{mark}"), "content": [{"type": "output_text", "text": said}]}}),
                json!({"type": "response.output_item.done", "output_index": 2, "item": {"type": "function_call",
                    "id": format!("fc_{mark}"), "call_id": format!("call_{mark}"), "name": "bash", "arguments": raw}}),
                json!({"type": "response.completed", "response": {"usage": {"input_tokens": 12, "output_tokens": 9}}}),
            ]),
            Self::Chat => sse([
                json!({"choices": [{"delta": {"reasoning_content": thought}}]}),
                json!({"choices": [{"delta": {"content": said}}]}),
                json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": format!("call/{mark}"),
                    "function": {"name": "bash", "arguments": raw}}]}, "finish_reason": "tool_calls"}]}),
                json!({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}}),
            ]),
            Self::Google => sse([
                json!({"candidates": [{"content": {"parts": [{"text": thought, "thought": true}]}}]}),
                json!({"candidates": [{"content": {"parts": [{"text": said}]}}]}),
                json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "bash", "args": args},
                    "thoughtSignature": signature}]}, "finishReason": "STOP"}],
                    "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 9}}),
            ]),
        })
    }

    /// What a response leaves behind that only its own model may see again; valid base64.
    fn signature(self, mark: &str) -> String {
        format!("{self:?}Signature{mark}{}", "A".repeat((4 - (format!("{self:?}{mark}").len() + 9) % 4) % 4))
    }

    /// A response that ends the session.
    fn done(self) -> Given {
        Given::stream(match self {
            Self::Anthropic => sse([
                json!({"type": "message_start", "message": {"usage": {"input_tokens": 12}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "done"}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}),
                json!({"type": "message_stop"}),
            ]),
            Self::Responses => sse([
                json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "message",
                    "id": "msg_done", "content": [{"type": "output_text", "text": "done"}]}}),
                json!({"type": "response.completed", "response": {"usage": {"input_tokens": 12, "output_tokens": 9}}}),
            ]),
            Self::Chat => sse([json!({"choices": [{"delta": {"content": "done"}, "finish_reason": "stop"}]})]),
            Self::Google => {
                sse([json!({"candidates": [{"content": {"parts": [{"text": "done"}]}, "finishReason": "STOP"}]})])
            }
        })
    }

    /// The conversation in a request: who says what. The system prompt is left out.
    fn conversation(self, body: &Value) -> Vec<String> {
        match self {
            Self::Anthropic => blocks(&body["messages"], "content", |role, block| match block["type"].as_str() {
                Some("text") => format!("{role}: {}", text(&block["text"])),
                Some("thinking") => format!("{role} thinks: {}", text(&block["thinking"])),
                Some("redacted_thinking") => format!("{role} redacted"),
                Some("tool_use") => format!("{} calls {} {}", text(&block["id"]), text(&block["name"]), block["input"]),
                Some("tool_result") => format!("{} gives {}", text(&block["tool_use_id"]), text(&block["content"])),
                _ => panic!("{block}"),
            }),
            Self::Google => blocks(&body["contents"], "parts", |role, part| {
                if let Some(call) = part.get("functionCall") {
                    return format!("calls {} {}", text(&call["name"]), call["args"]);
                }
                if let Some(response) = part.get("functionResponse") {
                    return format!("gives {}", text(&response["response"]["output"]));
                }
                format!("{}: {}", role.replace("model", "assistant"), text(&part["text"]))
            }),
            Self::Responses => items(&body["input"]).iter().skip(1).map(response_item).collect(),
            Self::Chat => items(&body["messages"]).iter().skip(1).flat_map(chat_message).collect(),
        }
    }
}

fn response_item(item: &Value) -> String {
    let parts = |list: &Value| items(list).iter().map(|part| text(&part["text"])).collect::<Vec<_>>().join("|");
    match item["type"].as_str() {
        None => format!("user: {}", parts(&item["content"])),
        Some("message") => format!("assistant: {}", parts(&item["content"])),
        Some("reasoning") => format!("assistant thinks: {}", parts(&item["summary"])),
        Some("function_call") => {
            format!("{} calls {} {}", text(&item["call_id"]), text(&item["name"]), text(&item["arguments"]))
        }
        Some("function_call_output") => format!("{} gives {}", text(&item["call_id"]), text(&item["output"])),
        Some(_) => panic!("{item}"),
    }
}

fn chat_message(message: &Value) -> Vec<String> {
    let mut seen = Vec::new();
    let role = text(&message["role"]);
    if let Some(thought) = message.get("reasoning_content") {
        seen.push(format!("{role} thinks: {}", text(thought)));
    }
    match role {
        "tool" => seen.push(format!("{} gives {}", text(&message["tool_call_id"]), text(&message["content"]))),
        _ if message["content"].is_null() => {}
        _ => seen.push(format!("{role}: {}", text(&message["content"]))),
    }
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let function = &call["function"];
        let (id, called) = (text(&call["id"]), text(&function["name"]));
        seen.push(format!("{id} calls {called} {}", text(&function["arguments"])));
    }
    seen
}

fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn blocks(messages: &Value, name: &str, show: impl Fn(&str, &Value) -> String) -> Vec<String> {
    let message = |message: &Value| {
        let role = text(&message["role"]);
        items(&message[name]).iter().map(|block| show(role, block)).collect::<Vec<_>>()
    };
    items(messages).iter().flat_map(message).collect()
}

/// A whole session with these models.
fn run_with(models: Vec<Value>) -> (Vec<String>, Outcome) {
    let mut input = Bench::new(Vec::new()).input();
    input.tool_dir = "/".into();
    input.tmp_dir = std::env::temp_dir();
    let choice = |table| ModelChoice { config: serde_json::from_value(table).unwrap(), key: Some(Secret::new("k")) };
    input.models = models.into_iter().map(choice).collect();
    let mut events = Vec::new();
    let outcome = run(input, "do it".into(), Cancel::new(), &mut |event: Event<'_>| events.push(name(&event)));
    (events, outcome)
}

/// The message of an error body, in the manner of most providers.
fn refusal(status: u16, code: &str, message: &str) -> Given {
    let body = json!({"type": "error", "error": {"type": "invalid_request_error", "code": code, "message": message}});
    Given::json(status, &body.to_string())
}

/// What the providers and the servers that people run themselves say.
fn overflows(format: Format) -> Vec<Given> {
    let spoken = |texts: &[&str]| texts.iter().map(|text| refusal(400, "x", text)).collect::<Vec<_>>();
    let mut all = match format {
        Format::Anthropic => spoken(&[
            "prompt is too long: 210000 tokens > 200000 maximum",
            "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length",
            "Input is too long for requested model.",
        ]),
        Format::Responses => spoken(&["Your input exceeds the context window of this model. Please adjust your input"]),
        Format::Chat => spoken(&[
            "Please reduce the length of the messages or completion.",
            "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
            "Prompt contains 140000 tokens, too large for model with 131072 maximum context length",
            "This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens",
            "the request exceeds the available context size, try increasing it",
            "The number of tokens to keep from the initial prompt is greater than the context length",
            "prompt too long; exceeded max context length by 4 tokens",
            "Your request exceeded model token limit: 262144",
            "invalid params, context window exceeds limit",
            "litellm.ContextWindowExceededError: OpenAIException",
        ]),
        Format::Google => {
            let message = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).";
            let body = json!([{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]);
            vec![Given::json(400, &body.to_string())]
        }
    };
    let within = |event: Value| Given::stream(sse([event]));
    match format {
        Format::Anthropic => {
            all.push(Given::json(
                413,
                r#"{"type":"error","error":{"type":"request_too_large","message":"too large"}}"#,
            ));
            let stopped = json!({"type": "message_delta", "delta": {"stop_reason": "model_context_window_exceeded"}});
            let start = json!({"type": "message_start", "message": {"usage": {"input_tokens": 12}}});
            all.push(Given::stream(sse([start, stopped, json!({"type": "message_stop"})])));
        }
        Format::Responses => {
            let error = json!({"code": "context_length_exceeded", "message": "too long"});
            all.push(within(json!({"type": "error", "code": "context_length_exceeded", "message": "too long"})));
            all.push(within(json!({"type": "response.failed", "response": {"error": error}})));
        }
        Format::Chat => {
            all.push(refusal(400, "context_length_exceeded", "too long"));
            all.push(within(json!({"error": {"code": 400, "message": "Input token limit exceeded"}, "choices": []})));
            all.push(Given::json(413, ""));
        }
        Format::Google => {}
    }
    all
}

#[test]
fn a_short_conversation_that_a_server_finds_too_long_is_shortened_and_sent_again() {
    let print = "head -c 20000 /dev/zero | tr '\\0' x";
    for format in FORMATS {
        for (at, overflow) in overflows(format).into_iter().enumerate() {
            let server = Fake::start(vec![format.calls("a", print), overflow, format.done()]);
            let (events, outcome) = run_with(vec![format.table(&server.url, "")]);
            assert!(matches!(outcome.end, End::Completed), "{format:?} {at}: {:?} {events:?}", outcome.end);
            let received = server.received();
            assert_eq!(received.len(), 3, "{format:?} {at}");
            let length = |request: &Received| request.body.to_string().len();
            assert!(length(&received[1]) > 20_000 && length(&received[2]) < 12_000, "{format:?} {at}");
            assert_eq!(events.iter().filter(|event| *event == "compaction overflow").count(), 1);
        }
    }
}

/// Ends the use of a model at once, whatever its format.
fn no_credit() -> Given {
    Given::json(402, r#"{"error":{"message":"no credit left"}}"#)
}

/// What `to` is shown of a response of another model. The ids of its calls are those of the format it came from, made
/// fit for every other.
fn foreign(from: Format, to: Format, mark: &str) -> Vec<String> {
    let id = match (from, to) {
        (_, Format::Google) => String::new(),
        (Format::Anthropic, _) => format!("toolu_{mark} "),
        (Format::Responses, Format::Anthropic) => format!("call_{mark}_fc_{mark} "),
        (Format::Responses | Format::Chat, _) => format!("call_{mark} "),
        (Format::Google, _) => "made ".into(),
    };
    let command = format!("echo {mark}");
    let call = format!("{id}calls bash {}", json!({"command": command}));
    let (thought, said) = (format!("assistant: thought {mark}"), format!("assistant: said {mark}"));
    let told = match to {
        Format::Chat => vec![format!("assistant: thought {mark}said {mark}")],
        _ => vec![thought, said],
    };
    [told, vec![call, format!("{id}gives {mark}\n")]].concat()
}

/// What a model gets back of its own response.
fn own(format: Format, mark: &str) -> Vec<String> {
    let id = match format {
        Format::Anthropic => format!("toolu_{mark} "),
        Format::Responses => format!("call_{mark} "),
        Format::Chat => format!("call/{mark} "),
        Format::Google => String::new(),
    };
    let mut seen = vec![format!("assistant thinks: thought {mark}"), format!("assistant: said {mark}")];
    match format {
        Format::Anthropic => seen.insert(1, "assistant redacted".into()),
        Format::Google => drop(seen.remove(0)),
        Format::Responses | Format::Chat => {}
    }
    let command = format!("echo {mark}");
    seen.push(format!("{id}calls bash {}", json!({"command": command})));
    seen.push(format!("{id}gives {mark}\n"));
    seen
}

/// Ids that Gemini's calls were given here, which change from run to run, become `made`.
fn without_made_ids(seen: Vec<String>) -> Vec<String> {
    let known = |line: String| match line.split_once(' ') {
        Some((id, rest)) if id.starts_with("bash_") => format!("made {rest}"),
        _ => line,
    };
    seen.into_iter().map(known).collect()
}

#[test]
fn a_conversation_goes_on_in_every_other_format() {
    for from in FORMATS {
        for to in FORMATS {
            let first = Fake::start(vec![from.calls("a", "echo a"), no_credit()]);
            let second = Fake::start(vec![to.calls("b", "echo b"), to.done()]);
            let (events, outcome) = run_with(vec![from.table(&first.url, "-1"), to.table(&second.url, "-2")]);
            assert!(matches!(outcome.end, End::Completed), "{from:?} {to:?}: {:?} {events:?}", outcome.end);
            assert_eq!(outcome.text, "said asaid bdone");

            let received = second.received();
            let seen = |at: usize| without_made_ids(to.conversation(&received[at].body));
            let begin = [vec!["user: do it".to_owned()], foreign(from, to, "a")].concat();
            assert_eq!(seen(0), begin, "{from:?} {to:?}");
            assert_eq!(seen(1), [begin, own(to, "b")].concat(), "{from:?} {to:?}");
            // What a model signs or seals is nobody else's.
            for request in &received {
                assert!(!request.body.to_string().contains(&from.signature("a")), "{from:?} {to:?}");
            }
            let sealed = to == Format::Chat || received[1].body.to_string().contains(&to.signature("b"));
            assert!(sealed, "{from:?} {to:?}");
        }
    }
}

#[test]
fn a_model_that_is_used_again_gets_its_own_thinking_back() {
    for from in FORMATS {
        for to in FORMATS.into_iter().filter(|to| *to != from) {
            // The next model is asked at once, and this one is not left alone for a while.
            let unavailable = || Given::json(500, "{}").header("x-should-retry", "false");
            let first = Fake::start(vec![from.calls("a", "echo a"), unavailable(), from.done()]);
            let second = Fake::start(vec![to.calls("b", "echo b"), unavailable()]);
            let (events, outcome) = run_with(vec![from.table(&first.url, "-1"), to.table(&second.url, "-2")]);
            assert!(matches!(outcome.end, End::Completed), "{from:?} {to:?}: {:?} {events:?}", outcome.end);
            let received = first.received();
            let seen = without_made_ids(from.conversation(&received[2].body));
            let expected = [vec!["user: do it".to_owned()], own(from, "a"), foreign(to, from, "b")].concat();
            assert_eq!(seen, expected, "{from:?} {to:?}");
            assert!(!received[2].body.to_string().contains(&to.signature("b")), "{from:?} {to:?}");
        }
    }
}

#[test]
fn sealed_thinking_that_a_server_cannot_open_is_left_out() {
    let format = Format::Responses;
    let message = "The encrypted content for item rs_a could not be verified.";
    let unreadable = || refusal(400, "invalid_encrypted_content", message);
    let server =
        Fake::start(vec![format.calls("a", "echo a"), unreadable(), format.calls("b", "echo b"), format.done()]);
    let (events, outcome) = run_with(vec![format.table(&server.url, "")]);
    assert!(matches!(outcome.end, End::Completed), "{:?} {events:?}", outcome.end);
    let received = server.received();
    assert!(received[1].body.to_string().contains(&format.signature("a")));
    let seen = format.conversation(&received[2].body);
    let rest = ["assistant: said a", "call_a calls bash {\"command\":\"echo a\"}", "call_a gives a\n"];
    assert_eq!(seen[1..], rest);
    // Ids that would refer to it go with it, also later on.
    let ids = |at: usize| items(&received[at].body["input"]).iter().filter(|item| item.get("id").is_some()).count();
    assert_eq!((ids(1), ids(2), ids(3)), (3, 0, 0));
    assert!(events.contains(&"notice ParameterRejected { param: \"thinking blocks\" }".into()), "{events:?}");

    let server = Fake::start(vec![format.calls("a", "echo a"), unreadable(), unreadable(), format.done()]);
    let (_, outcome) = run_with(vec![format.table(&server.url, "")]);
    assert!(matches!(outcome.end, End::Failed { error, .. } if error.kind == Kind::InvalidRequest));
}

#[test]
fn absurd_counts_of_tokens_end_nothing_but_the_session() {
    let huge = u64::MAX;
    for format in FORMATS {
        let stream = match format {
            Format::Anthropic => sse([
                json!({"type": "message_start", "message": {"usage": {"input_tokens": huge, "output_tokens": huge,
                    "cache_read_input_tokens": huge, "cache_creation_input_tokens": huge}}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
                json!({"type": "message_stop"}),
            ]),
            Format::Responses => sse([json!({"type": "response.completed", "response": {"usage":
                {"input_tokens": huge, "output_tokens": huge, "input_tokens_details": {"cached_tokens": huge}}}})]),
            Format::Chat => sse([json!({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": huge, "completion_tokens": huge, "total_tokens": huge}})]),
            Format::Google => sse([json!({"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": huge, "candidatesTokenCount": huge, "thoughtsTokenCount": huge}})]),
        };
        let server = Fake::start(vec![Given::stream(stream.clone()), Given::stream(stream)]);
        let (_, outcome) = run_with(vec![format.table(&server.url, "")]);
        // More than the window holds, whatever has come.
        let End::Failed { error, .. } = outcome.end else { panic!("{format:?}: {:?}", outcome.end) };
        assert_eq!(error.kind, Kind::ContextOverflow, "{format:?}");
        assert!(outcome.usage.total_tokens > 1 << 40, "{format:?}");
    }
}

/// A model that thinks by budget refuses a conversation whose last response does not begin with its thinking.
#[test]
fn a_model_that_wants_its_own_thinking_gets_none_asked_for_after_a_fallback() {
    let refused = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`. When \
                   `thinking` is enabled, a final `assistant` message must start with a thinking block.";
    let first = Fake::start(vec![Format::Chat.calls("a", "echo a"), no_credit()]);
    let answers = vec![refusal(400, "invalid_request_error", refused), Format::Anthropic.done()];
    let second = Fake::start(answers);
    let (events, outcome) =
        run_with(vec![Format::Chat.table(&first.url, "-1"), Format::Anthropic.table(&second.url, "-2")]);
    assert!(matches!(outcome.end, End::Completed), "{:?} {events:?}", outcome.end);
    let asked: Vec<bool> = second.received().iter().map(|request| request.body.get("thinking").is_some()).collect();
    assert_eq!(asked, [true, false]);
}

#[test]
fn the_same_model_behind_another_format_is_another_model() {
    for from in FORMATS {
        for to in FORMATS.into_iter().filter(|to| *to != from) {
            let first = Fake::start(vec![from.calls("a", "echo a"), no_credit()]);
            let second = Fake::start(vec![to.done()]);
            let mut tables = vec![from.table(&first.url, ""), to.table(&second.url, "")];
            for table in &mut tables {
                table["model"] = "gemini-3-of-a-proxy".into();
            }
            let (events, outcome) = run_with(tables);
            assert!(matches!(outcome.end, End::Completed), "{from:?} {to:?}: {:?} {events:?}", outcome.end);
            let body = &second.received()[0].body;
            let expected = [vec!["user: do it".to_owned()], foreign(from, to, "a")].concat();
            assert_eq!(without_made_ids(to.conversation(body)), expected, "{from:?} {to:?}");
            assert!(!body.to_string().contains(&from.signature("a")), "{from:?} {to:?}");
        }
    }
}
