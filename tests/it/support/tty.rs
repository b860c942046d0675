//! A terminal with a screen: what a person sees at any moment, and what is left of the terminal in the end.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Winsize, tcsetwinsize};

use super::project::Project;
use super::pty::{self, settings};
use super::wait;

/// How long a program may take for anything.
const LIMIT: Duration = Duration::from_secs(30);
/// Lines that went off the top and are kept.
const SCROLLBACK: usize = 200;

/// A program on a terminal.
pub(crate) struct Tty<'p> {
    project: &'p Project,
    child: Child,
    terminal: File,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
    before: String,
}

struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

/// What is left of a program.
pub(crate) struct Left {
    /// Exit status; a signal's number, negative, when it killed the process.
    pub(crate) status: i32,
    /// The screen as it stands.
    pub(crate) rows: Vec<String>,
    /// Everything that came.
    pub(crate) bytes: String,
}

impl<'p> Tty<'p> {
    pub(super) fn start(project: &'p Project, mut command: Command, rows: u16, columns: u16) -> Self {
        let (terminal, other) = pty::open(rows, columns);
        let before = settings(&terminal);
        command.stdin(other.try_clone().unwrap()).stdout(other.try_clone().unwrap()).stderr(other);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        // The program has the only other ends, so that reading ends with it.
        drop(command);
        let screen = vt100::Parser::new(rows, columns, SCROLLBACK);
        let seen = Arc::new(Mutex::new(Seen { screen, bytes: Vec::new() }));
        let reader = {
            let (mut terminal, seen) = (terminal.try_clone().unwrap(), Arc::clone(&seen));
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = terminal.read(&mut buffer) {
                    let mut seen = seen.lock().unwrap();
                    seen.screen.process(&buffer[..count]);
                    seen.bytes.extend_from_slice(&buffer[..count]);
                }
            })
        };
        Self { project, child, terminal, seen, reader: Some(reader), before }
    }

    /// The rows of the screen.
    pub(crate) fn rows(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let screen = seen.screen.screen();
        screen.rows(0, screen.size().1).map(|row| row.trim_end().to_owned()).collect()
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> &Self {
        let has_ended = || self.reader.as_ref().is_none_or(JoinHandle::is_finished);
        wait::within(LIMIT, &format!("{what} on the screen"), || {
            let ended = has_ended();
            let rows = self.rows();
            if wanted(&rows) {
                return Ok(());
            }
            assert!(!ended, "{what} is not on the screen in the end:\n{}", rows.join("\n"));
            Err(format!("\n{}\n", rows.join("\n")))
        });
        self
    }

    /// Waits until this is somewhere on the screen.
    #[track_caller]
    pub(crate) fn see(&self, text: &str) -> &Self {
        self.until(&format!("{text:?}"), |rows| rows.iter().any(|row| row.contains(text)))
    }

    /// Waits until this is nowhere on the screen.
    #[track_caller]
    pub(crate) fn see_no(&self, text: &str) -> &Self {
        self.until(&format!("no {text:?}"), |rows| rows.iter().all(|row| !row.contains(text)))
    }

    /// Waits until there is a row with all of these.
    #[track_caller]
    pub(crate) fn see_row(&self, texts: &[&str]) -> &Self {
        self.until(&format!("a row with {texts:?}"), |rows| {
            rows.iter().any(|row| texts.iter().all(|text| row.contains(text)))
        })
    }

    /// Types this.
    pub(crate) fn type_in(&self, keys: &str) -> &Self {
        (&self.terminal).write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> &Self {
        self.seen.lock().unwrap().screen.screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        self
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is running");
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether the terminal is set as it was before the program started, shows its cursor, and does not mark pastes.
    pub(crate) fn is_as_before(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        let screen = seen.screen.screen();
        settings(&self.terminal) == self.before && !screen.hide_cursor() && !screen.bracketed_paste()
    }

    /// Waits for its end; the terminal has to be as before.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Left {
        let status =
            wait::within(LIMIT, "end of the program", || self.child.try_wait().unwrap().ok_or("still running"));
        self.reader.take().unwrap().join().unwrap();
        let rows = self.rows();
        self.project.note(&format!("=== the screen in the end\n{}\n", rows.join("\n")));
        assert!(self.is_as_before(), "the terminal is not as before: {}", settings(&self.terminal));
        let seen = self.seen.lock().unwrap();
        let (row, column) = seen.screen.screen().cursor_position();
        assert_eq!((column, rows[usize::from(row)].as_str()), (0, ""), "the prompt gets a line of its own");
        let bytes = String::from_utf8_lossy(&seen.bytes).into_owned();
        let status = status.code().unwrap_or_else(|| -status.signal().unwrap());
        Left { status, rows, bytes }
    }
}

impl Drop for Tty<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.project.note(&format!("=== the screen (it never ended)\n{}\n", self.rows().join("\n")));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
