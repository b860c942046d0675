//! How calls of tools and their results look. Pure; what comes out may still hold control characters.

use std::fmt::Write as _;

use serde_json::Value;
use shims::session::message::{ToolCall, ToolResult};

use crate::base::Masker;
use crate::base::text::ellipsis;

/// Most changed lines of a file that are shown.
const CHANGED_LINES: usize = 20;
/// Most lines of a result.
const RESULT_LINES: usize = 8;
/// Most characters of one of these lines.
const LINE: usize = 200;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What runs, or which file it is about.
    Title,
    Removed,
    Added,
    /// What a tool gave back, or something left out.
    Note,
    /// The same of a tool that failed.
    Failure,
}

/// A line to show.
pub(super) type Line = (Kind, String);

/// A call: a command as a whole, because a person may have to decide about it; of files what changes, at most twenty lines.
pub(super) fn call(call: &ToolCall, masker: &Masker) -> Vec<Line> {
    // Before anything is cut: the rest of a secret would not be known as one.
    let argument = |name: &str| masker.mask(&text(&call.args, name)).into_owned();
    // In one line whatever it holds: nothing that the model writes may look like a line of ours.
    let path = || one_line(&argument("path"));
    match call.name.as_str() {
        "bash" => {
            let mut title = format!("$ {}", argument("command").replace('\n', "\n  "));
            if let Some(seconds) = call.args.get("timeout").filter(|value| !value.is_null()) {
                let _ = write!(title, "  (timeout {seconds})");
            }
            vec![(Kind::Title, title)]
        }
        "read" => {
            let range = [("from line", "offset"), ("lines:", "limit")].map(|(word, name)| match call.args.get(name) {
                Some(value) if !value.is_null() => format!(" {word} {value}"),
                _ => String::new(),
            });
            vec![(Kind::Title, format!("read {}{}", path(), range.concat()))]
        }
        "edit" => {
            let (old, new) = (argument("oldText"), argument("newText"));
            let (old, new) = changed(&old, &new);
            let removed = old.iter().map(|line| (Kind::Removed, format!("- {line}")));
            let added = new.iter().map(|line| (Kind::Added, format!("+ {line}")));
            titled(format!("edit {}", path()), removed.chain(added).collect())
        }
        "write" => {
            let content = argument("content");
            let added = content.lines().map(|line| (Kind::Added, format!("+ {line}")));
            titled(format!("write {}", path()), added.collect())
        }
        other => {
            vec![(Kind::Title, format!("{} {}", one_line(other), ellipsis(&one_line(&masker.mask(&call.raw)), LINE)))]
        }
    }
}

/// A text with its line breaks made visible.
fn one_line(text: &str) -> String {
    text.replace('\r', "\\r").replace('\n', "\\n")
}

