//! `al run` in GitHub Actions: log groups, an error annotation, a job summary (scheduler.md §15.3).
//!
//! A runner obeys every line of a job's output that looks like a workflow command. All text that is not ours therefore
//! stands between `::stop-commands::<token>` and `::<token>::`, with a token nobody can guess.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::log_view::conversation;
use super::show;
use super::summary::Summary;
use crate::base::clock::UnixMs;
use crate::base::ids;
use crate::base::term::Style;
use crate::base::text::printable;
use crate::run::observer::{Observer, Report};

/// Writes everything to stdout, so that the order holds.
pub struct Github {
    /// File of `GITHUB_STEP_SUMMARY`.
    summary_file: Option<PathBuf>,
    group: Mutex<Option<Group>>,
}

/// The open group; groups cannot be nested, so runs called meanwhile show up in it.
struct Group {
    /// `None`: the images.
    instance: Option<String>,
    token: String,
}

impl Github {
    /// `None` outside GitHub Actions.
    pub fn detect() -> Option<Self> {
        if std::env::var_os("GITHUB_ACTIONS")? != "true" {
            return None;
        }
        let summary_file = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()).map(PathBuf::from);
        Some(Self { summary_file, group: Mutex::new(None) })
    }

    /// The result, an annotation when it is a failure, and the job summary.
    pub fn finish(&self, summary: &Summary) {
        let mut group = self.lock();
        close(&mut group);
        show(&format!("{}\n", summary.line()));
        if let Some(error) = summary.error.as_ref().filter(|_| summary.result == "error") {
            show(&format!("::error title={}::{}\n", escape_property(&summary.agent), escape(error)));
        }
        if let Some(path) = &self.summary_file {
            let append =
                || OpenOptions::new().append(true).create(true).open(path)?.write_all(summary.markdown().as_bytes());
            if let Err(error) = append() {
                show(&format!("::warning::{}\n", escape(&format!("cannot write {}: {error}", path.display()))));
            }
        }
    }

    /// The error of something that was not run, which may quote foreign text, and the result.
    pub fn failed(&self, summary: &Summary, error: &str) {
        close(&mut self.lock());
        let token = ids::hex32();
        show(&format!("::stop-commands::{token}\n{}\n::{token}::\n", printable(error)));
        self.finish(summary);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Group>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Github {
    fn report(&self, report: &Report<'_>) {
        let mut group = self.lock();
        match report {
            Report::Build { image, text } => {
                if group.is_none() {
                    open(&mut group, None, "Images");
                }
                show(&format!("{image}: {}\n", printable(text)));
            }
            Report::Started(run) => {
                if group.as_ref().is_some_and(|open| open.instance.is_none()) {
                    close(&mut group);
                }
                if group.is_none() {
                    open(&mut group, Some(&run.instance), &run.instance);
                }
            }
            Report::Entry { agent, entry } => {
                if group.is_none() {
                    open(&mut group, entry.instance.as_deref(), entry.instance.as_deref().unwrap_or(agent));
                }
                let text: String =
                    conversation(entry, agent, Style::PLAIN).into_iter().map(|line| line + "\n").collect();
                show(&text);
            }
            Report::Status { instance, text } => {
                if group.is_none() {
                    open(&mut group, Some(instance), instance);
                }
                let line = format!("{}  status: {}\n", UnixMs::now().local_time(), printable(text).replace('\n', " "));
                show(&line);
            }
            Report::Ended { run, .. }
                if group.as_ref().is_some_and(|open| open.instance.as_deref() == Some(&run.instance)) =>
            {
                close(&mut group);
            }
            // Of another group, or not passed on by the queue.
            _ => {}
        }
    }
}

fn open(group: &mut Option<Group>, instance: Option<&str>, title: &str) {
    let token = ids::hex32();
    show(&format!("::group::{}\n::stop-commands::{token}\n", escape(title)));
    *group = Some(Group { instance: instance.map(str::to_owned), token });
}

fn close(group: &mut Option<Group>) {
    if let Some(group) = group.take() {
        show(&format!("::{}::\n::endgroup::\n", group.token));
    }
}

/// Text as the value of a workflow command.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Text as a property of a workflow command, where `:` and `,` are taken too.
fn escape_property(text: &str) -> String {
    escape(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_end_a_command() {
        assert_eq!(escape("50%\r\n::x"), "50%25%0D%0A::x");
        assert_eq!(escape_property("a:b,c"), "a%3Ab%2Cc");
    }
}
