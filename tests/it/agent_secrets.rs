//! What `al-agent` writes while a session goes on: whatever the model and its tools do with a credential, no line shows
//! it or a part of it.

use serde_json::{Value, json};

use crate::agent_bed::{Bed, Ran};

/// Has characters that JSON, URLs and shells write in another way.
const TOKEN: &str = "ghp_pass\"w/rd+0123456789=";
/// The beginning of it, which stands nowhere else.
const HALF: &str = "ghp_pass";
const KEY_FILE: &str = "-----BEGIN KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nQyNTUxOQAAACBzb21ldGhp\n-----END KEY-----\n";

/// A session that the mock plays; its tools know the token and the key file.
fn play(turns: &[Value], code: i32) -> Ran {
    let credentials = ["github_token", "git_ssh"];
    let bed = Bed::new(&json!({"name": "dev", "credentials": credentials,
        "model": {"provider": "mock", "model": "default"}}));
    bed.write("credentials/github_token/default/token", TOKEN);
    bed.write("credentials/git_ssh/default/id_rsa", KEY_FILE);
    bed.write("static/mock.toml", &format!("version = 1\n{}", turns.iter().map(turn).collect::<String>()));
    bed.variable("PROMPT", format!("Use {TOKEN}.")).variable("AL_MOCK_TIME_SCALE", "100000").run().expect_code(code)
}

/// A turn as the script of the mock writes it: strings of JSON are strings of TOML.
fn turn(turn: &Value) -> String {
    let mut text = "[[turn]]\n".to_owned();
    for (name, value) in turn.as_object().unwrap() {
        match value {
            Value::Array(calls) => {
                for call in calls {
                    text += "[[turn.call]]\n";
                    call.as_object().unwrap().iter().for_each(|(name, value)| text += &member(name, value));
                }
            }
            value => text = text.replacen("[[turn]]\n", &format!("[[turn]]\n{}", member(name, value)), 1),
        }
    }
    text
}

fn member(name: &str, value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(name, value)| member(name, value).trim_end().to_owned()).collect();
            format!("{name} = {{ {} }}\n", members.join(", "))
        }
        value => format!("{name} = {value}\n"),
    }
}

fn bash(command: &str) -> Value {
    json!({"tool": "bash", "args": {"command": command}})
}

/// Nothing of the token is in any line, in whatever form.
#[track_caller]
fn assert_hidden(ran: &Ran) {
    // The beginning of the token and a piece of its middle in base64, wherever in a text they stand.
    let parts = [HALF, "w/rd+0", "Z2hwX3Bhc3", "hocF9wYXNz", "docF9wYXN", "b3BlbnNzaC", "QyNTUxOQ"];
    for line in ran.stdout.lines().chain(ran.stderr.lines()) {
        for part in parts {
            assert!(!line.contains(part), "{part} in {line}");
        }
    }
}

