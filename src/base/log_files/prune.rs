//! Which log files are too old or too many, and taking them away (scheduler.md §13.1).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::name_and_day;
use super::position::Day;
use crate::base::clock::UnixMs;

/// What was taken away.
#[derive(Debug, Default)]
pub struct Pruned {
    pub removed: Vec<PathBuf>,
    /// Files that could not be removed, and why.
    pub failed: Vec<(PathBuf, io::Error)>,
}

struct LogFile {
    path: PathBuf,
    name: String,
    day: Day,
    bytes: u64,
}

/// Removes log files: first those of more than `days` days ago (0 keeps them), then the oldest ones until all together
/// have at most `bytes` (`None` is no limit). To make room the newest file of a log is never removed: it may be the one
/// that is written to, and it is what `al logs` shows.
///
/// # Errors
/// When the directory is there but cannot be read. A file that cannot be removed is reported and left.
pub fn prune(dir: &Path, days: u32, bytes: Option<u64>, now: UnixMs) -> io::Result<Pruned> {
    let mut files = files(dir)?;
    let mut pruned = Pruned::default();
    if days > 0 {
        let age = Duration::from_secs(u64::from(days) * 86_400);
        let oldest = Day::of(UnixMs(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))));
        files.retain(|file| file.day >= oldest || !pruned.remove(&file.path));
    }
    if let Some(limit) = bytes {
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        let mut newest: HashMap<String, Day> = HashMap::new();
        files.iter().for_each(|file| drop(newest.insert(file.name.clone(), file.day.clone())));
        let spare = files.iter().filter(|file| newest[&file.name] != file.day);
        for file in spare {
            if total <= limit {
                break;
            }
            if pruned.remove(&file.path) {
                total -= file.bytes;
            }
        }
    }
    Ok(pruned)
}

impl Pruned {
    fn remove(&mut self, path: &Path) -> bool {
        match fs::remove_file(path) {
            Ok(()) => self.removed.push(path.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.failed.push((path.to_owned(), error));
                return false;
            }
        }
        true
    }
}

/// All log files, oldest first.
fn files(dir: &Path) -> io::Result<Vec<LogFile>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(found) = entry.metadata() else { continue };
        if let Some((name, day)) = entry.file_name().to_str().and_then(name_and_day)
            && found.is_file()
        {
            files.push(LogFile { path: entry.path(), name: name.to_owned(), day, bytes: found.len() });
        }
    }
    files.sort_by(|a, b| (&a.day, &a.name).cmp(&(&b.day, &b.name)));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_772_841_600_000); // 2026-03-07T00:00:00Z

    fn bed(files: &[(&str, usize)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, bytes) in files {
            fs::write(dir.path().join(file), vec![b'x'; *bytes]).unwrap();
        }
        dir
    }

    fn left(dir: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_older_than_so_many_days_go() {
        let dir = bed(&[
            ("dev-2026-03-04.log", 1),
            ("dev-2026-03-05.log", 1),
            ("dev-2026-03-07.log", 1),
            ("gone-2025-01-01.log", 1),
            ("notes.log", 1),
            ("dev-2026-03-04.log.gz", 1),
        ]);
        let pruned = prune(dir.path(), 2, None, NOW).unwrap();
        assert_eq!(pruned.removed, ["gone-2025-01-01.log", "dev-2026-03-04.log"].map(|file| dir.path().join(file)));
        assert_eq!(left(&dir), ["dev-2026-03-04.log.gz", "dev-2026-03-05.log", "dev-2026-03-07.log", "notes.log"]);
        assert!(prune(dir.path(), 0, None, NOW).unwrap().removed.is_empty());
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits_but_never_the_newest_of_a_log() {
        let files = [
            ("a-2026-03-01.log", 100),
            ("b-2026-03-02.log", 100),
            ("a-2026-03-03.log", 100),
            ("b-2026-03-04.log", 100),
            ("old-2026-02-01.log", 100),
        ];
        let dir = bed(&files);
        prune(dir.path(), 0, Some(400), NOW).unwrap();
        assert_eq!(left(&dir), ["a-2026-03-03.log", "b-2026-03-02.log", "b-2026-03-04.log", "old-2026-02-01.log"]);
        prune(dir.path(), 0, Some(1), NOW).unwrap();
        assert_eq!(left(&dir), ["a-2026-03-03.log", "b-2026-03-04.log", "old-2026-02-01.log"]);
        let dir = bed(&files);
        assert!(prune(dir.path(), 0, Some(500), NOW).unwrap().removed.is_empty());
    }

    #[test]
    fn what_cannot_be_removed_is_reported() {
        assert!(prune(Path::new("/nonexistent"), 1, Some(1), NOW).unwrap().removed.is_empty());
        let dir = bed(&[]);
        fs::create_dir(dir.path().join("a-2026-01-01.log")).unwrap();
        let pruned = prune(dir.path(), 1, Some(0), NOW).unwrap();
        assert!(pruned.removed.is_empty() && pruned.failed.is_empty(), "a directory is no log file");
    }
}
