//! What the figures are compared with, measured in the same minute on the same machine.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use tiny_http::{Header, Response, Server};

use crate::daemon::since_epoch;
use crate::load::{Measured, drive};
use crate::parts::runs::Watch;

/// How every run is started, as far as it costs time.
const FLAGS: &str = "--user 1000:1000 --read-only --tmpfs /tmp:rw,exec,nosuid,nodev,size=3g,mode=1777,uid=1000,gid=1000 \
                     --cap-drop ALL --security-opt no-new-privileges:true --pids-limit 1024 --memory 4g --memory-swap 4g \
                     --ipc private --shm-size 64m --ulimit core=0:0 --ulimit nofile=16384:16384 --cgroupns private \
                     --oom-score-adj 500 --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 --pull never \
                     --network al-net --add-host gateway:127.0.0.1 --entrypoint /bin/true";

/// A server that answers everything with 200 and does nothing else.
pub(crate) fn bare_server(clients: usize, count: usize, request: &[u8]) -> Result<Measured> {
    let server = Arc::new(Server::http("127.0.0.1:0").map_err(|error| anyhow!("start a server: {error}"))?);
    let port = server.server_addr().to_ip().context("it has a port")?.port();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    let close = Header::from_bytes("Connection", "close").expect("it is a header");
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
    fs::remove_file(&path).context("remove it")?;
    Ok(rate)
}

pub(crate) fn docker_info() -> Result<Duration> {
    let begin = Instant::now();
    docker(&["info", "--format", "{{.ServerVersion}}"])?;
    Ok(begin.elapsed())
}

/// A container that does nothing, by Docker alone: how long it takes from the wish until it runs, and from its end until
/// its status is known and it is gone.
pub(crate) fn bare_run(image: &str) -> Result<(Duration, Duration)> {
    let watch = Watch::start("bare")?;
    let begin = since_epoch();
    let labels = ["--label", "al.agent=bare", "--label", "al.instance=bare"];
    let create: Vec<&str> = ["create"].into_iter().chain(labels).chain(FLAGS.split(' ')).chain([image]).collect();
    let id = docker(&create)?;
    docker(&["start", "-a", &id])?;
    docker(&["inspect", "--format", "{{json .State}}", &id])?;
    docker(&["rm", "-f", &id])?;
    let end = since_epoch();
    let (started, died) = (watch.time_of("start", "bare")?, watch.time_of("die", "bare")?);
    Ok((started.saturating_sub(begin), end.saturating_sub(died)))
}

/// Waits until the container of an instance runs.
pub(crate) fn wait_for_container(instance: &str) -> Result<()> {
    let name = format!("al-{instance}");
    for _ in 0..500 {
        // It may not have been created yet.
        if docker(&["inspect", "--format", "{{.State.Running}}", &name]).is_ok_and(|running| running == "true") {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{name} does not run")
}

/// The id of an image.
pub(crate) fn image_id(name: &str) -> Result<String> {
    docker(&["image", "inspect", "--format", "{{.Id}}", name])
}

/// The docker client that a search finds.
pub(crate) fn real_docker() -> Result<PathBuf> {
    let path = env::var_os("PATH").context("PATH is set")?;
    env::split_paths(&path).map(|dir| dir.join("docker")).find(|file| file.is_file()).context("docker is on PATH")
}

pub(crate) fn file_bytes(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.len())
}

/// What a docker command prints, without the newline.
pub(crate) fn docker(args: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(args).stdin(Stdio::null()).output().context("start docker")?;
    if !output.status.success() {
        bail!("docker {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
