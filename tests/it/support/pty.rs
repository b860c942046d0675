//! A terminal of its own for a program: keystrokes in, screen out.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::project::{Project, tail};
use super::wait;

/// How long a program may take for anything.
const LIMIT: Duration = Duration::from_secs(60);
/// How long the reader waits for output before it looks whether the terminal is to be closed.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Keys that are no characters.
pub(crate) const ENTER: &str = "\r";
pub(crate) const UP: &str = "\x1b[A";
pub(crate) const DOWN: &str = "\x1b[B";
pub(crate) const ALT_ENTER: &str = "\x1b\r";
pub(crate) const CTRL_C: &str = "\x03";
pub(crate) const CTRL_D: &str = "\x04";

/// A program on a terminal.
pub(crate) struct Pty<'p> {
    project: &'p Project,
    line: String,
    child: Child,
    terminal: File,
    output: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// The reader is to end.
    closing: Arc<AtomicBool>,
    /// How the terminal was set.
    before: String,
    /// What was waited for ends here in what is left of the output without escape sequences.
    seen: usize,
}

impl<'p> Pty<'p> {
    pub(super) fn start(project: &'p Project, mut command: Command, columns: u16) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let (terminal, other) = open(30, columns);
        let before = settings(&terminal);
        command.stdin(other.try_clone().unwrap()).stdout(other.try_clone().unwrap()).stderr(other);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {line}: {error}"));
        // The program has the only other ends, so that reading ends with it.
        drop(command);
        let output: Arc<Mutex<Vec<u8>>> = Arc::default();
        let closing = Arc::new(AtomicBool::new(false));
        let reader = {
            let (mut terminal, output) = (terminal.try_clone().unwrap(), Arc::clone(&output));
            let closing = Arc::clone(&closing);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while !closing.load(Ordering::SeqCst) {
                    if poll(&mut [PollFd::new(&terminal, PollFlags::IN)], Some(&LOOK)) == Ok(0) {
                        continue;
                    }
                    let Ok(count @ 1..) = terminal.read(&mut buffer) else { break };
                    output.lock().unwrap().extend_from_slice(&buffer[..count]);
                }
            })
        };
        Self { project, line, child, terminal, output, reader: Some(reader), closing, before, seen: 0 }
    }

    /// Waits until it has shown this after what was waited for last.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> &mut Self {
        let has_ended = |reader: &Option<JoinHandle<()>>| reader.as_ref().is_none_or(JoinHandle::is_finished);
        let seen = self.seen;
        self.seen = wait::within(LIMIT, &format!("{text:?} on the terminal of `{}`", self.line), || {
            let ended = has_ended(&self.reader);
            let output = plain(&self.bytes());
            if let Some(at) = output[seen..].find(text) {
                return Ok(seen + at + text.len());
            }
            assert!(!ended, "{text:?} is not on the terminal of `{}`: {output}", self.line);
            Err(format!("{:?}", &output[seen..]))
        });
        self
    }

    /// Types this.
    pub(crate) fn type_in(&mut self, keys: &str) -> &mut Self {
        self.terminal.write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Waits until the program has read everything that was typed.
    #[track_caller]
    pub(crate) fn wait_until_read(&mut self) -> &mut Self {
        let other = other_end(&self.terminal);
        wait::until("what was typed to be read", || rustix::io::ioctl_fionread(&other).unwrap(), |left| *left == 0);
        self
    }

    /// Closes the terminal, as when its window is closed or the connection is lost.
    pub(crate) fn hang_up(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        self.reader.take().unwrap().join().unwrap();
        self.terminal = File::open("/dev/null").unwrap();
    }

    /// Waits for its end; the exit status, or the number of the signal that killed it, negative.
    #[track_caller]
    fn status(&mut self) -> i32 {
        let status = wait::within(LIMIT, &format!("end of `{}`", self.line), || {
            self.child.try_wait().unwrap().ok_or("it is still running")
        });
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }

    /// Waits for its end after [`Pty::hang_up`].
    #[track_caller]
    pub(crate) fn finish_without_terminal(mut self) -> i32 {
        self.status()
    }

    /// Waits for a question and answers it with a line.
    #[track_caller]
    pub(crate) fn answer(&mut self, question: &str, line: &str) -> &mut Self {
        self.wait_for(question).type_in(line).type_in(ENTER)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is running");
    }

    /// Everything that came, byte by byte.
    fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits for its end; the exit status and everything that came, byte by byte.
    #[track_caller]
    pub(crate) fn bytes_and_finish(self) -> (i32, String) {
        let output = Arc::clone(&self.output);
        let (status, _) = self.finish();
        let bytes = String::from_utf8_lossy(&output.lock().unwrap()).into_owned();
        (status, bytes)
    }

    /// Waits for its end; the exit status and the lines that are then on the screen. The terminal has to be as before.
    #[track_caller]
    pub(crate) fn finish(mut self) -> (i32, Vec<String>) {
        let status = self.status();
        self.reader.take().unwrap().join().unwrap();
        let screen = screen(&self.bytes());
        self.project.note(&format!("=== {} (on a terminal)\n{}\n", self.line, tail(&screen.join("\n"))));
        assert_eq!(settings(&self.terminal), self.before, "the terminal is not as before");
        let count = |mode: &str| self.bytes().matches(mode).count();
        assert_eq!(count("\x1b[?2004h"), count("\x1b[?2004l"), "pastes are still marked");
        (status, screen)
    }
}

impl Drop for Pty<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.project.note(&format!("=== {} (never ended)\n{:?}\n", self.line, tail(&self.bytes())));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A new terminal of so many rows and columns: its far end, and the one for a program.
pub(super) fn open(rows: u16, columns: u16) -> (File, File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let terminal = File::from(terminal);
    let other = other_end(&terminal);
    (terminal, other)
}

/// The end of a terminal that programs have.
fn other_end(terminal: &File) -> File {
    let name = ptsname(terminal, Vec::new()).unwrap().into_string().unwrap();
    let noctty = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
    File::options().read(true).write(true).custom_flags(noctty).open(name).unwrap()
}

/// How a terminal is set.
pub(super) fn settings(terminal: &File) -> String {
    let Termios { input_modes, output_modes, control_modes, local_modes, .. } = tcgetattr(terminal).unwrap();
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}")
}

/// Text without escape sequences.
fn plain(output: &str) -> String {
    let mut text = String::new();
    let mut chars = output.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => drop(sequence(&mut chars)),
            c => text.push(c),
        }
    }
    text
}

/// What follows an escape character: the numbers and the letter.
fn sequence(chars: &mut std::str::Chars<'_>) -> (String, char) {
    assert_eq!(chars.next(), Some('['), "only sequences of this kind are known");
    let mut numbers = String::new();
    for c in chars {
        if c.is_ascii_alphabetic() {
            return (numbers, c);
        }
        numbers.push(c);
    }
    (numbers, 'm')
}

/// The lines that a terminal shows in the end, with those that went off its top.
fn screen(output: &str) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0usize, 0usize);
    let mut chars = output.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\x08' => column = column.saturating_sub(1),
            '\x1b' => match sequence(&mut chars) {
                // Colours and modes.
                (_, 'm' | 'h' | 'l' | 'u') => {}
                (count, 'A') => row = row.saturating_sub(count.parse().unwrap_or(1)),
                (_, 'J') => {
                    lines.truncate(row + 1);
                    lines[row].truncate(column);
                }
                (_, 'K') => lines[row].clear(),
                other => panic!("escape sequence {other:?}"),
            },
            c => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}