#[test]
fn no_line_of_a_session_shows_a_credential_or_a_part_of_one() {
    // Each of these has the token in front of the place where its line is cut.
    let ahead = |limit: usize| format!("{} ", "x".repeat(limit - HALF.len() - 3));
    let quoted = format!("'{TOKEN}'");
    let ran = play(
        &[
            json!({"text": format!("It is {TOKEN}, in JSON {}.", json!({"token": TOKEN})), "thinking": TOKEN, "call": [
                bash(&format!("true {}{quoted}", ahead(195))),
                bash(&format!("echo {}{quoted}; exit 1", ahead(1000))),
                bash(&format!("false {}{quoted}", ahead(194))),
                {"tool": "write", "args": {"path": "/dev/null/file", "content": format!("{}{TOKEN}", ahead(400))}},
                {"tool": "read", "args": {"path": format!("/none/{TOKEN}")}},
                {"tool": "edit", "args": {"path": TOKEN, "oldText": TOKEN, "newText": TOKEN}},
                {"tool": TOKEN, "args": {}},
                {"tool": "read", "args": {"offset": TOKEN}},
                {"tool": "bash", "raw_args": format!("{{\"command\": \"echo {}", TOKEN.replace('"', "\\\""))},
            ]}),
            json!({"error": {"kind": "rate_limit", "status": 429, "times": 4, "message": format!("{}{TOKEN}", ahead(500))}}),
            json!({"call": [bash("printf %s \"$GITHUB_TOKEN\" > $AL_SIGNAL_DIR/return")]}),
            json!({"error": {"kind": "auth", "status": 401, "message": format!("no such key: {TOKEN}")}}),
        ],
        10,
    );
    assert_hidden(&ran);
    let text = |msg: &str, field: &str| -> Vec<String> {
        let lines = ran.log().into_iter().filter(|line| line.msg == msg);
        lines.map(|line| line.fields[field].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(text("assistant", "text"), [r#"It is ***, in JSON {"token":"***"}."#]);
    for (msg, field, count) in [
        ("bash", "cmd", 2),
        ("tool error", "result", 4),
        ("retrying request", "error", 2),
        ("session error", "error", 1),
    ] {
        let masked = text(msg, field).iter().filter(|text| text.contains("***")).count();
        assert!(masked >= count, "{msg}: {:#?}", text(msg, field));
    }
    assert!(text("tool start", "tool").contains(&"***".to_owned()));
}

#[test]
fn a_returned_credential_is_masked() {
    let command =
        format!("printf 'use %s' \"$GITHUB_TOKEN\" > $AL_SIGNAL_DIR/return; echo {HALF} > $AL_SIGNAL_DIR/exit");
    let ran = play(&[json!({"call": [bash(&command)]}), json!({"text": "done"})], 0);
    assert_eq!(ran.line("signal-result").fields["value"], "use ***");
}

#[test]
fn what_tools_print_of_a_credential_is_masked_in_every_encoding() {
    let base64 = "base64 -w0";
    for (print, shown) in [
        ("cat".to_owned(), "***"),
        (base64.to_owned(), "***"),
        ("base64 -w0 | tr '+/' '-_' | tr -d =".to_owned(), "***"),
        ("jq -sRr @uri".to_owned(), "***"),
        ("jq -sR .".to_owned(), "\"***\""),
        ("sed 's,/,\\\\/,g; s,\",\\\\\",'".to_owned(), "***"),
        ("sed 's/^/https:\\/\\/x:/; s/$/@host/'".to_owned(), "https://x:***@host"),
    ] {
        let ran = play(&[json!({"call": [bash(&format!("printf %s \"$GITHUB_TOKEN\" | {print}; exit 1"))]})], 0);
        assert_hidden(&ran);
        let result = ran.line("tool error").fields["result"].as_str().unwrap().to_owned();
        assert!(result.starts_with(shown), "{print}: {result}");
    }
    // A part of something longer.
    for login in ["", "x", "xy", "x-access-token:"] {
        let command = format!("printf '{login}%s and more' \"$GITHUB_TOKEN\" | {base64}; exit 1");
        let ran = play(&[json!({"call": [bash(&command)]})], 0);
        assert_hidden(&ran);
        assert!(ran.line("tool error").fields["result"].as_str().unwrap().contains("***"));
    }
}

#[test]
fn each_line_of_a_key_file_is_masked_wherever_it_stands() {
    let lines = "cat $AL_CREDENTIALS_PATH/git_ssh/default/id_rsa";
    for print in [
        lines.to_owned(),
        format!("{lines} | sed 's/^/  > /'"),
        format!("{lines} | tac"),
        format!("{lines} | jq -sR ."),
    ] {
        let ran = play(&[json!({"call": [bash(&format!("{print}; exit 1"))]}), json!({"text": "{{last_result}}"})], 0);
        assert_hidden(&ran);
        assert!(ran.line("assistant").fields["text"].as_str().unwrap().contains("***"), "{print}");
    }
}
