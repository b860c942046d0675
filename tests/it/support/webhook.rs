//! Deliveries as senders make them: signed, and free to fail.

use std::net::SocketAddr;

use ring::hmac;
use serde_json::{Value, json};

use super::http::{exchange, request_bytes};

/// The secret that signs the deliveries of GitHub.
pub(crate) const SECRET: &str = "It's a Secret to Everybody";

/// A delivery that can be sent again and again.
pub(crate) struct Delivery {
    /// Name of the provider, and the sender's id.
    pub(crate) provider: &'static str,
    pub(crate) id: String,
    bytes: Vec<u8>,
}

impl Delivery {
    /// An opened issue, signed with [`SECRET`].
    pub(crate) fn issue(id: &str, title: &str) -> Self {
        let body = json!({
            "action": "opened",
            "issue": {"number": 7, "title": title, "body": "It does not work.", "user": {"login": "somebody"}, "labels": [],
                      "html_url": "https://github.com/acme/app/issues/7"},
            "repository": {"full_name": "acme/app", "owner": {"login": "acme"}},
            "sender": {"login": "somebody"},
        })
        .to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature: String =
            hmac::sign(&key, body.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = format!(
            "Content-Type: application/json\r\nX-GitHub-Event: issues\r\nX-GitHub-Delivery: {id}\r\n\
             X-Hub-Signature-256: sha256={signature}\r\n"
        );
        Self::of("github", id, &fields, &body)
    }

    /// An event of type `test`, which nobody signs.
    pub(crate) fn test(id: &str, event: &str, title: &str) -> Self {
        let body = json!({"event": event, "title": title}).to_string();
        Self::of("test", id, &format!("Content-Type: application/json\r\nX-Delivery-Id: {id}\r\n"), &body)
    }

    fn of(provider: &'static str, id: &str, fields: &str, body: &str) -> Self {
        let bytes = request_bytes("POST", &format!("/webhooks/{provider}"), fields, body.as_bytes());
        Self { provider, id: id.to_owned(), bytes }
    }

    /// Sends it; the receiver's answer when there is a whole one with status 200.
    pub(crate) fn send(&self, address: SocketAddr) -> Option<Value> {
        let answer = exchange(address, &self.bytes).ok()?;
        let text = String::from_utf8(answer).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok().filter(|_| head.starts_with("HTTP/1.1 200 "))
    }
}
