//! Commands about the server of an environment: what providers say of it, and starting its scheduler (deploy.md §10, §11).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use action_llama::base::clock::UnixMs;
use serde_json::{Value, json};

use crate::cli_env::{fake_ssh, file};
use crate::support::al::Done;
use crate::support::project::Project;
use crate::support::stub_gateway::{Answer, Request, StubGateway};

const SERVER: &str = "[server]\nhost = '192.0.2.7'\ncloudflareHostname = 'agents.example.com'\ncloudflareZoneId = 'z1'\n\
                      vultrInstanceId = 'i1'\nvultrFirewallGroupId = 'g1'\nhetznerServerId = 42\nhetznerFirewallId = 38\n";

/// A server on which everything is as it should be, with a certificate that ends so many days from now.
fn programs(days: i64) -> Vec<(&'static str, String)> {
    let end = UnixMs::now().0 / 1000 + days * 86_400 + 3600;
    vec![
        ("id", "echo 1000".into()),
        ("sudo", "[ \"$1\" = -n ] && shift; exec \"$@\"".into()),
        ("docker", "echo 27.1.1".into()),
        ("ps", "echo systemd".into()),
        ("df", "printf 'head\\nfs 1 1 8388608 1%% /\\n'".into()),
        ("test", "exit 0".into()),
        ("openssl", format!("echo notAfter=@{end}")),
        (
            "systemctl",
            "case $1 in --version) echo 'systemd 252';; is-active) echo active;; \
             show) printf 'LoadState=loaded\\nActiveState=active\\n';; esac"
                .into(),
        ),
    ]
}

/// What the three providers answer when all is well.
fn all_well(request: &Request) -> Answer {
    let rule = |family: &str, subnet: &str, port: &str| json!({"ip_type": family, "protocol": "tcp", "port": port, "subnet": subnet, "subnet_size": 0});
    let path = request.target.split('?').next().unwrap();
    let body = match path {
        "/v2/firewalls/g1/rules" if request.query("cursor").is_none() => {
            json!({"firewall_rules": [rule("v4", "0.0.0.0", "22"), rule("v4", "0.0.0.0", "80:443")],
                "meta": {"links": {"next": "more"}}})
        }
        "/v2/firewalls/g1/rules" => {
            json!({"firewall_rules": [rule("v6", "::", "22"), rule("v6", "::", "80"), rule("v6", "::", "443")],
                "meta": {"links": {"next": ""}}})
        }
        "/v1/firewalls" => {
            let open = |port: &str| json!({"direction": "in", "protocol": "tcp", "port": port, "source_ips": ["0.0.0.0/0", "::/0"]});
            let rules = ["22", "80", "443"].map(open);
            json!({"firewalls": [{"id": 38, "rules": rules}]})
        }
        "/client/v4/zones/z1/dns_records" => {
            json!({"success": true, "result": [{"type": "A", "content": "192.0.2.7"}]})
        }
        "/client/v4/zones/z1/settings/ssl" => json!({"success": true, "result": {"value": "strict"}}),
        _ => return Answer::json(404, "{}"),
    };
    Answer::Json(200, body.to_string())
}

struct Bed {
    project: Project,
    providers: StubGateway,
}

impl Bed {
    fn new(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let project = Project::without_docker("");
        project.al(&["env", "init", "prod", "-t", "server"]).run().expect(0);
        fs::write(file(&project, "prod"), SERVER).unwrap();
        for kind in ["vultr_api_key", "hetzner_api_key"] {
            project.credential(kind, "api_key", &format!("key-of-{kind}"));
        }
        project.credential("cloudflare_api_token", "api_token", "key-of-cloudflare");
        Self { project, providers: StubGateway::listen("127.0.0.1:0".parse().unwrap(), script) }
    }

