//! Locks between instances (gateway.md §9). An instance holds at most one. A lock whose time is over counts as absent
//! everywhere.
//!
//! A key may have a secret in it. Which lock is meant is decided by the SHA-256 of its exact text: runs that know
//! different secrets exclude each other on the same key, and keys that look the same without their secrets stay two.
//! What is stored to be read is the text without secrets.

use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::Tx;
use crate::base::clock::UnixMs;
use crate::base::ids::sha256_hex;

/// What a lock is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    digest: String,
    shown: String,
}

impl Key {
    /// The key with this exact text; `shown` is the text without the secrets of whoever names it.
    pub fn new(exact: &str, shown: impl Into<String>) -> Self {
        Self { digest: sha256_hex(exact.as_bytes()), shown: shown.into() }
    }
}

/// A live lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Its key as it may be shown.
    pub resource_key: String,
    /// Instance id.
    pub holder: String,
    pub held_since: UnixMs,
    pub expires_at: UnixMs,
}

/// Answer to [`acquire`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    Yes,
    /// The caller holds a lock on another key, shown here.
    HoldsOther(String),
    /// Someone else holds it.
    HeldBy {
        holder: String,
        held_since: UnixMs,
    },
}

/// Answer to [`release`] and [`heartbeat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned<T> {
    Yes(T),
    NotFound,
    HeldBy(String),
}

/// Takes a lock, or extends it when the caller has it already. A lock whose holder is not registered any more is taken
/// over.
///
/// # Errors
/// When the database fails.
pub fn acquire(tx: &Tx<'_>, key: &Key, caller: &str, ttl: Duration, now: UnixMs) -> Result<Acquired> {
    remove_expired(tx, now)?;
    let mut others = tx.prepare_cached("SELECT resource_key FROM locks WHERE holder = ? AND key_sha256 <> ?")?;
    if let Some(other) = others.query_row([caller, &key.digest], |row| row.get(0)).optional()? {
        return Ok(Acquired::HoldsOther(other));
    }
    let lock = find(tx, key)?;
    if let Some(lock) = lock.as_ref().filter(|lock| lock.holder != caller)
        && is_registered(tx, &lock.holder)?
    {
        return Ok(Acquired::HeldBy { holder: lock.holder.clone(), held_since: lock.held_since });
    }
    let held_since = lock.filter(|lock| lock.holder == caller).map_or(now, |lock| lock.held_since);
    tx.prepare_cached(
        "INSERT OR REPLACE INTO locks (key_sha256, resource_key, holder, held_since, expires_at)
         VALUES (?, ?, ?, ?, ?)",
    )?
    .execute(params![key.digest, key.shown, caller, held_since.0, now.plus(ttl).0])?;
    Ok(Acquired::Yes)
}

/// Gives a lock back.
///
/// # Errors
/// When the database fails.
pub fn release(tx: &Tx<'_>, key: &Key, caller: &str, now: UnixMs) -> Result<Owned<()>> {
    let owned = owned(tx, key, caller, now)?;
    if owned == Owned::Yes(()) {
        tx.prepare_cached("DELETE FROM locks WHERE key_sha256 = ?")?.execute([&key.digest])?;
    }
    Ok(owned)
}

/// Extends a lock; gives when it ends then.
///
/// # Errors
/// When the database fails.
pub fn heartbeat(tx: &Tx<'_>, key: &Key, caller: &str, ttl: Duration, now: UnixMs) -> Result<Owned<UnixMs>> {
    Ok(match owned(tx, key, caller, now)? {
        Owned::Yes(()) => {
            let expires_at = now.plus(ttl);
            tx.prepare_cached("UPDATE locks SET expires_at = ? WHERE key_sha256 = ?")?
                .execute(params![expires_at.0, key.digest])?;
            Owned::Yes(expires_at)
        }
        Owned::NotFound => Owned::NotFound,
        Owned::HeldBy(holder) => Owned::HeldBy(holder),
    })
}

fn owned(tx: &Tx<'_>, key: &Key, caller: &str, now: UnixMs) -> Result<Owned<()>> {
    remove_expired(tx, now)?;
    Ok(match find(tx, key)? {
        None => Owned::NotFound,
        Some(lock) if lock.holder == caller => Owned::Yes(()),
        Some(lock) => Owned::HeldBy(lock.holder),
    })
}

/// The live locks of an instance: none or one.
///
/// # Errors
/// When the database fails.
pub fn list(db: &Connection, holder: &str, now: UnixMs) -> Result<Vec<Lock>> {
    let mut query = db.prepare_cached(
        "SELECT resource_key, holder, held_since, expires_at FROM locks WHERE holder = ? AND expires_at > ?",
    )?;
    Ok(query.query_map(params![holder, now.0], lock)?.collect::<Result<_, _>>()?)
}

