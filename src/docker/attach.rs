//! What a container writes, as lines.
//!
//! Output is taken from an attached client, because `docker logs -f` loses the end of short runs. Who follows a
//! container again uses it all the same, for what was written meanwhile, and reads the end once more afterwards. The
//! client's exit status says nothing about the container: it is 0 after a forwarded signal, 137 when only the client was
//! killed. The state comes from [`super::inspect::state`].

use std::collections::VecDeque;
use std::io::{self, Read};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use rustix::process::Signal;

use super::cli::Docker;
use crate::base::clock::UnixMs;
use crate::base::process::{self, Pipe};
use crate::base::worker;

/// Longest line that is kept whole.
const LINE_LIMIT: usize = 8 * 1024 * 1024;
/// What may wait for a reader that is slower than the container.
const BACKLOG_BYTES: usize = 64 * 1024 * 1024;
/// Counted for every waiting line beside its text, so that empty lines cannot fill the memory.
const LINE_OVERHEAD: usize = 64;
/// Lines handed over at once.
const BATCH_LINES: usize = 256;
/// How long a client may live on after it closed its pipes.
const CLIENT_GRACE: Duration = Duration::from_secs(5);

/// A line of output, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub pipe: Pipe,
    /// Invalid UTF-8 is replaced.
    pub text: String,
    /// The line was longer than 8 MiB and this is its beginning; such a line is never a protocol line.
    pub is_cut: bool,
}

impl Line {
    /// Whether it may be a line of the log protocol. Those are never dropped.
    fn may_be_protocol(&self) -> bool {
        let text = self.text.trim_start();
        self.pipe == Pipe::Stdout && !self.is_cut && text.starts_with('{') && text.contains("\"_log\"")
    }

    fn cost(&self) -> usize {
        self.text.len() + LINE_OVERHEAD
    }
}

/// Lines in order of arrival.
#[derive(Debug, Default)]
pub struct Batch {
    pub lines: Vec<Line>,
    /// Plain lines that were dropped before these, because the backlog was full.
    pub dropped: u64,
}

/// A running client whose output comes as lines. Dropping it kills the client; the container is not affected.
pub struct Output {
    child: Option<Child>,
    batches: Receiver<Batch>,
}

/// Starts a created container and follows it from its first byte.
///
/// # Errors
/// When the client cannot be started. That the container did not start is seen in its state.
pub fn start(docker: &Docker, container: &str) -> Result<Output> {
    follow(docker, &["start", "-a", container])
}

/// Follows a container that runs already; what it wrote before is in [`logs`].
///
/// # Errors
/// When the client cannot be started.
pub fn reattach(docker: &Docker, container: &str) -> Result<Output> {
    follow(docker, &["attach", "--no-stdin", "--sig-proxy=false", container])
}

/// How much of a container's log to read.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    Everything,
    LastLines(u32),
    Since(UnixMs),
    /// Since then, and on to the end of the container, of which the last lines may be missing.
    FollowedSince(UnixMs),
}

/// Reads what the daemon kept of a container's output. Complete only after the container ended.
///
/// # Errors
/// When the client cannot be started.
pub fn logs(docker: &Docker, container: &str, extent: Extent) -> Result<Output> {
    let seconds = |since: UnixMs| format!("{}.{:03}", since.0 / 1000, since.0 % 1000);
    match extent {
        Extent::Since(since) => follow(docker, &["logs", "--since", &seconds(since), container]),
        Extent::FollowedSince(since) => follow(docker, &["logs", "--follow", "--since", &seconds(since), container]),
        Extent::Everything => follow(docker, &["logs", container]),
        Extent::LastLines(count) => follow(docker, &["logs", "--tail", &count.to_string(), container]),
    }
}

fn follow(docker: &Docker, args: &[&str]) -> Result<Output> {
    let mut child = docker.cmd(args).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // From here on an error drops `output`, which kills the client.
    let (batch_sender, batches) = bounded(1);
    let output = Output { child: Some(child), batches };
    // Full: the reading threads wait; what waits for long is in the backlog.
    let (line_sender, lines) = bounded(4);
    let sender = line_sender.clone();
    let stdout = stdout.context("the client's stdout is a pipe")?;
    worker::spawn("docker-out", move || read_lines(Pipe::Stdout, stdout, &sender))?;
    let stderr = stderr.context("the client's stderr is a pipe")?;
    worker::spawn("docker-err", move || read_lines(Pipe::Stderr, stderr, &line_sender))?;
    worker::spawn("docker-lines", move || pass_on(&lines, &batch_sender))?;
    Ok(output)
}

impl Output {
    /// The lines. Disconnected when the client closed both pipes.
    pub fn batches(&self) -> &Receiver<Batch> {
        &self.batches
    }

    /// Waits for the client, which has closed its pipes, and gives its exit status: not that of the container.
    pub fn finish(mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        let deadline = Instant::now() + CLIENT_GRACE;
        let mut pause = Duration::from_micros(200);
        // Polling, because the standard library has no wait with a limit; a client is gone within a millisecond.
        while Instant::now() < deadline {
            match child.try_wait() {
                Ok(None) => thread::sleep(pause),
                Ok(Some(status)) => return Some(status),
                Err(_) => return None,
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        kill(&mut child)
    }

    /// Process id of the client.
    pub fn client_pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(&mut child);
        }
    }
}

