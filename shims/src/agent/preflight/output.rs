//! Files that steps write: whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A file that appears under its name only when it is complete.
pub(super) struct OutputFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    bytes: u64,
    limit: u64,
}

impl OutputFile {
    /// A file that will be at `path` and hold at most `limit` bytes. Missing directories are made.
    ///
    /// # Errors
    /// The directory or the file cannot be made.
    pub(super) fn create(path: PathBuf, limit: u64) -> Result<Self> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let name = path.file_name().with_context(|| format!("{} is not the name of a file", path.display()))?;
        let temporary = dir.join(format!(".{}.{}.part", name.display(), std::process::id()));
        let file = File::create(&temporary).with_context(|| format!("create {}", temporary.display()))?;
        Ok(Self { file, temporary, path, bytes: 0, limit })
    }

    /// Gives the file its name; what was there before is replaced. Gives its size in bytes.
    ///
    /// # Errors
    /// There is a directory of that name.
    pub(super) fn finish(self) -> Result<u64> {
        fs::rename(&self.temporary, &self.path).with_context(|| format!("write {}", self.path.display()))?;
        Ok(self.bytes)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes + bytes.len() as u64 > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the output is larger than {} MiB", self.limit >> 20),
            ));
        }
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        // Gone already when it was finished.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/out");
        let mut file = OutputFile::create(path.clone(), 1 << 20).unwrap();
        file.write_all(b"abc").unwrap();
        drop(file);
        assert!(!path.exists());
        let mut file = OutputFile::create(path.clone(), 1 << 20).unwrap();
        file.write_all(b"abc").unwrap();
        assert_eq!(file.finish().unwrap(), 3);
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        let mut file = OutputFile::create(path.clone(), 1 << 20).unwrap();
        let error = file.write_all(&vec![0; (1 << 20) + 1]).unwrap_err();
        assert!(error.to_string().contains("larger than 1 MiB"), "{error}");
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
