//! A terminal that nobody looks at: what is written to it ends up in a file.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;

use anyhow::{Context as _, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// The end for a program; the other one is read until no program has this one any more.
pub(crate) struct Terminal {
    end: File,
}

impl Terminal {
    /// A terminal of so many rows and columns.
    pub(crate) fn open(rows: u16, columns: u16, output: PathBuf) -> Result<Self> {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&terminal).and_then(|()| unlockpt(&terminal))?;
        tcsetwinsize(&terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        let name = ptsname(&terminal, Vec::new())?.into_string().context("it has a plain name")?;
        let noctty = i32::try_from(rustix::fs::OFlags::NOCTTY.bits())?;
        let end = File::options().read(true).write(true).custom_flags(noctty).open(name)?;
        let mut output = File::create(output).context("make a file for its output")?;
        let mut terminal = File::from(terminal);
        thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = terminal.read(&mut buffer) {
                let _ = output.write_all(&buffer[..count]);
            }
        });
        Ok(Self { end })
    }

    /// A stream of a program.
    pub(crate) fn end(&self) -> Stdio {
        self.end.try_clone().map_or_else(|_| Stdio::null(), Stdio::from)
    }
}
