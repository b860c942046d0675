//! `al run --json`: one JSON object per line on stdout and nothing else (scheduler.md §15.3).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::summary::Summary;
use crate::model::outcome::Outcome;
use crate::run::observer::{Observer, Report};

/// Writes events to stdout.
#[derive(Default)]
pub struct JsonEvents {
    last_status: Mutex<HashMap<String, String>>,
}

impl JsonEvents {
    /// The last line.
    pub fn finish(&self, summary: &Summary) {
        emit(&summary.json());
    }
}

impl Observer for JsonEvents {
    fn report(&self, report: &Report<'_>) {
        match report {
            Report::Build { image, text } => emit(&json!({"event": "build", "image": image, "text": text})),
            Report::Started(run) => emit(&json!({
                "event": "start",
                "instance": run.instance,
                "agent": run.agent,
                "trigger": run.trigger.as_str(),
                "container": run.container,
            })),
            Report::Status { instance, text } => {
                let mut last = self.last_status.lock().unwrap_or_else(PoisonError::into_inner);
                if last.insert((*instance).to_owned(), (*text).to_owned()).as_deref() != Some(text) {
                    emit(&json!({"event": "status", "instance": instance, "text": text}));
                }
            }
            Report::Entry { agent, entry } => {
                let mut object = Map::from_iter([("event".to_owned(), Value::from("log"))]);
                // A field that came from a container must not make another event of this.
                let rename = |name: String| if name == "event" { "c_event".to_owned() } else { name };
                object.extend(entry.to_object(agent).into_iter().map(|(name, value)| (rename(name), value)));
                emit(&Value::Object(object));
            }
            Report::Ended { run, outcome } => emit(&end(&run.instance, outcome)),
            // Not passed on by the queue.
            _ => {}
        }
    }
}

/// The members of the result line without `reruns`.
fn end(instance: &str, outcome: &Outcome) -> Value {
    json!({
        "event": "end",
        "instance": instance,
        "result": outcome.result.as_str(),
        "exitCode": outcome.exit_code,
        "durationMs": u64::try_from(outcome.finished_at.since(outcome.started_at).as_millis()).unwrap_or(u64::MAX),
        "returnValue": outcome.return_value,
        "usage": outcome.usage,
        "error": outcome.error,
    })
}

fn emit(value: &Value) {
    super::show(&format!("{value}\n"));
}
