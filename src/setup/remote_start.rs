//! Starting the scheduler of a server (scheduler.md §15.1). Nothing of this machine is involved but `ssh`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use shims::env::Environment;

use super::server::{Target, excerpt};
use crate::base::error::ConfigError;
use crate::base::hide_user_info;
use crate::base::text::{shell_quote, single_line};
use crate::base::web::{Address, Limits, Request, Web};
use crate::config::Home;

/// For one question whether it serves.
const HEALTH_LIMITS: Limits =
    Limits { connect: Duration::from_secs(5), whole: Duration::from_secs(5), answer_bytes: 64 << 10 };
/// How long it may take until it serves, and how often is asked.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(2);
/// Exit status of `systemctl` for a unit that does not exist.
const NO_SUCH_UNIT: i32 = 5;

/// Who hears what happens.
pub trait Teller {
    /// A line of the result.
    ///
    /// # Errors
    /// When it cannot be told.
    fn say(&mut self, text: &str) -> Result<()>;
    /// Something that is not as it should be.
    ///
    /// # Errors
    /// When it cannot be told.
    fn warn(&mut self, text: &str) -> Result<()>;
}

/// Starts the service of an environment's server, unless it serves already, and waits until it does.
///
/// # Errors
/// When the environment cannot be used, or the service cannot be started.
pub fn run(name: &str, home: &Home, environment: &Environment, teller: &mut dyn Teller) -> Result<()> {
    let server = Target::of(home, name)?;
    let Some(url) = server.gateway_url() else {
        bail!(ConfigError(format!(
            "{}: gateway.url is missing, so nobody can tell whether the server's gateway answers\n  write there: \
             [gateway] url = \"https://<its public name>\"",
            home.environment_file(name).display()
        )));
    };
    let address = Address::parse(url)
        .ok_or_else(|| ConfigError(format!("gateway.url: \"{}\" is not a URL", hide_user_info(url))))?;
    let web = Web::to(&address, environment).map_err(anyhow::Error::msg)?;
    let host = server.host();
    if is_healthy(&web) {
        return teller.say(&format!("The scheduler on {host} is already running."));
    }
    teller.say(&format!("Starting {} on {host}...", server.service()))?;
    start(&server, home, environment)?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if is_healthy(&web) {
            return teller.say(&format!("Service started on {host}."));
        }
        // A server elsewhere has no event to wait for.
        thread::sleep(PAUSE);
    }
    teller.warn(&format!(
        "the service on {host} was started, but {address} did not answer within {}s\n  look at it with: al stat --env {name}",
        PATIENCE.as_secs()
    ))
}

fn is_healthy(web: &Web) -> bool {
    let answer = web.send(Request { path: "/health", ..Request::default() }, HEALTH_LIMITS);
    answer.is_ok_and(|answer| (200..300).contains(&answer.status))
}

fn start(server: &Target, home: &Home, environment: &Environment) -> Result<()> {
    let sudo = if server.is_root() { "" } else { "sudo -n " };
    let command = format!("{sudo}systemctl start {}", shell_quote(&server.service()));
    let why = match server.ssh(&command, None, home, environment) {
        Ok(said) if said.status == 0 => return Ok(()),
        Ok(said) if said.status == NO_SUCH_UNIT => format!("there is no service {}", server.service()),
        Ok(said) => format!("status {}: {}", said.status, single_line(excerpt(&said.stderr))),
        Err(why) => single_line(&why),
    };
    Err(anyhow!(
        "the scheduler on {} cannot be started: {why}\n  how to set a server up: al docs server",
        server.place()
    ))
}
