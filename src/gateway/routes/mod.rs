//! The routes, one file per group.

use serde_json::json;

use crate::http::Reply;

pub(super) mod calls;
pub(super) mod control;
pub(super) mod credentials;
pub(super) mod health;
pub(super) mod items;
pub(super) mod lock_status;
pub(super) mod locks;
pub(super) mod login;
pub(super) mod logs;
pub(super) mod receipts;
pub(super) mod shutdown;
pub(super) mod signals;
pub(super) mod stats;
pub(super) mod webhooks;

/// 200 `{"ok":true}`.
fn ok() -> Reply {
    Reply::json(200, &json!({ "ok": true }))
}

/// `{"ok":false,"reason":"…"}`.
fn refused(status: u16, reason: &str) -> Reply {
    Reply::json(status, &json!({ "ok": false, "reason": reason }))
}

/// 503 where refusals have a `reason`.
fn no_storage_reason() -> Reply {
    refused(503, "storage unavailable")
}

/// 503 everywhere else.
pub(super) fn no_storage_error() -> Reply {
    Reply::error(503, "storage unavailable")
}

/// The whole number that a parameter begins with; `usual` when there is none, or it is not above zero.
fn whole_number(text: Option<&str>, usual: usize) -> usize {
    let text = text.unwrap_or_default().trim_start();
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = &text[..text.bytes().take_while(u8::is_ascii_digit).count()];
    // Every digit is one, so only too many of them do not make a number.
    let number = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(usize::MAX) };
    if number == 0 { usual } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_leniently() {
        for (text, number) in [
            ("", 50),
            ("x", 50),
            ("0", 50),
            ("-5", 50),
            ("1", 1),
            (" 12abc", 12),
            ("+7", 7),
            ("7.9", 7),
            ("1001", 1001),
            ("99999999999999999999999", usize::MAX),
        ] {
            assert_eq!(whole_number(Some(text), 50), number, "{text:?}");
        }
        assert_eq!(whole_number(None, 50), 50);
    }
}
