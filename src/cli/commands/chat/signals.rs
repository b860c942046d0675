//! What ends the running turn of a chat, or the chat: Ctrl-C, SIGTERM, SIGHUP and SIGQUIT.

use std::fs;
use std::io::{PipeReader, PipeWriter, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use shims::session::ToolGroups;
use signal_hook::consts::{SIGINT, SIGQUIT};
use signal_hook::low_level::emulate_default_handler;

use super::descendants;
use crate::base::{Cancel, signals, worker};
use crate::ui::put_terminal_back;

/// Ctrl-C again within this time ends the chat.
const AGAIN: Duration = Duration::from_secs(2);
/// How long the end may take.
const LAST_GRACE: Duration = Duration::from_secs(2);
/// Ctrl-C as a terminal sends it.
const CTRL_C: &[u8] = b"\x03";

/// What signals do; clones share it.
#[derive(Clone)]
pub(super) struct Signals(Arc<Mutex<State>>);

struct State {
    /// Ends everything that is waited for, beside turns.
    chat: Cancel,
    /// The turn that is going on.
    turn: Option<Cancel>,
    /// A conversation is held: it goes on after Ctrl-C, in a turn or between two.
    goes_on: bool,
    last_interrupt: Option<Instant>,
    /// The signal that ends the chat.
    ending: Option<i32>,
    /// What is written here is as if it was typed; closing it ends the waiting for keys.
    wake: Option<PipeWriter>,
    groups: ToolGroups,
    directories: Vec<PathBuf>,
}

impl Signals {
    /// Takes the signals over. From the other end those who wait for keys learn of them.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen(groups: ToolGroups) -> Result<(Self, PipeReader)> {
        let (reader, writer) = std::io::pipe().context("make a pipe")?;
        let signals = Self(Arc::new(Mutex::new(State {
            chat: Cancel::new(),
            turn: None,
            goes_on: false,
            last_interrupt: None,
            ending: None,
            wake: Some(writer),
            groups,
            directories: Vec::new(),
        })));
        let mut incoming = signals::take_over(&signals::ENDING)?;
        let shared = signals.clone();
        worker::spawn("signals", move || {
            for signal in incoming.forever() {
                let ends = match signal {
                    SIGINT => shared.lock().interrupt(Instant::now()),
                    SIGQUIT => {
                        shared.lock().ending.get_or_insert(SIGQUIT);
                        shared.clean_up();
                        let _ = emulate_default_handler(SIGQUIT);
                        continue;
                    }
                    other => shared.lock().end(other),
                };
                if ends {
                    shared.see_to_the_end(signal);
                }
            }
        })?;
        Ok((signals, reader))
    }

    /// Cancelled when the chat ends.
    pub(super) fn token(&self) -> Cancel {
        self.lock().chat.clone()
    }

    /// A conversation begins, with as many turns as the person wants.
    pub(super) fn begin_conversation(&self) {
        self.lock().goes_on = true;
    }

    /// A turn begins; its token.
    pub(super) fn begin_turn(&self) -> Cancel {
        let mut state = self.lock();
        let turn = Cancel::new();
        if state.ending.is_some() {
            turn.cancel();
        }
        state.turn = Some(turn.clone());
        turn
    }

    /// It is over.
    pub(super) fn end_turn(&self) {
        self.lock().turn = None;
    }

    /// Ctrl-C was typed as an answer within a turn, unless that stands for a signal that is known.
    pub(super) fn interrupt_turn(&self) {
        let mut state = self.lock();
        if state.turn.as_ref().is_some_and(|turn| !turn.is_cancelled()) {
            state.interrupt(Instant::now());
        }
    }

    /// Ctrl-C was typed where a message is; whether that ends the chat.
    pub(super) fn is_second_interrupt(&self) -> bool {
        self.lock().is_second(Instant::now())
    }

    /// The exit status, when a signal ends the chat.
    pub(super) fn ended(&self) -> Option<u8> {
        self.lock().ending.and_then(|signal| u8::try_from(128 + signal).ok())
    }

    /// Waits to be killed when SIGQUIT has come: it is no exit status that says so.
    pub(super) fn await_death(&self) {
        while self.lock().ending == Some(SIGQUIT) {
            thread::park();
        }
    }

    /// Directories that must not outlive the process, however it ends.
    pub(super) fn remove_at_the_end(&self, directories: impl IntoIterator<Item = PathBuf>) {
        self.lock().directories.extend(directories);
    }

    /// Nothing may keep the process from ending, and nothing secret may be left by it. Usually it has ended before.
    fn see_to_the_end(&self, signal: i32) {
        thread::sleep(LAST_GRACE);
        self.clean_up();
        std::process::exit(128 + signal);
    }

    /// Does what is left to do before the process ends.
    fn clean_up(&self) {
        let (groups, directories) = {
            let mut state = self.lock();
            (state.groups.clone(), std::mem::take(&mut state.directories))
        };
        groups.close();
        descendants::kill();
        directories.iter().for_each(|directory| drop(fs::remove_dir_all(directory)));
        put_terminal_back();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ctrl-C, wherever it came from; whether that ends the chat.
    fn interrupt(&mut self, now: Instant) -> bool {
        let is_second = self.is_second(now);
        match &self.turn {
            Some(turn) if !is_second => {
                turn.cancel();
                // It ends a question as well.
                if let Some(wake) = &mut self.wake {
                    let _ = wake.write_all(CTRL_C);
                }
            }
            // It was meant for an answer that has just ended.
            None if self.goes_on && !is_second => {}
            _ => return self.end(SIGINT),
        }
        false
    }

    fn is_second(&mut self, now: Instant) -> bool {
        let before = self.last_interrupt.replace(now);
        before.is_some_and(|before| now.duration_since(before) < AGAIN)
    }

    fn end(&mut self, signal: i32) -> bool {
        self.ending = Some(self.ending.unwrap_or(signal));
        self.chat.cancel();
        if let Some(turn) = &self.turn {
            turn.cancel();
        }
        self.wake = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::SIGTERM;

    use super::*;

    fn state() -> State {
        State {
            chat: Cancel::new(),
            turn: None,
            goes_on: false,
            last_interrupt: None,
            ending: None,
            wake: None,
            groups: ToolGroups::default(),
            directories: Vec::new(),
        }
    }

    #[test]
    fn ctrl_c_ends_the_turn_and_again_soon_the_chat() {
        let mut state = state();
        let (start, turn) = (Instant::now(), Cancel::new());
        state.turn = Some(turn.clone());
        assert!(!state.interrupt(start) && turn.is_cancelled() && !state.chat.is_cancelled());
        assert!(!state.interrupt(start + AGAIN), "that was long ago");
        assert!(state.interrupt(start + AGAIN + Duration::from_secs(1)) && state.chat.is_cancelled());
        assert_eq!(state.ending, Some(SIGINT));
    }

    #[test]
    fn before_there_is_a_conversation_ctrl_c_ends_the_chat() {
        let mut state = state();
        assert!(state.interrupt(Instant::now()));
        assert_eq!(state.ending, Some(SIGINT));
    }

    #[test]
    fn between_two_turns_ctrl_c_ends_the_chat_when_it_comes_again_soon() {
        let mut state = State { goes_on: true, ..state() };
        let start = Instant::now();
        assert!(!state.interrupt(start) && !state.chat.is_cancelled());
        assert!(!state.interrupt(start + AGAIN), "that was long ago");
        assert!(state.interrupt(start + AGAIN + Duration::from_secs(1)));
        assert_eq!(state.ending, Some(SIGINT));
    }

    #[test]
    fn other_signals_end_everything_at_once_and_the_first_counts() {
        let mut state = state();
        let turn = Cancel::new();
        state.turn = Some(turn.clone());
        assert!(state.end(SIGTERM) && turn.is_cancelled());
        state.interrupt(Instant::now());
        assert_eq!(state.ending, Some(SIGTERM));
    }
}
