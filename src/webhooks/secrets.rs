//! The secrets that senders sign with (gateway.md §17). They are read again at most once per second while deliveries come,
//! so that a new one counts without a restart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::Secret;
use crate::config::webhook::Provider;
use crate::credentials::Store;
use crate::model::names::CredentialRef;

/// Field of the credential types of the providers.
const FIELD: &str = "secret";
/// How long what was read counts.
const FRESH: Duration = Duration::from_secs(1);

/// A stored instance of a provider's secret type.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    pub instance: String,
    /// `None`: it could not be read so far. No signature matches it, but deliveries have to be signed.
    pub secret: Option<Secret>,
}

/// What counts as stored where nobody knows what is.
static UNKNOWN: [Stored; 1] = [Stored { instance: String::new(), secret: None }];

/// Something to tell whoever looks after the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The secrets of a type are other ones than before.
    Loaded { kind: &'static str, count: usize },
    /// Something cannot be read; what was known of it is still used. Not said again for the same reason.
    Unreadable { reason: String },
}

/// The secrets of all providers in use, kept up to date.
pub struct Secrets {
    store: Store,
    notify: Box<dyn Fn(Notice) + Send + Sync>,
    started: Instant,
    /// When they have to be read again, in milliseconds after `started`.
    stale_at: AtomicU64,
    known: Mutex<Arc<Snapshot>>,
}

/// The secrets at one moment.
#[derive(Default)]
pub struct Snapshot {
    /// The instances by name of the provider.
    providers: BTreeMap<&'static str, Vec<Stored>>,
    /// What cannot be read, and why.
    unreadable: BTreeMap<String, String>,
}

impl Snapshot {
    /// The stored instances of a provider's secret type. Of a provider that is not served none is known, which is not the
    /// same as that there is none.
    pub fn of(&self, provider: &str) -> &[Stored] {
        self.providers.get(provider).map_or(&UNKNOWN, Vec::as_slice)
    }
}

impl Secrets {
    /// No secrets as yet: [`Secrets::serve`] says of whom.
    pub fn new(store: Store, notify: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self {
            store,
            notify: Box::new(notify),
            started: Instant::now(),
            stale_at: AtomicU64::new(u64::MAX),
            known: Mutex::default(),
        }
    }

