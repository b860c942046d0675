//! The tables of `al stats` (cli-config.md §14.2). Pure.

use std::time::Duration;

use super::stat_view::{rough, usage_text};
use super::table::aligned;
use crate::base::text::thousands;
use crate::store::history::{Edge, Run, Sums};

/// What the runs of each agent came to, and all together.
pub fn agents(sums: &[(String, Sums)]) -> String {
    let mut lines = vec![["AGENT", "RUNS", "OK", "ERRORS", "AVG TIME", "TOKENS", "COST"].map(str::to_owned)];
    lines.extend(sums.iter().map(|(agent, sums)| sums_line(agent, sums)));
    if sums.len() > 1 {
        let total = sums.iter().fold(Sums::default(), |total, (_, sums)| total.and(sums));
        lines.push(sums_line("(all)", &total));
    }
    aligned(&lines)
}

fn sums_line(name: &str, sums: &Sums) -> [String; 7] {
    let [runs, ok, errors, tokens] = [sums.runs, sums.ok, sums.errors, sums.tokens].map(thousands);
    [name.to_owned(), runs, ok, errors, time(sums.average_ms()), tokens, format!("${:.4}", sums.cost)]
}

/// Ended runs of an agent.
pub fn runs(runs: &[Run]) -> String {
    let mut lines = vec![["INSTANCE ID", "STARTED", "TRIGGER", "RESULT", "TIME", "USAGE", "ERROR"].map(str::to_owned)];
    lines.extend(runs.iter().map(|run| {
        let started = run.started_at.to_iso();
        let trigger = match &run.source {
            Some(source) => format!("{}:{source}", run.trigger.as_str()),
            None => run.trigger.as_str().to_owned(),
        };
        [
            run.instance_id.clone(),
            started.get(..19).unwrap_or(&started).replace('T', " "),
            trigger,
            run.result.clone(),
            time(run.duration_ms),
            run.usage.as_ref().map_or_else(|| "-".to_owned(), usage_text),
            run.error.clone().unwrap_or_default(),
        ]
    }));
    aligned(&lines)
}

/// Which agents called which.
pub fn calls(edges: &[Edge]) -> String {
    let mut lines = vec![["CALLER", "TARGET", "COUNT", "AVG DEPTH", "AVG TIME"].map(str::to_owned)];
    lines.extend(edges.iter().map(|edge| {
        let (count, depth) = (thousands(edge.runs), format!("{:.1}", edge.average_depth()));
        [edge.caller.clone(), edge.target.clone(), count, depth, time(edge.average_ms())]
    }));
    aligned(&lines)
}

fn time(milliseconds: u64) -> String {
    rough(Duration::from_millis(milliseconds))
}
