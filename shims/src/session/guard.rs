//! Secrets in what tools give back (agent-session.md §22.5).

use std::collections::BTreeSet;

use super::event::{Event, Notice};
use super::message::{Content, ToolResult};
use crate::secret::Masker;

/// Looks at every result before anybody else does.
pub(super) struct Guard {
    secrets: Masker,
    /// The model gets results without the secrets.
    redacts: bool,
    found: u64,
    /// Types of credentials that have been reported.
    reported: BTreeSet<String>,
}

impl Guard {
    pub(super) fn new(secrets: Masker, redacts: bool) -> Self {
        Self { secrets, redacts, found: 0, reported: BTreeSet::new() }
    }

    /// Occurrences so far.
    pub(super) fn found(&self) -> u64 {
        self.found
    }

    /// Counts the secrets of a result and takes them out when the model is not to see them.
    pub(super) fn inspect(&mut self, result: &mut ToolResult, sink: &mut dyn FnMut(Event<'_>)) {
        let mut kinds: Vec<&str> = Vec::new();
        for part in &mut result.content {
            let Content::Text(text) = part else { continue };
            let Some(finding) = self.secrets.find(text) else { continue };
            kinds.extend(finding.labels.into_iter().filter(|kind| self.reported.insert((*kind).to_owned())));
            self.found += finding.count;
            if self.redacts {
                *text = finding.masked;
            }
        }
        if !kinds.is_empty() {
            kinds.sort_unstable();
            sink(Event::Notice(Notice::SecretInToolOutput {
                kinds: &kinds,
                tool: &result.tool,
                redacted: self.redacts,
            }));
        }
    }
}
