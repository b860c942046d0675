//! Notes what runs do, where a crash of the program cannot touch it: containers connect and write one line.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::docker::docker;

/// A server for lines. It listens as long as it lives.
pub(crate) struct Recorder {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Listens where containers can reach it. The network of runs exists when the first project is there.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((bridge(), 0)).expect("listen on the bridge");
        let address = listener.local_addr().unwrap();
        let (lines, over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (noted, is_over) = (Arc::clone(&lines), Arc::clone(&over));
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let mut text = String::new();
                if connection.and_then(|mut stream| stream.read_to_string(&mut text)).is_ok() {
                    noted.lock().unwrap().extend(text.lines().map(str::to_owned));
                }
            }
        });
        Self { address, lines, over, thread: Some(thread) }
    }

    /// A shell function `say <words…>` that has a line noted and fails when it cannot.
    pub(crate) fn shell(&self) -> String {
        format!(
            "say() {{ bash -c 'echo \"$*\" >/dev/tcp/{}/{}' say \"$@\"; }}\n",
            self.address.ip(),
            self.address.port()
        )
    }

    /// The words of all lines that begin with this one, without it, in the order of their arrival.
    pub(crate) fn said(&self, word: &str) -> Vec<Vec<String>> {
        let words = |line: &String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let lines = self.lines.lock().unwrap();
        lines.iter().map(words).filter(|words| words[0] == word).map(|mut words| words.split_off(1)).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Address of this host on the network of runs.
pub(crate) fn bridge() -> IpAddr {
    let address = docker(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "al-net"]);
    address.parse().unwrap_or_else(|error| panic!("{error}: {address:?}"))
}
