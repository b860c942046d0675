//! `al stop`, `al pause`, `al resume`, `al kill`: wishes that the scheduler carries out before it answers.

use std::io::Write as _;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::base::error::{Trouble, UsageError};
use crate::base::term::stdout;
use crate::base::text::{percent_encode, printable, printable_json};
use crate::cli::args::{Kill, Pause, Stop};
use crate::cli::gateway_client::{GatewayClient, ask, trouble};
use crate::cli::site::Site;

/// `al stop`.
pub(crate) fn stop(args: Stop) -> Result<u8> {
    let site = Site::open(&args.project, args.env.as_deref(), "al stop")?;
    let wishes = [("clearQueue", !args.keep_queue), ("kill", args.kill)];
    let body: Map<String, Value> =
        wishes.into_iter().filter(|(_, wish)| *wish).map(|(name, wish)| (name.to_owned(), wish.into())).collect();
    let body = (!body.is_empty()).then_some(Value::Object(body));
    finish(&site, args.json, |client| client.post("/control/stop", body.as_ref()))
}

/// `al pause`.
pub(crate) fn pause(args: Pause) -> Result<u8> {
    set(args, "pause")
}

/// `al resume`.
pub(crate) fn resume(args: Pause) -> Result<u8> {
    set(args, "resume")
}

fn set(args: Pause, verb: &str) -> Result<u8> {
    let path = match &args.name {
        Some(name) => format!("/control/agents/{}/{verb}", path_part("name", name)?),
        None => format!("/control/{verb}"),
    };
    let site = Site::open(&args.project, args.env.as_deref(), &format!("al {verb}"))?;
    finish(&site, args.json, |client| client.post(&path, None))
}

/// `al kill`.
pub(crate) fn kill(args: Kill) -> Result<u8> {
    let target = path_part("target", &args.target)?;
    let site = Site::open(&args.project, args.env.as_deref(), "al kill")?;
    finish(&site, args.json, |client| match client.post(&format!("/control/agents/{target}/kill"), None) {
        Err(error) if is_not_found(&error) => client.post(&format!("/control/kill/{target}"), None),
        answer => answer,
    })
}

fn is_not_found(error: &anyhow::Error) -> bool {
    matches!(trouble(error), Some(Trouble::Status(404) | Trouble::Foreign(404)))
}

/// A name as a part of a path. A proxy may resolve dots, and then something else would be meant.
///
/// # Errors
/// When it cannot be one; as a usage error about the argument of this name.
pub(super) fn path_part(argument: &str, name: &str) -> Result<String> {
    if matches!(name, "" | "." | "..") {
        return Err(UsageError(format!("error: argument '{argument}' \"{name}\" is not a name")).into());
    }
    Ok(percent_encode(name))
}

fn finish(site: &Site, json: bool, wish: impl Fn(&GatewayClient) -> Result<Value>) -> Result<u8> {
    let answer = ask(site, |client| {
        let answer = wish(client)?;
        if json { Ok(printable_json(&answer.to_string()).into_owned()) } else { message(client, &answer) }
    })?;
    writeln!(stdout(), "{answer}")?;
    Ok(0)
}

/// The text for people in an answer.
///
/// # Errors
/// When there is none: a gateway would have given one.
pub(super) fn message(client: &GatewayClient, answer: &Value) -> Result<String> {
    match answer.get("message").and_then(Value::as_str) {
        Some(message) => Ok(printable(message).into_owned()),
        None => Err(client.malformed(answer, "has no message").into()),
    }
}
