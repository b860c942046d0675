//! How commands reach the gateway of a scheduler, and what they make of its answers (cli-config.md §2.6).
//!
//! The gateway key is shown only to a gateway that the project's held lock names, or that its configuration names with an
//! address that is not this machine or by an environment. Who else listens on a port of this machine may be a stranger.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::site::Site;
use crate::base::error::{ConfigError, CredentialError, GatewayError, Trouble};
use crate::base::text::{cut, printable, single_line};
use crate::base::web::{Address, Answer, Cause, Failure, Limits, Method, Request, Web};
use crate::base::{Masker, Secret, hide_user_info};
use crate::config::project::Environment;
use crate::credentials::Store as CredentialStore;
use crate::model::names::CredentialRef;
use crate::scheduler::lock::{Holder, ProjectLock, lock_path};

/// Largest answer.
const ANSWER_BYTES: u64 = 32 * 1024 * 1024;
const LIMITS: Limits =
    Limits { connect: Duration::from_secs(5), whole: Duration::from_secs(30), answer_bytes: ANSWER_BYTES };
/// For what is asked again and again.
const POLLING: Limits = Limits { whole: Duration::from_secs(10), ..LIMITS };
/// For a look at whether it is there.
const GLANCE: Limits = Limits { connect: Duration::from_secs(2), whole: Duration::from_secs(2), ..LIMITS };
/// How long a scheduler that holds the lock but does not listen is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// Most characters of a body in a message.
const LONGEST_QUOTE: usize = 120;
/// Most characters of what a gateway says about an error.
const LONGEST_ERROR: usize = 2000;

/// Whether and where the gateway of a project can be asked.
pub(crate) enum Reach {
    /// No scheduler of this project runs on this machine.
    NotRunning,
    /// One holds the lock and does not listen yet, or not any more.
    Silent(Holder),
    At(Box<GatewayClient>),
}

/// A gateway and the key for it.
pub(crate) struct GatewayClient {
    web: Web,
    /// Its address as people are told.
    url: String,
    key: Option<Secret>,
    /// The process that holds the lock, when that named the address.
    holder: Option<Holder>,
}

/// What a project's configuration says about where its gateway is.
enum Place {
    /// On this machine, where the lock says.
    Lock,
    /// At this address.
    Configured(Address),
}

/// Looks where the project's gateway is. Asks nothing of it.
///
/// # Errors
/// When the configuration, the key or the lock cannot be used.
pub(crate) fn reach(site: &Site) -> Result<Reach> {
    if let Place::Configured(address) = place(site)? {
        let client = GatewayClient::new(site, &address, address.to_string(), None)?;
        client.warn_if_overheard(&address);
        return Ok(Reach::At(Box::new(client)));
    }
    let Some(holder) = ProjectLock::holder(site.dir())? else { return Ok(Reach::NotRunning) };
    let Some(port) = holder.port else { return Ok(Reach::Silent(holder)) };
    let address = Address::of_this_machine(port);
    let client = GatewayClient::new(site, &address, format!("http://localhost:{port}"), Some(holder))?;
    Ok(Reach::At(Box::new(client)))
}

/// Asks the project's gateway. `None`: no scheduler of this project runs on this machine. One that is just starting or
/// stopping is asked again for ten seconds; the question may be put again only when nothing of it was sent.
///
/// # Errors
/// When the gateway cannot be asked, or the question's own.
pub(crate) fn ask_if_running<T>(site: &Site, question: impl Fn(&GatewayClient) -> Result<T>) -> Result<Option<T>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let (holder, url) = match reach(site)? {
            Reach::NotRunning => return Ok(None),
            Reach::Silent(holder) => (holder, None),
            Reach::At(client) => match (question(&client), &client.holder) {
                (Err(error), Some(holder)) if is_refused(&error) => (holder.clone(), Some(client.url.clone())),
                (answer, _) => return answer.map(Some),
            },
        };
        if Instant::now() >= until {
            bail!(silent(site, &holder, url.as_deref()));
        }
        // Neither the lock nor the port has an event to wait for.
        thread::sleep(PAUSE);
    }
}

/// As [`ask_if_running`], where nothing can be done without a scheduler.
///
/// # Errors
/// Also when no scheduler runs.
pub(crate) fn ask<T>(site: &Site, question: impl Fn(&GatewayClient) -> Result<T>) -> Result<T> {
    ask_if_running(site, question)?.ok_or_else(|| not_running().into())
}

/// A gateway that is asked again and again. One on this machine is looked for anew each time: when the scheduler is gone,
/// its port may be somebody else's.
pub(crate) struct Contact {
    /// The gateway elsewhere.
    remote: Option<Box<GatewayClient>>,
}

