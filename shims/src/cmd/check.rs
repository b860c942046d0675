//! `al-check`: the state of one call.

use super::reply::{Reply, Shape};
use super::{Exit, Invocation, Stdin};
use crate::gateway::Limits;
use crate::secret::Secret;
use crate::text::percent_encode;
use crate::wire::requests::CALLS;

pub(super) fn run(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    let Some(gateway) = invocation.gateway() else {
        return Reply::failure(Exit::NotReady, Shape::State, "no gateway");
    };
    let Some(id) = invocation.first() else { return invocation.wrong_usage(Shape::State) };
    Reply::of(gateway.get(&target(id, &invocation.secret()), Limits::PATIENT), Shape::State)
}

/// Path and query that ask for a call.
pub(super) fn target(id: &str, secret: &Secret) -> String {
    format!("{CALLS}/{}?secret={}", percent_encode(id), percent_encode(secret.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{run_with, without_gateway};

    #[test]
    fn needs_a_gateway_and_an_id() {
        let no_gateway = r#"{"status":"error","errorMessage":"no gateway"}"#;
        assert_eq!(without_gateway(&["al-check", "0b7c"]), (5, no_gateway.into()));
        let reply = run_with(&["al-check", ""], &[("GATEWAY_URL", "http://gateway")], b"");
        let line = r#"{"status":"error","errorMessage":"usage: al-check <callId>"}"#;
        assert_eq!((reply.exit as u8, reply.stdout.as_deref()), (9, Some(line.as_bytes())));
    }

    #[test]
    fn id_and_secret_are_encoded() {
        assert_eq!(target("a/../b?c ü", &Secret::new("s&x")), "/calls/a%2F..%2Fb%3Fc%20%C3%BC?secret=s%26x");
    }
}
