//! The connections that are open, and who has to leave when there are too many.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a new connection waits for one that was told to leave. It leaves at once, its socket being shut down; this
/// is for machines that are too busy to let it.
const LEAVING: Duration = Duration::from_secs(1);

/// Open connections by number, oldest first.
pub(super) struct Table {
    limit: usize,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, Connection>,
}

struct Connection {
    sock: Arc<TcpStream>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Still sending its request, or being refused.
    Sending,
    /// Its request is complete and will be answered.
    Serving,
    /// Told to leave.
    Evicted,
}

impl Table {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default(), ended: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in. When the table is full, the oldest one that is still sending its request is shut down
    /// for it; `None` when there is no such connection.
    pub(super) fn admit(self: &Arc<Self>, sock: &Arc<TcpStream>) -> Option<Entry> {
        let until = Instant::now() + LEAVING;
        let mut state = self.lock();
        while state.open.len() >= self.limit {
            if !state.open.values().any(|connection| connection.stage == Stage::Evicted) {
                let oldest = state.open.values_mut().find(|connection| connection.stage == Stage::Sending)?;
                oldest.stage = Stage::Evicted;
                let _ = oldest.sock.shutdown(Shutdown::Both);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let id = state.next;
        state.next += 1;
        state.open.insert(id, Connection { sock: sock.clone(), stage: Stage::Sending });
        Some(Entry { table: self.clone(), id })
    }

    /// Shuts down every connection that is still sending its request, so that its thread ends.
    pub(super) fn evict_sending(&self) {
        for connection in self.lock().open.values_mut().filter(|connection| connection.stage == Stage::Sending) {
            connection.stage = Stage::Evicted;
            let _ = connection.sock.shutdown(Shutdown::Both);
        }
    }

    /// Waits until no connection is left; those that still are then are shut down.
    pub(super) fn drain(&self, until: Instant) {
        let mut state = self.lock();
        while !state.open.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        for connection in state.open.values() {
            let _ = connection.sock.shutdown(Shutdown::Both);
        }
    }
}

/// The place of one connection, free again when this is dropped.
pub(super) struct Entry {
    table: Arc<Table>,
    id: u64,
}

impl Entry {
    /// The request is complete: from now on the connection stays until it is answered. False when it was told to leave.
    pub(super) fn begin_serving(&self) -> bool {
        let mut state = self.table.lock();
        match state.open.get_mut(&self.id) {
            Some(connection) if connection.stage == Stage::Sending => {
                connection.stage = Stage::Serving;
                true
            }
            _ => false,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.lock().open.remove(&self.id);
        self.table.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    fn pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(listener.accept().unwrap().0), client)
    }

    #[test]
    fn the_oldest_that_is_still_sending_leaves() {
        let table = Table::new(2);
        let ((first, _a), (second, _b), (third, _c)) = (pair(), pair(), pair());
        let serving = table.admit(&first).unwrap();
        assert!(serving.begin_serving());
        let sending = table.admit(&second).unwrap();
        let thread = std::thread::spawn(move || {
            let count = (&*second).read(&mut [0; 1]).unwrap();
            (count, sending.begin_serving())
        });
        let last = table.admit(&third).expect("the second one leaves");
        assert_eq!(thread.join().unwrap(), (0, false));
        assert!(last.begin_serving());
        assert!(table.admit(&first).is_none(), "all are being answered");
    }
}
