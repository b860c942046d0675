//! `al-wait`: waits for calls to end (containers.md §14.4).
//!
//! Every call is followed by a thread of its own that asks the gateway again and again; the gateway holds a request
//! until the call has ended or the asked time is over, so the result is known at once and with few requests. The main
//! thread collects what they see and decides when it is enough. Threads that are still waiting then end with the process.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::check;
use super::reply::{Reply, Shape, json_text, reason};
use super::{Exit, Invocation, Stdin};
use crate::gateway::{Answer, Failure, Gateway, Limits};
use crate::secret::Secret;
use crate::wire::requests::CallState;

pub(super) const USAGE: &str = "al-wait <callId> [callId...] [--timeout N]";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(900);
/// Longer times are as good as for ever, and still fit into an `Instant`.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 86400);
/// How long the gateway is asked to hold a request.
const HOLD: Duration = Duration::from_secs(25);
/// What a request may take beyond the time it is held.
const MARGIN: Duration = Duration::from_secs(10);
/// Pause after an early answer; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A request that took as long as this was held: the next one follows without a pause.
const HELD: Duration = Duration::from_secs(1);
/// Most threads. Calls beyond that share them and are asked for without being held.
const THREADS: usize = 64;

#[derive(Debug, PartialEq)]
struct Options {
    /// In the order of their first occurrence, each once.
    ids: Vec<String>,
    timeout: Duration,
    until: Until,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    AllEnded,
    AnyEnded,
}

pub(super) fn run(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    let Some(gateway) = invocation.gateway() else {
        return Reply::failure(Exit::NotReady, Shape::Bare, "no gateway");
    };
    let Some(options) = parse(invocation.args) else { return invocation.wrong_usage(Shape::Bare) };
    let deadline = Instant::now() + options.timeout;
    let waiter = Arc::new(Waiter { gateway, secret: invocation.secret(), options, deadline });
    watch(&waiter).reply(&waiter.options)
}

/// `None` for a usage error.
fn parse(args: &[String]) -> Option<Options> {
    let mut options = Options { ids: Vec::new(), timeout: DEFAULT_TIMEOUT, until: Until::AllEnded };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--timeout" {
            options.timeout = parse_timeout(args.next()?)?;
        } else if let Some(value) = arg.strip_prefix("--timeout=") {
            options.timeout = parse_timeout(value)?;
        } else if arg == "--any" {
            options.until = Until::AnyEnded;
        } else if arg.is_empty() || arg.starts_with("--") {
            // An empty id is what a script passes on when its call was rejected.
            return None;
        } else if !options.ids.contains(arg) {
            options.ids.push(arg.clone());
        }
    }
    if options.ids.is_empty() { None } else { Some(options) }
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().map(|seconds| Duration::from_secs(seconds).min(LONGEST_TIMEOUT))
}

/// What asking for a call has brought.
#[derive(Debug)]
enum Look {
    /// Not asked yet, or no answer.
    Unanswered(Failure),
    /// An answer that says nothing about the call (a server error, something unreadable); it is asked again.
    Trouble(String),
    /// The call is pending or running.
    Open(String),
    /// The call has completed or failed.
    Ended(String),
    /// An answer that asking again will not change, with its HTTP status.
    Final(u16, String),
}

impl Look {
    /// What an answer says. All texts in a [`Look`] are JSON.
    fn of(result: Result<Answer, Failure>) -> Self {
        let Answer { status, body } = match result {
            Ok(answer) => answer,
            Err(failure) => return Self::Unanswered(failure),
        };
        let body = String::from_utf8_lossy(&body).trim_ascii().to_owned();
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok();
        let shown = match is_json {
            true => body.clone(),
            false if body.is_empty() => Shape::Bare.render(&format!("empty answer with status {status}")),
            false => Shape::Bare.render(&body),
        };
        match (status, serde_json::from_str(&body)) {
            (200, Ok(CallState { status })) => match status.as_str() {
                "pending" | "running" => Self::Open(shown),
                "completed" | "error" => Self::Ended(shown),
                _ => Self::Final(200, shown),
            },
            (200 | 500.., _) => Self::Trouble(shown),
            (other, _) => Self::Final(other, shown),
        }
    }

