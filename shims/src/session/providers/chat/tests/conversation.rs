//! How a conversation is put into messages.

use super::*;

/// The messages of a conversation behind the prompt.
fn messages(table: &Value, rest: &[Message]) -> Vec<Value> {
    let all: Vec<Message> = std::iter::once(prompt()).chain(rest.iter().cloned()).collect();
    body(table, &all, &[])["messages"].as_array().unwrap()[2..].to_vec()
}

#[test]
fn images_of_users_and_results() {
    let turn = |provider: &str| {
        [
            said(provider, "vision", vec![call("a", "read", &json!({})), call("b", "read", &json!({}))]),
            result("a", "read", vec![Content::Text("Read image".into()), image()]),
            result("b", "read", vec![image()]),
            Message::User(vec![Content::Text("See".into()), image()]),
        ]
    };
    let table = |provider: &str| json!({"provider": provider, "model": "vision", "images": true});
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}});
    let words = |text: &str| json!({"type": "text", "text": text});
    let shown = messages(&table("groq"), &turn("groq"));
    let attached = words("Attached image(s) from tool result:");
    let expected = [
        json!({"role": "tool", "tool_call_id": "a", "content": "Read image"}),
        json!({"role": "tool", "tool_call_id": "b", "content": "(see attached image)"}),
        json!({"role": "user", "content": [attached, picture, picture, words("See"), picture]}),
    ];
    assert_eq!(shown[1..], expected);

    let bare = json!({"type": "image_url", "image_url": "data:image/png;base64,AA=="});
    let shown = messages(&table("mistral"), &turn("mistral"));
    assert_eq!(shown[1]["content"], json!([words("Read image"), bare]));
    assert_eq!(shown[2]["content"], json!([words("(see attached image)"), bare]));
    assert_eq!(shown[3], json!({"role": "assistant", "content": "Continuing."}));
    assert_eq!(shown[4]["content"], json!([words("See"), picture]));

    let blind = messages(&self::table("groq", "vision"), &turn("groq"));
    assert_eq!(blind[2]["content"], "(image omitted: model has no image input)");
    assert_eq!(blind[3]["content"], "See\n\n(image omitted: model has no image input)");
}

#[test]
fn what_was_said_is_one_text() {
    let groq = |content| said("groq", "m", content);
    let content = vec![text("One, "), text(" "), text("two."), call("a", "bash", &json!({"command": "x"}))];
    let shown = messages(&table("groq", "m"), &[groq(content), groq(vec![text(" ")]), user("a"), user("b")]);
    assert_eq!(shown[0]["content"], "One, two.");
    assert_eq!(
        shown[1],
        json!({"role": "tool", "tool_call_id": "a", "content": "No result is available for this call."})
    );
    assert_eq!(shown[2..], [json!({"role": "user", "content": "a\n\nb"})]);
}

#[test]
fn thinking_goes_back_in_the_form_in_which_it_came() {
    #[track_caller]
    fn case(provider: &str, deltas: Vec<Value>, expected: Value) {
        let mut deltas = deltas;
        let function = json!({"name": "bash", "arguments": "{}"});
        deltas.push(json!({"content": "Now.", "tool_calls": [{"index": 0, "id": "D681PevKs", "function": function}]}));
        let answer = read_from(provider, &response(deltas, "tool_calls")).1.unwrap();
        let shown = messages(&table(provider, "m"), &[Message::Assistant(answer)]);
        let mut said = shown[0].clone();
        for name in ["role", "tool_calls"] {
            assert!(said.as_object_mut().unwrap().remove(name).is_some());
        }
        assert_eq!(said, expected, "{provider}");
    }
    for name in ["reasoning_content", "reasoning", "reasoning_text"] {
        let deltas = vec![json!({name: "Let "}), json!({name: "me."}), json!({name: null, "content": ""})];
        case("groq", deltas, json!({"content": "Now.", name: "Let me."}));
    }
    let both = vec![json!({"reasoning_content": "a", "reasoning": "a"})];
    case("custom", both, json!({"content": "Now.", "reasoning_content": "a"}));

    let thinking = |text: &str, signature: Value| json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}], "signature": signature}]});
    let part = |signature: Option<&str>| {
        let mut part = json!({"type": "thinking", "thinking": [{"type": "text", "text": "Let me."}]});
        if let Some(signature) = signature {
            part["signature"] = json!(signature);
        }
        json!({"content": [part, {"type": "text", "text": "Now."}]})
    };
    case("mistral", vec![thinking("Let ", Value::Null), thinking("me.", Value::Null)], part(None));
    case("mistral", vec![thinking("Let ", Value::Null), thinking("me.", json!("sig"))], part(Some("sig")));

    let details = vec![
        json!({"reasoning": "Let ", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let ", "format": "f"}]}),
        json!({"reasoning": "me.", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "me.", "id": null}]}),
        json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "s"},
            {"type": "reasoning.encrypted", "index": 0, "data": "x"}, {"type": "reasoning.encrypted", "data": "y"}]}),
        json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "z"}]}),
    ];
    let merged = json!([
        {"type": "reasoning.text", "index": 0, "text": "Let me.", "format": "f", "signature": "s"},
        {"type": "reasoning.encrypted", "index": 0, "data": "x"},
        {"type": "reasoning.encrypted", "data": "y"},
        {"type": "reasoning.encrypted", "data": "z"}]);
    case("openrouter", details, json!({"content": "Now.", "reasoning_details": merged}));
}

#[test]
fn thinking_of_another_model_becomes_text_and_that_of_another_format_too() {
    let thought =
        |signature: &str| Block::Thinking { text: "Hm.".into(), signature: Some(signature.into()), redacted: false };
    let other = said("groq", "other", vec![thought(r#"{"field":"reasoning"}"#), text(" Now.")]);
    let own = said("groq", "m", vec![thought(r#"{"type":"reasoning","encrypted_content":"e"}"#), text(" Now.")]);
    for message in [other, own] {
        assert_eq!(messages(&table("groq", "m"), &[message]), [json!({"role": "assistant", "content": "Hm. Now."})]);
    }
}
