//! The terminal UI of `al start`: the agents and what they do, drawn in place below the prompt, and keys (scheduler.md §11).
//!
//! It is drawn when the published state changes, not more often than anyone can see, and for the sake of the times once a
//! second. What happens is decided elsewhere: keys become the wishes that the gateway's control routes have fulfilled.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use ratatui::text::Line;
use signal_hook::consts::SIGTSTP;

use crate::base::clock::UnixMs;
use crate::base::term;
use crate::base::text::printable;
use crate::base::{Cancel, crash};
use crate::scheduler::handle::{Handle, Snapshot};
use crate::ui::raw_mode::{CtrlC, RawMode, is_foreground};
use canvas::Canvas;
use controls::Controls;
use frame::{SPINNER_MS, Scene, frame};
use input::{Input, Inputs};
use log_lines::LogLines;
use wishes::Wishes;

mod canvas;
mod controls;
mod format;
mod frame;
mod input;
mod log_lines;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod wishes;

/// Shortest time between two frames.
const FRAME: Duration = Duration::from_millis(50);
/// How often times move.
const TICK: Duration = Duration::from_secs(1);
/// How often the spinner turns.
const SPIN: Duration = Duration::from_millis(SPINNER_MS);

/// Whether there can be a terminal UI: a person can see it and type.
pub fn is_possible() -> bool {
    std::io::stdin().is_terminal() && term::Style::of(term::Stream::Stdout).live && is_foreground()
}

/// The terminal UI while it is there. When dropped, the terminal is as it was before, and the last frame stays.
pub struct Display {
    handle: Handle,
    project: Option<String>,
    log_dir: PathBuf,
    mode: RawMode,
    inputs: Inputs,
    wishes: Wishes,
    canvas: Canvas,
    controls: Controls,
    log: Option<LogLines>,
    size: (u16, u16),
    /// The terminal is not ours now.
    is_away: bool,
    seen: u64,
    snapshot: Arc<Snapshot>,
}

impl Display {
    /// Takes the terminal over. `project`: its name, until the scheduler says it; `log_dir`: where logs of agents are.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(handle: Handle, project: Option<String>, log_dir: &Path) -> Result<Self> {
        let mode = RawMode::enter(CtrlC::Key, || canvas::END.to_owned())?;
        let mut display = Self {
            inputs: Inputs::listen(handle.clone())?,
            wishes: Wishes::start(handle.clone())?,
            handle,
            project,
            log_dir: log_dir.to_owned(),
            mode,
            canvas: Canvas::default(),
            controls: Controls::default(),
            log: None,
            size: size(),
            is_away: false,
            seen: 0,
            snapshot: Arc::default(),
        };
        write(canvas::BEGIN);
        display.draw();
        Ok(display)
    }

    /// Shows the state of the scheduler until it is told to stop, and then once again.
    pub fn run(mut self, stopped: &Cancel) {
        let mut drawn = Instant::now();
        while !stopped.is_cancelled() {
            self.look(drawn + self.pause());
            // What comes in quick succession is one frame.
            let early = FRAME.saturating_sub(drawn.elapsed());
            if !early.is_zero() && !stopped.is_cancelled() {
                thread::sleep(early);
                self.look(Instant::now());
            }
            drawn = Instant::now();
            crash::point("frame");
            self.heed();
            self.draw();
        }
        self.look(Instant::now());
    }

    /// How long a frame may stand when nothing changes.
    fn pause(&self) -> Duration {
        let is_spinning = self.snapshot.scheduler.as_ref().is_none_or(|info| info.initializing);
        if is_spinning { SPIN } else { TICK }
    }

    /// Waits for another state until then.
    fn look(&mut self, until: Instant) {
        (self.seen, self.snapshot) = self.handle.snapshot_after(self.seen, until);
    }

    /// Does what inputs ask for.
    fn heed(&mut self) {
        let mut lines = String::new();
        for input in self.inputs.take() {
            match input {
                Input::Key(key) => {
                    if let Some(wish) = self.controls.press(key, &self.snapshot) {
                        self.wishes.send(wish);
                    }
                }
                Input::Line(line) => lines += &format!("{}\r\n", printable(&line)),
                Input::Changed => self.changed(),
                Input::Suspend => self.suspend(),
            }
        }
        if !lines.is_empty() {
            write(&(self.canvas.erase() + &lines));
        }
    }

    fn changed(&mut self) {
        if self.is_away && is_foreground() && self.mode.again().is_ok() {
            self.is_away = false;
            write(canvas::BEGIN);
        }
        let now = size();
        if now != self.size {
            self.size = now;
            write(&self.canvas.erase_resized(now.0, now.1));
        }
    }

    /// Gives the terminal back and stops the process until somebody continues it.
    fn suspend(&mut self) {
        self.leave();
        let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
        // Continued, which is told as well; in the background for now, unless it is found otherwise.
        self.changed();
    }

    fn draw(&mut self) {
        if self.is_away {
            return;
        }
        self.controls.follow(&self.snapshot);
        self.read_log();
        let lines: &[Line<'static>] = self.log.as_ref().map_or(&[], LogLines::lines);
        let scene = Scene {
            snapshot: &self.snapshot,
            project: self.project.as_deref(),
            controls: &self.controls,
            log: lines,
            now: UnixMs::now(),
        };
        let frame = frame(&scene, self.size.0, self.size.1);
        write(&self.canvas.draw(frame));
        self.controls.shown();
    }

    fn read_log(&mut self) {
        let wanted = self.controls.log_wanted();
        if self.log.as_ref().map(LogLines::agent) != wanted {
            self.log = wanted.map(|agent| LogLines::of(&self.log_dir, agent));
        }
        if let Some(log) = &mut self.log {
            log.look();
        }
    }

    /// Leaves the terminal as it was, below the frame.
    fn leave(&mut self) {
        if !self.is_away {
            self.is_away = true;
            self.canvas = Canvas::default();
            write(canvas::END);
            self.mode.leave();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.inputs.stop();
        if !thread::panicking() {
            // What was said last stands above the frame, too.
            self.heed();
            self.draw();
        }
        self.leave();
        // Said after that, or in a panic.
        for input in self.inputs.take() {
            if let Input::Line(line) = input {
                let _ = writeln!(std::io::stderr(), "{}", printable(&line));
            }
        }
    }
}

/// Columns and rows.
fn size() -> (u16, u16) {
    let narrow = |count| u16::try_from(count).unwrap_or(u16::MAX);
    (narrow(term::width()), narrow(term::height()))
}

/// One write, so that no half frame is seen. Whoever does not look any more keeps nothing from working.
fn write(text: &str) {
    if !text.is_empty() {
        let mut out = std::io::stdout();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
