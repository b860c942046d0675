//! Where `al logs` gets entries: from the gateway of a scheduler that runs, else from the files. Cursors are the same, so
//! that reading can go on with the other one at any time.

use std::cell::RefCell;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::OWN_LOGS;
use crate::base::log_files::{Filter, LogFiles, Mark, Object, Position, Query};
use crate::base::text::percent_encode;
use crate::cli::gateway_client::{Contact, GatewayClient};
use crate::cli::site::Site;

/// Most entries of one page.
pub(super) const LARGEST_PAGE: usize = 1000;

/// Which log, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// Name of the log.
    pub(super) name: String,
    /// Instance, day, pattern.
    pub(super) filter: Filter,
}

/// Where to look for entries.
#[derive(Clone, Copy, Debug)]
pub(super) enum At<'a> {
    /// At the end.
    End,
    /// Before this cursor, backwards.
    Before(&'a str),
    /// After this cursor.
    After(&'a str),
}

/// Entries, oldest first.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) entries: Vec<Object>,
    /// `None` when there is no log yet.
    pub(super) cursor: Option<String>,
    pub(super) back: Back,
    pub(super) has_more: bool,
    /// They come from the files of this machine.
    pub(super) is_from_files: bool,
}

/// How to get at what is before a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Back {
    /// There is nothing.
    #[default]
    Beginning,
    Cursor(String),
    /// The gateway is one that cannot say.
    Unsaid,
}

/// How long a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Once,
    /// As long as it grows, whatever becomes of its files.
    Following,
}

/// A log, wherever it is.
pub(super) struct Log {
    pub(super) site: Site,
    pub(super) subject: Subject,
    contact: Contact,
    reading: Reading,
    /// The file that was read last, so that no later one is taken for it.
    mark: RefCell<Option<Mark>>,
}

impl Log {
    /// The log of a project.
    ///
    /// # Errors
    /// When the configuration or the lock cannot be used.
    pub(super) fn of(site: Site, subject: Subject, reading: Reading) -> Result<Self> {
        let contact = Contact::to(&site)?;
        Ok(Self { site, subject, contact, reading, mark: RefCell::default() })
    }

    /// The files on this machine.
    pub(super) fn files(&self) -> LogFiles {
        LogFiles::new(&self.site.log_dir(), &self.subject.name)
    }

    /// Whether a gateway may have such a log, now or later. What agents another machine has is not known here.
    pub(super) fn is_known(&self) -> bool {
        let name = self.subject.name.as_str();
        OWN_LOGS.contains(&name) || self.site.has_agent(name) || self.site.has_environment()
    }

    /// A page of at most `limit` entries.
    ///
    /// # Errors
    /// When the gateway cannot be asked, or a file cannot be read.
    pub(super) fn page(&self, at: At<'_>, limit: usize) -> Result<Page> {
        let limit = limit.min(LARGEST_PAGE);
        match self.contact.ask(&self.site, |client| self.page_of_gateway(client, at, limit))? {
            Some(page) => Ok(page),
            None => self.page_of_files(at, limit),
        }
    }

    fn page_of_files(&self, at: At<'_>, limit: usize) -> Result<Page> {
        let files = self.files();
        let query = Query { limit, filter: &self.subject.filter };
        let position = |cursor: &str| Position::parse(cursor).context("the cursor of the log is malformed");
        let page = match at {
            At::End => files.last(query),
            At::Before(cursor) => files.before(&position(cursor)?, query),
            At::After(cursor) => files.after(&position(cursor)?, self.mark.borrow().as_ref(), query),
        };
        let page =
            page.with_context(|| format!("read the log {} in {}", self.subject.name, self.site.log_dir().display()))?;
        self.remember(at, page.mark);
        Ok(Page {
            entries: page.entries,
            cursor: page.cursor.map(|cursor| cursor.to_string()),
            back: page.back.map_or(Back::Beginning, |back| Back::Cursor(back.to_string())),
            has_more: page.has_more,
            is_from_files: true,
        })
    }

    /// Keeps the mark of the file in which a page ends that reading goes on from.
    fn remember(&self, at: At<'_>, mark: Option<Mark>) {
        if !matches!(at, At::Before(_)) {
            self.mark.replace(mark);
        }
    }

    fn page_of_gateway(&self, client: &GatewayClient, at: At<'_>, limit: usize) -> Result<Page> {
        let path = self.path(at, limit);
        let answer = match at {
            At::End => client.get(&path)?,
            At::Before(_) | At::After(_) => client.poll(&path)?,
        };
        let Some(entries) = answer.get("entries").and_then(Value::as_array) else {
            return Err(client.malformed(&answer, "has no entries").into());
        };
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        let back = match (answer.get("backCursor"), text("backCursor")) {
            (_, Some(cursor)) => Back::Cursor(cursor),
            (None, None) if entries.len() >= limit => Back::Unsaid,
            (_, None) => Back::Beginning,
        };
        self.remember(at, text("file").as_deref().map(Mark::from_text));
        // A gateway that cannot choose instances of this log leaves it to us.
        let wanted = entries.iter().filter_map(Value::as_object).filter(|entry| self.subject.filter.matches(entry));
        Ok(Page {
            entries: wanted.cloned().collect(),
            cursor: text("cursor"),
            back,
            has_more: answer["hasMore"] == true,
            is_from_files: false,
        })
    }

    fn path(&self, at: At<'_>, limit: usize) -> String {
        let Subject { name, filter } = &self.subject;
        let mut path = match (name.as_str(), &filter.instance) {
            ("scheduler", _) => "/api/logs/scheduler".to_owned(),
            (agent, None) => format!("/api/logs/agents/{}", percent_encode(agent)),
            (agent, Some(id)) => format!("/api/logs/agents/{}/{}", percent_encode(agent), percent_encode(id)),
        };
        path += &format!("?lines={limit}");
        match at {
            At::End => {}
            At::Before(cursor) => path += &format!("&back_cursor={}", percent_encode(cursor)),
            At::After(cursor) => path += &format!("&cursor={}", percent_encode(cursor)),
        }
        if self.reading == Reading::Following && !matches!(at, At::Before(_)) {
            let mark = self.mark.borrow().as_ref().map_or_else(|| "none".to_owned(), Mark::to_string);
            path += &format!("&file={}", percent_encode(&mark));
        }
        for (name, time) in [("after", filter.after), ("before", filter.before)] {
            path += &time.map(|time| format!("&{name}={}", time.0)).unwrap_or_default();
        }
        if let Some(pattern) = &filter.pattern {
            path += &format!("&grep={}", percent_encode(pattern.as_str()));
        }
        path
    }
}
