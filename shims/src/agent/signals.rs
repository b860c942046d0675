//! The signal files that commands have left, and the exit code that follows from them (agent-session.md §6.5).

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde_json::json;

use super::report::{Field, Reporter};
use crate::wire::exit;

/// Longest return value that is reported.
const RETURN_LIMIT: usize = 1 << 20;
/// How much more of it is read, so that a secret across the limit is still recognised.
const MASK_MARGIN: u64 = 64 << 10;

/// Reports what the run has left behind and gives its exit code. `output_length`: characters that the model wrote.
pub(super) fn evaluate(dir: &Path, output_length: usize, report: &Reporter) -> i32 {
    if let Some(value) = read_signal(dir, "return", report) {
        report_return(&value, report);
    }
    if let Some(requested) = read_signal(dir, "exit", report).and_then(|text| parse_leading_integer(text.trim())) {
        let code = exit::of_exit_signal(requested);
        let reason = exit::reason(code);
        let fields = || [("exitCode", Field::from(code)), ("reason", Field::Text(&reason))];
        report.error("agent terminated with exit signal", &fields());
        let [code_field, reason_field] = fields();
        report.info("signal-result", &[("type", "exit".into()), code_field, reason_field]);
        return code;
    }
    let output_length = json!(output_length);
    if dir.join("rerun").exists() {
        report.info("run completed, rerun requested", &[("outputLength", output_length.into())]);
        report.info("signal-result", &[("type", "rerun".into())]);
        return exit::RERUN;
    }
    report.info("run completed", &[("outputLength", output_length.into())]);
    exit::OK
}

fn report_return(value: &str, report: &Reporter) {
    let masked = report.masked(value.trim());
    let cut = cut_bytes(&masked, RETURN_LIMIT);
    let mut fields = vec![("type", Field::Text("return")), ("value", Field::Text(cut))];
    if cut.len() < masked.len() {
        fields.push(("truncated", json!(true).into()));
    }
    report.info("signal-result", &fields);
}

/// Content of a signal file; `None` when there is none. Anything but a regular file (a pipe would never end) is none.
fn read_signal(dir: &Path, name: &str, report: &Reporter) -> Option<String> {
    let path = dir.join(name);
    if !fs::symlink_metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut content = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(RETURN_LIMIT as u64 + MASK_MARGIN).read_to_end(&mut content));
    match read {
        Ok(_) => Some(String::from_utf8_lossy(&content).into_owned()),
        Err(error) => {
            let error = format!("read {}: {error}", path.display());
            report.warn("signal file ignored", &[("error", Field::Text(&error))]);
            None
        }
    }
}

/// The first bytes of a text, cut on a character boundary.
fn cut_bytes(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The integer that a text begins with; values too large for the type are the largest there is.
fn parse_leading_integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = &digits[..digits.bytes().take_while(u8::is_ascii_digit).count()];
    if digits.is_empty() { None } else { Some(sign * digits.parse().unwrap_or(i64::MAX)) }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::Lines;
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn files_decide_the_exit_code_and_the_lines() {
        #[track_caller]
        fn case(files: &[(&str, &str)], code: i32, lines: &[&str]) {
            let dir = tempfile::tempdir().unwrap();
            for (name, content) in files {
                fs::write(dir.path().join(name), content).unwrap();
            }
            let (report, written) = Lines::new();
            assert_eq!(evaluate(dir.path(), 7, &report), code);
            assert_eq!(written.brief(), lines);
        }
        let completed = "info run completed {\"outputLength\":7}";
        case(&[], 0, &[completed]);
        case(&[("status", "half way")], 0, &[completed]);
        case(&[("return", " done \n")], 0, &[r#"info signal-result {"type":"return","value":"done"}"#, completed]);
        case(
            &[("rerun", "")],
            42,
            &["info run completed, rerun requested {\"outputLength\":7}", r#"info signal-result {"type":"rerun"}"#],
        );
        case(
            &[("rerun", ""), ("exit", "12"), ("return", "")],
            12,
            &[
                r#"info signal-result {"type":"return","value":""}"#,
                r#"error agent terminated with exit signal {"exitCode":12,"reason":"Rate limit exceeded"}"#,
                r#"info signal-result {"type":"exit","exitCode":12,"reason":"Rate limit exceeded"}"#,
            ],
        );
        case(
            &[("rerun", ""), ("return", "v")],
            42,
            &[
                r#"info signal-result {"type":"return","value":"v"}"#,
                "info run completed, rerun requested {\"outputLength\":7}",
                r#"info signal-result {"type":"rerun"}"#,
            ],
        );
        case(&[("exit", "soon")], 0, &[completed]);
        case(&[("exit", "")], 0, &[completed]);
    }

    #[test]
    fn exit_codes_with_another_meaning_become_15() {
        #[track_caller]
        fn case(content: &str, code: i32) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("exit"), content).unwrap();
            assert_eq!(evaluate(dir.path(), 0, &Lines::new().0), code, "{content:?}");
        }
        case("0", 0);
        case(" 16\n", 16);
        case("3 because", 3);
        case("123", 123);
        case("42", 15);
        case("124", 15);
        case("-1", 15);
        case("99999999999999999999", 15);
    }

    #[test]
    fn a_return_value_is_masked_and_cut_at_one_mebibyte() {
        let dir = tempfile::tempdir().unwrap();
        let secret = "hunter2-hunter2";
        let value = format!("{}{secret}{}", "x".repeat(RETURN_LIMIT - 5), "é".repeat(100_000));
        fs::write(dir.path().join("return"), value).unwrap();
        let (report, lines) = Lines::new();
        report.mask_secrets([("t", &Secret::new(secret))]);
        evaluate(dir.path(), 0, &report);
        let text = lines.text();
        let line = crate::wire::log::LogLine::parse(text.lines().next().unwrap()).unwrap();
        let value = line.fields["value"].as_str().unwrap();
        assert!(value.ends_with("x***é") && value.len() == RETURN_LIMIT, "{}", value.len());
        assert_eq!(line.fields["truncated"], true);
        assert!(!text.contains("hunt"));
    }

    #[test]
    fn a_pipe_in_place_of_a_file_does_not_stop_the_run() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["return", "exit"] {
            let made = std::process::Command::new("mkfifo").arg(dir.path().join(name)).status().unwrap();
            assert!(made.success());
        }
        assert_eq!(evaluate(dir.path(), 0, &Lines::new().0), 0);
    }
}
