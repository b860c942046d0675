//! Receipts: what was delivered to the webhook endpoint, and what came of it (gateway.md §18, §24, §27.1).

mod accept;
mod list;

use anyhow::Result;
use rusqlite::params;
use serde_json::{Map, Value};

pub(super) use self::accept::MEMORY;
pub use self::accept::{Delivered, accept_delivery};
pub(super) use self::list::STATUS;
pub use self::list::{Detail, Filter, ItemOf, Page, Receipt, items_of, list, show};
use super::{Store, Tx, int};
use crate::base::clock::UnixMs;
use crate::base::ids::uuid_v7;

/// Larger bodies are not stored.
const LARGEST_BODY: usize = 262_144;
/// Words in the names of header fields that are nobody's business, whatever the caller has left in.
const PRIVATE_FIELDS: [&str; 3] = ["authorization", "cookie", "signature"];
/// What a row takes beside its texts.
const ROW_BYTES: usize = 200;

/// A delivery as it was sent, to be recorded.
#[derive(Clone, Debug)]
pub struct NewReceipt {
    /// From [`new_id`].
    pub id: String,
    pub provider: String,
    /// The provider's id; the same when it sends the delivery again.
    pub delivery_id: Option<String>,
    /// Credential instance whose secret signed it.
    pub matched_source: Option<String>,
    /// `None` when it is no event.
    pub event: Option<String>,
    pub action: Option<String>,
    /// Address of the sender.
    pub client: Option<String>,
    pub headers: Map<String, Value>,
    pub body: Body,
    /// The receipt whose delivery is replayed.
    pub replay_of: Option<String>,
}

/// A body as it is recorded: its size, and what it was as long as that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    bytes: usize,
    stored: Option<Vec<u8>>,
}

impl Body {
    /// A body that is stored unless it is too large.
    pub fn of(body: &[u8]) -> Self {
        Self { bytes: body.len(), stored: (body.len() <= LARGEST_BODY).then(|| body.to_vec()) }
    }

    /// A body that is not stored, whatever its size.
    pub fn without_content(body: &[u8]) -> Self {
        Self { bytes: body.len(), stored: None }
    }
}

/// An id for a receipt; the contexts of its items have it, too.
pub fn new_id(now: UnixMs) -> String {
    uuid_v7(now)
}

/// What a receipt says about its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not genuine, or not readable.
    Rejected,
    /// Genuine, but no event.
    Ignored,
    /// Only disabled agents wanted it.
    Skipped,
    /// No agent wanted it.
    NoMatch,
    /// An item is queued or running.
    Queued,
    /// An item is dead.
    DeadLetter,
    /// All items are done or failed.
    Processed,
}

impl Status {
    const ALL: [Self; 7] =
        [Self::Rejected, Self::Ignored, Self::Skipped, Self::NoMatch, Self::Queued, Self::DeadLetter, Self::Processed];

    /// The word in the database and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Ignored => "ignored",
            Self::Skipped => "skipped",
            Self::NoMatch => "no_match",
            Self::Queued => "queued",
            Self::DeadLetter => "dead-letter",
            Self::Processed => "processed",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// Why a delivery makes no work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoWork {
    NoMatch,
    Ignored,
    /// With the reason. Its body is not stored.
    Rejected(&'static str),
}

/// Records a delivery that makes no work, at most a second later: nothing that was acknowledged depends on it, and
/// nobody can make the disk busy with it. Of more deliveries than the disk can follow the bodies are not stored.
///
/// # Errors
/// When so much waits to be recorded that it had to be done at once, and that failed.
pub fn note(store: &Store, mut receipt: NewReceipt, why: NoWork, now: UnixMs) -> Result<()> {
    if matches!(why, NoWork::Rejected(_)) || store.is_behind() {
        receipt.body.stored = None;
    }
    let row = match why {
        NoWork::NoMatch => Row::new(receipt, Status::NoMatch),
        NoWork::Ignored => Row::new(receipt, Status::Ignored),
        NoWork::Rejected(reason) => Row { reason: Some(reason), ..Row::new(receipt, Status::Rejected) },
    };
    store.submit_late(ROW_BYTES + row.bytes(), move |tx| row.insert(tx, now))
}

/// A receipt as it is stored.
struct Row {
    receipt: NewReceipt,
    headers: String,
    status: Status,
    reason: Option<&'static str>,
    matched: usize,
    skipped: usize,
}

impl Row {
    fn new(mut receipt: NewReceipt, status: Status) -> Self {
        receipt.headers.retain(|name, _| {
            let name = name.to_ascii_lowercase();
            !PRIVATE_FIELDS.iter().any(|word| name.contains(word))
        });
        let headers = Value::Object(std::mem::take(&mut receipt.headers)).to_string();
        Self { receipt, headers, status, reason: None, matched: 0, skipped: 0 }
    }

    fn bytes(&self) -> usize {
        self.headers.len() + self.receipt.body.stored.as_ref().map_or(0, Vec::len)
    }

    fn summary(&self) -> Option<String> {
        let event = self.receipt.event.as_deref()?;
        let summary = match self.receipt.action.as_deref() {
            Some(action) => format!("{event} {action}"),
            None => event.to_owned(),
        };
        Some(if self.receipt.replay_of.is_some() { format!("replay:{summary}") } else { summary })
    }

    fn insert(&self, tx: &Tx<'_>, now: UnixMs) -> Result<()> {
        let receipt = &self.receipt;
        tx.prepare_cached(
            "INSERT INTO webhook_receipts (id, provider, delivery_id, matched_source, event, action, summary,
             received_at, client, headers, body, body_bytes, status, reason, matched, skipped, replay_of)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            receipt.id,
            receipt.provider,
            receipt.delivery_id,
            receipt.matched_source,
            receipt.event,
            receipt.action,
            self.summary(),
            now.0,
            receipt.client,
            self.headers,
            receipt.body.stored,
            int(receipt.body.bytes as u64),
            self.status.as_str(),
            self.reason,
            int(self.matched as u64),
            int(self.skipped as u64),
            receipt.replay_of,
        ])?;
        tx.note(|notes| notes.add_receipt(self.bytes()));
        Ok(())
    }
}
