//! How often one client may ask: a sliding window per address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Length of the window.
const WINDOW: Duration = Duration::from_secs(60);
/// Most clients that are remembered; beyond them the oldest is forgotten.
const MOST_CLIENTS: usize = 10_000;

/// Counts what clients do. Only what is admitted counts.
pub(super) struct SlidingWindow {
    /// Most in one window; 0: no limit.
    limit: usize,
    started: Instant,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    /// When each client was admitted, as time since the start, oldest first.
    admitted: HashMap<IpAddr, VecDeque<Duration>>,
    /// The same clients in the order in which they came.
    order: VecDeque<IpAddr>,
    swept_at: Duration,
}

impl SlidingWindow {
    /// A window in which a client may do something so often; 0 is no limit.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, started: Instant::now(), clients: Mutex::default() }
    }

    /// Admits a client and counts it; false, and not counted, when it has used its window up.
    pub(super) fn admit(&self, client: IpAddr) -> bool {
        self.admit_at(client, self.started.elapsed())
    }

    fn admit_at(&self, client: IpAddr, now: Duration) -> bool {
        if self.limit == 0 {
            return true;
        }
        let mut clients = self.lock();
        clients.sweep(now);
        let times = clients.times_of(client);
        while times.front().is_some_and(|time| now.saturating_sub(*time) >= WINDOW) {
            times.pop_front();
        }
        let admitted = times.len() < self.limit;
        if admitted {
            times.push_back(now);
        }
        admitted
    }

    /// Takes a client's last count back.
    pub(super) fn take_back(&self, client: IpAddr) {
        if let Some(times) = self.lock().admitted.get_mut(&client) {
            times.pop_back();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    fn times_of(&mut self, client: IpAddr) -> &mut VecDeque<Duration> {
        if !self.admitted.contains_key(&client) {
            if self.admitted.len() >= MOST_CLIENTS
                && let Some(oldest) = self.order.pop_front()
            {
                self.admitted.remove(&oldest);
            }
            self.order.push_back(client);
        }
        self.admitted.entry(client).or_default()
    }

    /// Forgets idle clients, once per window.
    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept_at) < WINDOW {
            return;
        }
        self.swept_at = now;
        self.admitted.retain(|_, times| times.back().is_some_and(|last| now.saturating_sub(*last) < WINDOW));
        self.order.retain(|client| self.admitted.contains_key(client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_client_has_its_own_window_and_refusals_do_not_count() {
        let window = SlidingWindow::new(2);
        assert!(window.admit_at(client(1), at(0)));
        assert!(window.admit_at(client(1), at(100)));
        assert!(!window.admit_at(client(1), at(59_999)));
        assert!(window.admit_at(client(2), at(59_999)));
        assert!(window.admit_at(client(1), at(60_000)));
        assert!(!window.admit_at(client(1), at(60_099)));
        assert!(window.admit_at(client(1), at(60_100)));
    }

    #[test]
    fn no_limit() {
        let window = SlidingWindow::new(0);
        assert!((0..1000).all(|_| window.admit_at(client(1), at(0))));
    }

    #[test]
    fn a_count_can_be_taken_back() {
        let window = SlidingWindow::new(1);
        assert!(window.admit(client(1)));
        window.take_back(client(1));
        assert!(window.admit(client(1)));
        assert!(!window.admit(client(1)));
    }

    #[test]
    fn idle_clients_are_forgotten_and_the_oldest_when_there_are_too_many() {
        let window = SlidingWindow::new(1);
        let most = u32::try_from(MOST_CLIENTS).unwrap();
        for number in 0..=most {
            assert!(window.admit_at(client(number), at(u64::from(number))));
        }
        let count = || {
            let clients = window.lock();
            (clients.admitted.len(), clients.order.len())
        };
        assert_eq!(count(), (MOST_CLIENTS, MOST_CLIENTS));
        assert!(window.admit_at(client(0), at(20_000)), "it was forgotten");
        assert!(!window.admit_at(client(most), at(20_000)), "it was not");
        assert!(window.admit_at(client(7), at(75_000)));
        // Those of the last minute: client 0 and this one.
        assert_eq!(count(), (2, 2));
    }
}