impl Contact {
    /// Contact to the gateway of a project, whether it can be asked now or not.
    ///
    /// # Errors
    /// When the configuration, the key or the lock cannot be used.
    pub(crate) fn to(site: &Site) -> Result<Self> {
        let remote = match reach(site)? {
            Reach::At(client) if !client.is_local() => Some(client),
            _ => None,
        };
        Ok(Self { remote })
    }

    /// Asks the gateway; `None` when no scheduler on this machine can be asked at the moment.
    ///
    /// # Errors
    /// When the gateway cannot be asked, or the question's own.
    pub(crate) fn ask<T>(&self, site: &Site, question: impl FnOnce(&GatewayClient) -> Result<T>) -> Result<Option<T>> {
        if let Some(remote) = &self.remote {
            return question(remote).map(Some);
        }
        match reach(site)? {
            Reach::At(client) => match question(&client) {
                Err(error) if is_refused(&error) => Ok(None),
                answer => answer.map(Some),
            },
            Reach::NotRunning | Reach::Silent(_) => Ok(None),
        }
    }
}

/// What commands say that need a scheduler when there is none.
pub(crate) fn not_running() -> GatewayError {
    let text = "Scheduler not running. Start it with 'al start'.".to_owned();
    GatewayError { why: Trouble::NotRunning, text }
}

/// What is said of a scheduler that holds the lock and cannot be asked.
pub(crate) fn silent(site: &Site, holder: &Holder, url: Option<&str>) -> GatewayError {
    let whence = url.map(|url| format!(" at {url}")).unwrap_or_default();
    let text = format!(
        "The scheduler does not answer{whence}: {} holds {} and is starting or stopping\n  try again in a moment; what it \
         does is in {}",
        holder.name(),
        lock_path(site.dir()).display(),
        site.log_dir().display()
    );
    GatewayError { why: Trouble::Refused, text }
}

/// Whether nobody was there to be asked, so that nothing was sent.
fn is_refused(error: &anyhow::Error) -> bool {
    trouble(error) == Some(Trouble::Refused)
}

/// What is wrong with the gateway, when the error is about that.
pub(crate) fn trouble(error: &anyhow::Error) -> Option<Trouble> {
    error.downcast_ref::<GatewayError>().map(|error| error.why)
}

fn place(site: &Site) -> Result<Place> {
    let project = &site.loaded.project;
    let wrong = site.loaded.findings.iter().find(|finding| {
        finding.is_error() && finding.key.as_deref().is_some_and(|key| ["gateway.url", "gateway"].contains(&key))
    });
    if let Some(finding) = wrong {
        bail!(ConfigError(finding.to_string()));
    }
    let by_environment =
        |environment: &Environment| project.merged.file_of("gateway.url") == environment.file.display().to_string();
    let environment = project.environment.as_ref();
    if let Some(url) = &project.settings.gateway.url {
        let Some(address) = Address::parse(url) else {
            bail!(ConfigError(format!(
                "{}: gateway.url: \"{}\" is not a URL",
                project.merged.file_of("gateway.url"),
                hide_user_info(url)
            )));
        };
        if environment.is_some_and(by_environment) {
            return Ok(Place::Configured(address));
        }
        if !address.is_loopback() {
            // A project may come from anywhere; where the user's key goes is the user's to say.
            bail!(ConfigError(format!(
                "{}: gateway.url: a project's own files cannot say where the gateway key is sent\n  write it into an \
                 environment, {}, and name that with -E",
                project.merged.file_of("gateway.url"),
                site.home.environment_file("<name>").display()
            )));
        }
    }
    if let Some(environment) = environment.filter(|environment| environment.server.is_some()) {
        bail!(ConfigError(format!(
            "{}: gateway.url is missing, so the gateway of environment \"{}\" cannot be found\n  write there: [gateway] \
             url = \"https://<its public name>\"",
            environment.file.display(),
            environment.name
        )));
    }
    Ok(Place::Lock)
}

impl GatewayClient {
    fn new(site: &Site, address: &Address, url: String, holder: Option<Holder>) -> Result<Self> {
        let reference = CredentialRef::default_of("gateway_api_key");
        let key = CredentialStore::at(site.home.credentials()).read(&reference, "key")?;
        if key.as_ref().is_some_and(|key| !key.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
            bail!(CredentialError(format!(
                "{reference}: key has characters that a key cannot have\n  store the gateway's key again"
            )));
        }
        let web = Web::to(address, &site.environment).map_err(anyhow::Error::msg)?;
        Ok(Self { web, url, key, holder })
    }

    /// Its address as people are told, without a slash at its end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether the project's lock named it.
    pub(crate) fn is_local(&self) -> bool {
        self.holder.is_some()
    }

