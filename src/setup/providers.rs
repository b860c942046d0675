//! What providers say of the server of an environment: its firewall, its name, how it is served (deploy.md §11, §13).
//! Nothing is changed there.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use serde_json::Value as Json;
use shims::env::Environment;

use super::env_check::{Check, Verdict};
use super::server::Target;
use crate::base::text::{cut, percent_encode, single_line};
use crate::base::web::{Address, Answer, Limits, Request, Web};
use crate::base::{Masker, Secret};
use crate::credentials::Store;
use crate::model::names::CredentialRef;

const LIMITS: Limits =
    Limits { connect: Duration::from_secs(10), whole: Duration::from_secs(30), answer_bytes: 8 << 20 };
/// Pauses before further tries, in seconds.
const PAUSES: [u64; 4] = [1, 2, 4, 8];
/// Longest pause that a provider can ask for, in seconds.
const LONGEST_PAUSE: u64 = 60;
/// Most characters of an answer in a message.
const LONGEST_QUOTE: usize = 200;
/// Most pages of a list.
const MOST_PAGES: usize = 50;
/// Port of the gateway on a server that does not say.
const GATEWAY_PORT: u64 = 3000;

/// A provider's interface.
struct Api {
    name: &'static str,
    origin: &'static str,
    prefix: &'static str,
    /// Type and field of the credential with its key.
    key: (&'static str, &'static str),
}

const VULTR: Api =
    Api { name: "Vultr", origin: "https://api.vultr.com", prefix: "/v2", key: ("vultr_api_key", "api_key") };
const HETZNER: Api =
    Api { name: "Hetzner", origin: "https://api.hetzner.cloud", prefix: "/v1", key: ("hetzner_api_key", "api_key") };
const CLOUDFLARE: Api = Api {
    name: "Cloudflare",
    origin: "https://api.cloudflare.com",
    prefix: "/client/v4",
    key: ("cloudflare_api_token", "api_token"),
};

/// Who is asked about which server, and with which keys.
pub(super) struct Providers<'a> {
    pub(super) server: &'a Target,
    pub(super) store: &'a Store,
    pub(super) environment: &'a Environment,
}

/// Ports that the whole internet can reach, over IPv4 and over IPv6.
#[derive(Default)]
struct Open {
    v4: Vec<RangeInclusive<u64>>,
    v6: Vec<RangeInclusive<u64>>,
}