/// SIGKILL and nothing gentler: an attached client forwards every other signal to the container.
fn kill(child: &mut Child) -> Option<ExitStatus> {
    process::signal(child, Signal::KILL);
    child.wait().ok()
}

fn read_lines(pipe: Pipe, mut source: impl Read, sender: &Sender<Vec<Line>>) {
    let mut assembler = Assembler::new(pipe, LINE_LIMIT);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut lines = Vec::new();
        let is_end = match source.read(&mut buffer) {
            Ok(0) => true,
            Ok(count) => {
                assembler.push(&buffer[..count], &mut lines);
                false
            }
            Err(error) => error.kind() != io::ErrorKind::Interrupted,
        };
        if is_end {
            lines.extend(assembler.finish());
        }
        let is_refused = !lines.is_empty() && sender.send(lines).is_err();
        if is_end || is_refused {
            return;
        }
    }
}

/// Puts bytes together to lines, however they were cut into reads.
struct Assembler {
    pipe: Pipe,
    limit: usize,
    buffer: Vec<u8>,
    /// The rest of a line that was too long.
    skipping: bool,
}

impl Assembler {
    fn new(pipe: Pipe, limit: usize) -> Self {
        Self { pipe, limit, buffer: Vec::new(), skipping: false }
    }

    fn push(&mut self, bytes: &[u8], lines: &mut Vec<Line>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, is_complete) = match part.strip_suffix(b"\n") {
                Some(content) => (content, true),
                None => (part, false),
            };
            if !self.skipping {
                let room = self.limit - self.buffer.len();
                self.buffer.extend_from_slice(&content[..content.len().min(room)]);
                if content.len() > room {
                    lines.push(self.take(true));
                    self.skipping = true;
                }
            }
            if is_complete {
                if !self.skipping {
                    lines.push(self.take(false));
                }
                self.skipping = false;
            }
        }
    }

    /// The last line, when it had no end.
    fn finish(&mut self) -> Option<Line> {
        (!self.buffer.is_empty()).then(|| self.take(false))
    }

    fn take(&mut self, is_cut: bool) -> Line {
        let bytes = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.buffer.clear();
        // A long line must not hold its memory for the rest of the run.
        self.buffer.shrink_to(LINE_OVERHEAD);
        Line { pipe: self.pipe, text, is_cut }
    }
}

/// Stands between the reading threads and the consumer, so that a slow consumer does not stop the container at once.
fn pass_on(lines: &Receiver<Vec<Line>>, out: &Sender<Batch>) {
    let mut backlog = Backlog::new(BACKLOG_BYTES);
    let mut open = true;
    let no_lines = never();
    let (no_consumer, _kept) = bounded(0);
    while open || !backlog.is_empty() {
        let source = if open && backlog.has_room() { lines } else { &no_lines };
        let target = if backlog.is_empty() { &no_consumer } else { out };
        select! {
            recv(source) -> found => match found {
                Ok(found) => found.into_iter().for_each(|line| backlog.push(line)),
                Err(_) => open = false,
            },
            send(target, backlog.take_batch()) -> sent => if sent.is_err() {
                return;
            },
        }
    }
}

/// Waiting lines, bounded in bytes.
struct Backlog {
    limit: usize,
    lines: VecDeque<Line>,
    bytes: usize,
    plain_bytes: usize,
    dropped: u64,
}