    /// Asks for something; the answer is JSON of a success.
    ///
    /// # Errors
    /// When there is no such answer.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::Get, path, None, LIMITS)
    }

    /// As [`GatewayClient::get`], for what is asked again and again.
    ///
    /// # Errors
    /// As there, earlier.
    pub(crate) fn poll(&self, path: &str) -> Result<Value> {
        self.ask(Method::Get, path, None, POLLING)
    }

    /// Has something done.
    ///
    /// # Errors
    /// As [`GatewayClient::get`].
    pub(crate) fn post(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        self.ask(Method::Post, path, body, LIMITS)
    }

    /// Makes sure that it is there and well. Says nothing about who asks.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn check_health(&self) -> Result<()> {
        let request = Request { path: "/health", ..Request::default() };
        let answer = self.web.send(request, GLANCE).map_err(|failure| self.unreachable(&failure))?;
        self.read(&answer).map(drop).map_err(Into::into)
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>, limits: Limits) -> Result<Value> {
        let json = body.map(Value::to_string);
        let request = Request { method, path, bearer: self.key.as_ref(), json: json.as_deref(), ..Request::default() };
        let answer = self.web.send(request, limits).map_err(|failure| self.unreachable(&failure))?;
        Ok(self.read(&answer)?)
    }

    fn unreachable(&self, failure: &Failure) -> GatewayError {
        let why = match failure.cause {
            Cause::Refused | Cause::Unreachable => Trouble::Refused,
            _ => Trouble::Unreachable,
        };
        let reason = single_line(&failure.reason);
        let text = if self.web.address().is_loopback() && failure.cause == Cause::Refused {
            format!("{}\nCause: {}: {reason}", not_running().text, self.url)
        } else {
            format!(
                "cannot ask the gateway at {}: {reason}\n  check that it runs and that gateway.url is right",
                self.url
            )
        };
        GatewayError { why, text }
    }

    /// From an answer to the JSON of a success.
    fn read(&self, answer: &Answer) -> Result<Value, GatewayError> {
        let status = answer.status;
        let Ok(json) = serde_json::from_slice::<Value>(&answer.body) else {
            return Err(self.foreign(answer, "is not JSON"));
        };
        if (200..300).contains(&status) {
            return Ok(json);
        }
        if status == 401 {
            let what = match self.key {
                Some(_) => {
                    "the gateway API key that is stored here (gateway_api_key:default) does not match the gateway's"
                }
                None => "no gateway API key is stored here (gateway_api_key:default)",
            };
            let text = format!("{} refused the request (HTTP 401): {what}\n  check it with: al doctor", self.url);
            return Err(GatewayError { why: Trouble::KeyRefused, text });
        }
        match json.get("error").and_then(Value::as_str).filter(|error| !error.trim().is_empty()) {
            Some(error) => {
                let text = printable(cut(&self.masked(error), LONGEST_ERROR)).into_owned();
                Err(GatewayError { why: Trouble::Status(status), text })
            }
            None => Err(self.foreign(answer, "says no error")),
        }
    }

    /// What is wrong with an answer that is a success but not what was asked for.
    pub(crate) fn malformed(&self, json: &Value, what: &str) -> GatewayError {
        self.foreign(&Answer::of(200, json.to_string()), what)
    }

    fn foreign(&self, answer: &Answer, what: &str) -> GatewayError {
        let status = answer.status;
        let body = single_line(&self.masked(&String::from_utf8_lossy(&answer.body)));
        let quote = match cut(body.trim(), LONGEST_QUOTE) {
            "" => "(empty)".to_owned(),
            part if part.len() < body.trim().len() => format!("{part}…"),
            part => part.to_owned(),
        };
        let redirect = answer.header("location").filter(|_| (300..400).contains(&status));
        let redirect = redirect.map(|to| format!("; it leads to {}", single_line(cut(to, LONGEST_QUOTE))));
        let text = format!(
            "the answer of {} (HTTP {status}) {what}: {quote}{}\n  the URL is wrong, or a proxy answered in the place of \
             the gateway: check gateway.url",
            self.url,
            redirect.unwrap_or_default()
        );
        GatewayError { why: Trouble::Foreign(status), text }
    }

    fn masked(&self, text: &str) -> String {
        Masker::new(&self.key).mask(text).into_owned()
    }

    /// Says so when others can read the key on its way.
    fn warn_if_overheard(&self, address: &Address) {
        if self.key.is_some() && !address.is_encrypted() && !address.is_loopback() && !address.is_private() {
            let host = single_line(address.host());
            let _ = writeln!(std::io::stderr(), "Warning: sending the gateway API key over plain HTTP to {host}.");
        }
    }
}
