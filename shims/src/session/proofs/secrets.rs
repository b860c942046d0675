//! A key that a server sends back: what is kept of its answer is cut, and half a key would not be found any more.

use serde_json::json;

use super::{Fake, Format, Given, hold};

const KEY: &str = "key-for-tests";

/// The first characters of the key, which stand nowhere else.
const HALF: &str = "key-for-";

#[test]
fn a_key_in_the_answer_of_a_server_is_not_cut_in_two() {
    // Wherever in the text the key stands, a part of it would be in front of the cut.
    for limit in [100, 200, 2000] {
        for before in [limit - KEY.len() + 1, limit - 9, limit - 4] {
            let text = format!("{}{KEY} was refused", "x ".repeat(before / 2) + &"x".repeat(before % 2));
            let object = json!({"error": {"message": text}}).to_string();
            for given in [
                Given::bare(400, text.as_str()).header("content-type", "text/plain"),
                Given::json(400, &object),
                Given::json(400, &format!("[{object}]")),
                Given::bare(200, text.as_str()).header("content-type", "text/html"),
            ] {
                for format in Format::ALL {
                    let server = Fake::start(vec![given.clone()]);
                    let seen = hold(format.table(&server.url));
                    let error = &seen.failures[0];
                    assert!(!error.message.contains(HALF), "{format:?} {limit} {before}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_key_in_an_error_inside_a_stream_is_not_cut_in_two() {
    for before in [2000 - KEY.len() + 1, 1991, 1996] {
        let text = format!("{}{KEY} was refused", "x".repeat(before));
        let error = json!({"type": "error", "error": {"message": text}, "status": "failed"}).to_string();
        for given in [Given::stream(format!("event: error\ndata: {error}\n\n")), Given::json(200, &error)] {
            for format in Format::ALL {
                let server = Fake::start(vec![given.clone()]);
                let seen = hold(format.table(&server.url));
                let message = &seen.failures[0].message;
                assert!(message.contains("xxxx") && !message.contains(HALF), "{format:?} {before}: {message}");
                assert!(message.len() <= 2000, "{format:?}: {}", message.len());
            }
        }
    }
}

#[test]
fn what_is_no_part_of_a_key_stays() {
    for format in Format::ALL {
        let server = Fake::start(vec![Given::bare(400, "k".repeat(300))]);
        let error = hold(format.table(&server.url)).failures.remove(0);
        assert_eq!(error.message, format!("HTTP 400: {}", "k".repeat(200)), "{format:?}");
        let server = Fake::start(vec![Given::json(401, r#"{"error":{"message":"key-for-tests is not valid"}}"#)]);
        let error = hold(format.table(&server.url)).failures.remove(0);
        assert_eq!(error.message, "HTTP 401: *** is not valid", "{format:?}");
    }
}
