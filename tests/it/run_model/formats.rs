//! What every wire format has to manage in a real run.

use serde_json::{Value, json};

use super::bench::{Bench, Run};
use crate::support::llm::{Answer, Reply, Request, bash, text};

const KEY: &str = "key-0123456789-abcdefghijklmnopqrstuvwxyz";
/// The smallest of all pictures.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const CAPTION: &str = "Read image file [image/png]";

/// A provider, a model of it, and how its responses look.
type Format = (&'static str, &'static str, fn(&Reply) -> Answer);

const FORMATS: [Format; 4] = [
    ("anthropic", "claude-opus-4-6", Reply::stream),
    ("openai", "gpt-6-luna", Reply::responses),
    ("groq", "openai/gpt-oss-120b", Reply::chat),
    ("google", "gemini-3.8-flash", Reply::gemini),
];

/// An agent with a model of a provider and its key.
fn bench(provider: &str, model: &str) -> Bench {
    let bench = Bench::with_model("", &format!("provider = '{provider}'\nmodel = '{model}'\nidleTimeout = 2\n"));
    bench.project.credential(&format!("{provider}_key"), "token", KEY);
    bench
}

fn kinds(run: &Run<'_>) -> Vec<String> {
    run.log("retrying request").iter().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect()
}

fn assert_withdrawn((provider, model, format): Format) {
    let half = || format(&text("This half will be withdrawn.").usage(1000, 1000, 1000, 0));
    let script = [
        half().cut_behind("half"),
        half().silent_behind("half"),
        half().garbled_behind("half"),
        format(&bash("echo once >> /tmp/made; cat /tmp/made").usage(30, 20, 0, 0)).in_pieces(3),
        format(&text("Done.").usage(40, 2, 0, 0)),
    ];
    let bench = bench(provider, model);
    let (run, requests) = bench.run(0, script);
    for request in &requests[1..4] {
        assert_eq!(request.body, requests[0].body, "{provider}");
    }
    assert_eq!(kinds(&run), ["network", "network", "malformed"], "{provider}");
    let usage = &run.done.result()["usage"];
    let used = (&usage["inputTokens"], &usage["outputTokens"], &usage["turnCount"]);
    assert_eq!(used, (&json!(70), &json!(22), &json!(2)), "{provider}");
    assert_eq!(run.only("run completed")["outputLength"], "Done.".len(), "{provider}");
    assert_eq!(run.log("bash").len(), 1, "{provider}");
    assert!(!run.shown().contains("withdrawn") && !run.shown().contains(KEY), "{provider}");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn half_a_response_is_withdrawn_and_asked_for_again() {
    // Most of it is waiting.
    std::thread::scope(|scope| {
        for format in FORMATS {
            scope.spawn(move || assert_withdrawn(format));
        }
    });
}

fn swap_case(letter: char) -> char {
    if letter.is_ascii_uppercase() { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() }
}

/// What the model is sent after it has read a picture.
fn after_picture((provider, model, format): Format, extra: &str) -> Request {
    let bench = Bench::with_model("", &format!("provider = '{provider}'\nmodel = '{model}'\n{extra}\n"));
    bench.project.credential(&format!("{provider}_key"), "token", KEY);
    // The command is logged, too; it has the picture in another form.
    let swapped: String = PNG.chars().map(swap_case).collect();
    let make = format!("echo {swapped} | tr 'A-Za-z' 'a-zA-Z' | base64 -d >/tmp/a.png");
    let script = [
        format(&bash(&make)),
        format(&Reply::new().call("D681PevKs", "read", &json!({"path": "/tmp/a.png"}))),
        format(&text("A dot.")),
    ];
    let (run, mut requests) = bench.run(0, script);
    assert!(!run.shown().contains(PNG), "{provider}: pictures are not logged");
    requests.remove(2)
}

fn last(list: &Value, count: usize) -> Vec<Value> {
    let list = list.as_array().unwrap();
    list[list.len() - count..].to_vec()
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn anthropic_gets_a_picture_inside_the_result() {
    let request = after_picture(FORMATS[0], "");
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}});
    let result = json!({"type": "tool_result", "tool_use_id": "D681PevKs", "is_error": false,
        "content": [{"type": "text", "text": CAPTION}, image], "cache_control": {"type": "ephemeral"}});
    assert_eq!(last(&request.body["messages"], 1), [json!({"role": "user", "content": [result]})]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn gemini_gets_a_picture_inside_the_result_or_behind_it() {
    let image = json!({"inlineData": {"mimeType": "image/png", "data": PNG}});
    let response = |parts: Option<Value>| {
        let mut response = json!({"id": "D681PevKs", "name": "read", "response": {"output": CAPTION}});
        if let Some(parts) = parts {
            response["parts"] = parts;
        }
        json!({"role": "user", "parts": [{"functionResponse": response}]})
    };
    let request = after_picture(FORMATS[3], "");
    assert_eq!(last(&request.body["contents"], 1), [response(Some(json!([image])))]);

    let request = after_picture(("google", "gemini-2.5-flash", Reply::gemini), "");
    let behind = json!({"role": "user", "parts": [{"text": "Tool result image:"}, image]});
    assert_eq!(last(&request.body["contents"], 2), [response(None), behind]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn mistral_gets_a_picture_inside_the_message_of_the_tool() {
    let request = after_picture(("mistral", "mistral-large-latest", Reply::chat), "");
    let content = json!([{"type": "text", "text": CAPTION},
        {"type": "image_url", "image_url": format!("data:image/png;base64,{PNG}")}]);
    let result = json!({"role": "tool", "tool_call_id": "D681PevKs", "name": "read", "content": content});
    assert_eq!(last(&request.body["messages"], 1), [result]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_model_that_sees_nothing_is_told_so() {
    for (provider, model, format) in FORMATS {
        let body = after_picture((provider, model, format), "images = false").body.to_string();
        assert!(body.contains("(image omitted: model has no image input)"), "{provider}: {body}");
        assert!(body.contains(CAPTION), "{provider}: {body}");
        assert!(!body.contains(PNG), "{provider}: {body}");
    }
}
