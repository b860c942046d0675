//! A run of the scheduler, with its reruns, as its log and the list of running instances tell it. Pure but for the observer
//! that it reports to.
//!
//! A container writes into the same log and may say anything there, also that it has ended. So the end of a run counts
//! only when the scheduler does not list it any more, and then the last word in the log is the scheduler's own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use shims::wire::log::LogLine;
use shims::wire::run_file::TriggerKind;
use shims::wire::usage::Usage;

use crate::base::Masker;
use crate::base::clock::UnixMs;
use crate::base::log::Entry;
use crate::base::log_files::Object;
use crate::model::outcome::{Class, Outcome, RunResult};
use crate::run::observer::{Observer, Report, RunInfo};
use crate::run::outcome::{Ending, OPERATOR, Observed, judge};
use crate::run::stream::Learned;
use crate::scheduler::once::Finished;

/// How often in a row the scheduler has to say that nothing goes on before that is believed: between two runs of a chain,
/// and before the first one, there are moments without a run.
const QUIET_ROUNDS: u32 = 3;

/// The chain under way.
pub(super) struct Chain {
    agent: String,
    observer: Arc<dyn Observer>,
    current: Run,
    /// Instances that were seen in the log; the first entry of each is the scheduler's own.
    seen: HashSet<String>,
    /// Reruns that began, by their number: instance, and the cursor before the page with its first entry.
    begun: HashMap<u32, (String, String)>,
    reruns: u32,
    usage: Option<Usage>,
    started_at: UnixMs,
    quiet_rounds: u32,
}

/// One run of the chain.
struct Run {
    info: RunInfo,
    learned: Learned,
    /// The last entry that says how it ended.
    end: Option<Entry>,
    /// Time of its first entry.
    started_at: Option<UnixMs>,
    was_listed: bool,
    status: String,
}

/// What comes next.
pub(super) enum Step {
    /// Look again.
    Wait,
    /// Read the log again from this cursor, where the next run begins.
    ReadFrom(String),
    Done(Box<Finished>),
}

/// What the record of an ended run says (gateway.md §27.3).
#[derive(Clone, Debug, Default)]
pub(super) struct Record(Value);

impl Record {
    /// A record as the HTTP API gives it; `None` when it is none.
    pub(super) fn of(run: &Value) -> Option<Self> {
        run.get("result").is_some_and(Value::is_string).then(|| Self(run.clone()))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(Value::as_str).map(str::to_owned)
    }
}

impl Chain {
    /// The chain that begins with this instance.
    pub(super) fn new(agent: &str, instance: &str, observer: Arc<dyn Observer>) -> Self {
        let now = UnixMs::now();
        let current = Run::new(agent, instance);
        observer.report(&Report::Started(&current.info));
        Self {
            agent: agent.to_owned(),
            observer,
            current,
            seen: HashSet::from([instance.to_owned()]),
            begun: HashMap::new(),
            reruns: 0,
            usage: None,
            started_at: now,
            quiet_rounds: 0,
        }
    }

    /// The instance that is followed.
    pub(super) fn instance(&self) -> &str {
        &self.current.info.instance
    }

    /// Takes a page of the agent's log; `cursor` is the one that it was asked for with.
    pub(super) fn take(&mut self, cursor: &str, entries: &[Object]) {
        for entry in entries {
            let entry = Entry::from_stored(entry.clone());
            let Some(instance) = entry.instance.clone() else { continue };
            if instance == self.current.info.instance {
                self.current.take(&entry, &self.agent);
                self.observer.report(&Report::Entry { agent: &self.agent, entry: &entry });
            } else if self.seen.insert(instance.clone())
                && let Some(number) = rerun_number(&entry.msg)
            {
                self.begun.entry(number).or_insert_with(|| (instance, cursor.to_owned()));
            }
        }
    }

    /// Takes the list of running instances (gateway.md §13); gives whether the current run is one of them. To be asked
    /// for before the log is read to its end.
    pub(super) fn take_instances(&mut self, instances: &Value) -> bool {
        let list = instances.get("instances").and_then(Value::as_array);
        let found = list.into_iter().flatten().find(|instance| instance["id"] == self.current.info.instance.as_str());
        let Some(found) = found else { return false };
        self.current.was_listed = true;
        let status = found["statusText"].as_str().unwrap_or_default();
        if status != self.current.status && !status.is_empty() {
            self.observer.report(&Report::Status { instance: self.instance(), text: status });
        }
        status.clone_into(&mut self.current.status);
        true
    }