    /// Whether asking again is of no use.
    fn is_last(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Final(..) | Self::Unanswered(Failure::Url(_)))
    }

    /// Whether this is worth more than what was seen before: what is known about a call is not forgotten because the
    /// gateway has a bad moment.
    fn replaces(&self, before: &Self) -> bool {
        let worth = |look: &Self| match look {
            Self::Unanswered(_) => 0,
            Self::Trouble(_) => 1,
            _ => 2,
        };
        worth(self) >= worth(before)
    }

    fn json(&self) -> String {
        match self {
            Self::Unanswered(failure) => Shape::State.render(&reason(failure)),
            Self::Trouble(json) | Self::Open(json) | Self::Ended(json) | Self::Final(_, json) => json.clone(),
        }
    }
}

/// What all threads know.
struct Waiter {
    gateway: Gateway,
    secret: Secret,
    options: Options,
    deadline: Instant,
}

impl Waiter {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Asks for one call; the gateway may hold the request for `hold`, rounded up to seconds.
    fn look(&self, id: &str, hold: Duration) -> Look {
        let hold = hold.as_secs() + u64::from(hold.subsec_nanos() > 0);
        let target = format!("{}&wait={hold}", check::target(id, &self.secret));
        let limits = Limits { total: Duration::from_secs(hold) + MARGIN, ..Limits::STANDARD };
        Look::of(self.gateway.get(&target, limits))
    }

    /// Follows calls, given by their index, until nothing more is to be learned of them or the time is over.
    fn follow(&self, mut open: Vec<usize>, mut report: impl FnMut(usize, Look)) {
        let mut pause = FIRST_PAUSE;
        // For the first call of several to end all of them must be known, so none is held at the first look.
        let mut may_hold = self.options.until == Until::AllEnded;
        loop {
            let asked = Instant::now();
            let hold = if may_hold && open.len() == 1 { self.left().min(HOLD) } else { Duration::ZERO };
            open.retain(|&index| {
                let look = self.look(&self.options.ids[index], hold);
                let again = !look.is_last();
                report(index, look);
                again
            });
            may_hold = true;
            if open.is_empty() || self.left().is_zero() {
                return;
            }
            if asked.elapsed() >= HELD {
                pause = FIRST_PAUSE;
                continue;
            }
            thread::sleep(pause.min(self.left()));
            pause = (pause * 2).min(LONGEST_PAUSE);
            if self.left().is_zero() {
                return;
            }
        }
    }
}

/// The best that was seen of every call, by its index; `None` when it was not asked for yet.
struct Seen(Vec<Option<Look>>);

impl Seen {
    fn note(&mut self, index: usize, look: Look) {
        let slot = &mut self.0[index];
        if slot.as_ref().is_none_or(|before| look.replaces(before)) {
            *slot = Some(look);
        }
    }

    /// Whether nobody needs to look any further.
    fn is_enough(&self, until: Until) -> bool {
        let has_ended = |look: &Option<Look>| matches!(look, Some(Look::Ended(_)));
        match until {
            Until::AllEnded => self.0.iter().all(has_ended),
            Until::AnyEnded => self.0.iter().all(Option::is_some) && self.0.iter().any(has_ended),
        }
    }

    fn exit(&self, until: Until) -> Exit {
        let answered =
            |wanted| self.0.iter().any(|look| matches!(look, Some(Look::Final(status, _)) if *status == wanted));
        if self.is_enough(until) {
            Exit::Done
        } else if let Some(status) = [403, 404, 400].into_iter().find(|status| answered(*status)) {
            Exit::of_http(status)
        } else if self.0.iter().any(|look| matches!(look, None | Some(Look::Unanswered(_)))) {
            Exit::Unreachable
        } else {
            Exit::Deadline
        }
    }

