//! `rlock`, `runlock`, `rlock-heartbeat`: exclusive, advisory locks on resources, kept by the gateway.

use super::reply::{Reply, Shape};
use super::{Invocation, Stdin};
use crate::gateway::Limits;
use crate::wire::requests::{LOCKS_ACQUIRE, LOCKS_HEARTBEAT, LOCKS_RELEASE, LockRequest};

pub(super) fn acquire(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    ask(invocation, LOCKS_ACQUIRE)
}

pub(super) fn release(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    ask(invocation, LOCKS_RELEASE)
}

pub(super) fn heartbeat(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    ask(invocation, LOCKS_HEARTBEAT)
}

fn ask(invocation: &Invocation<'_>, path: &str) -> Reply {
    // Without a gateway there is nobody else who could hold the lock.
    let Some(gateway) = invocation.gateway() else { return Reply::ok() };
    let Some(resource_key) = invocation.first() else { return invocation.wrong_usage(Shape::Error) };
    let request = LockRequest { secret: &invocation.secret(), resource_key };
    Reply::of(gateway.post(path, &request, Limits::PATIENT), Shape::Reason)
}

#[cfg(test)]
mod tests {
    use crate::cmd::testing::{run_with, without_gateway};

    #[test]
    fn without_a_gateway_every_lock_is_free() {
        for command in ["rlock", "runlock", "rlock-heartbeat"] {
            assert_eq!(without_gateway(&[command, "key"]), (0, r#"{"ok":true}"#.into()));
            assert_eq!(without_gateway(&[command]), (0, r#"{"ok":true}"#.into()));
        }
    }

    #[test]
    fn a_key_is_needed() {
        for command in ["rlock", "runlock", "rlock-heartbeat"] {
            for argv in [&[command][..], &[command, ""], &[command, "", "key"]] {
                let reply = run_with(argv, &[("GATEWAY_URL", "http://gateway")], b"");
                let line = format!(r#"{{"ok":false,"error":"usage: {command} <resourceKey>"}}"#);
                assert_eq!((reply.exit as u8, reply.stdout), (9, Some(line.into_bytes())));
            }
        }
    }
}