    /// What to do now that the log has been read to its end. `record` gives the record of an ended run, where there is one.
    pub(super) fn step(&mut self, is_listed: bool, record: impl FnOnce(&str) -> Option<Record>) -> Step {
        if is_listed {
            self.quiet_rounds = 0;
            return Step::Wait;
        }
        self.quiet_rounds += 1;
        let has_ended = self.current.was_listed || self.current.end.is_some();
        if self.quiet_rounds < QUIET_ROUNDS && !has_ended {
            return Step::Wait;
        }
        let record = record(self.instance());
        if record.is_none() && self.current.end.is_none() && self.quiet_rounds < QUIET_ROUNDS {
            return Step::Wait;
        }
        let outcome = self.current.outcome(&self.agent, record);
        if outcome.result == RunResult::Rerun {
            if let Some((instance, cursor)) = self.begun.remove(&(self.reruns + 1)) {
                self.end_run(&outcome);
                self.reruns += 1;
                self.quiet_rounds = 0;
                self.current = Run::new(&self.agent, &instance);
                self.observer.report(&Report::Started(&self.current.info));
                return Step::ReadFrom(cursor);
            }
            if self.quiet_rounds < QUIET_ROUNDS {
                return Step::Wait;
            }
        }
        self.end_run(&outcome);
        Step::Done(Box::new(Finished {
            last: Some((self.current.info.clone(), outcome)),
            reruns: self.reruns,
            usage: self.usage,
            duration: UnixMs::now().since(self.started_at),
            signal: None,
        }))
    }

    fn end_run(&mut self, outcome: &Outcome) {
        if let Some(usage) = outcome.usage {
            *self.usage.get_or_insert_default() += usage;
        }
        self.observer.report(&Report::Ended { run: &self.current.info, outcome });
    }
}

/// The number of a rerun that somebody started by hand, when this is the entry that begins it.
fn rerun_number(msg: &str) -> Option<u32> {
    let (_, details) = msg.strip_prefix("Starting ")?.split_once("(triggered by manual (rerun ")?;
    details.split_once('/')?.0.parse().ok()
}

impl Run {
    fn new(agent: &str, instance: &str) -> Self {
        Self {
            info: RunInfo {
                instance: instance.to_owned(),
                agent: agent.to_owned(),
                trigger: TriggerKind::Manual,
                container: format!("al-{instance}"),
            },
            learned: Learned::default(),
            end: None,
            started_at: None,
            was_listed: false,
            status: String::new(),
        }
    }

    fn take(&mut self, entry: &Entry, agent: &str) {
        self.started_at.get_or_insert(entry.time);
        let line =
            LogLine { level: entry.level, msg: entry.msg.clone(), ts: None, seq: None, fields: entry.fields.clone() };
        // Secrets were taken out before it was written.
        self.learned.take(&line, &Masker::default());
        if is_end(&entry.msg, agent) {
            self.end = Some(entry.clone());
        }
    }

    /// How it ended: by its record, else by the last word of the log.
    fn outcome(&self, agent: &str, record: Option<Record>) -> Outcome {
        let learned = &self.learned;
        let started_at = self.started_at.unwrap_or_else(UnixMs::now);
        let mut outcome = Outcome {
            class: Class::Lost,
            result: RunResult::Error,
            exit_code: None,
            exit_reason: learned.exit_signal.as_ref().map(|(_, reason)| reason.clone()),
            error: Some("how the run ended is not in its log".to_owned()),
            return_value: learned.return_value.clone(),
            usage: learned.usage,
            model_failure: learned.model_failure.clone(),
            started_at,
            finished_at: self.end.as_ref().map_or_else(UnixMs::now, |end| end.time.max(started_at)),
        };
        if let Some(end) = &self.end {
            self.judge(end, agent, &mut outcome);
        }
        if let Some(record) = record {
            adopt(&record, &mut outcome);
        }
        outcome
    }

    fn judge(&self, end: &Entry, agent: &str, outcome: &mut Outcome) {
        let code = end.fields.get("exitCode").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
        let text = |name: &str| end.fields.get(name).and_then(Value::as_str);
        let was_killed = end.msg.starts_with("container killed");
        let ending = match code {
            Some(code) => Ending::Exited { code, oom_killed: end.fields.get("oomKilled") == Some(&true.into()) },
            None => {
                let err = end.fields.get("err").and_then(|err| err["message"].as_str());
                Ending::NotStarted(err.map_or_else(|| format!("{agent} container run failed"), str::to_owned))
            }
        };
        let verdict = judge(&Observed {
            ending,
            kill_reason: was_killed.then(|| text("reason").unwrap_or(OPERATOR)),
            host_limit: None,
            container_name: &self.info.container,
            exit_signal: self.learned.exit_signal.is_some(),
            is_collected: false,
        });
        (outcome.class, outcome.result, outcome.error) = (verdict.class, verdict.result, verdict.error);
        outcome.exit_code = code;
    }
}

fn is_end(msg: &str, agent: &str) -> bool {
    msg.starts_with("container finished")
        || msg == "container exited with error"
        || msg.starts_with("container killed")
        || msg.strip_prefix(agent) == Some(" container run failed")
}

