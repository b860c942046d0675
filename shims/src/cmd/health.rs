//! `al-shim health`: whether the gateway can be reached from here (containers.md §5.3, §18.7).

use std::time::Duration;

use super::reply::{Reply, Shape};
use super::{Exit, Invocation, Stdin};
use crate::gateway::{Answer, Connecting, Limits};
use crate::wire::requests::HEALTH;

const LIMITS: Limits =
    Limits { connect: Duration::from_secs(5), total: Duration::from_secs(5), connecting: Connecting::Once };

/// Ends with 0 or [`Exit::Unreachable`], nothing else.
pub(super) fn run(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    let Some(gateway) = invocation.gateway() else {
        return Reply::failure(Exit::Unreachable, Shape::Reason, "no gateway").with_detail("GATEWAY_URL is not set");
    };
    let result = gateway.get(HEALTH, LIMITS);
    let exit = match result {
        Ok(Answer { status: 200..=299, .. }) => Exit::Done,
        _ => Exit::Unreachable,
    };
    Reply::of(result, Shape::Reason).with_exit(exit)
}

#[cfg(test)]
mod tests {
    use crate::cmd::testing::without_gateway;

    #[test]
    fn no_gateway_is_not_healthy() {
        assert_eq!(without_gateway(&["al-shim", "health"]), (6, r#"{"ok":false,"reason":"no gateway"}"#.into()));
    }
}
