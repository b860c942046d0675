//! `al-shutdown`: the emergency stop of the own container.

use super::reply::{Reply, Shape};
use super::{Exit, Invocation, Stdin};
use crate::gateway::Limits;
use crate::wire::requests::{SHUTDOWN, ShutdownRequest};

/// Always ends with 0, whatever came of it: the container may be gone before the answer arrives.
pub(super) fn run(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    let Some(gateway) = invocation.gateway() else {
        return Reply { exit: Exit::Done, stdout: None, stderr: String::new() };
    };
    let reason = invocation.first().unwrap_or("agent requested shutdown");
    let request = ShutdownRequest { secret: &invocation.secret(), reason };
    Reply::of(gateway.post(SHUTDOWN, &request, Limits::STANDARD), Shape::Reason).with_exit(Exit::Done)
}

#[cfg(test)]
mod tests {
    use crate::cmd::testing::without_gateway;

    #[test]
    fn does_nothing_without_a_gateway() {
        assert_eq!(without_gateway(&["al-shutdown", "leak"]), (0, String::new()));
    }
}
