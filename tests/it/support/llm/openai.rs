//! The model server in OpenAI's two formats: the same responses, as events of the Responses API and as chunks of Chat
//! Completions.

use serde_json::{Value, json};

use super::{Answer, Reply};

impl Reply {
    /// The response as events of the Responses API. Signatures of thinking are its encrypted content.
    pub(crate) fn responses(&self) -> Answer {
        let head = json!({"id": "resp_1", "object": "response", "status": "in_progress", "error": null, "output": []});
        let mut events = vec![
            json!({"type": "response.created", "response": head}),
            json!({"type": "response.in_progress", "response": head}),
        ];
        for (index, block) in self.blocks.iter().enumerate() {
            self.item_events(index, block, &mut events);
        }
        events.push(self.last_event());
        Answer::events(&events)
    }

    fn item_events(&self, index: usize, block: &Value, events: &mut Vec<Value>) {
        let item = item(index, block);
        let mut begun = item.clone();
        let (field, name, text) = match block["type"].as_str().unwrap() {
            "thinking" => {
                ("summary", "response.reasoning_summary_text", block["thinking"].as_str().unwrap().to_owned())
            }
            "text" => ("content", "response.output_text", block["text"].as_str().unwrap().to_owned()),
            _ => ("arguments", "response.function_call_arguments", item["arguments"].as_str().unwrap().to_owned()),
        };
        begun[field] = if field == "arguments" { json!("") } else { json!([]) };
        begun.as_object_mut().unwrap().remove("encrypted_content");
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": begun}));
        let deltas = self.pieces(&text);
        events.extend(deltas.map(|delta| {
            json!({"type": format!("{name}.delta"), "item_id": item["id"], "output_index": index, "delta": delta})
        }));
        let whole = if field == "arguments" { "arguments" } else { "text" };
        events.push(json!({"type": format!("{name}.done"), "item_id": item["id"], "output_index": index, whole: text}));
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }

    fn last_event(&self) -> Value {
        let [input, output, read, written] = self.usage;
        let details = json!({"cached_tokens": read, "cache_write_tokens": written});
        let usage = json!({"input_tokens": input + read + written, "input_tokens_details": details,
            "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0}});
        let (kind, status, why) = match self.stop {
            "max_tokens" => ("response.incomplete", "incomplete", json!({"reason": "max_output_tokens"})),
            "refusal" => ("response.incomplete", "incomplete", json!({"reason": "content_filter"})),
            _ => ("response.completed", "completed", Value::Null),
        };
        let response = json!({"id": "resp_1", "object": "response", "status": status, "error": null,
            "incomplete_details": why, "output": [], "usage": usage});
        json!({"type": kind, "response": response})
    }

    /// The response as chunks of Chat Completions. Thinking has no signature there.
    pub(crate) fn chat(&self) -> Answer {
        let mut chunks = vec![chunk(&json!({"role": "assistant", "content": ""}))];
        let mut calls = 0;
        for block in &self.blocks {
            let text = |name: &str| block[name].as_str().unwrap();
            match block["type"].as_str().unwrap() {
                "text" => chunks.extend(self.pieces(text("text")).map(|piece| chunk(&json!({"content": piece})))),
                "thinking" => {
                    let pieces = self.pieces(text("thinking"));
                    chunks.extend(pieces.map(|piece| chunk(&json!({"reasoning_content": piece}))));
                }
                _ => {
                    let function = json!({"name": block["name"], "arguments": ""});
                    let call = json!({"index": calls, "id": block["id"], "type": "function", "function": function});
                    chunks.push(chunk(&json!({"tool_calls": [call]})));
                    chunks.extend(self.pieces(&arguments(block)).map(|piece| {
                        chunk(&json!({"tool_calls": [{"index": calls, "function": {"arguments": piece}}]}))
                    }));
                    calls += 1;
                }
            }
        }
        chunks.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish_reason()}]}));
        chunks.push(json!({"choices": [], "usage": self.chat_usage()}));
        Answer::chunks(&chunks)
    }

    /// The response as one chat completion, as servers answer that do not know `stream`.
    pub(crate) fn whole_chat(&self) -> Answer {
        let text = |block: &Value| block["text"].as_str().unwrap_or_default().to_owned();
        let content: String = self.blocks.iter().map(text).collect();
        let message = json!({"role": "assistant", "content": content});
        let choice = json!({"index": 0, "message": message, "finish_reason": self.finish_reason()});
        let whole = json!({"object": "chat.completion", "choices": [choice], "usage": self.chat_usage()});
        Answer::json(200, &whole)
    }

    fn finish_reason(&self) -> &'static str {
        match self.stop {
            "tool_use" => "tool_calls",
            "max_tokens" => "length",
            "refusal" => "content_filter",
            _ => "stop",
        }
    }

    fn chat_usage(&self) -> Value {
        let [input, output, read, written] = self.usage;
        let prompt = input + read + written;
        let details = json!({"cached_tokens": read + written, "cache_write_tokens": written});
        json!({"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output,
            "prompt_tokens_details": details})
    }
}

impl Answer {
    /// A stream of these chunks.
    pub(crate) fn chunks(chunks: &[Value]) -> Self {
        let chunks: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        Self::new(200, "text/event-stream; charset=utf-8", format!(": connected\n\n{chunks}data: [DONE]\n\n"))
    }

    /// An error as OpenAI and those who speak like it report one.
    pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Self {
        let error = json!({"message": message, "type": "error", "param": null, "code": code});
        Self::json(status, &json!({"error": error})).header("x-request-id", "req_test")
    }
}

/// The finished item of a block.
fn item(index: usize, block: &Value) -> Value {
    match block["type"].as_str().unwrap() {
        "thinking" => json!({"id": format!("rs_{index}"), "type": "reasoning",
            "summary": [{"type": "summary_text", "text": block["thinking"]}], "encrypted_content": block["signature"]}),
        "text" => json!({"id": format!("msg_{index}"), "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": block["text"], "annotations": []}]}),
        _ => json!({"id": format!("fc_{index}"), "type": "function_call", "status": "completed",
            "call_id": block["id"], "name": block["name"], "arguments": arguments(block)}),
    }
}

/// Argument text of a call, whole or cut.
fn arguments(block: &Value) -> String {
    block["raw"].as_str().map_or_else(|| block["input"].to_string(), str::to_owned)
}

fn chunk(delta: &Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}
