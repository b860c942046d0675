//! Signed deliveries as GitHub sends them.

use std::fmt::Write as _;

use ring::hmac;

use crate::load::request;

/// The secret that sender and receiver share.
pub(crate) const SECRET: &str = "c2VjcmV0LW9mLXRoZS1iZW5jaA";

/// A body with its signature, sent again and again under new delivery ids.
pub(crate) struct Webhook {
    event: &'static str,
    body: Vec<u8>,
    signature: String,
}

impl Webhook {
    /// An event of about so many bytes.
    pub(crate) fn new(event: &'static str, bytes: usize) -> Self {
        let head = serde_json::json!({
            "action": "opened",
            "repository": {"full_name": "acme/app", "owner": {"login": "acme"}},
            "sender": {"login": "somebody"},
            "ref": "refs/heads/main",
            "issue": {"number": 7, "title": "It does not work", "user": {"login": "somebody"},
                      "html_url": "https://github.com/acme/app/issues/7", "labels": []},
        });
        let mut body = head.to_string();
        body.pop();
        let mut number = 0;
        // What a receiver has to read over: many small members.
        while body.len() < bytes {
            let _ = write!(
                body,
                ",\"field_{number}\":{{\"id\":{number},\"url\":\"https://api.github.com/repos/{number}\"}}"
            );
            number += 1;
        }
        body.push('}');
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature = hmac::sign(&key, body.as_bytes()).as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self { event, body: body.into_bytes(), signature }
    }

    /// A delivery with this id.
    pub(crate) fn delivery(&self, id: &str) -> Vec<u8> {
        let Self { event, body, signature } = self;
        let fields = format!(
            "Content-Type: application/json\r\nUser-Agent: GitHub-Hookshot/bench\r\nX-GitHub-Event: {event}\r\n\
             X-GitHub-Delivery: {id}\r\nX-Hub-Signature-256: sha256={signature}\r\n"
        );
        request("POST", "/webhooks/github", &fields, body)
    }
}