    fn check(&self, programs: &[(&'static str, String)], args: &[&str]) -> Done {
        let programs: Vec<(&str, &str)> = programs.iter().map(|(name, script)| (*name, script.as_str())).collect();
        let ssh = fake_ssh(&self.project, &programs);
        let here = self.providers.url();
        let origins = ["https://api.vultr.com", "https://api.hetzner.cloud", "https://api.cloudflare.com"];
        let origins = origins.map(|origin| format!("{origin}={here}")).join(",");
        let al = self.project.al(&[&["env", "check", "prod"], args].concat());
        al.env("AL_SSH", &ssh).env("AL_HTTP_OVERRIDE", origins).run()
    }
}

#[test]
fn providers_are_asked_about_firewall_name_and_encryption() {
    let bed = Bed::new(all_well);
    let done = bed.check(&programs(100), &[]);
    let expected = "  ✓ Disk (8192 MiB free)\n  ✓ Vultr firewall (ports 22, 80, 443 open)\n  ✓ Hetzner firewall (ports 22, 80, \
                    443 open)\n  ✓ DNS (agents.example.com → 192.0.2.7)\n  ✓ Origin certificate (100 days left)\n  ✓ nginx \
                    (running)\n  ✓ Cloudflare SSL (strict)\n  ✓ Service (active)\nAll checks passed.\n";
    assert!(done.expect(0).stdout.ends_with(expected), "{}", done.stdout);
    let asked: Vec<(String, String)> = bed
        .providers
        .requests()
        .iter()
        .map(|request| (request.target.clone(), request.header("authorization").unwrap_or_default().to_owned()))
        .collect();
    let of = |target: &str, key: &str| (target.to_owned(), format!("Bearer {key}"));
    assert_eq!(
        asked,
        [
            of("/v2/firewalls/g1/rules?per_page=500", "key-of-vultr_api_key"),
            of("/v2/firewalls/g1/rules?per_page=500&cursor=more", "key-of-vultr_api_key"),
            of("/v1/firewalls?page=1&per_page=50&name=action-llama-prod", "key-of-hetzner_api_key"),
            of("/client/v4/zones/z1/dns_records?name=agents.example.com", "key-of-cloudflare"),
            of("/client/v4/zones/z1/settings/ssl", "key-of-cloudflare"),
        ]
    );
}

#[test]
fn what_is_wrong_at_providers_is_told() {
    let bed = Bed::new(|request| match request.target.split('?').next().unwrap() {
        "/v2/firewalls/g1/rules" => {
            Answer::json(401, r#"{"error":"Invalid API token: key-of-vultr_api_key","status":401}"#)
        }
        "/v1/firewalls" => Answer::json(
            200,
            r#"{"firewalls":[{"id":38,"rules":[{"direction":"in","protocol":"tcp","port":"22","source_ips":["0.0.0.0/0"]},
               {"direction":"in","protocol":"tcp","port":"443","source_ips":["192.0.2.0/24"]}]}]}"#,
        ),
        "/client/v4/zones/z1/dns_records" => {
            Answer::json(200, r#"{"success":true,"result":[{"content":"192.0.2.99"}]}"#)
        }
        _ => Answer::json(200, r#"{"success":true,"result":{"value":"flexible"}}"#),
    });
    let mut there = programs(3);
    there.last_mut().unwrap().1 = "case $1 in is-active) echo failed; exit 3;; --version) echo s;; esac".into();
    let done = bed.check(&there, &[]);
    for line in [
        "  ! Vultr firewall (Vultr API /firewalls/g1/rules?per_page=500 failed (HTTP 401): Invalid API token: ***; check the \
         credential vultr_api_key)",
        "  ✗ Hetzner firewall (missing ports 80, 443)",
        "  ✗ DNS (agents.example.com → 192.0.2.99 (expected 192.0.2.7))",
        "  ! Origin certificate (3 days left)",
        "  ✗ nginx (failed)",
        "  ✗ Cloudflare SSL (\"flexible\" (expected \"strict\"))",
        "4 issue(s) found.",
    ] {
        assert!(done.expect(1).stdout.contains(&format!("{line}\n")), "{line}: {}", done.stdout);
    }
    let document: Value = serde_json::from_str(&bed.check(&there, &["--json"]).expect(1).stdout).unwrap();
    let names: Vec<&str> =
        document["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    let expected =
        ["Vultr firewall", "Hetzner firewall", "DNS", "Origin certificate", "nginx", "Cloudflare SSL", "Service"];
    assert_eq!(names[5..], expected);
    let done = bed.check(&programs(-2), &[]);
    assert!(done.stdout.contains("  ✗ Origin certificate (expired 2 days ago)\n"), "{}", done.stdout);
}

#[test]
fn a_provider_that_is_busy_is_asked_again_and_one_without_a_key_is_not() {
    let asked = AtomicU32::new(0);
    let bed = Bed::new(move |request| {
        let is_first = request.target.starts_with("/v1/") && asked.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first { Answer::json(503, "busy") } else { all_well(request) }
    });
    for kind in ["vultr_api_key", "cloudflare_api_token"] {
        bed.project.al(&["creds", "rm", kind]).run().expect(0);
    }
    let done = bed.check(&programs(100), &[]);
    for line in [
        "  ! Vultr firewall (no API key: vultr_api_key is not stored)",
        "  ✓ Hetzner firewall (ports 22, 80, 443 open)",
        "  ! DNS (no API key: cloudflare_api_token is not stored)",
        "  ! Cloudflare SSL (no API key: cloudflare_api_token is not stored)",
    ] {
        assert!(done.expect(0).stdout.contains(&format!("{line}\n")), "{line}: {}", done.stdout);
    }
}

/// An environment whose gateway is this one, and what `ssh` does.
fn remote(gateway: &StubGateway, user: &str) -> Project {
    let project = Project::without_docker("");
    project.al(&["env", "init", "prod", "-t", "server"]).run().expect(0);
    let text = format!(
        "[server]\nhost = '192.0.2.7'\nuser = '{user}'\nservice = 'agents'\n[gateway]\nurl = '{}'\n",
        gateway.url()
    );
    fs::write(file(&project, "prod"), text).unwrap();
    project.credential("gateway_api_key", "key", "not-for-this");
    project
}

#[test]
fn a_servers_scheduler_that_answers_is_left_alone() {
    let gateway = StubGateway::answering(200, r#"{"status":"ok"}"#);
    let project = remote(&gateway, "root");
    let done = project.al(&["start", "-E", "prod", "-H"]).env("AL_SSH", "/bin/false").run();
    assert_eq!(done.expect(0).stdout, "The scheduler on 192.0.2.7 is already running.\n");
    assert_eq!((gateway.request().target.as_str(), gateway.request().header("authorization")), ("/health", None));
    assert!(!project.root().join(".al").exists(), "nothing of this machine is involved");
}

#[test]
fn a_servers_scheduler_is_started_and_waited_for() {
    for (user, command) in [("root", "systemctl start agents"), ("ann", "sudo -n systemctl start agents")] {
        let started = Arc::new(AtomicBool::new(false));
        let is_up = Arc::clone(&started);
        let gateway = StubGateway::start(move |_| match is_up.swap(true, Ordering::SeqCst) {
            true => Answer::json(200, "{}"),
            false => Answer::json(502, "<html>"),
        });
        let project = remote(&gateway, user);
        let ssh = fake_ssh(&project, &[("systemctl", "exit 0"), ("sudo", "shift; exec \"$@\"")]);
        let done = project.al(&["start", "-E", "prod"]).env("AL_SSH", &ssh).run();
        let expected = "Starting agents on 192.0.2.7...\nService started on 192.0.2.7.\n";
        assert_eq!((done.expect(0).stdout.as_str(), done.stderr.as_str()), (expected, ""));
        let log = fs::read_to_string(project.outer().join("ssh.log")).unwrap();
        assert!(log.ends_with(&format!(" -- {user}@192.0.2.7 {command}\n")), "{log}");
    }
}

#[test]
fn a_servers_scheduler_that_cannot_be_started_is_an_error_with_the_way_out() {
    let gateway = StubGateway::answering(502, "{}");
    let project = remote(&gateway, "root");
    for (script, why) in [
        (
            "echo 'Failed to start agents.service: Unit agents.service not found.' >&2; exit 5",
            "there is no service agents",
        ),
        ("echo 'Job for agents.service failed' >&2; exit 1", "status 1: Job for agents.service failed"),
    ] {
        let ssh = fake_ssh(&project, &[("systemctl", script)]);
        let done = project.al(&["start", "-E", "prod"]).env("AL_SSH", &ssh).run();
        let expected = format!(
            "Error: the scheduler on root@192.0.2.7:22 cannot be started: {why}\n  how to set a server up: al docs server\n"
        );
        assert_eq!(done.expect(1).stderr, expected);
    }
    fs::write(file(&project, "prod"), "[server]\nhost = 'PENDING'\n[gateway]\nurl = 'http://127.0.0.1:1'\n").unwrap();
    let done = project.al(&["start", "-E", "prod"]).env("AL_SSH", "/bin/false").run();
    assert!(done.expect(1).stderr.starts_with("Configuration error: ") && done.stderr.contains("al env prov prod"));
    fs::write(file(&project, "prod"), "[server]\nhost = '192.0.2.7'\n").unwrap();
    let done = project.al(&["start", "-E", "prod"]).env("AL_SSH", "/bin/false").run();
    assert!(done.expect(1).stderr.contains("gateway.url is missing"), "{}", done.stderr);
}

#[test]
#[ignore = "slow: waits half a minute for a server that never answers"]
fn a_servers_scheduler_that_does_not_answer_is_a_warning() {
    let gateway = StubGateway::answering(502, "{}");
    let project = remote(&gateway, "root");
    let ssh = fake_ssh(&project, &[("systemctl", "exit 0")]);
    let done = project.al(&["start", "-E", "prod"]).env("AL_SSH", &ssh).run();
    let expected = format!(
        "Warning: the service on 192.0.2.7 was started, but {} did not answer within 30s\n  look at it with: al stat --env \
         prod\n",
        gateway.url()
    );
    assert_eq!(done.expect(0).stderr, expected);
}