    /// `{"<id>":<what was seen>,…}`
    fn reply(&self, options: &Options) -> Reply {
        let unasked = Look::Unanswered(Failure::NoAnswer("the call was not asked for".into()));
        let looks: Vec<&Look> = self.0.iter().map(|look| look.as_ref().unwrap_or(&unasked)).collect();
        let members: Vec<String> =
            options.ids.iter().zip(&looks).map(|(id, look)| format!("{}:{}", json_text(id), look.json())).collect();
        let why = looks
            .iter()
            .find_map(|look| if let Look::Unanswered(failure) = look { Some(failure.to_string()) } else { None });
        Reply::done(format!("{{{}}}", members.join(",")))
            .with_exit(self.exit(options.until))
            .with_detail(why.unwrap_or_default())
    }
}

/// Follows all calls until they, or the first of them, have ended or the time is over.
fn watch(waiter: &Arc<Waiter>) -> Seen {
    let count = waiter.options.ids.len();
    let mut seen = Seen((0..count).map(|_| None).collect());
    if count == 1 {
        waiter.follow(vec![0], |index, look| seen.note(index, look));
        return seen;
    }
    // Full when the main thread is slow; the senders wait then.
    let (sender, receiver) = mpsc::sync_channel(THREADS);
    let mut without_thread = Vec::new();
    for first in 0..count.min(THREADS) {
        let share: Vec<usize> = (first..count).step_by(THREADS).collect();
        let (worker, sender, its_share) = (Arc::clone(waiter), sender.clone(), share.clone());
        let spawned = thread::Builder::new().name(format!("wait-{first}")).spawn(move || {
            worker.follow(its_share, |index, look| {
                // Nobody listens any more when one call was enough.
                let _ = sender.send((index, look));
            });
        });
        if spawned.is_err() {
            without_thread.extend(share);
        }
    }
    drop(sender);
    // The container has no process ids left: better one after the other than not at all.
    waiter.follow(without_thread, |index, look| seen.note(index, look));
    while let Ok((index, look)) = receiver.recv() {
        seen.note(index, look);
        if seen.is_enough(waiter.options.until) {
            break;
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{run_with, without_gateway};

    fn parsed(args: &[&str]) -> Option<(Vec<String>, u64, Until)> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        parse(&args).map(|options| (options.ids, options.timeout.as_secs(), options.until))
    }

    #[test]
    fn arguments_come_in_any_order() {
        #[track_caller]
        fn case(args: &[&str], ids: &[&str], timeout: u64, until: Until) {
            let ids = ids.iter().map(|id| (*id).to_owned()).collect();
            assert_eq!(parsed(args), Some((ids, timeout, until)));
        }
        case(&["a"], &["a"], 900, Until::AllEnded);
        case(&["--timeout", "5", "a", "b", "a"], &["a", "b"], 5, Until::AllEnded);
        case(&["b", "--timeout=7", "a", "--timeout", "0"], &["b", "a"], 0, Until::AllEnded);
        case(&["a", "--any", "-x"], &["a", "-x"], 900, Until::AnyEnded);
        case(&["a", "--timeout=18446744073709551615"], &["a"], LONGEST_TIMEOUT.as_secs(), Until::AllEnded);
    }

    #[test]
    fn wrong_arguments_are_a_usage_error() {
        for args in [
            &[][..],
            &[""],
            &["", "a"],
            &["a", ""],
            &["--timeout", "5"],
            &["a", "--timeout"],
            &["a", "--timeout="],
            &["a", "--timeout", "-1"],
            &["a", "--timeout", "+1"],
            &["a", "--timeout", "1.5"],
            &["a", "--timeout", "1s"],
            &["a", "--timeout", "18446744073709551616"],
            &["a", "--timeout", "x", "--timeout", "1"],
            &["a", "--time", "1"],
        ] {
            assert_eq!(parsed(args), None, "{args:?}");
        }
        let reply = run_with(&["al-wait"], &[("GATEWAY_URL", "http://gateway")], b"");
        let line = r#"{"error":"usage: al-wait <callId> [callId...] [--timeout N]"}"#;
        assert_eq!((reply.exit as u8, reply.stdout.as_deref()), (9, Some(line.as_bytes())));
        assert_eq!(without_gateway(&["al-wait"]), (5, r#"{"error":"no gateway"}"#.into()));
    }

    fn answer(status: u16, body: &str) -> Look {
        Look::of(Ok(Answer { status, body: body.into() }))
    }

    fn nothing() -> Look {
        Look::of(Err(Failure::Connect("refused".into())))
    }

    #[test]
    fn answers_are_understood_and_always_shown_as_json() {
        #[track_caller]
        fn case(look: &Look, kind: &str, json: &str) {
            assert!(format!("{look:?}").starts_with(kind), "{look:?}");
            assert_eq!(look.json(), json);
            assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{json}");
        }
        case(&answer(200, "{\"status\":\"pending\"}\n"), "Open", r#"{"status":"pending"}"#);
        case(&answer(200, r#"{"status":"running"}"#), "Open", r#"{"status":"running"}"#);
        let completed = r#"{"status":"completed","returnValue":"\"quoted\"\n\u00fc"}"#;
        case(&answer(200, completed), "Ended", completed);
        case(&answer(200, r#"{"status":"error"}"#), "Ended", r#"{"status":"error"}"#);
        case(&answer(200, r#"{"status":"lost"}"#), "Final(200", r#"{"status":"lost"}"#);
        case(&answer(200, r#"{"status":7}"#), "Trouble", r#"{"status":7}"#);
        case(&answer(200, "OK"), "Trouble", r#"{"error":"OK"}"#);
        case(&answer(404, r#"{"error":"call not found"}"#), "Final(404", r#"{"error":"call not found"}"#);
        case(&answer(404, "404 \"Not\" Found"), "Final(404", r#"{"error":"404 \"Not\" Found"}"#);
        case(&answer(418, ""), "Final(418", r#"{"error":"empty answer with status 418"}"#);
        case(&answer(503, "{\"ok\":false"), "Trouble", r#"{"error":"{\"ok\":false"}"#);
        case(&nothing(), "Unanswered", r#"{"status":"error","errorMessage":"gateway unreachable"}"#);
        let invalid = Look::of(Ok(Answer { status: 400, body: b"\"\xff\"".to_vec() }));
        case(&invalid, "Final(400", "\"\u{fffd}\"");
    }

    #[test]
    fn what_is_known_of_a_call_outlives_a_bad_moment() {
        let mut seen = Seen(vec![None]);
        let mut case = |look: Look, expected: &str| {
            seen.note(0, look);
            assert_eq!(seen.0[0].as_ref().unwrap().json(), expected);
        };
        let unreachable = r#"{"status":"error","errorMessage":"gateway unreachable"}"#;
        case(nothing(), unreachable);
        case(answer(503, "1"), "1");
        case(nothing(), "1");
        case(answer(200, r#"{"status":"pending"}"#), r#"{"status":"pending"}"#);
        case(answer(502, "2"), r#"{"status":"pending"}"#);
        case(answer(403, "3"), "3");
    }

    #[test]
    fn the_exit_status_follows_the_worst_call() {
        let ended = || Some(answer(200, r#"{"status":"error"}"#));
        let open = || Some(answer(200, r#"{"status":"running"}"#));
        let status = |status| Some(answer(status, "{}"));
        #[track_caller]
        fn case(looks: Vec<Option<Look>>, until: Until, expected: Exit) {
            assert_eq!(Seen(looks).exit(until), expected);
        }
        let all = Until::AllEnded;
        case(vec![ended(), ended()], all, Exit::Done);
        case(vec![ended(), open()], all, Exit::Deadline);
        case(vec![status(400), status(404), status(403), None, open()], all, Exit::SecretInvalid);
        case(vec![status(400), status(404), Some(nothing()), open()], all, Exit::NotFound);
        case(vec![status(400), Some(nothing()), open(), ended()], all, Exit::Refused);
        case(vec![Some(nothing()), open(), ended()], all, Exit::Unreachable);
        case(vec![status(503), ended()], all, Exit::Deadline);
        case(vec![status(418)], all, Exit::Deadline);
        let any = Until::AnyEnded;
        case(vec![ended(), open(), status(404), Some(nothing())], any, Exit::Done);
        case(vec![ended(), None], any, Exit::Unreachable);
        case(vec![open(), status(404)], any, Exit::NotFound);
        case(vec![open(), open()], any, Exit::Deadline);
    }
}