impl Providers<'_> {
    /// Whether the ports are open that the server needs.
    pub(super) fn firewalls(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        if !self.server.text("vultrInstanceId").is_empty() {
            checks.push(self.firewall("Vultr firewall", self.vultr_rules()));
        }
        if self.server.number("hetznerServerId").is_some() {
            checks.push(self.firewall("Hetzner firewall", self.hetzner_rules()));
        }
        checks
    }

    /// Whether the host name leads to the server.
    pub(super) fn dns(&self) -> Option<Check> {
        let (hostname, zone) = (self.server.cloudflare_hostname(), self.server.text("cloudflareZoneId"));
        if hostname.is_empty() || zone.is_empty() {
            return None;
        }
        let path = format!("/zones/{}/dns_records?name={}", percent_encode(zone), percent_encode(&hostname));
        let host = self.server.host();
        Some(match self.cloudflare(&path) {
            Err(why) => Check::new("DNS", Verdict::Warn, why),
            Ok(records) => {
                let found: Vec<&str> =
                    records.as_array().into_iter().flatten().filter_map(|record| record["content"].as_str()).collect();
                if found.contains(&host) {
                    Check::new("DNS", Verdict::Pass, format!("{hostname} → {host}"))
                } else {
                    let leads = if found.is_empty() { "no record".to_owned() } else { found.join(", ") };
                    Check::new("DNS", Verdict::Fail, format!("{hostname} → {leads} (expected {host})"))
                }
            }
        })
    }

    /// How Cloudflare talks to the server.
    pub(super) fn ssl_mode(&self) -> Option<Check> {
        let zone = self.server.text("cloudflareZoneId");
        if zone.is_empty() {
            return None;
        }
        Some(match self.cloudflare(&format!("/zones/{}/settings/ssl", percent_encode(zone))) {
            Err(why) => Check::new("Cloudflare SSL", Verdict::Warn, why),
            Ok(setting) => match setting["value"].as_str() {
                Some("strict") => Check::new("Cloudflare SSL", Verdict::Pass, "strict"),
                other => {
                    let mode = other.unwrap_or("unknown");
                    Check::new("Cloudflare SSL", Verdict::Fail, format!("\"{mode}\" (expected \"strict\")"))
                }
            },
        })
    }

    fn needed_ports(&self) -> BTreeSet<u64> {
        let gateway = if self.server.cloudflare_hostname().is_empty() {
            vec![self.server.number("gatewayPort").unwrap_or(GATEWAY_PORT)]
        } else {
            vec![80, 443]
        };
        gateway.into_iter().chain([self.server.port()]).collect()
    }

    fn firewall(&self, name: &'static str, open: Result<Open, String>) -> Check {
        let open = match open {
            Ok(open) => open,
            Err(why) => return Check::new(name, Verdict::Warn, why),
        };
        let needed = self.needed_ports();
        let list = |ports: &[u64]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let missing = closed(&needed, &open.v4);
        let without_v6 = closed(&needed, &open.v6);
        if !missing.is_empty() {
            return Check::new(name, Verdict::Fail, format!("missing ports {}", list(&missing)));
        }
        if !without_v6.is_empty() {
            return Check::new(name, Verdict::Warn, format!("missing ports {} over IPv6", list(&without_v6)));
        }
        Check::new(name, Verdict::Pass, format!("ports {} open", list(&needed.into_iter().collect::<Vec<_>>())))
    }

    fn vultr_rules(&self) -> Result<Open, String> {
        let group = self.server.text("vultrFirewallGroupId");
        if group.is_empty() {
            return Err("[server] names no firewall group".to_owned());
        }
        let mut open = Open::default();
        let mut cursor = String::new();
        for _ in 0..MOST_PAGES {
            let further =
                if cursor.is_empty() { String::new() } else { format!("&cursor={}", percent_encode(&cursor)) };
            let path = format!("/firewalls/{}/rules?per_page=500{further}", percent_encode(group));
            let page = self.ask(&VULTR, &path)?;
            for rule in page["firewall_rules"].as_array().into_iter().flatten() {
                let is_for_all = rule["protocol"] == "tcp" && rule["subnet_size"] == 0;
                let Some(ports) = rule["port"].as_str().filter(|_| is_for_all).and_then(parse_ports) else { continue };
                let family = rule["ip_type"].as_str().or_else(|| rule["type"].as_str());
                if family == Some("v6") { open.v6.push(ports) } else { open.v4.push(ports) }
            }
            cursor = page["meta"]["links"]["next"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() {
                break;
            }
        }
        Ok(open)
    }

    fn hetzner_rules(&self) -> Result<Open, String> {
        let name = format!("action-llama-{}", self.server.name);
        let page = self.ask(&HETZNER, &format!("/firewalls?page=1&per_page=50&name={}", percent_encode(&name)))?;
        let firewalls = page["firewalls"].as_array().map(Vec::as_slice).unwrap_or_default();
        let id = self.server.number("hetznerFirewallId");
        let Some(firewall) = firewalls.iter().find(|found| id.is_none() || found["id"].as_u64() == id) else {
            return Err(format!("there is no firewall {name}"));
        };
        let mut open = Open::default();
        for rule in firewall["rules"].as_array().into_iter().flatten() {
            let is_inbound = rule["direction"] == "in" && rule["protocol"] == "tcp";
            let Some(ports) = rule["port"].as_str().filter(|_| is_inbound).and_then(parse_ports) else { continue };
            let sources: Vec<&str> =
                rule["source_ips"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            if sources.contains(&"0.0.0.0/0") {
                open.v4.push(ports.clone());
            }
            if sources.contains(&"::/0") {
                open.v6.push(ports);
            }
        }
        Ok(open)
    }

    /// The `result` of a success.
    fn cloudflare(&self, path: &str) -> Result<Json, String> {
        let mut answer = self.ask(&CLOUDFLARE, path)?;
        if answer["success"] == true {
            return Ok(answer["result"].take());
        }
        Err(format!("Cloudflare API {path} failed: {}", message(&answer)))
    }

    /// Asks until there is an answer, or too often. What may pass is tried again.
    fn ask(&self, api: &Api, path: &str) -> Result<Json, String> {
        let (kind, field) = api.key;
        let reference = CredentialRef::default_of(kind);
        let key = self.store.read(&reference, field).map_err(|error| format!("{error:#}"))?;
        let Some(key) = key else { return Err(format!("no API key: {reference} is not stored")) };
        let address = Address::parse(api.origin).ok_or("the address of the provider is malformed")?;
        let web = Web::to(&address, self.environment)?;
        let whole = format!("{}{path}", api.prefix);
        let request = Request { path: &whole, bearer: Some(&key), ..Request::default() };
        let mut pauses = PAUSES.into_iter();
        loop {
            let (why, wanted_pause) = match web.send(request, LIMITS) {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    return serde_json::from_slice(&answer.body)
                        .map_err(|_| format!("{} API {path}: the answer is not JSON", api.name));
                }
                Ok(answer) => {
                    let why = refusal(api, path, &answer, &key);
                    if !matches!(answer.status, 429 | 500 | 502 | 503 | 504) {
                        return Err(why);
                    }
                    (why, answer.header("retry-after").and_then(|seconds| seconds.trim().parse::<u64>().ok()))
                }
                Err(failure) => (format!("{} API {path}: {}", api.name, failure.reason), None),
            };
            let Some(pause) = pauses.next() else { return Err(why) };
            thread::sleep(Duration::from_secs(wanted_pause.unwrap_or(pause).min(LONGEST_PAUSE)));
        }
    }
}

