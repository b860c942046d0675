//! Locks of runs under `al start` (gateway.md §9, scheduler.md §4.3).

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::docker::docker;
use crate::support::project::{GATE, HOOK, Project};
use crate::support::wait;

fn locks(daemon: &Daemon<'_>) -> Vec<Value> {
    daemon.get("/locks/status").json()["locks"].as_array().unwrap().clone()
}

#[test]
fn a_lock_is_shown_with_its_holder() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "scale = 2\n");
    let daemon = Daemon::start(&project);
    assert_eq!(daemon.get("/locks/status").json(), json!({"locks": []}));
    for id in ["one", "two"] {
        daemon.work(id, &format!("rlock 'key of {id}'; echo {id}; {GATE}"));
        project.wait_said(&agent, id);
    }
    let seen = locks(&daemon);
    assert_eq!(json!([seen[0]["resourceKey"], seen[1]["resourceKey"]]), json!(["key of one", "key of two"]));
    let instances = daemon.wait_for_runs(&agent, 2);
    for lock in &seen {
        assert_eq!(lock["agentName"], agent.as_str());
        assert!(instances.contains(&lock["holder"].as_str().unwrap().to_owned()), "{lock}");
        assert_eq!(lock["expiresAt"].as_i64().unwrap() - lock["heldSince"].as_i64().unwrap(), 1_800_000);
    }
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
}

