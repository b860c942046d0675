//! `al run` for a person: the conversation as it happens, and on a terminal one line below it that is rewritten in place.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::log_view::conversation;
use super::summary::Summary;
use crate::base::clock::UnixMs;
use crate::base::term::{self, Style, sgr};
use crate::base::text::{cut, ellipsis, printable};
use crate::base::worker;
use crate::run::observer::{Observer, Report};

/// How often the elapsed time on the status line moves.
const TICK: Duration = Duration::from_secs(1);

/// Longest line of build progress, in characters: a step can be a whole script.
const LONGEST_PROGRESS: usize = 160;
/// Longest return value that is shown, in characters; whole it is in the log.
const LONGEST_RETURN: usize = 2000;

/// Writes lines to stdout and progress of builds to stderr.
pub struct Console {
    shared: Arc<Mutex<State>>,
    /// Ends the ticker when the console goes.
    _ticker: Option<crossbeam_channel::Sender<()>>,
}

/// Whether anything is rewritten, where the terminal allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveliness {
    StatusLine,
    /// Nothing but lines, one after the other.
    Lines,
}

struct State {
    style: Style,
    /// Where build progress is shown live; plain lines on stderr otherwise.
    progress: Style,
    out: Box<dyn Write + Send>,
    running: Vec<Running>,
    /// Text of the live line as it stands on the screen; empty when there is none.
    live: String,
    build: Option<String>,
    last_status: HashMap<String, String>,
}

struct Running {
    instance: String,
    since: Instant,
    status: String,
}

impl Console {
    /// A console on this process's stdout.
    pub fn new(liveliness: Liveliness) -> Self {
        let mut style = Style::of(term::Stream::Stdout);
        style.live &= liveliness == Liveliness::StatusLine;
        let progress = Style::of(term::Stream::Stderr);
        Self::with(style, progress, Box::new(io::stdout()))
    }

    fn with(style: Style, progress: Style, out: Box<dyn Write + Send>) -> Self {
        let shared = Arc::new(Mutex::new(State {
            style,
            progress,
            out,
            running: Vec::new(),
            live: String::new(),
            build: None,
            last_status: HashMap::new(),
        }));
        let ticker = style.live.then(|| {
            let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
            let shared = Arc::clone(&shared);
            // Without the thread the line would only stand still.
            let _ = worker::spawn("ticker", move || {
                while let Err(crossbeam_channel::RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                    lock(&shared).redraw();
                }
            });
            stop
        });
        Self { shared, _ticker: ticker }
    }

    /// Takes the live line away, so that something else can be written.
    pub fn clear(&self) {
        let mut state = lock(&self.shared);
        state.build = None;
        state.running.clear();
        state.redraw();
    }

    /// Shows the result and leaves the terminal clean.
    pub fn finish(&self, summary: &Summary) {
        self.clear();
        let mut state = lock(&self.shared);
        let code = if summary.result == "error" { sgr::BOLD_RED } else { sgr::BOLD_GREEN };
        let mut lines = Vec::new();
        if let Some(value) = &summary.return_value {
            let label = state.style.paint(sgr::BOLD, "returned:");
            lines.push(format!("{label} {}", printable(&ellipsis(value.trim_end(), LONGEST_RETURN))));
        }
        if let Some(error) = &summary.error {
            lines.push(state.style.paint(sgr::RED, &printable(error)));
        }
        lines.push(state.style.paint(code, &summary.line()));
        state.print(&lines);
    }
}

impl Observer for Console {
    fn report(&self, report: &Report<'_>) {
        let mut state = lock(&self.shared);
        match report {
            Report::Build { image, text } => state.build_progress(image, text),
            Report::Started(run) => {
                state.build = None;
                state.running.push(Running {
                    instance: run.instance.clone(),
                    since: Instant::now(),
                    status: String::new(),
                });
                state.redraw();
            }
            Report::Entry { agent, entry } => {
                // Whoever writes an entry has an image.
                state.build = None;
                let lines = conversation(entry, agent, state.style);
                state.print(&lines);
            }
            Report::Status { instance, text } => state.status(instance, text),
            Report::Ended { run, .. } => {
                state.running.retain(|running| running.instance != run.instance);
                state.redraw();
            }
            // Not passed on by the queue.
            _ => {}
        }
    }
}

impl State {
    fn build_progress(&mut self, image: &str, text: &str) {
        let line = ellipsis(&format!("{image}: {}", printable(text).replace('\n', " ")), LONGEST_PROGRESS).into_owned();
        if self.style.live && self.progress.live {
            self.build = Some(line);
            self.redraw();
        } else {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    fn status(&mut self, instance: &str, text: &str) {
        let text = printable(text).replace(['\n', '\t'], " ");
        if self.last_status.insert(instance.to_owned(), text.clone()).as_deref() == Some(text.as_str()) {
            return;
        }
        if let Some(running) = self.running.iter_mut().find(|running| running.instance == instance) {
            running.status.clone_from(&text);
        }
        let time = self.style.paint(sgr::DIM, &UnixMs::now().local_time());
        let line = format!("{time}  {}", self.style.paint(sgr::DIM, &format!("status: {text}")));
        self.print(&[line]);
    }

    /// Prints lines above the live line.
    fn print(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let mut text = self.erase();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&self.draw());
        self.write(&text);
    }

    fn redraw(&mut self) {
        if self.style.live {
            let text = self.erase() + &self.draw();
            self.write(&text);
        }
    }

    fn erase(&mut self) -> String {
        if std::mem::take(&mut self.live).is_empty() { String::new() } else { "\r\x1b[2K".to_owned() }
    }

    fn draw(&mut self) -> String {
        if !self.style.live {
            return String::new();
        }
        let text = match (&self.build, self.running.as_slice()) {
            (Some(build), _) => format!("⋯ {build}"),
            (None, []) => return String::new(),
            (None, [one]) => format!("● {} {} {}", one.instance, clock(one.since), one.status),
            (None, [first, others @ ..]) => {
                format!("● {} {} and {} more {}", first.instance, clock(first.since), others.len(), first.status)
            }
        };
        let fitting = cut(text.trim_end(), term::width().saturating_sub(1)).to_owned();
        self.live.clone_from(&fitting);
        self.style.paint(sgr::CYAN, &fitting)
    }

    fn write(&mut self, text: &str) {
        if let Err(error) = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            super::output_failed(&error);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let text = self.erase();
        self.write(&text);
    }
}

fn lock(shared: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `1:07`.
fn clock(since: Instant) -> String {
    let seconds = since.elapsed().as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::log::{Entry, Level};

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_output_has_no_escape_and_repeated_status_is_shown_once() {
        let screen = Screen::default();
        let console = Console::with(Style::PLAIN, Style::PLAIN, Box::new(screen.clone()));
        let entry = Entry::new(Level::Info, "output").field("text", "hello");
        console.report(&Report::Entry { agent: "dev", entry: &entry });
        for _ in 0..2 {
            console.report(&Report::Status { instance: "dev-1", text: "working" });
        }
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("hello") && !text.contains('\x1b'));
        assert_eq!(text.matches("status: working").count(), 1);
    }
}
