//! What the system reports, reduced to what matters.

use std::path::PathBuf;

use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind, RenameMode};

/// Something happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// To the content of a file.
    Changed(PathBuf),
    /// To an entry of a directory, so that there may be other directories now. `is_gone`: nothing below the path is
    /// watched any more, even if something is there again.
    Restructured { path: PathBuf, is_gone: bool },
    /// Something, but nobody knows what.
    Missed,
    /// Nobody wants to know any more.
    End,
}

/// Notices of one event. Reading is none: whoever looks at an agent because of a notice must not cause the next one.
pub(super) fn of(event: notify::Result<Event>) -> Vec<Notice> {
    let Ok(event) = event else { return vec![Notice::Missed] };
    if event.need_rescan() {
        return vec![Notice::Missed];
    }
    let is_gone = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Data(_)) => {
            return event.paths.into_iter().map(Notice::Changed).collect();
        }
        // Its halves are reported, too.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) | EventKind::Access(_) => return Vec::new(),
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => true,
        // Permissions, too: a directory may have become readable.
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => false,
    };
    event.paths.into_iter().map(|path| Notice::Restructured { path, is_gone }).collect()
}
