//! `al-bench <al> [--only-report] [part…]`: what commands, a running `al start` and a model session cost, one line per
//! figure, each with a reference that was measured in the same minute on the same machine, and with the limit that it is to
//! keep. All parts take about ten minutes. The exit status is 1 when a limit is not kept, unless that is only to be reported.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

mod daemon;
mod figure;
mod load;
mod model;
mod parts;
mod reference;
mod terminal;
mod webhook;

type Part = (&'static str, fn(&Path, &Path) -> Result<()>);

/// In the order in which they are measured.
const PARTS: [Part; 8] = [
    ("commands", parts::commands::measure),
    ("start", parts::start::measure),
    ("idle", parts::idle::measure),
    ("runs", parts::runs::measure),
    ("session", parts::session::measure),
    ("load", parts::load::measure),
    ("many", parts::idle::measure_many),
    ("terminal", parts::terminal::measure),
];

/// Option of those who want to see figures, not a verdict.
const ONLY_REPORT: &str = "--only-report";

fn main() -> Result<ExitCode> {
    let mut args = env::args().skip(1);
    let usage = "usage: al-bench <al> [--only-report] [part…]";
    let al = PathBuf::from(args.next().context(usage)?).canonicalize().context("find al")?;
    let (options, wanted): (Vec<String>, Vec<String>) = args.partition(|word| word == ONLY_REPORT);
    if let Some(unknown) = wanted.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        bail!("there is no part {unknown}; there are {}", PARTS.map(|(name, _)| name).join(", "));
    }
    let dir = al.parent().context("it is in a directory")?.join("bench-start");
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure(&al, &dir.join(name)).with_context(|| format!("measure {name}"))?;
        }
    }
    let all_kept = figure::conclude();
    Ok(if all_kept || !options.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
