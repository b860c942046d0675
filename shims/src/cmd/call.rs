//! `al-call`: starts another agent with the text on standard input as its context.

use super::reply::{Reply, Shape};
use super::{Exit, Invocation, Stdin, TooLarge};
use crate::gateway::Limits;
use crate::wire::requests::{CALLS, CallRequest};

pub(super) const USAGE: &str = "echo ctx | al-call <agent>";
/// Longest context in bytes.
const CONTEXT_LIMIT: usize = 8 << 20;

pub(super) fn run(invocation: &Invocation<'_>, stdin: &mut Stdin<'_>) -> Reply {
    let Some(gateway) = invocation.gateway() else {
        return Reply::failure(Exit::NotReady, Shape::Reason, "no gateway");
    };
    let Some(target_agent) = invocation.first() else { return invocation.wrong_usage(Shape::Reason) };
    let context = match stdin.read_text(CONTEXT_LIMIT) {
        Ok(Ok(context)) => context,
        Ok(Err(TooLarge)) => return Reply::failure(Exit::Refused, Shape::Reason, "context too large"),
        Err(error) => {
            return Reply::failure(Exit::Unexpected, Shape::Reason, &format!("read standard input: {error}"));
        }
    };
    let request = CallRequest { secret: &invocation.secret(), target_agent, context: &context };
    // Only the connecting is repeated: a request that was sent may have started the agent.
    Reply::of(gateway.post(CALLS, &request, Limits::PATIENT), Shape::Reason)
}

#[cfg(test)]
mod tests {
    use crate::cmd::testing::{run_with, without_gateway};

    #[test]
    fn needs_a_gateway_and_an_agent() {
        assert_eq!(without_gateway(&["al-call"]), (5, r#"{"ok":false,"reason":"no gateway"}"#.into()));
        let reply = run_with(&["al-call"], &[("GATEWAY_URL", "http://gateway")], b"context");
        let line = r#"{"ok":false,"reason":"usage: echo ctx | al-call <agent>"}"#;
        assert_eq!((reply.exit as u8, reply.stdout.as_deref()), (9, Some(line.as_bytes())));
    }
}
