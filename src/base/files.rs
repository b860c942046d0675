//! Files and directories: private ones, atomic writes, lexical paths.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Creates a directory with mode 0700 if need be, or takes an existing one and sets it to 0700.
///
/// # Errors
/// When it is no real directory (a symbolic link counts as none), belongs to someone else, or the system refuses.
pub fn ensure_private_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
            if !found.is_dir() {
                bail!("{} is not a directory", path.display());
            }
            if found.uid() != rustix::process::geteuid().as_raw() {
                bail!("{} belongs to another user (uid {})", path.display(), found.uid());
            }
        }
        Err(error) => return Err(error).with_context(|| format!("create directory {}", path.display())),
    }
    // Also after creating it: the umask may have taken bits away that the owner needs.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("set mode of {} to 0700", path.display()))
}

/// Creates a new file with exactly this content and mode, whatever the umask. Never follows a link, never replaces.
///
/// # Errors
/// When the file exists or the system refuses.
pub fn create_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Makes something in the directory for temporary files. An error names it, and what chooses it.
///
/// # Errors
/// When it cannot be made.
pub fn in_temporary_dir<T>(make: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let dir = std::env::temp_dir();
    make(&dir).with_context(|| {
        format!(
            "cannot use {} for temporary files; make room there, or choose another directory with TMPDIR",
            dir.display()
        )
    })
}

/// Replaces a file's content so that a reader sees the old or the new one, also after a crash.
///
/// # Errors
/// When the system refuses; the old content is then still there.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().with_context(|| format!("{} has no file name", path.display()))?;
    let temporary = dir.join(format!(".{}.tmp-{}", name.to_string_lossy(), super::ids::hex8()));
    let write = || -> Result<()> {
        create_new(&temporary, content, mode)?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()?;
        Ok(())
    };
    write().with_context(|| format!("replace {}", path.display())).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Whether a directory is on a file system that lives in memory.
pub fn is_in_memory(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    rustix::fs::statfs(path).is_ok_and(|found| [TMPFS, RAMFS].contains(&(found.f_type as u64)))
}

/// Makes a path absolute without looking at the file system: joined to `base`, then `.`, `..`, repeated and trailing
/// slashes taken out. Symbolic links are not resolved (cli-config.md §1.2).
pub fn absolute_lexically(path: &Path, base: &Path) -> PathBuf {
    let mut absolute = PathBuf::from("/");
    for part in base.join(path).components() {
        match part {
            Component::Normal(name) => absolute.push(name),
            Component::ParentDir => {
                absolute.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    absolute
}

/// The current directory as the user sees it: `$PWD` when it is a clean absolute path to the same directory, so that a
/// symbolic link in it is kept.
///
/// # Errors
/// When the current directory does not exist any more.
pub fn current_dir() -> Result<PathBuf> {
    let real = std::env::current_dir().context("find the current directory")?;
    let Some(shown) = std::env::var_os("PWD").map(PathBuf::from) else { return Ok(real) };
    let clean = shown.is_absolute() && absolute_lexically(&shown, Path::new("/")) == shown;
    let same = || -> io::Result<bool> {
        let (a, b) = (fs::metadata(&shown)?, fs::metadata(&real)?);
        Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
    };
    Ok(if clean && same().unwrap_or(false) { shown } else { real })
}

/// Opens a file for reading. What would block until somebody writes, or never end, is not opened: a pipe, a device.
///
/// # Errors
/// When it cannot be opened, or is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let not_blocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(not_blocking).open(path)?;
    match file.metadata()?.file_type() {
        kind if kind.is_file() => Ok(file),
        kind if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Reads a text file; `None` when it does not exist.
///
/// # Errors
/// When it cannot be read, is no regular file, or is not UTF-8.
pub fn read_optional(path: &Path) -> Result<Option<String>> {
    match open_regular(path).and_then(read_text) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Reads all of a file. Where it is not UTF-8 the error says in which line, and which byte is wrong.
fn read_text(mut file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let text = format!("is not UTF-8: line {line}, byte {} of the file is {:#04x}", at + 1, bytes[at]);
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_block_or_never_end_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero"), dir.path()] {
            assert!(read_optional(path).is_err(), "{}", path.display());
        }
        assert!(read_optional(&dir.path().join("none")).unwrap().is_none());
        let text = dir.path().join("text");
        fs::write(&text, "x").unwrap();
        assert_eq!(read_optional(&text).unwrap().as_deref(), Some("x"));
    }

    #[track_caller]
    fn lexical(path: &str, expected: &str) {
        assert_eq!(absolute_lexically(Path::new(path), Path::new("/home/ann")), Path::new(expected));
    }

    #[test]
    fn paths_are_cleaned_without_the_file_system() {
        lexical(".", "/home/ann");
        lexical("a//b/./c/", "/home/ann/a/b/c");
        lexical("../../../x", "/x");
        lexical("/srv/p/../q", "/srv/q");
    }

    #[test]
    fn private_directories_are_0700_and_links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        ensure_private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(ensure_private_dir(&link).unwrap_err().to_string().contains("not a directory"));
    }

    #[test]
    fn atomic_write_replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