/// All live locks with the agents of their holders, in the order in which they were taken.
///
/// # Errors
/// When the database fails.
pub fn all(db: &Connection, now: UnixMs) -> Result<Vec<(Lock, String)>> {
    let mut query = db.prepare_cached(
        "SELECT resource_key, holder, held_since, expires_at, agent FROM locks
         LEFT JOIN containers ON instance_id = holder WHERE expires_at > ? ORDER BY held_since, resource_key",
    )?;
    let locks = query.query_map([now.0], |row| {
        let lock = lock(row)?;
        // The holder may be gone, and its lock not swept away yet.
        let named = || lock.holder.rsplit_once('-').map_or(lock.holder.as_str(), |(agent, _)| agent).to_owned();
        let agent = row.get::<_, Option<String>>(4)?.unwrap_or_else(named);
        Ok((lock, agent))
    })?;
    Ok(locks.collect::<Result<_, _>>()?)
}

/// Releases everything that an instance holds; gives how many locks that were.
///
/// # Errors
/// When the database fails.
pub fn release_all(tx: &Tx<'_>, holder: &str) -> Result<usize> {
    Ok(tx.prepare_cached("DELETE FROM locks WHERE holder = ?")?.execute([holder])?)
}

/// Removes expired locks and those whose holder is not registered any more.
///
/// # Errors
/// When the database fails.
pub fn sweep(tx: &Tx<'_>, now: UnixMs) -> Result<()> {
    remove_expired(tx, now)?;
    tx.prepare_cached("DELETE FROM locks WHERE holder NOT IN (SELECT instance_id FROM containers)")?.execute([])?;
    Ok(())
}

fn remove_expired(tx: &Tx<'_>, now: UnixMs) -> Result<()> {
    tx.prepare_cached("DELETE FROM locks WHERE expires_at <= ?")?.execute([now.0])?;
    Ok(())
}

fn find(tx: &Tx<'_>, key: &Key) -> Result<Option<Lock>> {
    let mut query =
        tx.prepare_cached("SELECT resource_key, holder, held_since, expires_at FROM locks WHERE key_sha256 = ?")?;
    Ok(query.query_row([&key.digest], lock).optional()?)
}

fn lock(row: &rusqlite::Row<'_>) -> rusqlite::Result<Lock> {
    Ok(Lock {
        resource_key: row.get(0)?,
        holder: row.get(1)?,
        held_since: UnixMs(row.get(2)?),
        expires_at: UnixMs(row.get(3)?),
    })
}

fn is_registered(tx: &Tx<'_>, instance: &str) -> Result<bool> {
    Ok(tx.prepare_cached("SELECT 1 FROM containers WHERE instance_id = ?")?.exists([instance])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::runs::testing::register;

    #[test]
    fn all_live_locks_are_listed_with_their_agents() {
        let store = Store::open_in_memory().unwrap();
        let (one, two) = (register(&store, "dev"), register(&store, "dev-tools"));
        let take = |key: &'static str, holder: &str, now: i64| {
            let (holder, key) = (holder.to_owned(), Key::new(key, key));
            store.write(move |tx| acquire(tx, &key, &holder, Duration::from_secs(10), UnixMs(now))).unwrap();
        };
        take("z", &two, 1);
        take("a", &one, 2);
        take("gone", "dev-ops-0a0b0c0d", 3);
        take("z", &two, 4);
        let listed = |now: i64| -> Vec<_> {
            let locks = store.read(|db| all(db, UnixMs(now))).unwrap();
            locks.into_iter().map(|(lock, agent)| (lock.resource_key, agent)).collect()
        };
        let expected = [("z", "dev-tools"), ("a", "dev"), ("gone", "dev-ops")];
        assert_eq!(listed(5), expected.map(|(key, agent)| (key.to_owned(), agent.to_owned())));
        assert_eq!(listed(10_003), [("z".to_owned(), "dev-tools".to_owned())]);
    }
}

#[cfg(test)]
mod props {
    use super::*;
    use crate::store::Store;
    use crate::store::runs::testing::{end, register};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Op {
        Acquire {
            who: usize,
            key: usize,
            ttl: u64,
        },
        Release {
            who: usize,
            key: usize,
        },
        Heartbeat {
            who: usize,
            key: usize,
            ttl: u64,
        },
        List {
            who: usize,
        },
        /// The run ends without its locks being released, as a crash of ours could leave it.
        Vanish {
            who: usize,
        },
        End {
            who: usize,
        },
        Sweep,
        Wait {
            ms: i64,
        },
    }

    fn op() -> impl Strategy<Value = Op> {
        let (who, key, ttl) = (0usize..3, 0usize..3, 1u64..4);
        prop_oneof![
            4 => (who.clone(), key.clone(), ttl.clone()).prop_map(|(who, key, ttl)| Op::Acquire { who, key, ttl }),
            2 => (who.clone(), key.clone()).prop_map(|(who, key)| Op::Release { who, key }),
            2 => (who.clone(), key, ttl).prop_map(|(who, key, ttl)| Op::Heartbeat { who, key, ttl }),
            1 => who.clone().prop_map(|who| Op::List { who }),
            1 => who.clone().prop_map(|who| Op::Vanish { who }),
            1 => who.prop_map(|who| Op::End { who }),
            1 => Just(Op::Sweep),
            2 => (0i64..2500).prop_map(|ms| Op::Wait { ms }),
        ]
    }

