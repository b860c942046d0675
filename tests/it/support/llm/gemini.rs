//! Responses in the form of Google's API.

use serde_json::{Value, json};

use super::{Answer, Reply};

impl Reply {
    /// Adds a call that has the signature of the model's thoughts, and no id.
    pub(crate) fn signed_bash(mut self, command: &str, signature: &str) -> Self {
        self.stop = "tool_use";
        self.block(json!({"type": "tool_use", "name": "bash", "input": {"command": command}, "signature": signature}))
    }

    /// The response as Google streams it. Its stop reason is a word of Google's, or that of a usual end.
    pub(crate) fn gemini(&self) -> Answer {
        let mut chunks = Vec::new();
        for block in &self.blocks {
            let chunk =
                |part: Value| json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]});
            chunks.extend(self.gemini_parts(block).into_iter().map(chunk));
        }
        let reason = match self.stop {
            "end_turn" | "tool_use" => "STOP",
            other => other,
        };
        let [input, output, read, _] = self.usage;
        let usage = json!({"promptTokenCount": input + read, "cachedContentTokenCount": read,
            "candidatesTokenCount": output - output / 2, "thoughtsTokenCount": output / 2});
        chunks.push(json!({"candidates": [{"finishReason": reason, "index": 0}], "usageMetadata": usage}));
        let stream: String = chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
        Answer::new(200, "text/event-stream", stream)
    }

    fn gemini_parts(&self, block: &Value) -> Vec<Value> {
        let pieces = |name: &str| self.pieces(block[name].as_str().unwrap_or_default());
        match block["type"].as_str().unwrap() {
            "text" => pieces("text").map(|piece| json!({"text": piece})).collect(),
            "thinking" => pieces("thinking").map(|piece| json!({"text": piece, "thought": true})).collect(),
            _ => {
                let mut part = json!({"functionCall": {"name": block["name"], "args": block["input"]}});
                if let Some(id) = block.get("id") {
                    part["functionCall"]["id"] = id.clone();
                }
                if let Some(signature) = block.get("signature") {
                    part["thoughtSignature"] = signature.clone();
                }
                vec![part]
            }
        }
    }
}

impl Answer {
    /// An error as Google reports it.
    pub(crate) fn gemini_error(status: u16, word: &str, message: &str, details: Value) -> Self {
        Self::json(status, &json!({"error": {"code": status, "message": message, "status": word, "details": details}}))
    }
}
