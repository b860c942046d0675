//! `write`: creates or replaces a file (agent-session.md §7.6).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use super::args::Args;
use super::paths::ToolPath;
use super::{Answer, Context, text};

pub(super) fn run(args: &Args, context: &Context) -> Answer {
    let path = ToolPath::new(args.text("path"), context);
    let content = args.text("content").as_bytes();
    if path.full().exists() {
        path.regular("write")?;
    } else if let Some(parent) = path.full().parent() {
        fs::create_dir_all(parent).map_err(|error| {
            let operation = format!("create the directory {} for", parent.display());
            path.failure(&operation, &error)
        })?;
    }
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path.full());
    opened.and_then(|mut file| file.write_all(content)).map_err(|error| path.failure("write", &error))?;
    text(format!("Wrote {} bytes to {path}", content.len()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::super::tests::{call, context};
    use super::*;

    #[test]
    fn creates_files_with_their_directories() {
        let (base, context) = context();
        let answer = call(&context, "write", json!({"path": "a/b/c.txt", "content": "grüße\n"}));
        assert_eq!(answer.unwrap(), "Wrote 8 bytes to a/b/c.txt");
        assert_eq!(fs::read_to_string(base.path().join("a/b/c.txt")).unwrap(), "grüße\n");
        let mode = fs::metadata(base.path().join("a/b/c.txt")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7133, 0, "{mode:o}");
    }

    #[test]
    fn replaces_content_and_keeps_the_mode() {
        let (base, context) = context();
        let file = base.path().join("run.sh");
        fs::write(&file, "a long old content").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        call(&context, "write", json!({"path": "run.sh", "content": "new"})).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn failures_name_operation_path_and_reason() {
        let (base, context) = context();
        fs::write(base.path().join("file"), "").unwrap();
        #[track_caller]
        fn case(context: &Context, path: &str, expected: &str) {
            let answer = call(context, "write", json!({"path": path, "content": "x"})).unwrap_err();
            assert!(answer.contains(expected), "{answer}");
        }
        case(&context, "home", "Cannot write home: it is a directory");
        case(&context, "/dev/null", "Cannot write /dev/null: it is not a regular file");
        let parent = base.path().join("file/below");
        let expected = format!("Cannot create the directory {} for file/below/x: Not a directory", parent.display());
        case(&context, "file/below/x", &expected);
        case(&context, "", "it is a directory");
    }
}
