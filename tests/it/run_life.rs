//! Ends that nobody planned: signals, kills, broken clients, too much output (containers.md §8, §9; scheduler.md §15.3).

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::al::{Running, hangups_count};
use crate::support::docker::{BASE, containers, docker, inspect, try_docker};
use crate::support::project::Project;
use crate::support::wait;

/// The only container of a project.
#[track_caller]
fn container(project: &Project) -> String {
    let found = containers(&project.label());
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

/// Process ids of the docker clients through which `al` follows this container.
fn clients(container: &str) -> Vec<Pid> {
    let is_client = |line: &[u8]| {
        line.ends_with(format!("\0{container}\0").as_bytes())
            && ["start\0", "attach\0", "logs\0--follow\0"]
                .iter()
                .any(|words| line.starts_with(format!("docker\0{words}").as_bytes()))
    };
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    processes
        .filter(|path| fs::read(path.join("cmdline")).is_ok_and(|line| is_client(&line)))
        .filter_map(|path| Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?))
        .collect()
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_signal_kills_the_run_and_its_number_is_the_status() {
    let project = Project::new();
    let agent = project.worker("dev");
    let called = project.agent("called", "trap '' TERM; echo called; sleep 60");
    let signals = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];
    for (signal, status) in signals.into_iter().filter(|(signal, _)| hangups_count() || *signal != Signal::HUP) {
        let task =
            format!("trap '' TERM INT; al-call {called} < /dev/null > /dev/null; echo ready; sleep 60; sleep 60");
        let running = project.al(&["run", &agent, "--json", &task]).start();
        running.wait_for("\"ready\"").wait_for("\"called\"");
        running.signal(signal);
        let told = Instant::now();
        let done = running.finish();
        done.expect(status);
        assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
        let end = done.result();
        assert_eq!(json!([end["result"], end["exitCode"]]), json!(["error", 137]));
        assert!(end["error"].as_str().unwrap().contains("killed"), "{end}");
        assert_eq!(done.events_of("end").len(), 2);
        project.assert_clean();
    }
    let running = project.al(&["run", &agent, "echo ready; sleep 60"]).start();
    running.wait_for("] ready");
    running.signal(Signal::INT);
    let done = running.finish();
    done.expect(130);
    assert!(done.last_line().contains(" error ("), "{}", done.stdout);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn ctrl_c_on_a_terminal_leaves_it_clean() {
    let project = Project::new();
    let agent = project.worker("dev");
    let mut running = project.al(&["run", &agent, "trap '' INT; echo ready; sleep 60"]).on_terminal(80).start();
    running.wait_for("mready");
    running.type_in("\x03");
    let done = running.finish();
    done.expect(130);
    let screen = crate::support::screen::on_screen(&done.stdout);
    assert!(!screen.iter().any(|line| line.contains('●')), "{screen:#?}");
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_signal_during_a_build_ends_it() {
    let project = Project::new();
    let agent = project.worker("dev");
    let marker = format!("sleep 61 # {agent}");
    project.write(&format!("agents/{agent}/Dockerfile"), format!("FROM al-agent:latest\nRUN {marker}\n"));
    for (view, signal, status) in [(&["--json"][..], Signal::INT, 130), (&[], Signal::TERM, 143)] {
        let running = project.al(&[&["run", &agent], view].concat()).start();
        running.wait_for("sleep 61");
        let building = || {
            let all = docker(&["ps", "--no-trunc", "--format", "{{.Names}} {{.Command}}"]);
            all.lines().filter(|line| line.contains(&marker)).count()
        };
        wait::within(Duration::from_secs(20), "the build is under way", || {
            if building() == 1 { Ok(()) } else { Err("no container") }
        });
        running.signal(signal);
        let told = Instant::now();
        let done = running.finish();
        done.expect(status);
        assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
        if view.is_empty() {
            assert_eq!(done.stdout, "");
        } else {
            assert_eq!(json!([done.result()["instance"], done.result()["exitCode"]]), json!([null, null]));
        }
        wait::within(Duration::from_secs(10), "the build's container is gone", || {
            if building() == 0 { Ok(()) } else { Err("it is there") }
        });
        project.assert_clean();
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_signal_while_it_waits_for_its_task_ends_it() {
    let project = Project::new();
    let agent = project.worker("dev");
    let running = project.al(&["run", &agent, "--json", "--prompt-file", "-"]).open_stdin().start();
    wait_until_it_reads(&running);
    running.signal(Signal::INT);
    let told = Instant::now();
    let done = running.finish();
    done.expect(130);
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    assert_eq!(done.result()["instance"], Value::Null);
}

/// Waits until a thread of it is blocked in reading a pipe.
fn wait_until_it_reads(running: &Running<'_>) {
    let tasks = format!("/proc/{}/task", running.pid().as_raw_nonzero());
    wait::within(Duration::from_secs(20), "it reads its standard input", || {
        let waiting = fs::read_dir(&tasks)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("syscall")).ok());
        // System call 0 with file descriptor 0.
        if waiting.into_iter().any(|call| call.starts_with("0 0x0 ")) { Ok(()) } else { Err("no thread reads") }
    });
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn what_a_killed_program_left_behind_is_removed_by_the_next_one() {
    let project = Project::new();
    project.credential("github_token", "token", "ghp_0123456789abcdef");
    let agent = project.worker("dev");
    project.configure(&agent, "credentials = [\"github_token\"]\n");
    let running = project.al(&["run", &agent, "echo ready; sleep 100"]).start();
    running.wait_for("] ready");
    running.signal(Signal::KILL);
    running.finish().expect(-9);
    let left = container(&project);
    assert_eq!((inspect(&left)["State"]["Running"].clone(), !project.staging().is_empty()), (json!(true), true));
    // A container that only looks as if it were of this project is nobody's business.
    let foreign = format!("al-{agent}-portal-1");
    docker(&["create", "--name", &foreign, crate::support::docker::BASE, "true"]);
    let done = project.run(&agent, &["exit 3"]);
    let foreign_is_there = try_docker(&["rm", &foreign]).0;
    done.expect(3);
    assert!(foreign_is_there);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_run_goes_on_when_its_docker_client_is_killed() {
    let project = Project::new();
    let agent = project.worker("dev");
    let line = |msg: &str| format!("echo '{{\"_log\":true,\"level\":\"info\",\"msg\":\"{msg}\"}}'\n");
    let task = format!("{}echo before; sleep 3; {}al-return value; sleep 1; exit 0", line("early"), line("late"));
    let running = project.al(&["run", &agent, "--json", &task]).start();
    running.wait_for("\"before\"");
    let [client] = clients(&container(&project))[..] else { panic!("one client") };
    kill_process(client, Signal::KILL).unwrap();
    wait::within(Duration::from_secs(10), "another client is attached", || match clients(&container(&project))[..] {
        [another] if another != client => Ok(()),
        _ => Err("none"),
    });
    let done = running.finish();
    done.expect(0);
    assert_eq!(json!([done.result()["result"], done.result()["returnValue"]]), json!(["completed", "value"]));
    for msg in ["early", "late", "run completed", "signal-result"] {
        assert_eq!(project.logged(&agent, msg).len(), 1, "{msg}");
    }
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn clients_that_are_killed_again_and_again_lose_nothing_that_matters() {
    let project = Project::new();
    let agent = project.worker("dev");
    let running = project.al(&["run", &agent, "--json", "echo before; sleep 4; al-return value; al-exit 11"]).start();
    running.wait_for("\"before\"");
    let name = container(&project);
    let deadline = Instant::now() + Duration::from_secs(4);
    let mut killed = 0;
    while Instant::now() < deadline {
        for client in clients(&name) {
            killed += i32::from(kill_process(client, Signal::KILL).is_ok());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(killed > 3, "{killed}");
    let done = running.finish();
    done.expect(11);
    assert_eq!(done.result()["returnValue"], "value");
    assert_eq!(project.logged(&agent, "signal-result").len(), 2);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_container_that_does_not_end_itself_is_ended_by_the_host() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.configure(&agent, "timeout = 1\n");
    // The entry program is stopped: it can neither keep its time nor hear SIGTERM.
    let done = project.run(&agent, &["trap '' TERM; kill -STOP $PPID; sleep 300", "--json"]);
    done.expect(137);
    let name = done.events_of("start")[0]["container"].as_str().unwrap().to_owned();
    assert_eq!(done.result()["error"], format!("Container {name} timed out after 1s"));
    assert!((20..30).contains(&done.took.as_secs()), "{:?}", done.took);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn what_others_do_to_the_container_is_told_as_it_is() {
    let project = Project::new();
    let agent = project.worker("dev");
    let case = |args: &[&str], possible: &[(i32, Value, &str)]| {
        let pretence = r#"printf '{"_log":true,"level":"info","msg":"container finished","exitCode":0}\n'"#;
        let task = format!("trap '' TERM; {pretence}; echo ready; sleep 60; sleep 60");
        let running = project.al(&["run", &agent, "--json", &task]).start();
        running.wait_for("\"ready\"");
        docker(&[args, &[&container(&project)]].concat());
        let done = running.finish();
        let end = done.result();
        let seen = |(status, code, error): &(i32, Value, &str)| {
            done.status == *status && end["exitCode"] == *code && end["error"] == *error
        };
        assert!(end["result"] == "error" && possible.iter().any(seen), "{args:?}: {} {end}", done.status);
        let ends = ["container finished", "container exited with error", &format!("{agent} container run failed")];
        let log = project.log(&agent);
        let last = log.iter().rfind(|entry| ends.iter().any(|end| entry["msg"] == *end)).unwrap();
        assert_ne!(last["msg"], "container finished", "what the container said about its end is not the last word");
        project.assert_clean();
    };
    let killed = || (137, json!(137), "Container exited with code 137");
    case(&["kill"], &[killed()]);
    case(&["stop"], &[(143, json!(143), "Container exited with code 143")]);
    // It is killed first; whether its end is seen before it is gone is a matter of luck.
    case(&["rm", "-f"], &[(1, Value::Null, "Container lost"), killed()]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_image_that_does_not_build_is_one_clear_message() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nRUN echo the-reason-is-this; exit 3\n");
    let done = project.run(&agent, &[]);
    done.expect(1);
    assert_eq!((done.stdout.as_str(), done.stderr.matches("Agent error: ").count()), ("", 1));
    let error = done.stderr.split("Agent error: ").nth(1).unwrap();
    assert!(error.contains(&agent) && error.matches("the-reason-is-this\n").count() == 1, "{error}");
    // A Dockerfile that Docker does not even begin with.
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nBOGUS x\n");
    let done = project.run(&agent, &[]);
    done.expect(1);
    assert!(done.stderr.contains("Agent error: ") && done.stderr.to_lowercase().contains("bogus"), "{}", done.stderr);
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nCOPY missing.txt /x\n");
    let done = project.run(&agent, &[]);
    done.expect(1);
    assert!(done.stderr.contains("missing.txt"), "{}", done.stderr);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn the_limit_of_a_preflight_step_counts_and_the_doctor_says_nothing_else() {
    let project = Project::new();
    let agent = project.worker("dev");
    let steps = "schedule = \"@daily\"\n[[preflight]]\nprovider = \"shell\"\ntimeout = 1\nparams = { command = \"sleep 30; true\" }\n";
    project.configure(&agent, steps);
    let done = project.run(&agent, &["exit 0"]);
    assert!(done.expect(1).stdout.contains("stopped after 1 seconds, the step's timeout"), "{}", done.stdout);
    let doctor = project.al(&["doctor", "-H", "--skip-host"]).run();
    assert!(!doctor.expect(0).stdout.contains("preflight"), "{}", doctor.stdout);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_agent_that_only_al_run_starts_is_told_how_to_please_the_doctor() {
    let project = Project::new();
    let agent = project.worker("dev");
    let doctor = || project.al(&["doctor", "-H", "--skip-host"]).run();
    let told = "or disable it with `scale = 0`: `al run` starts it all the same";
    assert!(doctor().expect(1).stderr.contains(told), "{}", doctor().stderr);
    project.configure(&agent, "scale = 0\n");
    doctor().expect(0);
    project.run(&agent, &["exit 7"]).expect(7);
}

/// The first thing that a machine without access to a registry shows.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_base_that_cannot_be_fetched_is_named_with_what_to_do() {
    let project = Project::new();
    let agent = project.worker("dev");
    // An image of its own, so that nobody else's base is built anew. Nothing listens there.
    let image = project.name("base");
    project.write(
        "config.toml",
        format!("[model]\nprovider = \"mock\"\nmodel = \"echo\"\n[local]\nimage = \"{image}\"\nbase = \"127.0.0.1:1/no:1\"\n"),
    );
    let done = project.run(&agent, &[]);
    let told = "\n  this machine has no image 127.0.0.1:1/no:1, and it could not be fetched: let Docker reach its registry, or set \
                `[local] base` in config.toml to an image that is there (`docker images`)\n";
    assert!(done.expect(1).stderr.ends_with(told), "{}", done.stderr);
    project.assert_clean();
    // A base that is there is not to blame.
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nRUN exit 3\n");
    project
        .write("config.toml", format!("[model]\nprovider = \"mock\"\nmodel = \"echo\"\n[local]\nbase = \"{BASE}\"\n"));
    let done = project.run(&agent, &[]);
    assert!(!done.expect(1).stderr.contains("this machine has no image"), "{}", done.stderr);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn all_lines_arrive_however_fast_the_run_ends() {
    let project = Project::with_settings("maxReruns = 0");
    let agent = project.worker("dev");
    for _ in 0..5 {
        let done = project.run(&agent, &["seq 20000; exit 42", "--json"]);
        done.expect(0);
        assert_eq!(done.result()["exitCode"], 42);
        let said = done.said();
        assert_eq!(said.len(), 20_000);
        assert!(said.iter().enumerate().all(|(index, line)| *line == (index + 1).to_string()), "in order");
    }
    assert_eq!(project.logged(&agent, "output").len(), 100_000);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_hundred_megabytes_do_no_harm() {
    let project = Project::new();
    let agent = project.worker("dev");
    let flood = "yes \"$(head -c 4000 /dev/zero | tr '\\0' x)\" | head -c 100000000; echo; al-return after; exit 0";
    let running = project.al(&["run", &agent, flood]).start();
    let pid = running.pid().as_raw_nonzero();
    running.wait_for("] xxxx");
    let mut most = 0;
    wait::within(Duration::from_secs(60), "the end of the flood", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = peak.and_then(|kb| kb.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(most).max(most);
        if status.contains("VmHWM") { Err("it is running") } else { Ok(()) }
    });
    let done = running.finish();
    done.expect(0);
    assert!((1..150_000).contains(&most), "{most} kB of memory");
    assert!(done.stdout.contains("returned: after\n"));
    // One line without an end.
    let done = project.run(&agent, &["head -c 100000000 /dev/zero | tr '\\0' y; exit 3", "--json"]);
    done.expect(3);
    assert!(done.said().iter().all(|text| text.chars().count() <= 4000));
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn odd_output_is_kept_readable() {
    let project = Project::new();
    let agent = project.worker("dev");
    let task = r#"printf 'caf\351 \377\n'; printf 'crlf\r\n\n   \n'; echo 'warning' >&2
printf '{"_log":true}\n{"_log":true,"msg":7,"level":"loud"}\n{"_log":"yes","msg":"x"}\n{"_log":true,"msg":"cut\n'
printf '{"_log":true,"msg":"m","seq":"a","ts":"b","time":1,"pid":2,"hostname":"h","name":"n","instance":"i","v":1}\n'
printf '\000nul\n'; printf 'no end'"#;
    let done = project.run(&agent, &[task, "--json"]);
    done.expect(0);
    assert_eq!(
        done.said(),
        [
            "caf\u{fffd} \u{fffd}",
            "crlf",
            "{\"_log\":\"yes\",\"msg\":\"x\"}",
            "{\"_log\":true,\"msg\":\"cut",
            "\0nul",
            "no end"
        ]
    );
    let warnings = project.logged(&agent, "container stderr");
    assert_eq!((warnings.len(), &warnings[0]["stderr"], &warnings[0]["level"]), (1, &json!("warning"), &json!(40)));
    let entry = &project.logged(&agent, "m")[0];
    assert_eq!((&entry["name"], &entry["c_name"], &entry["c_instance"]), (&json!(agent), &json!("n"), &json!("i")));
    assert!(entry["time"].as_i64().unwrap() > 1_000_000_000_000 && entry["c_time"] == 1);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_signal_at_any_moment_leaves_nothing() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.run(&agent, &["exit 0"]).expect(0);
    for pause in (0..10).map(|step| Duration::from_millis(5 + step * 70)) {
        let running = project.al(&["run", &agent, "--json", "sleep 60"]).start();
        std::thread::sleep(pause);
        running.signal(Signal::TERM);
        let done = running.finish();
        // Before it listens, the signal ends it as it ends every program.
        assert!([143, -15].contains(&done.status), "{} after {pause:?}", done.status);
        assert!(done.status < 0 || done.result()["result"] == "error");
        project.assert_clean();
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_program_killed_at_any_moment_leaves_nothing_for_long() {
    let project = Project::new();
    let (agent, next) = (project.worker("dev"), project.agent("next", "exit 3"));
    project.run(&next, &[]).expect(3);
    project.run(&agent, &["exit 0"]).expect(0);
    for pause in (0..8).map(|step| Duration::from_millis(30 + step * 60)) {
        let running = project.al(&["run", &agent, "sleep 60"]).start();
        std::thread::sleep(pause);
        running.signal(Signal::KILL);
        running.finish().expect(-9);
        // A client that it had started may still be about to make the container.
        wait::within(Duration::from_secs(5), "its clients are gone", || {
            let waiting = clients_of(&agent);
            if waiting == 0 { Ok(()) } else { Err(waiting) }
        });
        project.run(&next, &[]).expect(3);
        project.assert_clean();
    }
}

/// How many docker clients are about to create something for an agent.
fn clients_of(agent: &str) -> usize {
    let label = format!("\0al.agent={agent}\0");
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok());
    processes.filter(|line| String::from_utf8_lossy(line).contains(&label)).count()
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_second_signal_ends_it_even_when_docker_does_not_answer() {
    let project = Project::new();
    let agent = project.worker("dev");
    let path = project.docker_that("kill) sleep 15; exit 1");
    let running = project.al(&["run", &agent, "--json", "echo ready; sleep 60"]).env("PATH", &path).start();
    running.wait_for("\"ready\"");
    running.signal(Signal::INT);
    // Within a second several signals count as one.
    std::thread::sleep(Duration::from_millis(1200));
    running.signal(Signal::INT);
    let told = Instant::now();
    let done = running.finish();
    done.expect(130);
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    assert_eq!(done.result()["result"], "error");
    assert!(!project.remains().is_empty());
    project.run(&agent, &["exit 4"]).expect(4);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn nobody_reading_keeps_no_container() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.configure(&agent, "timeout = 20\n");
    let flood = "yes 0123456789012345678901234567890123456789 | head -100000; al-return v > /dev/null; exit 0";
    let running = project.al(&["run", &agent, "--json", flood]).unread().start();
    wait::within(Duration::from_secs(20), "the run is in the log", || {
        if project.all_logs().contains("container finished") { Ok(()) } else { Err("it is not") }
    });
    wait::within(Duration::from_secs(5), "it is cleaned up", || {
        let found = containers(&project.label());
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    });
    running.read_on();
    let done = running.finish();
    done.expect(0);
    assert_eq!((&done.result()["returnValue"], done.said().len()), (&json!("v"), 100_000));
    project.assert_clean();
}