fn refusal(api: &Api, path: &str, answer: &Answer, key: &Secret) -> String {
    let said = match serde_json::from_slice::<Json>(&answer.body) {
        Ok(body) => message(&body),
        Err(_) => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    let said = single_line(cut(&Masker::new([key]).mask(&said), LONGEST_QUOTE));
    let hint = if matches!(answer.status, 401 | 403) {
        format!("; check the credential {}", api.key.0)
    } else {
        String::new()
    };
    format!("{} API {path} failed (HTTP {}): {said}{hint}", api.name, answer.status)
}

/// What a body says of an error, in the forms of all three.
fn message(body: &Json) -> String {
    let of = |error: &Json| {
        let code = error.get("code").map(|code| code.as_str().map_or_else(|| code.to_string(), str::to_owned));
        let text = error.get("message").and_then(Json::as_str).or(error.as_str()).unwrap_or_default();
        code.map_or_else(|| text.to_owned(), |code| format!("{text} ({code})"))
    };
    match (&body["errors"], &body["error"]) {
        (Json::Array(errors), _) => errors.iter().map(of).collect::<Vec<_>>().join("; "),
        (_, error) => of(error),
    }
}

/// Those of the ports that are in no range.
fn closed(ports: &BTreeSet<u64>, open: &[RangeInclusive<u64>]) -> Vec<u64> {
    ports.iter().filter(|port| !open.iter().any(|range| range.contains(port))).copied().collect()
}

/// `22`, or a range `8000-8003` or `8000:8003`.
fn parse_ports(text: &str) -> Option<RangeInclusive<u64>> {
    let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
    Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_are_read_in_the_forms_of_all_providers() {
        for (body, expected) in [
            (json!({"error": "Invalid API token.", "status": 401}), "Invalid API token."),
            (json!({"error": {"code": "unauthorized", "message": "no"}}), "no (unauthorized)"),
            (
                json!({"success": false, "errors": [{"code": 9109, "message": "Invalid access token"}]}),
                "Invalid access token (9109)",
            ),
            (json!({}), ""),
        ] {
            assert_eq!(message(&body), expected);
        }
    }

    #[test]
    fn ports_may_be_ranges() {
        assert_eq!(parse_ports("22"), Some(22..=22));
        assert_eq!(parse_ports("8000-8003"), Some(8000..=8003));
        assert_eq!(parse_ports("any"), None);
        let open = ["22", "8000-8003", "60000-999999999999999"].map(|text| parse_ports(text).unwrap());
        let needed = BTreeSet::from([22, 80, 7999, 8000, 8003, 8004, 65_535]);
        assert_eq!(closed(&needed, &open), [80, 7999, 8004]);
    }
}