/// What the record says counts more than what was read from the log.
fn adopt(record: &Record, outcome: &mut Outcome) {
    outcome.result = match record.text("result").as_deref() {
        Some("completed") => RunResult::Completed,
        Some("rerun") => RunResult::Rerun,
        _ => RunResult::Error,
    };
    outcome.exit_code = record.0.get("exitCode").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    outcome.error = match outcome.result {
        RunResult::Error => record.text("error").or(outcome.error.take()),
        _ => None,
    };
    outcome.return_value = record.text("returnValue").or(outcome.return_value.take());
    if record.0.get("totalTokens").is_some_and(Value::is_number) {
        outcome.usage = serde_json::from_value(record.0.clone()).ok().or(outcome.usage);
    }
    if let Some(duration) = record.0.get("durationMs").and_then(Value::as_u64) {
        outcome.finished_at = outcome.started_at.plus(Duration::from_millis(duration));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;

    /// What an observer is told, in short.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn report(&self, report: &Report<'_>) {
            let text = match report {
                Report::Started(run) => format!("start {}", run.instance),
                Report::Entry { entry, .. } => format!("log {}", entry.msg),
                Report::Status { text, .. } => format!("status {text}"),
                Report::Ended { run, outcome } => format!("end {} {}", run.instance, outcome.result.as_str()),
                _ => return,
            };
            self.0.lock().unwrap().push(text);
        }
    }

    struct Bed {
        heard: Arc<Heard>,
        chain: Chain,
    }

    impl Bed {
        fn new() -> Self {
            let heard = Arc::new(Heard::default());
            let chain = Chain::new("dev", "dev-00000001", heard.clone());
            Self { heard, chain }
        }

        fn log(&mut self, cursor: &str, instance: &str, msg: &str, fields: Value) {
            let mut entry = json!({"level": 30, "time": 1000, "instance": instance, "msg": msg});
            entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            self.chain.take(cursor, &[entry.as_object().unwrap().clone()]);
        }

        /// What comes next when these instances are listed.
        fn step(&mut self, listed: &[&str]) -> Step {
            let list: Vec<Value> = listed.iter().map(|id| json!({"id": id, "statusText": "at work"})).collect();
            let is_listed = self.chain.take_instances(&json!({"instances": list}));
            self.chain.step(is_listed, |_| None)
        }

        fn waits(&mut self, listed: &[&str]) {
            assert!(matches!(self.step(listed), Step::Wait));
        }

        fn done(&mut self) -> Finished {
            for _ in 0..QUIET_ROUNDS {
                if let Step::Done(finished) = self.step(&[]) {
                    return *finished;
                }
            }
            panic!("it is not done");
        }
    }

    const ONE: &str = "dev-00000001";
    const TWO: &str = "dev-00000002";

    #[test]
    fn a_run_is_followed_to_its_end() {
        let mut bed = Bed::new();
        bed.waits(&[ONE]);
        bed.log("c", ONE, "Starting dev container run (triggered by manual)", json!({}));
        bed.log("c", "dev-00000009", "bash", json!({"cmd": "of another run"}));
        bed.log("c", ONE, "signal-result", json!({"type": "return", "value": "v"}));
        bed.log("c", ONE, "token-usage", json!({"totalTokens": 7, "cost": 0.5}));
        bed.waits(&[ONE]);
        bed.log("c", ONE, "container finished", json!({"exitCode": 0, "elapsed": "1.0s", "time": 3500}));
        let finished = bed.done();
        let (run, outcome) = finished.last.unwrap();
        assert_eq!((run.instance.as_str(), outcome.result, outcome.exit_code), (ONE, RunResult::Completed, Some(0)));
        assert_eq!((outcome.return_value.as_deref(), outcome.error), (Some("v"), None));
        assert_eq!(outcome.finished_at.since(outcome.started_at), Duration::from_millis(2500));
        assert_eq!(finished.usage.map(|usage| (usage.total_tokens, usage.cost)), Some((7, 0.5)));
        let heard = bed.heard.0.lock().unwrap().join("\n");
        let expected = "start dev-00000001\nstatus at work\nlog Starting dev container run (triggered by manual)\n\
                        log signal-result\nlog token-usage\nlog container finished\nend dev-00000001 completed";
        assert_eq!(heard, expected);
    }

    #[test]
    fn a_container_cannot_say_that_it_has_ended_well() {
        let mut bed = Bed::new();
        bed.log("c", ONE, "container finished", json!({"exitCode": 0}));
        bed.waits(&[ONE]);
        bed.log("c", ONE, "container exited with error", json!({"exitCode": 12}));
        let (_, outcome) = bed.done().last.unwrap();
        assert_eq!((outcome.result, outcome.exit_code), (RunResult::Error, Some(12)));
        assert_eq!(outcome.error.as_deref(), Some("Container exited with code 12 (Rate limit exceeded)"));
    }

    #[test]
    fn ends_are_told_as_the_scheduler_tells_them() {
        #[track_caller]
        fn case(msg: &str, fields: Value, code: Option<i32>, error: &str) {
            let mut bed = Bed::new();
            bed.waits(&[ONE]);
            bed.log("c", ONE, msg, fields);
            let (_, outcome) = bed.done().last.unwrap();
            assert_eq!((outcome.result, outcome.exit_code), (RunResult::Error, code));
            assert_eq!(outcome.error.as_deref(), Some(error));
        }
        let killed = "container killed (abort requested)";
        case(
            killed,
            json!({"exitCode": 137, "reason": "operator"}),
            Some(137),
            "Container exited with code 137 (killed)",
        );
        case(
            "container exited with error",
            json!({"exitCode": 124}),
            Some(124),
            "Container exited with code 124 (timeout)",
        );
        let out_of_memory = json!({"exitCode": 137, "oomKilled": true});
        let text = "Container exited with code 137 (out of memory)";
        case("container exited with error", out_of_memory, Some(137), text);
        let err = json!({"err": {"type": "Error", "message": "no image"}});
        case("dev container run failed", err, None, "no image");
        case("something else", json!({}), None, "how the run ended is not in its log");
    }

    #[test]
    fn reruns_are_followed_and_counted() {
        let mut bed = Bed::new();
        bed.waits(&[ONE]);
        bed.log("c1", ONE, "token-usage", json!({"totalTokens": 1}));
        bed.log("c1", ONE, "container finished (rerun requested)", json!({"exitCode": 42}));
        bed.log("c2", "dev-0000000a", "Starting dev container run (triggered by manual)", json!({}));
        bed.log("c2", "dev-0000000a", "Starting dev container run (triggered by manual (rerun 1/10))", json!({}));
        bed.waits(&[]);
        bed.log("c3", TWO, "Starting dev container run (triggered by manual (rerun 1/10))", json!({}));
        let Step::ReadFrom(cursor) = bed.step(&[TWO]) else { panic!("the next run of the chain is not found") };
        assert_eq!((cursor.as_str(), bed.chain.instance()), ("c3", TWO));
        bed.log("c3", TWO, "token-usage", json!({"totalTokens": 2}));
        bed.waits(&[TWO]);
        bed.log("c4", TWO, "container finished", json!({"exitCode": 0}));
        let finished = bed.done();
        assert_eq!((finished.reruns, finished.usage.map(|usage| usage.total_tokens)), (1, Some(3)));
        assert_eq!(finished.last.unwrap().0.instance, TWO);
    }

    #[test]
    fn a_chain_that_is_not_continued_ends_with_its_last_run() {
        let mut bed = Bed::new();
        bed.waits(&[ONE]);
        bed.log("c", ONE, "container finished (rerun requested)", json!({"exitCode": 42}));
        let finished = bed.done();
        let (_, outcome) = finished.last.unwrap();
        assert_eq!((outcome.result, outcome.exit_code, finished.reruns), (RunResult::Rerun, Some(42), 0));
    }

    #[test]
    fn the_record_of_a_run_counts_more_than_its_log() {
        let mut bed = Bed::new();
        bed.waits(&[ONE]);
        bed.log("c", ONE, "container finished", json!({"exitCode": 0}));
        assert!(Record::of(&json!(null)).is_none() && Record::of(&json!({"result": 1})).is_none());
        let record = json!({"result": "error", "exitCode": 137, "error": "Container lost", "durationMs": 5000,
            "returnValue": "r", "totalTokens": 9, "cost": 1.5});
        let is_listed = bed.chain.take_instances(&json!({"instances": []}));
        let Step::Done(finished) = bed.chain.step(is_listed, |id| Record::of(&record).filter(|_| id == ONE)) else {
            panic!("it has ended")
        };
        let (_, outcome) = finished.last.unwrap();
        assert_eq!((outcome.result, outcome.exit_code), (RunResult::Error, Some(137)));
        assert_eq!((outcome.error.as_deref(), outcome.return_value.as_deref()), (Some("Container lost"), Some("r")));
        assert_eq!(outcome.finished_at.since(outcome.started_at), Duration::from_secs(5));
        assert_eq!(finished.usage.map(|usage| usage.total_tokens), Some(9));
    }

    #[test]
    fn a_run_that_nobody_knows_is_not_waited_for_for_ever() {
        let mut bed = Bed::new();
        let (_, outcome) = bed.done().last.unwrap();
        assert_eq!((outcome.result, outcome.exit_code), (RunResult::Error, None));
    }
}
