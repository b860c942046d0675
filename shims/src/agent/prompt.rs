//! The prompt of a run: the skeleton from the image and the dynamic part from the host (containers.md §6.2, §10.8).

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::setup::{Paths, read_if_there, remove_if_there};
use crate::env::Environment;
use crate::wire::paths;

/// Longest text that fits into one environment string with its name (`PROMPT=`, terminating NUL; the system's limit is
/// 128 KiB).
const LONGEST_VARIABLE: usize = 131_064;

/// Finds the dynamic part and puts it into the environment: `PROMPT` when it fits, `AL_PROMPT_FILE` when it came as a
/// file. `None` when there is none.
///
/// # Errors
/// A prompt file cannot be read, or its parts cannot be put together.
pub(super) fn load_dynamic_part(paths: &Paths, environment: &mut Environment) -> Result<Option<String>> {
    let named = environment.remove("AL_PROMPT_FILE").filter(|name| !name.is_empty()).map(PathBuf::from);
    let passed = environment.remove("PROMPT");
    let mut content = None;
    for path in named.into_iter().chain([PathBuf::from(paths::PROMPT_FILE)]) {
        let Some(first) = read_if_there(&path)? else { continue };
        let (whole, file) = join_parts(first, path, &paths.tmp)?;
        environment.set("AL_PROMPT_FILE", file);
        content = Some(whole);
        break;
    }
    let content = content.or_else(|| passed.map(|text| text.into_encoded_bytes()));
    let text = content.map(|content| String::from_utf8_lossy(&content).into_owned());
    if let Some(text) = text.as_ref().filter(|text| text.len() <= LONGEST_VARIABLE && !text.contains('\0')) {
        environment.set("PROMPT", text);
    }
    Ok(text)
}

/// Adds the files `<path>.1`, `<path>.2`, …; gives the whole, and the one file that has it.
fn join_parts(mut content: Vec<u8>, path: PathBuf, tmp: &Path) -> Result<(Vec<u8>, PathBuf)> {
    let mut parts = 1;
    loop {
        let mut name = path.clone().into_os_string();
        name.push(format!(".{parts}"));
        match read_if_there(Path::new(&name))? {
            Some(part) => content.extend(part),
            None => break,
        }
        parts += 1;
    }
    if parts == 1 {
        return Ok((content, path));
    }
    let joined = write(&content, tmp)?;
    Ok((content, joined))
}

/// Puts the dynamic part into a file that only its owner can read, and nobody change.
fn write(content: &[u8], tmp: &Path) -> Result<PathBuf> {
    let path = tmp.join("prompt.txt");
    remove_if_there(&path)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&path)
        .and_then(|mut file| file.write_all(content))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// The file that has the whole dynamic part. It is made, and named in the environment, when there is none yet.
///
/// # Errors
/// It cannot be written.
pub(super) fn ensure_file(dynamic: &str, tmp: &Path, environment: &mut Environment) -> Result<PathBuf> {
    if let Some(file) = environment.get_non_empty("AL_PROMPT_FILE") {
        return Ok(file.into());
    }
    let file = write(dynamic.as_bytes(), tmp)?;
    environment.set("AL_PROMPT_FILE", &file);
    Ok(file)
}

/// The parts of the full prompt; at least one is there.
pub(super) struct Prompt {
    /// The same for all runs of an agent.
    pub skeleton: Option<String>,
    /// Why this run takes place.
    pub trigger: Option<String>,
}

impl Prompt {
    /// The parts with a blank line between them.
    pub(super) fn join(self) -> String {
        let parts: Vec<String> = [self.skeleton, self.trigger].into_iter().flatten().collect();
        parts.join("\n\n")
    }
}