/// An argument as the tool takes it.
fn text(args: &serde_json::Map<String, Value>, name: &str) -> String {
    match args.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The lines of both texts that are not the same at their beginnings and ends.
fn changed<'t>(old: &'t str, new: &'t str) -> (Vec<&'t str>, Vec<&'t str>) {
    let (mut old, mut new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    while !old.is_empty() && old.last() == new.last() {
        old.pop();
        new.pop();
    }
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    (old.split_off(same), new.split_off(same))
}

/// A title with changed lines.
fn titled(title: String, changes: Vec<Line>) -> Vec<Line> {
    let count = changes.len();
    let mut lines = vec![(Kind::Title, title)];
    lines.extend(changes.into_iter().take(CHANGED_LINES).map(cut));
    if count > CHANGED_LINES {
        lines.push((Kind::Note, format!("… {} more changed lines", count - CHANGED_LINES)));
    }
    lines
}

fn cut((kind, line): Line) -> Line {
    (kind, ellipsis(&line, LINE).into_owned())
}

/// A result: the end of what a command printed or of an error, one line of everything else.
pub(super) fn result(result: &ToolResult, masker: &Masker) -> Vec<Line> {
    let text = result.text();
    let text = masker.mask(&text);
    let kind = if result.is_error { Kind::Failure } else { Kind::Note };
    let lines: Vec<&str> = text.trim_end().lines().collect();
    if result.tool == "read" && !result.is_error {
        let what = if lines.is_empty() { "an image".to_owned() } else { counted(lines.len()) };
        return vec![(kind, format!("  ({what})"))];
    }
    let left_out = lines.len().saturating_sub(RESULT_LINES);
    let mut shown = Vec::new();
    if left_out > 0 {
        shown.push((Kind::Note, format!("  … {} before", counted(left_out))));
    }
    shown.extend(lines[left_out..].iter().map(|line| cut((kind, format!("  {line}")))));
    shown
}

fn counted(lines: usize) -> String {
    if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shims::session::message::Content;

    use super::*;
    use crate::base::Secret;

    fn shown(tool: &str, args: Value) -> String {
        let lines = call(&ToolCall::from_raw("1", tool, args.to_string()), &Masker::default());
        lines.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn no_path_can_look_like_another_call() {
        for (tool, args) in [
            ("write", json!({"path": "x\n\n$ ls -l", "content": ""})),
            ("edit", json!({"path": "x\n\n$ ls -l", "oldText": "", "newText": ""})),
            ("read", json!({"path": "x\r\n$ ls -l"})),
            ("ls\n$ ls", json!({})),
        ] {
            assert!(!shown(tool, args).lines().any(|line| line.starts_with('$')), "{tool}");
        }
    }

    #[test]
    fn a_command_is_shown_as_a_whole() {
        let long = format!("echo {}", "x".repeat(1000));
        assert_eq!(shown("bash", json!({"command": long})), format!("$ {long}"));
        assert_eq!(shown("bash", json!({"command": "a\nb", "timeout": 5})), "$ a\n  b  (timeout 5)");
        assert_eq!(shown("bash", json!({"command": 5})), "$ 5");
    }

    #[test]
    fn of_a_file_what_changes_is_shown() {
        let edit = json!({"path": "a.txt", "oldText": "same\nold\nend", "newText": "same\nnew\nmore\nend"});
        assert_eq!(shown("edit", edit), "edit a.txt\n- old\n+ new\n+ more");
        assert_eq!(shown("write", json!({"path": "b", "content": "1\n2\n"})), "write b\n+ 1\n+ 2");
        assert_eq!(shown("read", json!({"path": "b", "offset": 7, "limit": null})), "read b from line 7");
        assert_eq!(shown("grep", json!({"x": 1})), "grep {\"x\":1}");
    }

    #[test]
    fn no_more_than_twenty_changed_lines_are_shown() {
        let content: String = (1..=30).map(|line| format!("{line}\n")).collect();
        let lines = call(
            &ToolCall::from_raw("1", "write", json!({"path": "b", "content": content}).to_string()),
            &Masker::default(),
        );
        assert_eq!(lines.len(), 22);
        assert_eq!(lines[20], (Kind::Added, "+ 20".to_owned()));
        assert_eq!(lines[21], (Kind::Note, "… 10 more changed lines".to_owned()));
        let wide = shown("write", json!({"path": "b", "content": "y".repeat(500)}));
        assert_eq!(wide.chars().count(), "write b\n".len() + LINE);
    }

    #[test]
    fn of_a_result_the_end_is_shown() {
        let result_of = |tool: &str, text: &str, is_error| {
            let content = vec![Content::Text(text.to_owned())];
            result(&ToolResult { call_id: "1".into(), tool: tool.into(), content, is_error }, &Masker::default())
        };
        assert_eq!(
            result_of("bash", "one\ntwo\n", false),
            [(Kind::Note, "  one".into()), (Kind::Note, "  two".into())]
        );
        let many: String = (1..=10).map(|line| format!("{line}\n")).collect();
        let lines = result_of("bash", &many, true);
        assert_eq!(
            (lines.len(), &lines[0].1, &lines[8]),
            (9, &"  … 2 lines before".to_owned(), &(Kind::Failure, "  10".into()))
        );
        assert_eq!(result_of("read", &many, false), [(Kind::Note, "  (10 lines)".into())]);
        assert_eq!(result_of("read", "no such file", true), [(Kind::Failure, "  no such file".into())]);
    }

    #[test]
    fn a_secret_is_masked_before_anything_is_cut() {
        let secret = "hunter2-".repeat(40);
        let masker = Masker::new(&[Secret::new(&*secret)]);
        let args = json!({"path": "b", "content": format!("{}{secret}", "y".repeat(100))});
        let lines = call(&ToolCall::from_raw("1", "write", args.to_string()), &masker);
        assert_eq!(lines[1].1, format!("+ {}***", "y".repeat(100)));
    }
}
