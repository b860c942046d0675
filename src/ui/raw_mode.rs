//! A terminal that delivers every key at once and shows none, and how it was before.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

/// Whether Ctrl-C is a key as any other or a signal. In both modes nothing that is typed is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CtrlC {
    Key,
    Signal,
}

/// The terminal of standard input in raw mode; as it was before when dropped.
pub(super) struct RawMode {
    ctrl_c: CtrlC,
    before: Termios,
    is_on: AtomicBool,
}

impl RawMode {
    /// Has every key delivered at once, Ctrl-Z as well. What is written is treated as always.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub(super) fn enter(ctrl_c: CtrlC) -> Result<Self> {
        let before = tcgetattr(std::io::stdin()).context("read the settings of the terminal")?;
        let mode = Self { ctrl_c, before, is_on: AtomicBool::new(false) };
        mode.again()?;
        Ok(mode)
    }

    /// Goes back to raw mode after [`RawMode::leave`].
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn again(&self) -> Result<()> {
        let mut raw = self.before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN);
        raw.input_modes.remove(InputModes::ICRNL | InputModes::IXON);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        if self.ctrl_c == CtrlC::Signal {
            raw.local_modes.insert(LocalModes::ISIG);
            // No other signal: those would leave the terminal in this mode.
            raw.special_codes[SpecialCodeIndex::VQUIT] = 0;
            raw.special_codes[SpecialCodeIndex::VSUSP] = 0;
        }
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).context("change the settings of the terminal")?;
        self.is_on.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Puts the terminal back as it was, unless that has been done; gives whether it was to be done. Does not wait for what
    /// is still being written.
    pub(super) fn leave(&self) -> bool {
        let was_on = self.is_on.swap(false, Ordering::SeqCst);
        if was_on {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
        }
        was_on
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.leave();
    }
}
