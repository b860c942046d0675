//! A terminal that delivers every key at once and shows none, and how it was before.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use rustix::process::getpgrp;
use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use rustix::termios::{tcgetattr, tcgetpgrp, tcsetattr};

use super::put_unless_stuck;
use crate::base::signals;

/// Modes that are on, outermost first; `None` when the terminal has been put back for good.
static ON: Mutex<Option<Vec<Arc<Mode>>>> = Mutex::new(Some(Vec::new()));

/// Whether Ctrl-C is a key as any other or a signal. In both modes nothing that is typed is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CtrlC {
    Key,
    Signal,
}

/// The terminal of standard input in raw mode; as it was before when dropped. A signal that kills the process puts it back as
/// well, unless a command has taken the signals over.
pub(super) struct RawMode(Arc<Mode>);

struct Mode {
    ctrl_c: CtrlC,
    before: Termios,
    /// What has to be written when it is put back from outside.
    end: Box<dyn Fn() -> String + Send + Sync>,
}

impl RawMode {
    /// Has every key delivered at once, Ctrl-Z as well. What is written is treated as always. `end` is what
    /// [`put_terminal_back`] writes.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub(super) fn enter(ctrl_c: CtrlC, end: impl Fn() -> String + Send + Sync + 'static) -> Result<Self> {
        signals::before_death(put_terminal_back)?;
        let before = tcgetattr(std::io::stdin()).context("read the settings of the terminal")?;
        let mode = Self(Arc::new(Mode { ctrl_c, before, end: Box::new(end) }));
        mode.again()?;
        Ok(mode)
    }

    /// Goes back to raw mode after [`RawMode::leave`].
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn again(&self) -> Result<()> {
        // Whoever is about to die changes nothing any more.
        if let Some(modes) = &mut *on() {
            tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0.raw())
                .context("change the settings of the terminal")?;
            modes.push(Arc::clone(&self.0));
        }
        Ok(())
    }

    /// Puts the terminal back as it was, unless that has been done; gives whether it was to be done. Does not wait for what
    /// is still being written.
    pub(super) fn leave(&self) -> bool {
        let mut on = on();
        let Some(modes) = &mut *on else { return false };
        let Some(index) = modes.iter().position(|mode| Arc::ptr_eq(mode, &self.0)) else { return false };
        modes.remove(index).put_back();
        true
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Mode {
    fn raw(&self) -> Termios {
        let mut raw = self.before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN);
        raw.input_modes.remove(InputModes::ICRNL | InputModes::IXON);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        if self.ctrl_c == CtrlC::Signal {
            raw.local_modes.insert(LocalModes::ISIG);
            // No other signal: a process that is stopped would leave the terminal in this mode.
            raw.special_codes[SpecialCodeIndex::VQUIT] = 0;
            raw.special_codes[SpecialCodeIndex::VSUSP] = 0;
        }
        raw
    }

    fn put_back(&self) {
        // In the background the terminal is another's, and touching it would stop the process.
        if is_foreground() {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
        }
    }
}

/// Puts the terminal back as it was before all that was done to it, from any thread and without waiting for anybody, because
/// the process is about to end: it is not changed again after this.
pub fn put_terminal_back() {
    if let Some(outermost) = on().take().and_then(|modes| modes.into_iter().next()) {
        outermost.put_back();
        put_unless_stuck(&(outermost.end)());
    }
}

/// Whether the terminal of standard input is this process's: it is not in the background.
pub(super) fn is_foreground() -> bool {
    match tcgetpgrp(std::io::stdin()) {
        Ok(group) => group == getpgrp(),
        // A terminal that controls nobody has no background.
        Err(error) => error == rustix::io::Errno::NOTTY && std::io::stdin().is_terminal(),
    }
}

fn on() -> MutexGuard<'static, Option<Vec<Arc<Mode>>>> {
    ON.lock().unwrap_or_else(PoisonError::into_inner)
}