#[test]
fn every_end_of_a_run_frees_its_lock() {
    let project = Project::with_settings(&format!("workMaxAttempts = 1\n{HOOK}"));
    let agent = project.on_hook("dev", "scale = 5\n");
    let slow = project.on_hook("slow", "timeout = 2\n");
    let daemon = Daemon::start(&project);
    let ends = ["ok", "error", "kill", "outside", "shutdown"];
    for id in ends {
        let end = match id {
            "ok" => "exit 0",
            "error" => "exit 3",
            "shutdown" => "al-shutdown; sleep 60",
            _ => "sleep 60",
        };
        // The other agent has the same work and its own time limit.
        let script = format!(
            "case $AL_INSTANCE_ID in {slow}-*) [ {id} = ok ] || exit 0; rlock slow; echo slow; sleep 60;; esac; rlock {id} || exit 9; echo {id} $AL_INSTANCE_ID; {GATE}; {end}"
        );
        daemon.work(id, &script);
    }
    wait::until(
        "six locks",
        || locks(&daemon),
        |locks| locks.len() >= 5 && ends.iter().all(|end| locks.iter().any(|lock| lock["resourceKey"] == *end)),
    );
    let holder = |key: &str| {
        let lock = locks(&daemon).into_iter().find(|lock| lock["resourceKey"] == key).unwrap();
        lock["holder"].as_str().unwrap().to_owned()
    };
    let held = ends.map(|id| (id, holder(id)));
    for (id, instance) in &held {
        match *id {
            "kill" => drop(daemon.post(&format!("/control/kill/{instance}"), &json!({}))),
            "outside" => drop(docker(&["kill", &format!("al-{instance}")])),
            _ => project.open_gate(instance),
        }
    }
    wait::until("no locks", || locks(&daemon), Vec::is_empty);
    wait::until("all ends", || daemon.items("queued,running").len(), |count| *count == 0);
    let timeout = daemon.items("failed").into_iter().find(|item| item["agent"] == slow.as_str()).unwrap();
    assert_eq!(timeout["reason"], "timeout");
    for (id, instance) in &held {
        let entries = project.logged(&agent, "locks released");
        let of_instance = entries.iter().filter(|entry| entry["instance"] == instance.as_str()).count();
        assert_eq!(of_instance, 1, "{id}");
    }
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn an_adopted_run_keeps_its_lock_and_one_that_is_gone_does_not() {
    let project = Project::with_settings(&format!("workMaxAttempts = 1\n{HOOK}"));
    let agent = project.on_hook("dev", "scale = 2\n");
    let mut daemon = Daemon::start(&project);
    for id in ["kept", "gone"] {
        daemon.work(id, &format!("rlock {id}; echo {id}; {GATE}; runlock {id}; echo \"released $?\""));
        project.wait_said(&agent, id);
    }
    let before = locks(&daemon);
    let holder = |key: &str| before.iter().find(|lock| lock["resourceKey"] == key).unwrap().clone();
    let (kept, gone) = (holder("kept"), holder("gone"));
    daemon.crash();
    docker(&["kill", &format!("al-{}", gone["holder"].as_str().unwrap())]);
    let daemon = daemon.again();
    wait::until("one lock", || locks(&daemon), |locks| *locks == [kept.clone()]);
    project.open_gate(kept["holder"].as_str().unwrap());
    project.wait_said(&agent, "released 0");
    daemon.wait_for_items("done", 1);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_lock_keeps_others_out_until_it_expires() {
    let project = Project::with_settings(&format!("gateway.lockTimeout = 3\n{HOOK}"));
    let agent = project.on_hook("dev", "scale = 2\n");
    let daemon = Daemon::start(&project);
    daemon.work("first", &format!("rlock k; echo first; {GATE}; rlock-heartbeat k; echo \"heartbeat $?\""));
    project.wait_said(&agent, "first");
    let first = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.work("second", "rlock k; echo \"at once $?\"; until rlock k > /dev/null; do sleep 0.2; done; echo later");
    project.wait_said(&agent, "at once 1");
    let refused =
        json!({"ok": false, "holder": first, "heldSince": locks(&daemon).first().map(|lock| &lock["heldSince"])});
    let said = project.logged(&agent, "output");
    let answer = said.iter().filter_map(|entry| serde_json::from_str::<Value>(entry["text"].as_str()?).ok());
    let answer = answer.into_iter().find(|answer| answer["ok"] == false).unwrap();
    assert_eq!((&answer["holder"], &answer["ok"]), (&refused["holder"], &json!(false)));
    project.wait_said(&agent, "later");
    daemon.wait_for_items("done", 1);
    project.open_gate(&first);
    project.wait_said(&agent, "heartbeat 2");
    daemon.wait_for_items("done", 2);
    daemon.stop().expect(0);
}

/// `post PATH BODY` prints the answer's body; no command of ours sends a time to live.
const POST: &str = r#"
post() {
  bash -c 'at=${GATEWAY_URL#http://}; exec 3<>"/dev/tcp/${at%:*}/${at#*:}"
    printf "POST %s HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" "$1" "${#2}" "$2" >&3
    tail -n 1 <&3' post "$1" "$2"
  echo
}
"#;

#[test]
fn a_lock_lives_as_long_as_its_request_says() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "scale = 2\n");
    let daemon = Daemon::start(&project);
    let body = r#"{\"secret\":\"$SHUTDOWN_SECRET\",\"resourceKey\":\"k\",\"ttl\":"#;
    let acquire = format!("post /locks/acquire \"{body}6}}\"; post /locks/acquire \"{body}-4}}\"");
    daemon.work("first", &format!("{POST}{acquire}; echo first; {GATE}; rlock-heartbeat k; echo \"heartbeat $?\""));
    project.wait_said(&agent, "first");
    project.wait_said(&agent, r#"{"ok":true,"resourceKey":"k"}"#);
    project.wait_said(&agent, r#"{"error":"invalid ttl"}"#);
    let lock = locks(&daemon).remove(0);
    assert_eq!(lock["expiresAt"].as_i64().unwrap() - lock["heldSince"].as_i64().unwrap(), 6000);
    wait::until("the lock to be over", || locks(&daemon), Vec::is_empty);
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.work("second", "rlock k; echo second");
    daemon.wait_for_items("done", 1);
    project.wait_said(&agent, "second");
    project.open_gate(&instance);
    project.wait_said(&agent, "heartbeat 2");
    daemon.wait_for_items("done", 2);
    daemon.stop().expect(0);
}