impl Backlog {
    fn new(limit: usize) -> Self {
        Self { limit, lines: VecDeque::new(), bytes: 0, plain_bytes: 0, dropped: 0 }
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// Whether reading may go on: not when protocol lines alone fill it.
    fn has_room(&self) -> bool {
        self.bytes - self.plain_bytes < self.limit
    }

    fn push(&mut self, line: Line) {
        let cost = line.cost();
        let is_plain = !line.may_be_protocol();
        if self.bytes + cost > self.limit {
            if is_plain {
                self.dropped += 1;
                return;
            }
            if self.plain_bytes > 0 {
                self.drop_plain();
            }
        }
        self.bytes += cost;
        self.plain_bytes += if is_plain { cost } else { 0 };
        self.lines.push_back(line);
    }

    /// Drops every waiting plain line: one pass, however many protocol lines follow.
    fn drop_plain(&mut self) {
        let before = self.lines.len();
        self.lines.retain(Line::may_be_protocol);
        self.dropped += (before - self.lines.len()) as u64;
        self.bytes -= self.plain_bytes;
        self.plain_bytes = 0;
    }

    fn take_batch(&mut self) -> Batch {
        let count = self.lines.len().min(BATCH_LINES);
        let lines: Vec<Line> = self.lines.drain(..count).collect();
        for line in &lines {
            self.bytes -= line.cost();
            self.plain_bytes -= if line.may_be_protocol() { 0 } else { line.cost() };
        }
        if self.lines.is_empty() {
            self.lines = VecDeque::new();
        }
        Batch { lines, dropped: std::mem::take(&mut self.dropped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn assemble(limit: usize, parts: &[&[u8]]) -> Vec<(String, bool)> {
        let mut assembler = Assembler::new(Pipe::Stdout, limit);
        let mut lines = Vec::new();
        parts.iter().for_each(|part| assembler.push(part, &mut lines));
        lines.extend(assembler.finish());
        lines.into_iter().map(|line| (line.text, line.is_cut)).collect()
    }

    #[track_caller]
    fn case(parts: &[&[u8]], expected: &[(&str, bool)]) {
        let expected: Vec<_> = expected.iter().map(|(text, is_cut)| ((*text).to_owned(), *is_cut)).collect();
        assert_eq!(assemble(8, parts), expected);
    }

    #[test]
    fn lines_from_bytes() {
        case(&[b"a\nb\n"], &[("a", false), ("b", false)]);
        case(&[b"a", b"b\nc"], &[("ab", false), ("c", false)]);
        case(&[b"gr\xc3", b"\xbc\xc3\x9fe\r\n"], &[("grüße", false)]);
        case(&[b"a\r", b"\n\r\r\n"], &[("a", false), ("\r", false)]);
        case(&[b"\xff\n\n"], &[("\u{FFFD}", false), ("", false)]);
        case(&[b"12345678\n"], &[("12345678", false)]);
        case(&[b"12345", b"6789", b"0\nx\n"], &[("12345678", true), ("x", false)]);
        case(&[b"123456789"], &[("12345678", true)]);
        case(&[], &[]);
    }

    mod props {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn any_split_gives_the_same_lines(
                bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..60),
                at in 0usize..60,
                also_at in 0usize..60,
            ) {
                let (first, second) = (at.min(also_at).min(bytes.len()), at.max(also_at).min(bytes.len()));
                let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                prop_assert_eq!(assemble(8, &parts), assemble(8, &[&bytes]));
            }
        }
    }

    fn plain(text: &str) -> Line {
        Line { pipe: Pipe::Stdout, text: text.into(), is_cut: false }
    }

    fn protocol(text: &str) -> Line {
        plain(&format!(r#"{{"_log":true,"msg":"{text}"}}"#))
    }

    #[test]
    fn plain_lines_are_dropped_first_and_counted() {
        let mut backlog = Backlog::new(4 * plain("x").cost());
        for text in ["a", "b", "c", "d", "e", "f"] {
            backlog.push(plain(text));
        }
        assert!(backlog.has_room());
        let line = protocol("kept");
        backlog.push(line.clone());
        let batch = backlog.take_batch();
        assert_eq!((batch.lines, batch.dropped), (vec![line], 6));
        assert!(backlog.is_empty());
    }

    #[test]
    fn protocol_lines_stop_the_reading_and_are_kept() {
        let cost = protocol("1").cost();
        let mut backlog = Backlog::new(2 * cost);
        backlog.push(protocol("1"));
        assert!(backlog.has_room());
        // One batch of lines may arrive at once; none of them is lost.
        for text in ["2", "3", "4"] {
            backlog.push(protocol(text));
        }
        assert!(!backlog.has_room());
        backlog.push(plain("lost"));
        let batch = backlog.take_batch();
        assert_eq!((batch.lines.len(), batch.dropped), (4, 1));
        assert!(backlog.has_room());
    }

    #[test]
    fn what_a_cut_or_stderr_line_says_is_no_protocol() {
        assert!(protocol("x").may_be_protocol());
        assert!(!Line { is_cut: true, ..protocol("x") }.may_be_protocol());
        assert!(!Line { pipe: Pipe::Stderr, ..protocol("x") }.may_be_protocol());
        assert!(!plain("\"_log\"").may_be_protocol());
    }

    fn script(text: &str) -> (tempfile::TempDir, Docker) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("docker");
        crate::base::files::create_new(&program, format!("#!/bin/sh\n{text}\n").as_bytes(), 0o755).unwrap();
        (dir, Docker::new(program))
    }

    #[test]
    fn every_line_arrives_before_the_end() {
        let (_dir, docker) = script("seq 1 20000; echo problem >&2; printf tail; exit 3");
        let output = start(&docker, "x").unwrap();
        let lines: Vec<Line> = output.batches().iter().flat_map(|batch| batch.lines).collect();
        let (out, err): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.pipe == Pipe::Stdout);
        assert_eq!(err.len(), 1);
        assert_eq!(out.len(), 20001);
        assert!(out[..20000].iter().enumerate().all(|(index, line)| line.text == (index + 1).to_string()));
        assert_eq!(out[20000].text, "tail");
        assert_eq!(output.finish().unwrap().code(), Some(3));
    }

    #[test]
    fn a_client_that_stays_is_killed_and_not_asked() {
        let (_dir, docker) = script("trap 'echo asked' TERM INT; echo up; while :; do sleep 60; done");
        let mut output = reattach(&docker, "x").unwrap();
        assert_eq!(output.batches().recv().unwrap().lines[0].text, "up");
        let mut child = output.child.take().unwrap();
        assert_eq!(kill(&mut child).unwrap().signal(), Some(9));
    }
}