    /// From now on these providers have sources. Reads their secrets at once.
    pub fn serve<'a>(&self, providers: impl IntoIterator<Item = &'a str>) {
        let fresh = self.read(providers.into_iter().filter_map(Provider::find), &self.snapshot());
        *self.lock() = Arc::new(fresh);
        self.stale_at.store(millis(self.started.elapsed() + FRESH), Ordering::Release);
    }

    /// The secrets, at most one second old.
    pub fn current(&self) -> Arc<Snapshot> {
        self.at(self.started.elapsed())
    }

    /// The secrets at a time after the start.
    fn at(&self, now: Duration) -> Arc<Snapshot> {
        let known = self.snapshot();
        let stale_at = self.stale_at.load(Ordering::Acquire);
        // Only one thread reads; the others go on with what there is.
        let next = millis(now + FRESH);
        let is_mine = || self.stale_at.compare_exchange(stale_at, next, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if millis(now) < stale_at || !is_mine() {
            return known;
        }
        let fresh = Arc::new(self.read(known.providers.keys().filter_map(|name| Provider::find(name)), &known));
        let mut current = self.lock();
        // Else the providers are others meanwhile, and their secrets newer.
        if Arc::ptr_eq(&current, &known) {
            *current = Arc::clone(&fresh);
        }
        Arc::clone(&current)
    }

    /// Reads everything. The files are small and few; their times would not show a change within one tick of the clock.
    fn read<'p>(&self, providers: impl Iterator<Item = &'p Provider>, known: &Snapshot) -> Snapshot {
        let mut fresh = Snapshot::default();
        for provider in providers {
            let Some(kind) = provider.secret else { continue };
            let before = known.providers.get(provider.name).map_or(&[][..], Vec::as_slice);
            let stored = self.instances(kind, before, &mut fresh.unreadable);
            if stored != before {
                let count = stored.iter().filter(|stored| stored.secret.is_some()).count();
                (self.notify)(Notice::Loaded { kind, count });
            }
            fresh.providers.insert(provider.name, stored);
        }
        for (subject, reason) in &fresh.unreadable {
            if known.unreadable.get(subject) != Some(reason) {
                (self.notify)(Notice::Unreadable { reason: reason.clone() });
            }
        }
        fresh
    }

    fn instances(&self, kind: &str, before: &[Stored], unreadable: &mut BTreeMap<String, String>) -> Vec<Stored> {
        let mut complain = |subject: &str, error: &anyhow::Error| {
            unreadable.insert(subject.to_owned(), format!("{error:#}"));
        };
        let names = match self.store.instances(kind) {
            Ok(names) => names,
            Err(error) => {
                complain(kind, &error);
                return if before.is_empty() { UNKNOWN.to_vec() } else { before.to_vec() };
            }
        };
        let references = names.iter().filter_map(|name| CredentialRef::parse(&format!("{kind}:{name}")).ok());
        let stored = references.filter_map(|reference| {
            let instance = reference.instance().to_owned();
            match self.store.read(&reference, FIELD) {
                Ok(secret) => secret.map(|secret| Stored { instance, secret: Some(secret) }),
                Err(error) => {
                    complain(&reference.to_string(), &error);
                    let last = before.iter().find(|stored| stored.instance == instance);
                    Some(Stored { instance, secret: last.and_then(|stored| stored.secret.clone()) })
                }
            }
        });
        stored.collect()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    struct Bed {
        dir: tempfile::TempDir,
        secrets: Secrets,
        notices: Receiver<Notice>,
    }

    impl Bed {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            files.iter().for_each(|(path, content)| write(&dir.path().join(path), content));
            let (sender, notices) = channel();
            let secrets = Secrets::new(Store::at(dir.path()), move |notice| sender.send(notice).unwrap());
            secrets.serve(["github", "sentry", "test"]);
            Self { dir, secrets, notices }
        }

        fn write(&self, path: &str, content: &str) {
            write(&self.dir.path().join(path), content);
        }

        /// What is known of GitHub's at a second after the start: `instance=secret`, `?` for an unreadable one.
        fn at(&self, second: u64) -> Vec<String> {
            let snapshot = self.secrets.at(Duration::from_secs(second));
            let secret = |stored: &Stored| stored.secret.as_ref().map_or("?", Secret::expose).to_owned();
            snapshot.of("github").iter().map(|stored| format!("{}={}", stored.instance, secret(stored))).collect()
        }

        fn notices(&self) -> Vec<Notice> {
            self.notices.try_iter().collect()
        }
    }

    fn write(path: &Path, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn loaded(count: usize) -> Notice {
        Notice::Loaded { kind: "github_webhook_secret", count }
    }

    #[test]
    fn all_instances_of_the_providers_in_use_are_known() {
        let bed = Bed::new(&[
            ("github_webhook_secret/b/secret", " s2\n"),
            ("github_webhook_secret/default/secret", "s1"),
            ("github_webhook_secret/empty/secret", " \n"),
            ("github_webhook_secret/other/field", "x"),
            ("linear_webhook_secret/default/secret", "not served"),
        ]);
        assert_eq!(bed.at(0), ["b=s2", "default=s1"]);
        let snapshot = bed.secrets.current();
        assert!(snapshot.of("sentry").is_empty());
        assert!(snapshot.of("linear")[0].secret.is_none(), "not served is not the same as not stored");
        assert_eq!(bed.notices(), [loaded(2)]);
    }

    #[test]
    fn changes_count_after_a_second() {
        let bed = Bed::new(&[("github_webhook_secret/a/secret", "old")]);
        assert_eq!(bed.at(2), ["a=old"]);
        bed.write("github_webhook_secret/a/secret", "new");
        bed.write("github_webhook_secret/b/secret", "more");
        assert_eq!(bed.at(2), ["a=old"], "not looked at again within the second");
        assert_eq!(bed.at(3), ["a=new", "b=more"]);
        fs::remove_dir_all(bed.dir.path().join("github_webhook_secret")).unwrap();
        assert_eq!(bed.at(4), [""; 0]);
        assert_eq!(bed.notices(), [loaded(1), loaded(2), loaded(0)]);
    }

    #[test]
    fn an_unreadable_secret_keeps_its_last_value_and_is_told_once() {
        let bed = Bed::new(&[("github_webhook_secret/a/secret", "old")]);
        fs::write(bed.dir.path().join("github_webhook_secret/a/secret"), b"\xFF").unwrap();
        assert_eq!((bed.at(2), bed.at(4)), (vec!["a=old".to_owned()], vec!["a=old".to_owned()]));
        let notices = bed.notices();
        assert_eq!(notices.len(), 2, "{notices:?}");
        assert!(matches!(&notices[1], Notice::Unreadable { reason } if reason.contains("github_webhook_secret:a")));
        bed.write("github_webhook_secret/a/secret", "new");
        assert_eq!(bed.at(6), ["a=new"]);
        assert_eq!(bed.notices(), [loaded(1)]);
    }

    #[test]
    fn what_could_never_be_read_still_counts_as_stored() {
        let bed = Bed::new(&[("github_webhook_secret/a/secret", &"x".repeat((1 << 20) + 1))]);
        assert_eq!(bed.at(0), ["a=?"]);
        let bed = Bed::new(&[]);
        let kind = bed.dir.path().join("github_webhook_secret");
        std::os::unix::fs::symlink(&kind, &kind).unwrap();
        assert_eq!(bed.at(2), ["=?"]);
        let notices = bed.notices();
        assert!(matches!(&notices[0], Notice::Loaded { count: 0, .. }), "{notices:?}");
        assert!(matches!(&notices[1], Notice::Unreadable { reason } if reason.contains("github_webhook_secret")));
    }

    #[test]
    fn other_providers_can_be_served_later() {
        let bed = Bed::new(&[("linear_webhook_secret/default/secret", "s")]);
        bed.secrets.serve(["linear"]);
        assert_eq!(bed.secrets.current().of("linear").len(), 1);
        assert!(bed.secrets.current().of("linear")[0].secret.is_some());
        bed.secrets.serve([]);
        assert!(bed.secrets.current().of("linear")[0].secret.is_none());
    }
}
