//! Exit codes of a run (agent-session.md §6.5).

/// The model finished and asked for nothing.
pub const OK: i32 = 0;
/// Start-up error, failed required preflight step, panic, repeated permission errors.
pub const FAILED: i32 = 1;
/// The provider refused the credentials.
pub const AUTH: i32 = 10;
/// The provider denied access.
pub const PERMISSION: i32 = 11;
/// Rate limit, overload or empty account.
pub const RATE_LIMIT: i32 = 12;
/// The request or the configuration behind it is wrong.
pub const CONFIGURATION: i32 = 13;
/// The provider or the way to it does not work.
pub const SERVICE: i32 = 14;
/// Nothing that could be tried again would help.
pub const UNRECOVERABLE: i32 = 15;
/// Somebody wanted it to end.
pub const ABORT: i32 = 16;
/// The run asked to be run again at once.
pub const RERUN: i32 = 42;
/// The run's time was over.
pub const TIMEOUT: i32 = 124;
/// Killed from outside (128 + SIGKILL).
pub const KILLED: i32 = 137;
/// Ended by SIGTERM (128 + SIGTERM).
pub const TERMINATED: i32 = 143;

/// What a code that an agent chose with `al-exit` means.
pub fn reason(code: i32) -> String {
    match code {
        OK => "Success".into(),
        AUTH => "Authentication/credentials failure".into(),
        PERMISSION => "Permission/access denied".into(),
        RATE_LIMIT => "Rate limit exceeded".into(),
        CONFIGURATION => "Configuration error".into(),
        SERVICE => "Missing dependency or service error".into(),
        UNRECOVERABLE => "Unrecoverable error".into(),
        ABORT => "User-requested abort".into(),
        other => format!("Unknown exit code: {other}"),
    }
}

/// The code that a run ends with when `al-exit` was given `code`: 42 and everything outside 0–123 have other meanings
/// and become 15.
pub fn of_exit_signal(code: i64) -> i32 {
    match i32::try_from(code) {
        Ok(code) if (0..=123).contains(&code) && code != RERUN => code,
        _ => UNRECOVERABLE,
    }
}
