//! What the figures are compared with, measured in the same minute on the same machine.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tiny_http::{Response, Server};

use crate::load::{Measured, drive};

/// A server that answers everything with 200 and does nothing else.
pub(crate) fn bare_server(clients: usize, count: usize, request: &[u8]) -> Result<Measured> {
    let server = std::sync::Arc::new(Server::http("127.0.0.1:0").map_err(|error| anyhow!("start a server: {error}"))?);
    let port = server.server_addr().to_ip().context("it has a port")?.port();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let server = server.clone();
            thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    let close = tiny_http::Header::from_bytes("Connection", "close").expect("a header");
                    let _ = request.respond(Response::from_string("{\"ok\":true}").with_header(close));
                }
            })
        })
        .collect();
    let measured = drive(port, clients, count, |_| request.to_vec());
    workers.iter().for_each(|_| server.unblock());
    for worker in workers {
        let _ = worker.join();
    }
    Ok(measured)
}

/// How often a second the disk can be waited for, by one writer that appends a page.
pub(crate) fn fsyncs_per_second(dir: &Path) -> Result<f64> {
    let path = dir.join("fsync-probe");
    let mut file = File::create(&path).context("make a file")?;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).context("write")?;
        count += 1;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path).context("remove it")?;
    Ok(rate)
}
