//! `/api/logs/*` over real HTTP.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::gateway::Bed;
use crate::support::wait;

/// An entry at a second of 2026-03-05 (`day` 5).
fn line(day: u32, second: i64, level: u32, instance: &str, msg: &str) -> String {
    let time = 1_772_323_200_000 + i64::from(day - 1) * 86_400_000 + second * 1000;
    json!({"level": level, "time": time, "name": "dev", "instance": instance, "msg": msg}).to_string() + "\n"
}

fn write(bed: &Bed, file: &str, text: &str) {
    let dir = bed.dir.path().join("logs");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(file), text).unwrap();
}

fn messages(answer: &Value) -> Vec<&str> {
    answer["entries"].as_array().unwrap().iter().map(|entry| entry["msg"].as_str().unwrap()).collect()
}

/// A log of two days, ten entries each: `4.0` … `5.9`.
fn two_days(bed: &Bed) {
    for day in [4, 5] {
        let lines =
            (0..10).map(|n| line(day, n, if n % 2 == 0 { 30 } else { 50 }, "dev-a1b2c3d4", &format!("{day}.{n}")));
        write(bed, &format!("dev-2026-03-0{day}.log"), &lines.collect::<String>());
    }
}

#[test]
fn the_last_entries_then_what_comes_after_them() {
    let bed = Bed::new();
    assert_eq!(bed.get("/api/logs/agents/dev").json(), json!({"entries": [], "cursor": null, "hasMore": false}));
    two_days(&bed);
    let first = bed.get("/api/logs/agents/dev?lines=3").json();
    assert_eq!((messages(&first), &first["hasMore"]), (vec!["5.7", "5.8", "5.9"], &json!(false)));
    let entry =
        json!({"level": 50, "time": 1_772_668_807_000_i64, "name": "dev", "instance": "dev-a1b2c3d4", "msg": "5.7"});
    assert_eq!(first["entries"][0], entry);
    let cursor = first["cursor"].as_str().unwrap();
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap();
    let length = fs::metadata(bed.dir.path().join("logs/dev-2026-03-05.log")).unwrap().len();
    assert_eq!(decoded, format!("2026-03-05:{length}"));

    let after =
        |cursor: &str, lines: u32| bed.get(&format!("/api/logs/agents/dev?cursor={cursor}&lines={lines}")).json();
    assert_eq!(after(cursor, 5), json!({"entries": [], "cursor": cursor, "hasMore": false}));
    let mut text = fs::read_to_string(bed.dir.path().join("logs/dev-2026-03-05.log")).unwrap();
    text += &(line(5, 20, 30, "dev-a1b2c3d4", "new 1") + &line(5, 21, 30, "dev-a1b2c3d4", "new 2"));
    text += "{\"level\":30,\"half";
    write(&bed, "dev-2026-03-05.log", &text);
    let next = after(cursor, 1);
    assert_eq!((messages(&next), &next["hasMore"]), (vec!["new 1"], &json!(true)));
    let last = after(next["cursor"].as_str().unwrap(), 10);
    assert_eq!((messages(&last), &last["hasMore"]), (vec!["new 2"], &json!(false)));
    assert!(last.get("backCursor").is_none());
}

#[test]
fn whoever_names_the_file_of_a_cursor_loses_nothing_when_it_is_rotated() {
    let bed = Bed::new();
    two_days(&bed);
    let get = |query: &str| bed.get(&format!("/api/logs/agents/dev?{query}")).json();
    let first = get("lines=1&file=none");
    let (cursor, file) = (first["cursor"].as_str().unwrap(), first["file"].as_str().unwrap());
    let logs = bed.dir.path().join("logs");
    let text = fs::read_to_string(logs.join("dev-2026-03-05.log")).unwrap() + &line(5, 20, 30, "dev-a1b2c3d4", "last");
    write(&bed, "dev-2026-03-05.log.1", &text);
    let anew: String = (0..20).map(|n| line(5, 21 + n, 30, "dev-a1b2c3d4", &format!("anew {n}"))).collect();
    write(&bed, "dev-2026-03-05.log", &anew);
    let expected: Vec<String> = (0..20).map(|n| format!("anew {n}")).collect();
    let page = wait::until(
        "the new file to be read",
        || get(&format!("cursor={cursor}&file={file}")),
        |page| page["entries"].as_array().unwrap().len() > 1,
    );
    assert_eq!(messages(&page)[0], "last");
    assert_eq!(messages(&page)[1..], expected);
    let (cursor, other) = (page["cursor"].as_str().unwrap(), page["file"].as_str().unwrap());
    assert_ne!(file, other);
    assert!(messages(&get(&format!("cursor={cursor}&file={other}"))).is_empty());
    // Nobody else is told of it, and what is no file's is as none.
    assert!(get(&format!("cursor={cursor}")).get("file").is_none());
    assert!(messages(&get(&format!("cursor={cursor}&file=x"))).is_empty());
}