    const KEYS: [&str; 3] = ["a", "b", "issue #1 — ü"];

    /// Keys as they are named: two look the same, because of a secret in them.
    fn key(text: &str) -> Key {
        Key::new(text, shown(text))
    }

    fn shown(text: &str) -> &str {
        if text.len() == 1 { "***" } else { text }
    }

    /// What is expected, written down as the rules are.
    #[derive(Default)]
    struct Model {
        locks: BTreeMap<&'static str, (String, i64, i64)>,
        registered: Vec<String>,
    }

    impl Model {
        fn acquire(&mut self, key: &'static str, who: &str, ttl: i64, now: i64) -> Acquired {
            let others = self.locks.iter().find(|(other, lock)| **other != key && lock.0 == who);
            if let Some((other, _)) = others {
                return Acquired::HoldsOther(shown(other).to_owned());
            }
            let since = match self.locks.get(key) {
                Some((holder, since, _)) if holder == who => *since,
                Some((holder, since, _)) if self.registered.contains(holder) => {
                    return Acquired::HeldBy { holder: holder.clone(), held_since: UnixMs(*since) };
                }
                _ => now,
            };
            self.locks.insert(key, (who.to_owned(), since, now + ttl));
            Acquired::Yes
        }

        fn owned(&self, key: &str, who: &str) -> Owned<()> {
            match self.locks.get(key) {
                None => Owned::NotFound,
                Some((holder, _, _)) if holder == who => Owned::Yes(()),
                Some((holder, _, _)) => Owned::HeldBy(holder.clone()),
            }
        }
    }

    proptest! {
        #[test]
        fn locks_follow_the_rules(ops in proptest::collection::vec(op(), 1..60)) {
            let store = Store::open_in_memory().unwrap();
            let mut model = Model::default();
            // Instances by person; a person whose run ended starts a new one.
            let mut people: Vec<String> = (0..3).map(|_| register(&store, "dev")).collect();
            model.registered = people.clone();
            let mut now = 1_000_000;
            for op in ops {
                model.locks.retain(|_, (_, _, expires)| now < *expires);
                let at = UnixMs(now);
                match op {
                    Op::Acquire { who, key, ttl } => {
                        let (key, id, ttl) = (KEYS[key], people[who].clone(), Duration::from_secs(ttl));
                        let expected = model.acquire(key, &id, ttl.as_millis() as i64, now);
                        prop_assert_eq!(store.write(move |tx| acquire(tx, &self::key(key), &id, ttl, at)).unwrap(), expected);
                    }
                    Op::Release { who, key } => {
                        let (key, id) = (KEYS[key], people[who].clone());
                        let expected = model.owned(key, &id);
                        if expected == Owned::Yes(()) {
                            model.locks.remove(key);
                        }
                        prop_assert_eq!(store.write(move |tx| release(tx, &self::key(key), &id, at)).unwrap(), expected);
                    }
                    Op::Heartbeat { who, key, ttl } => {
                        let (key, id, ttl) = (KEYS[key], people[who].clone(), Duration::from_secs(ttl));
                        let expires = now + ttl.as_millis() as i64;
                        let expected = match model.owned(key, &id) {
                            Owned::Yes(()) => {
                                model.locks.get_mut(key).unwrap().2 = expires;
                                Owned::Yes(UnixMs(expires))
                            }
                            Owned::NotFound => Owned::NotFound,
                            Owned::HeldBy(holder) => Owned::HeldBy(holder),
                        };
                        prop_assert_eq!(store.write(move |tx| heartbeat(tx, &self::key(key), &id, ttl, at)).unwrap(), expected);
                    }
                    Op::List { who } => {
                        let held = store.read(|db| list(db, &people[who], at)).unwrap();
                        let seen: Vec<_> = held.into_iter()
                            .map(|lock| (lock.resource_key, lock.holder, lock.held_since.0, lock.expires_at.0)).collect();
                        let expected: Vec<_> = model.locks.iter().filter(|(_, lock)| lock.0 == people[who])
                            .map(|(key, lock)| (shown(key).to_owned(), lock.0.clone(), lock.1, lock.2)).collect();
                        prop_assert_eq!(seen, expected);
                    }
                    Op::Vanish { who } | Op::End { who } => {
                        let gone = std::mem::replace(&mut people[who], register(&store, "dev"));
                        if matches!(op, Op::End { .. }) {
                            model.locks.retain(|_, lock| lock.0 != gone);
                            end(&store, &gone);
                        } else {
                            let id = gone.clone();
                            store.write(move |tx| {
                                Ok(tx.execute("DELETE FROM containers WHERE instance_id = ?", [id])?)
                            }).unwrap();
                        }
                        model.registered = people.clone();
                    }
                    Op::Sweep => {
                        model.locks.retain(|_, lock| model.registered.contains(&lock.0));
                        store.write(move |tx| sweep(tx, at)).unwrap();
                    }
                    Op::Wait { ms } => now += ms,
                }
            }
        }
    }
}
