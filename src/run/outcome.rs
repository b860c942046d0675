//! From what was observed of a container to what the run ended with (scheduler.md §4.4). Pure.

use std::time::Duration;

use shims::wire::exit;

use crate::base::text::cut;
use crate::model::outcome::{Class, RunResult};

/// What was seen of the end of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It never ran; the text says why.
    NotStarted(String),
    /// It is gone, or its status could not be read.
    Lost,
    /// It ended with this status.
    Exited { code: i32, oom_killed: bool },
}

/// Everything the verdict depends on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    pub ending: Ending,
    /// Why it was killed on request, if it was.
    pub kill_reason: Option<&'a str>,
    /// Set when the host's own limit was reached while the daemon answered: the run's limit.
    pub host_limit: Option<Duration>,
    pub container_name: &'a str,
    /// The run gave its exit code with `al-exit`.
    pub exit_signal: bool,
    /// The end was found at the start of a process: the host itself may have gone down.
    pub is_collected: bool,
}

/// Class, result, and the text for people when it is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub class: Class,
    pub result: RunResult,
    pub error: Option<String>,
}

/// Reason of a kill that a person asked for; the only one that is not repeated in the error text.
pub const OPERATOR: &str = "operator";

/// What Docker says of a container that a crash of the host ended.
const HOST_DOWN: i32 = 255;

/// Longest error text of a launch failure, in characters.
const LONGEST_CAUSE: usize = 200;

/// The first row of the table that fits.
pub fn judge(observed: &Observed<'_>) -> Verdict {
    let error = |class, text: String| Verdict { class, result: RunResult::Error, error: Some(text) };
    let code = match &observed.ending {
        Ending::Exited { code, .. } => Some(*code),
        _ => None,
    };
    if let Some(reason) = observed.kill_reason {
        return error(Class::Killed, killed_text(code, reason));
    }
    let (code, oom_killed) = match &observed.ending {
        Ending::NotStarted(cause) => return error(Class::LaunchFailure, cut(cause, LONGEST_CAUSE).to_owned()),
        _ if observed.host_limit.is_some() => {
            let limit = observed.host_limit.unwrap_or_default().as_secs();
            return error(Class::Timeout, format!("Container {} timed out after {limit}s", observed.container_name));
        }
        Ending::Lost => return error(Class::Lost, "Container lost".to_owned()),
        Ending::Exited { code, oom_killed } => (*code, *oom_killed),
    };
    let plain = format!("Container exited with code {code}");
    match code {
        exit::TIMEOUT => error(Class::Timeout, format!("{plain} (timeout)")),
        exit::OK => Verdict { class: Class::Ok, result: RunResult::Completed, error: None },
        exit::KILLED if oom_killed => error(Class::Oom, format!("{plain} (out of memory)")),
        exit::RERUN if !observed.exit_signal => Verdict { class: Class::Ok, result: RunResult::Rerun, error: None },
        exit::KILLED | exit::TERMINATED => error(Class::Interrupted, plain),
        HOST_DOWN if observed.is_collected => error(Class::Interrupted, plain),
        10..=16 => error(Class::AgentError, format!("{plain} ({})", exit::reason(code))),
        _ => error(Class::AgentError, plain),
    }
}

fn killed_text(code: Option<i32>, reason: &str) -> String {
    let by_operator = reason == OPERATOR;
    match (code, by_operator) {
        (Some(code), true) => format!("Container exited with code {code} (killed)"),
        (Some(code), false) => format!("Container exited with code {code} (killed: {reason})"),
        (None, true) => "Container killed".to_owned(),
        (None, false) => format!("Container killed ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> Observed<'static> {
        Observed {
            ending: Ending::Exited { code, oom_killed: false },
            kill_reason: None,
            host_limit: None,
            container_name: "al-dev-00000000",
            exit_signal: false,
            is_collected: false,
        }
    }

    #[track_caller]
    fn case(observed: &Observed<'_>, class: Class, result: RunResult, error: Option<&str>) {
        assert_eq!(judge(observed), Verdict { class, result, error: error.map(str::to_owned) });
    }

    #[test]
    fn exit_statuses() {
        use Class::*;
        use RunResult::*;
        case(&exited(0), Ok, Completed, None);
        case(&exited(42), Ok, Rerun, None);
        case(&exited(1), AgentError, Error, Some("Container exited with code 1"));
        let text = "Container exited with code 12 (Rate limit exceeded)";
        case(&exited(12), AgentError, Error, Some(text));
        case(&exited(124), Timeout, Error, Some("Container exited with code 124 (timeout)"));
        case(&exited(137), Interrupted, Error, Some("Container exited with code 137"));
        case(&exited(143), Interrupted, Error, Some("Container exited with code 143"));
        let oom = Observed { ending: Ending::Exited { code: 137, oom_killed: true }, ..exited(0) };
        case(&oom, Oom, Error, Some("Container exited with code 137 (out of memory)"));
        let survived = Observed { ending: Ending::Exited { code: 0, oom_killed: true }, ..exited(0) };
        case(&survived, Ok, Completed, None);
    }

    #[test]
    fn a_kill_wins_over_everything() {
        let killed = Observed { kill_reason: Some("operator"), ..exited(137) };
        case(&killed, Class::Killed, RunResult::Error, Some("Container exited with code 137 (killed)"));
        let shutdown = Observed { kill_reason: Some("shutdown requested: x"), ending: Ending::Lost, ..exited(0) };
        case(&shutdown, Class::Killed, RunResult::Error, Some("Container killed (shutdown requested: x)"));
    }

    #[test]
    fn what_never_ran_or_got_lost() {
        let cause = "x".repeat(300);
        let failed = Observed { ending: Ending::NotStarted(cause), ..exited(0) };
        case(&failed, Class::LaunchFailure, RunResult::Error, Some(&"x".repeat(200)));
        let lost = Observed { ending: Ending::Lost, ..exited(0) };
        case(&lost, Class::Lost, RunResult::Error, Some("Container lost"));
        let late = Observed { host_limit: Some(Duration::from_secs(900)), ..exited(137) };
        case(&late, Class::Timeout, RunResult::Error, Some("Container al-dev-00000000 timed out after 900s"));
    }
}
