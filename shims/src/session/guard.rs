//! Secrets in what tools give back (agent-session.md §22.5).

use super::event::{Event, Notice};
use super::message::{Content, ToolResult};
use crate::secret::Masker;

/// Looks at every result before anybody else does.
pub(super) struct Guard {
    secrets: Masker,
    /// The model gets results without the secrets.
    redacts: bool,
    found: u64,
}

impl Guard {
    pub(super) fn new(secrets: Masker, redacts: bool) -> Self {
        Self { secrets, redacts, found: 0 }
    }

    /// Occurrences so far.
    pub(super) fn found(&self) -> u64 {
        self.found
    }

    /// Counts the secrets of a result and takes them out when the model is not to see them.
    pub(super) fn inspect(&mut self, result: &mut ToolResult, sink: &mut dyn FnMut(Event<'_>)) {
        for part in &mut result.content {
            let Content::Text(text) = part else { continue };
            let Some(finding) = self.secrets.find(text) else { continue };
            if self.found == 0 {
                sink(Event::Notice(Notice::SecretInToolOutput {
                    kind: finding.label,
                    tool: &result.tool,
                    redacted: self.redacts,
                }));
            }
            self.found += finding.count;
            if self.redacts {
                *text = finding.masked;
            }
        }
    }
}
