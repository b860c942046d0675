//! What a run cannot do, seen from inside and from outside its container (containers.md §7, §20).

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::al::Running;
use crate::support::docker::{docker, inspect, try_docker};
use crate::support::project::Project;
use crate::support::wait;

const TOKEN: &str = "planted-value-of-a-token";

/// A question to the shell inside, and what it has to answer.
const INSIDE: [(&str, &str, &str); 46] = [
    ("user", "id -u; id -g; id -G", "1000 1000 1000"),
    ("effective capabilities", "awk '/^CapEff/ {print $2}' /proc/self/status", "0000000000000000"),
    ("permitted capabilities", "awk '/^CapPrm/ {print $2}' /proc/self/status", "0000000000000000"),
    ("bounding capabilities", "awk '/^CapBnd/ {print $2}' /proc/self/status", "0000000000000000"),
    ("ambient capabilities", "awk '/^CapAmb/ {print $2}' /proc/self/status", "0000000000000000"),
    ("new privileges", "awk '/^NoNewPrivs/ {print $2}' /proc/self/status", "1"),
    ("new privileges of the entry program", "awk '/^NoNewPrivs/ {print $2}' /proc/1/status", "1"),
    ("system call filter", "awk '/^Seccomp:/ {print $2}' /proc/self/status", "2"),
    ("becoming root", "setpriv --reuid 0 true 2>/dev/null || echo refused", "refused"),
    ("a user namespace of its own", "unshare -Ur true 2>/dev/null || echo refused", "refused"),
    ("mounting", "mount -t tmpfs x /mnt 2>/dev/null || echo refused", "refused"),
    (
        "writable places",
        "for d in / /etc /usr/bin /app /app/bin /app/static /credentials /run /run/al /home/node /var/tmp /tmp /workspace; do \
         touch $d/x 2>/dev/null && echo $d; done",
        "/tmp /workspace",
    ),
    ("replacing a program", "cp /bin/true /app/bin/rlock 2>/dev/null || echo refused", "refused"),
    ("root file system", "grep ' / ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1", "ro"),
    (
        "/tmp",
        "grep ' /tmp ' /proc/mounts | cut -d' ' -f4 | tr , '\\n' | grep -xE 'rw|nosuid|nodev|noexec|size=.*' | sort",
        "nodev nosuid rw size=65536k",
    ),
    ("programs in /tmp", "printf '#!/bin/sh\\necho runs\\n' > /tmp/p; chmod +x /tmp/p; /tmp/p", "runs"),
    ("devices in /tmp", "mknod /tmp/d b 8 0 2>/dev/null || echo refused", "refused"),
    (
        "/dev/shm",
        "grep ' /dev/shm ' /proc/mounts | cut -d' ' -f4 | tr , '\\n' | grep -xE 'nosuid|nodev|noexec|size=.*' | sort",
        "nodev noexec nosuid size=65536k",
    ),
    ("processes", "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null", "256"),
    ("memory", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null", "268435456"),
    ("its control group is all it sees", "cut -d: -f3 /proc/self/cgroup | sort -u", "/"),
    ("changing its control group", "echo 9999 2>/dev/null > /sys/fs/cgroup/pids/pids.max || echo refused", "refused"),
    ("open files", "ulimit -n; ulimit -Hn", "16384 16384"),
    ("core files", "ulimit -c; ulimit -Hc", "0 0"),
    ("first to die when memory is short", "cat /proc/self/oom_score_adj", "500"),
    ("Docker", "ls /var/run/docker.sock /run/docker.sock 2>/dev/null; ls /var/run | grep -c docker", "0"),
    ("devices", "ls /dev | grep -cE '^(sd|vd|nvme|mem$|kmem|kmsg|fuse)'", "0"),
    ("kernel settings", "echo 1 2>/dev/null > /proc/sys/kernel/panic || echo refused", "refused"),
    ("kernel memory", "head -c1 /proc/kcore 2>/dev/null | wc -c", "0"),
    (
        "directories of other runs",
        "grep -o '[^ ]*action-llama[^ ]*' /proc/self/mountinfo | grep -v \"$AL_INSTANCE_ID\"",
        "",
    ),
    ("mounts of its own", "grep -c \"$AL_INSTANCE_ID\" /proc/self/mountinfo", "2"),
    ("staging directories", "ls -d /run/action-llama* /dev/shm/action-llama* 2>/dev/null", ""),
    ("credentials", "find /credentials -type f | sort", "/credentials/github_token/default/token"),
    (
        "processes of others",
        "ls /proc | grep -xE '[0-9]+' | while read p; do cat /proc/$p/comm; done 2>/dev/null | grep -cE 'docker|^al$'",
        "0",
    ),
    ("environment of the entry program", "cat /proc/1/environ 2>/dev/null || echo refused", "refused"),
    ("environment of the worker", "cat /proc/$PPID/environ 2>/dev/null || echo refused", "refused"),
    ("memory of the worker", "head -c1 /proc/$PPID/mem 2>/dev/null || echo refused", "refused"),
    ("output of the entry program", "(echo forged > /proc/1/fd/1) 2>/dev/null || echo refused", "refused"),
    ("output of the worker", "(echo forged > /proc/$PPID/fd/1) 2>/dev/null || echo refused", "refused"),
    ("control of the scheduler", "curl -s -o /dev/null -w '%{http_code}' $GATEWAY_URL/control/status", "404"),
    ("pages of the scheduler", "curl -s -o /dev/null -w '%{http_code}' $GATEWAY_URL/dashboard", "404"),
    (
        "credentials by request",
        "curl -s -o /dev/null -w '%{http_code}' $GATEWAY_URL/credentials/$SHUTDOWN_SECRET",
        "403",
    ),
    ("another run's secret", "SHUTDOWN_SECRET=guess rlock x > /dev/null; echo $?", "3"),
    (
        "the token for git on github.com",
        "printf 'protocol=https\\nhost=github.com\\n\\n' | git credential fill | grep -c '^password='",
        "1",
    ),
    (
        "the token for git elsewhere",
        "printf 'protocol=https\\nhost=example.org\\n\\n' | git credential fill 2>/dev/null | grep -c '^password='",
        "0",
    ),
    (
        "zombies",
        "for i in $(seq 100); do (sleep 0.1 & ) & done; wait; sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l",
        "0",
    ),
];

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn from_inside() {
    let project = Project::with_settings("[local]\nmemory = \"256m\"\ntmpSize = \"64m\"\npidsLimit = 256");
    project.credential("github_token", "token", TOKEN);
    project.credential("aws", "access_key_id", "of-somebody-else");
    let questions: String = INSIDE
        .iter()
        .enumerate()
        .map(|(number, (_, question, _))| format!("echo \"{number}=$( ( {question} ) | tr '\\n' ' ')\"\n"))
        .collect();
    let agent = project.agent("dev", &questions);
    project.configure(&agent, "credentials = [\"github_token\"]\n");
    let done = project.run(&agent, &["--json"]);
    done.expect(0);
    let said = done.said();
    let wrong: Vec<String> = INSIDE
        .iter()
        .enumerate()
        .filter_map(|(number, (what, _, expected))| {
            let answer = said.iter().find_map(|line| line.strip_prefix(&format!("{number}="))).map(str::trim);
            (answer != Some(*expected)).then(|| format!("{what}: {answer:?}, expected {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!said.contains(&"forged".to_owned()), "{said:?}");
    project.assert_clean();
}

/// The container of a run that has said what it should.
#[track_caller]
fn container_of(running: &Running<'_>) -> String {
    let output = running.output();
    let start = output.lines().find(|line| line.starts_with("{\"event\":\"start\"")).expect("it has started");
    let start: Value = serde_json::from_str(start).unwrap();
    start["container"].as_str().unwrap().to_owned()
}

/// Command lines of all processes on this machine.
fn command_lines() -> String {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    processes
        .filter_map(|path| fs::read(path).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned() + "\n")
        .collect()
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn secrets_and_task_are_nowhere_but_in_the_staging_directory() {
    let project = Project::new();
    project.credential("github_token", "token", TOKEN);
    project.credential("git_ssh", "username", "bot");
    project.credential("git_ssh", "email", "bot@example.org");
    project.credential("git_ssh", "id_rsa", "-----BEGIN KEY-----\nplanted-line-of-a-private-key\n-----END KEY-----");
    let agent = project.worker("dev");
    project.configure(&agent, "credentials = [\"github_token\", \"git_ssh\"]\n");
    // Everything a run can make the host write, with the token in it. What it prints reversed is for this test.
    let task = r##"# planted-text-of-a-task
echo "reversed $(echo "$SHUTDOWN_SECRET" | rev)"
echo "out $GITHUB_TOKEN $SHUTDOWN_SECRET"; echo "err $GITHUB_TOKEN" >&2; cat /tmp/.ssh/id_rsa
echo "base64 $(printf %s "$GITHUB_TOKEN" | base64)"
printf '{"_log":true,"level":"info","msg":"in %s","field":"%s","%s":1,"deep":{"%s":["%s"]}}\n' \
  "$GITHUB_TOKEN" "$GITHUB_TOKEN" "$GITHUB_TOKEN" "$GITHUB_TOKEN" "$GITHUB_TOKEN"
printf '{"_log":true,"level":"error","msg":"tool error","cmd":"%s","result":"%s"}\n' "$GITHUB_TOKEN" "$GITHUB_TOKEN"
printf '{"_log":true,"level":"error","msg":"signal-result","type":"exit","exitCode":9,"reason":"%s"}\n' "$GITHUB_TOKEN"
al-status "status $GITHUB_TOKEN"
al-return "returned $GITHUB_TOKEN"
rlock "key $GITHUB_TOKEN"
echo "context $GITHUB_TOKEN" | al-call "nobody-$GITHUB_TOKEN"
al-check "id-$GITHUB_TOKEN"
curl -s "$GATEWAY_URL/no-such-page-$GITHUB_TOKEN?x=$GITHUB_TOKEN" > /dev/null
echo ready; sleep 1
al-shutdown "reason $GITHUB_TOKEN"; sleep 60
"##;
    project.write("task.sh", task);
    for view in [&["--json"][..], &[]] {
        let running = project
            .al(&[&["run", &agent, "--prompt-file", "task.sh"], view].concat())
            .env("GITHUB_STEP_SUMMARY", project.root().join("summary.md"));
        let running = if view.is_empty() { running.env("GITHUB_ACTIONS", "true") } else { running };
        let running = running.start();
        running.wait_for("ready");
        let container = crate::support::docker::containers(&project.label()).remove(0);
        let facts = inspect(&container);
        let mut places = vec![
            ("docker inspect", facts.to_string()),
            ("command lines", command_lines()),
            ("image", docker(&["history", "--no-trunc", facts["Image"].as_str().unwrap()])),
        ];
        let done = running.finish();
        done.expect(137);
        let output = done.stdout.clone() + &done.stderr;
        let secret: String = output.split("reversed ").nth(1).unwrap().chars().take(36).collect();
        let secret: String = secret.chars().rev().collect();
        assert_eq!(secret.matches('-').count(), 4, "{secret}");
        places.push(("logs", project.all_logs()));
        places.push(("output", output));
        places.push(("job summary", fs::read_to_string(project.root().join("summary.md")).unwrap_or_default()));
        let base64 = "cGxhbnRlZC12YWx1ZS1vZi1hLXRva2Vu";
        for (place, text) in &places {
            for planted in [TOKEN, base64, "planted-line-of-a-private-key", "planted-text-of-a-task", &secret] {
                let found =
                    text.find(planted).map(|at| text[at.saturating_sub(200)..].chars().take(300).collect::<String>());
                assert_eq!(found, None, "{planted} in {place}");
            }
        }
    }
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn nothing_of_the_environment_of_al_gets_in() {
    let project = Project::new();
    let agent = project.worker("dev");
    let mut al =
        project.al(&["run", &agent, "env -0 | cut -z -d= -f1 | tr '\\0' '\\n'; env | grep -c leaked'-'in", "--json"]);
    for name in
        ["GITHUB_TOKEN", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "AL_SECRET_x__y__z", "PROMPT"]
    {
        al = al.env(name, "leaked-in");
    }
    let done = al.run();
    done.expect(1);
    let said = done.said();
    let (count, names) = said.split_last().unwrap();
    assert_eq!(count, "0");
    let expected = [
        "AL_AGENT_NAME",
        "AL_INSTANCE_ID",
        "AL_PROMPT_FILE",
        "AL_RUN_FILE",
        "AL_SIGNAL_DIR",
        "AL_TRIGGER_TYPE",
        "GATEWAY_URL",
        "HOME",
        "HOSTNAME",
        "PATH",
        "PROMPT",
        "PWD",
        "SHUTDOWN_SECRET",
    ];
    let unexpected: Vec<&String> = names
        .iter()
        .filter(|name| !expected.contains(&name.as_str()) && !name.starts_with(['#', ' ']) && *name != "_")
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn from_outside() {
    let project = Project::new();
    project.credential("github_token", "token", TOKEN);
    let agent = project.worker("dev");
    project.configure(&agent, "credentials = [\"github_token\"]\n");
    let running = project.al(&["run", &agent, "--json", "echo ready; sleep 60"]).start();
    running.wait_for("\"ready\"");
    let container = container_of(&running);
    let facts = inspect(&container);
    let host = &facts["HostConfig"];
    assert_eq!(host["Privileged"], false);
    assert_eq!(host["NetworkMode"], "al-net");
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert_eq!(
        (&host["Memory"], &host["MemorySwap"], &host["PidsLimit"]),
        (&json!(4u64 << 30), &json!(4u64 << 30), &json!(1024))
    );
    assert_eq!(
        (&host["PidMode"], &host["UTSMode"], &host["UsernsMode"], &host["CgroupnsMode"]),
        (&json!(""), &json!(""), &json!(""), &json!("private"))
    );
    assert_eq!(host["LogConfig"], json!({"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}));
    assert!(host["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty));
    let mounts: Vec<Value> =
        facts["Mounts"].as_array().unwrap().iter().map(|mount| json!([mount["Destination"], mount["RW"]])).collect();
    assert!(
        mounts.len() == 2
            && mounts.contains(&json!(["/credentials", false]))
            && mounts.contains(&json!(["/run/al", false]))
    );
    assert_eq!(facts["Config"]["Labels"]["al.once"], "1");

    // Others on this machine cannot look into the staging directory.
    let [staging] = &project
        .staging()
        .into_iter()
        .filter(|path| !path.display().to_string().contains("gateway"))
        .collect::<Vec<_>>()[..]
    else {
        panic!("one staging directory")
    };
    let mode = |path: &Path| std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap()) & 0o777;
    assert_eq!((mode(staging), mode(staging.parent().unwrap())), (0o700, 0o700));
    if rustix::process::geteuid().is_root() {
        let args = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "ls"];
        let output = std::process::Command::new("setpriv").args(args).arg(staging).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
    }

    // The gateway is for containers on its own network: neither for those on another one nor for this machine.
    let environment = facts["Config"]["Env"].as_array().unwrap();
    let url = environment.iter().find_map(|entry| entry.as_str()?.strip_prefix("GATEWAY_URL=")).unwrap();
    let address = host["ExtraHosts"][0].as_str().unwrap().strip_prefix("gateway:").unwrap();
    let url = url.replace("gateway", address) + "/health";
    let image = facts["Image"].as_str().unwrap();
    let ask = |network: &str| {
        let args = [
            "run",
            "--rm",
            "--network",
            network,
            "--entrypoint",
            "curl",
            image,
            "-s",
            "-m",
            "5",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ];
        try_docker(&args).1
    };
    assert_eq!(ask("al-net"), "200", "it answers at all");
    assert_ne!(ask("bridge"), "200");
    let port: u16 = url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "it listens on the bridge alone");

    running.signal(Signal::TERM);
    running.finish().expect(143);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn two_runs_cannot_reach_each_other() {
    let project = Project::new();
    let agent = project.worker("dev");
    let listen = r#"cat > /tmp/listen.pl <<'END'
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 4711, Listen => 5) or die;
$| = 1; print "listening\n";
while (my $client = $server->accept) { print $client "hello\n"; close $client }
END
perl /tmp/listen.pl & sleep 0.5
bash -c "head -1 < /dev/tcp/$(hostname -i)/4711"; echo "address $(hostname -i)"; sleep 60"#;
    let listening = project.al(&["run", &agent, "--json", listen]).start();
    listening.wait_for("address ");
    assert!(listening.output().contains("\"hello\""), "it answers itself");
    let output = listening.output();
    let address = output.split("address ").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let try_it = format!(
        "timeout 3 bash -c 'head -1 < /dev/tcp/{address}/4711'; echo \"status $?\"; curl -s $GATEWAY_URL/health"
    );
    let done = project.run(&agent, &[&try_it, "--json"]);
    done.expect(0);
    let said = done.said();
    assert!(!said.contains(&"hello".to_owned()) && !said.contains(&"status 0".to_owned()), "{said:?}");
    assert!(said.contains(&"{\"status\":\"ok\"}".to_owned()), "the network works: {said:?}");
    listening.signal(Signal::INT);
    listening.finish().expect(130);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn processes_and_disk_run_out_inside_alone() {
    let project = Project::with_settings("[local]\ntmpSize = \"64m\"\npidsLimit = 64");
    let agent = project.worker("dev");
    // A shell that cannot fork ends; the one around it goes on with what needs no fork.
    let forks = "(while :; do sleep 50 & done) 2>/tmp/err; read -r line < /tmp/err; echo \"$line\"; exit 6";
    let done = project.run(&agent, &[forks, "--json"]);
    done.expect(6);
    assert!(done.said()[0].contains("Cannot fork"), "{:?}", done.said());

    let disk = "dd if=/dev/zero of=/tmp/big bs=1M count=10240 2>&1 | grep -o 'No space left on device'; rm /tmp/big; echo ok > /tmp/x && cat /tmp/x";
    let done = project.run(&agent, &[disk, "--json"]);
    done.expect(0);
    assert_eq!(done.said(), ["No space left on device", "ok"]);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_fork_bomb_ends_with_its_time() {
    let project = Project::with_settings("[local]\npidsLimit = 64");
    let agent = project.worker("dev");
    project.configure(&agent, "timeout = 3\n");
    let done = project.run(&agent, &["bomb() { bomb | bomb & }; bomb 2>/dev/null; while :; do :; done", "--json"]);
    done.expect(124);
    assert!(done.took.as_secs() < 12, "{:?}", done.took);
    project.assert_clean();
    wait::within(std::time::Duration::from_secs(5), "no process of it is left", || {
        if command_lines().contains("test-script.sh\0bomb") { Err("there is one") } else { Ok(()) }
    });
}
