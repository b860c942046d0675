//! What the routes of the public face share beside the state of the gateway.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::PublicSettings;
use super::api_key::ApiKey;
use super::client_address::TrustedProxies;
use super::rate_limit::SlidingWindow;
use super::request_log::PerSecond;
use super::shared::Shared;
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level, Log};
use crate::webhooks::secrets::Notice;
use crate::webhooks::{Bindings, Secrets};

/// Logins per minute and client that may fail.
const MOST_FAILED_LOGINS: usize = 10;

/// State of the public face.
pub(super) struct Public {
    pub(super) shared: Arc<Shared>,
    pub(super) key: ApiKey,
    pub(super) proxies: TrustedProxies,
    pub(super) failed_logins: SlidingWindow,
    pub(super) webhook_rate: SlidingWindow,
    /// Secrets of webhooks.
    pub(super) secrets: Secrets,
    /// The bindings that were looked at last.
    seen_bindings: Mutex<Arc<Bindings>>,
    notes: Mutex<PerSecond>,
    /// Directory of the log files.
    pub(super) log_dir: PathBuf,
    /// Where it is said what became of work.
    pub(super) scheduler_log: Arc<Log>,
}

impl Public {
    pub(super) fn new(shared: Arc<Shared>, settings: PublicSettings) -> Self {
        let log = shared.log.clone();
        let public = Self {
            shared,
            key: ApiKey::new(settings.credentials.clone(), &settings.api_key),
            proxies: TrustedProxies(settings.trusted_proxies),
            failed_logins: SlidingWindow::new(MOST_FAILED_LOGINS),
            webhook_rate: SlidingWindow::new(settings.webhook_rate_limit),
            secrets: Secrets::new(settings.credentials, move |notice| log.write(&of_notice(notice))),
            seen_bindings: Mutex::default(),
            notes: Mutex::default(),
            log_dir: settings.log_dir,
            scheduler_log: settings.scheduler_log,
        };
        public.bindings();
        public
    }

    /// The bindings as they are now. New ones are logged, and the secrets of their providers read.
    pub(super) fn bindings(&self) -> Arc<Bindings> {
        let bindings = self.shared.handle.bindings();
        let mut seen = self.seen_bindings.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&seen, &bindings) {
            self.log_bindings(&seen, &bindings);
            self.secrets.serve(bindings.providers());
            *seen = bindings.clone();
        }
        bindings
    }

    fn log_bindings(&self, before: &Bindings, now: &Bindings) {
        let log = &self.shared.log;
        for provider in now.providers().filter(|provider| !before.has_source(provider)) {
            log.write(&Entry::new(Level::Info, "provider registered").field("type", provider));
        }
        for (provider, agent, binding) in now.all() {
            let entry = Entry::new(Level::Info, "binding added").field("agent", agent.as_str());
            log.write(&entry.field("type", provider).field("source", binding.source.as_str()));
        }
    }

    /// Adds a line of activity. A flood of them would only push out what people want to see.
    pub(super) fn note(&self, agent: &str, message: impl fmt::Display) {
        if self.notes.lock().unwrap_or_else(PoisonError::into_inner).allow(UnixMs::now()) {
            self.shared.handle.note(agent, message.to_string());
        }
    }
}

fn of_notice(notice: Notice) -> Entry {
    match notice {
        Notice::Loaded { kind, count } => {
            Entry::new(Level::Info, "webhook secrets loaded").field("type", kind).field("count", count)
        }
        Notice::Unreadable { reason } => Entry::new(Level::Warn, "webhook secret not readable").field("err", reason),
    }
}