#[test]
fn pages_backwards_over_the_days() {
    let bed = Bed::new();
    two_days(&bed);
    let mut page = bed.get("/api/logs/agents/dev?limit=8").json();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let before: Vec<String> = messages(&page).into_iter().map(str::to_owned).collect();
        seen = [before, seen].concat();
        let Some(back) = page["backCursor"].as_str() else { break };
        page = bed.get(&format!("/api/logs/agents/dev?lines=8&back_cursor={back}")).json();
    }
    let all: Vec<String> = (0..20).map(|n| format!("{}.{}", 4 + n / 10, n % 10)).collect();
    assert_eq!(seen, all);
    assert_eq!(page["backCursor"], Value::Null);
}

#[test]
fn entries_are_chosen_by_time_level_and_instance() {
    let bed = Bed::new();
    two_days(&bed);
    let time = |second: i64| 1_772_668_800_000 + second * 1000;
    let list = |query: &str| {
        let answer = bed.get(&format!("/api/logs/agents/dev{query}")).json();
        messages(&answer).join(" ")
    };
    assert_eq!(list(&format!("?after={}&before={}", time(2), time(6))), "5.3 5.4 5.5");
    assert_eq!(list(&format!("?after={}", time(8))), "5.9");
    assert_eq!(list("?lines=2&after=x&before=0"), "5.8 5.9");
    assert_eq!(list("?lines=3&level=warn"), "5.5 5.7 5.9");
    assert_eq!(list("?lines=1&level=50"), "5.9");
    assert_eq!(list("?lines=2&grep=%22msg%22%3A%225%5C.%5B2-6%5D%22"), "5.5 5.6");
    assert_eq!(list("?grep=%22msg%22%3A%225%5C.%5B2-6%5D%22&level=warn"), "5.3 5.5");
    assert_eq!(list("?grep="), list(""));
    assert_eq!(list("?grep=5.5%22%24"), "", "the whole line, to its end");
    write(&bed, "dev-2026-03-06.log", &line(6, 0, 30, "dev-0f0f0f0f", "other"));
    write(&bed, "dev-ops-2026-03-06.log", &line(6, 0, 30, "dev-ops-0f0f0f0f", "of dev-ops"));
    assert_eq!(list("?lines=1"), "other");
    assert_eq!(list("/0f0f0f0f"), "other");
    assert_eq!(list("/dev-0f0f0f0f"), "other");
    assert_eq!(list("/a1b2c3d4?lines=1"), "5.9");
    assert_eq!(list("/ffffffff"), "");
}

#[test]
fn lines_of_containers_get_the_form_of_all_others() {
    let bed = Bed::new();
    let text = "not JSON\n[1]\n{\"_log\":true,\"level\":\"warn\",\"ts\":5,\"msg\":\"m\",\"x\":1}\n{\"_log\":1,\"level\":\"warn\"}\n";
    write(&bed, "dev-2026-03-05.log", text);
    let entries = bed.get("/api/logs/agents/dev").json()["entries"].clone();
    assert_eq!(entries, json!([{"level": 40, "time": 5, "msg": "m", "x": 1}, {"_log": 1, "level": "warn"}]));
}

#[test]
fn the_log_of_the_scheduler() {
    let bed = Bed::new();
    write(&bed, "scheduler-2026-03-05.log", "{\"msg\":\"hello\"}\n");
    assert_eq!(messages(&bed.get("/api/logs/scheduler").json()), ["hello"]);
}

#[test]
fn bad_questions_are_refused() {
    let bed = Bed::new();
    two_days(&bed);
    for (target, text) in [
        ("/api/logs/agents/Dev", "Invalid agent name"),
        ("/api/logs/agents/..%2Fdev", "Invalid agent name"),
        ("/api/logs/agents/default", "Invalid agent name"),
        ("/api/logs/agents/dev-/a1b2c3d4", "Invalid agent name"),
        ("/api/logs/agents/dev/A1", "Invalid instance ID"),
        ("/api/logs/agents/dev/dev-", "Invalid instance ID"),
        ("/api/logs/agents/dev/other-a1b2c3d4", "Invalid instance ID"),
        ("/api/logs/agents/dev/..%2Fx", "Invalid instance ID"),
        ("/api/logs/agents/dev?cursor=x", "Invalid cursor"),
        ("/api/logs/agents/dev?back_cursor=x", "Invalid back_cursor"),
        ("/api/logs/agents/dev?level=loud", "Invalid level"),
        ("/api/logs/agents/dev?grep=%28", "Invalid grep pattern"),
        ("/api/logs/agents/dev?grep=a%7B1000%7D%7B1000%7D", "Invalid grep pattern"),
    ] {
        let answer = bed.get(target);
        assert_eq!((answer.status, answer.json()), (400, json!({"error": text})), "{target}");
    }
    for lines in ["", "0", "-3", "x"] {
        assert_eq!(messages(&bed.get(&format!("/api/logs/agents/dev?lines={lines}")).json()).len(), 20, "{lines}");
    }
    let many: String = (0..1200).map(|n| line(6, n, 30, "dev-a1b2c3d4", "m")).collect();
    write(&bed, "dev-2026-03-06.log", &many);
    assert_eq!(messages(&bed.get("/api/logs/agents/dev?lines=9999").json()).len(), 1000);
    assert_eq!(messages(&bed.get("/api/logs/agents/dev").json()).len(), 50);
}
