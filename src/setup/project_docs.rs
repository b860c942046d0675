//! The texts for assistants in a project, which an older release wrote (cli-config.md §14.5, §14.6).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::scaffold::agents_md;
use crate::base::files::{read_optional, write_atomic};

/// Both are copies of one text.
const NAMES: [&str; 2] = ["AGENTS.md", "CLAUDE.md"];
const MARK: (&str, &str) = ("<!-- action-llama ", " -->");

/// A file that could be replaced by that of this release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    pub path: PathBuf,
    pub why: Why,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is a link to nothing.
    Dangling,
    /// It is the text of this release, but for its mark.
    Mark { release: String },
    /// Another release wrote it; whether somebody has changed it since cannot be told.
    Older { release: String },
}

impl Stale {
    /// The question whether it is to be replaced.
    pub fn question(&self) -> String {
        let path = self.path.display();
        match &self.why {
            Why::Dangling => format!("{path} is a link to nothing. Write the text of this release there?"),
            Why::Mark { release } => format!("{path} is of release {release}. Write that of this release?"),
            Why::Older { release } => {
                format!(
                    "{path} is of release {release}. Write that of this release? Changes of your own would be lost."
                )
            }
        }
    }

    /// Whether nothing of anybody's own can be lost.
    pub fn is_harmless(&self) -> bool {
        !matches!(self.why, Why::Older { .. })
    }

    /// Writes the text of this release.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn refresh(&self) -> Result<()> {
        if self.path.is_symlink() {
            fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))?;
        }
        write_atomic(&self.path, agents_md().as_bytes(), 0o644)
    }
}

/// The files of a project that could be replaced. Those without our mark are somebody's own; a link to a file that is
/// there is left alone.
///
/// # Errors
/// A file that cannot be read.
pub fn stale(project: &Path) -> Result<Vec<Stale>> {
    let mut found = Vec::new();
    for path in NAMES.map(|name| project.join(name)) {
        let why = match (path.is_symlink(), path.exists()) {
            (true, false) => Some(Why::Dangling),
            (false, true) => read_optional(&path)?.and_then(|text| outdated(&text)),
            _ => None,
        };
        found.extend(why.map(|why| Stale { path, why }));
    }
    Ok(found)
}

fn outdated(text: &str) -> Option<Why> {
    let current = agents_md();
    let (body, release) = split(text)?;
    let (our_body, our_release) = split(&current)?;
    if release == our_release {
        return None;
    }
    let release = release.to_owned();
    Some(if body == our_body { Why::Mark { release } } else { Why::Older { release } })
}

/// The text and the release of its last line.
fn split(text: &str) -> Option<(&str, &str)> {
    let (body, last) = text.trim_end().rsplit_once('\n')?;
    Some((body.trim_end(), last.strip_prefix(MARK.0)?.strip_suffix(MARK.1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_the_mark_of_another_release_are_stale() {
        let current = agents_md();
        let older = current.replace(&format!("{}{}", MARK.0, shims::VERSION), "<!-- action-llama 0.1.0");
        assert_eq!(outdated(&current), None);
        assert_eq!(outdated("# My own\n"), None);
        assert_eq!(outdated(&older), Some(Why::Mark { release: "0.1.0".into() }));
        assert_eq!(outdated(&format!("mine\n{older}")), Some(Why::Older { release: "0.1.0".into() }));
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nothing", dir.path().join("CLAUDE.md")).unwrap();
        let found = stale(dir.path()).unwrap();
        assert!(found.len() == 1 && found[0].why == Why::Dangling && found[0].is_harmless());
        found[0].refresh().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("CLAUDE.md")).unwrap(), current);
        assert!(stale(dir.path()).unwrap().is_empty() && !dir.path().join("nothing").exists());
    }
}