/// The full prompt: skeleton and dynamic part, or the one that there is.
///
/// # Errors
/// Both are missing.
pub(super) fn assemble(statics: &Path, dynamic: Option<String>) -> Result<Prompt> {
    let path = statics.join(paths::SKELETON_NAME);
    let skeleton = match read_if_there(&path)? {
        Some(skeleton) => Some(String::from_utf8(skeleton).with_context(|| format!("read {}", path.display()))?),
        None => None,
    };
    let trigger = dynamic.filter(|text| !text.is_empty());
    if skeleton.is_none() && trigger.is_none() {
        bail!(
            "no prompt: there is no {}, no file in AL_PROMPT_FILE or at {}, and PROMPT is not set",
            path.display(),
            paths::PROMPT_FILE
        );
    }
    Ok(Prompt { skeleton, trigger })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn places(dir: &Path) -> Paths {
        Paths::of(&[("AL_TMP_DIR", dir.as_os_str()), ("AL_STATIC_DIR", dir.as_os_str())].into_iter().collect())
    }

    #[test]
    fn parts_split_inside_a_character_are_joined() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("in.txt");
        let bytes = "grüße".as_bytes();
        fs::write(&file, &bytes[..3]).unwrap();
        fs::write(dir.path().join("in.txt.1"), &bytes[3..4]).unwrap();
        fs::write(dir.path().join("in.txt.2"), &bytes[4..]).unwrap();
        let mut environment: Environment =
            [("AL_PROMPT_FILE", file.to_str().unwrap()), ("PROMPT", "old")].into_iter().collect();
        let text = load_dynamic_part(&places(dir.path()), &mut environment).unwrap();
        assert_eq!(text.as_deref(), Some("grüße"));
        assert_eq!(environment.get("PROMPT"), Some("grüße"));
        let joined = dir.path().join("prompt.txt");
        assert_eq!(environment.get("AL_PROMPT_FILE"), joined.to_str());
        assert!(fs::metadata(&joined).unwrap().permissions().readonly());
        assert_eq!(fs::read_to_string(joined).unwrap(), "grüße");
    }

    #[test]
    fn a_text_too_long_for_a_variable_stays_in_its_file() {
        #[track_caller]
        fn case(text: &str, has_variable: bool) {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("in.txt");
            fs::write(&file, text).unwrap();
            let mut environment: Environment = [("AL_PROMPT_FILE", file.as_os_str())].into_iter().collect();
            assert_eq!(load_dynamic_part(&places(dir.path()), &mut environment).unwrap().as_deref(), Some(text));
            assert_eq!(environment.get("PROMPT").is_some(), has_variable);
            assert_eq!(environment.get("AL_PROMPT_FILE"), file.to_str());
        }
        case(&"x".repeat(LONGEST_VARIABLE), true);
        case(&"x".repeat(LONGEST_VARIABLE + 1), false);
        case("a\0b", false);
    }

    #[test]
    fn the_variable_alone_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let mut environment: Environment =
            [("AL_PROMPT_FILE", "/nonexistent/prompt"), ("PROMPT", "do it")].into_iter().collect();
        assert_eq!(load_dynamic_part(&places(dir.path()), &mut environment).unwrap().as_deref(), Some("do it"));
        assert_eq!(environment.get("AL_PROMPT_FILE"), None);
        assert_eq!(environment.get("PROMPT"), Some("do it"));
    }

    #[test]
    fn joins_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let joined = |dynamic: Option<&str>| assemble(dir.path(), dynamic.map(str::to_owned)).map(Prompt::join);
        assert!(joined(None).unwrap_err().to_string().contains("PROMPT"));
        assert_eq!(joined(Some("dynamic")).unwrap(), "dynamic");
        fs::write(dir.path().join("prompt-static.txt"), "<a>\n</a>").unwrap();
        assert_eq!(joined(Some("dynamic")).unwrap(), "<a>\n</a>\n\ndynamic");
        assert_eq!(joined(None).unwrap(), "<a>\n</a>");
    }

    #[test]
    fn a_part_without_a_file_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut environment = Environment::default();
        let made = ensure_file("why", dir.path(), &mut environment).unwrap();
        assert_eq!(fs::read_to_string(&made).unwrap(), "why");
        assert_eq!(environment.get("AL_PROMPT_FILE"), made.to_str());
        let mut environment: Environment = [("AL_PROMPT_FILE", "/there")].into_iter().collect();
        assert_eq!(ensure_file("why", dir.path(), &mut environment).unwrap(), Path::new("/there"));
    }
}
