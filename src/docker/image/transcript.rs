//! What a build prints: its end for an error, and its steps for people.

use std::collections::VecDeque;

use crate::base::process::Pipe;
use crate::base::text::{printable, tail};

/// What an error shows of a build's output.
const ERROR_LINES: usize = 100;
const ERROR_BYTES: usize = 16 * 1024;
/// Longest line of a build that is kept.
const LINE_BYTES: usize = 16 * 1024;

/// Output of a build.
#[derive(Default)]
pub(super) struct Transcript {
    pending: [Vec<u8>; 2],
    last: VecDeque<String>,
    /// Last line of standard error, where clients say what failed. In which order the two pipes are read is chance.
    last_error: Option<String>,
    progress: Progress,
}

impl Transcript {
    pub(super) fn push(&mut self, pipe: Pipe, bytes: &[u8], report: &mut dyn FnMut(&str)) {
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                self.line(pipe, report);
            } else if self.pending[pipe as usize].len() < LINE_BYTES {
                self.pending[pipe as usize].push(*byte);
            }
        }
    }

    pub(super) fn finish(&mut self, report: &mut dyn FnMut(&str)) {
        for pipe in [Pipe::Stdout, Pipe::Stderr] {
            self.line(pipe, report);
        }
    }

    fn line(&mut self, pipe: Pipe, report: &mut dyn FnMut(&str)) {
        let bytes = std::mem::take(&mut self.pending[pipe as usize]);
        let line = without_ansi(&String::from_utf8_lossy(&bytes));
        let line = printable(&line);
        if let Some(text) = self.progress.line(pipe, &line) {
            report(&text);
        }
        let is_notice = pipe == Pipe::Stderr && self.progress.in_notice;
        if !line.trim().is_empty() && !is_notice {
            if self.last.len() == ERROR_LINES {
                self.last.pop_front();
            }
            let line = line.trim_end();
            if pipe == Pipe::Stderr {
                self.last_error = Some(line.to_owned());
            }
            self.last.push_back(line.to_owned());
        }
    }

    /// The line that says what failed: the one that the builder ends with, else the last one of standard error, or at all.
    pub(super) fn failure(&self) -> &str {
        let says_so = |line: &&String| line.starts_with("ERROR: ") || line.starts_with("The command '");
        let line = self.last.iter().rev().find(says_so).or(self.last_error.as_ref()).or(self.last.back());
        line.map_or("it said nothing", String::as_str)
    }

    /// The end of what was printed.
    pub(super) fn end(&self) -> String {
        let text = self.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        tail(&text, ERROR_BYTES).to_owned()
    }
}

/// Removes escape sequences of terminals: `ESC [ … letter`.
fn without_ansi(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        text.push_str(&part[end..]);
    }
    text
}

/// Finds what people want to know in the output of a build.
#[derive(Default)]
struct Progress {
    /// Within the notice about the old builder, whose further lines are indented.
    in_notice: bool,
}

impl Progress {
    /// What a line, without escape sequences, is reported as; `None`: not at all.
    fn line(&mut self, pipe: Pipe, line: &str) -> Option<String> {
        let text = line.trim();
        if text.starts_with("DEPRECATED:") {
            self.in_notice = true;
            return None;
        }
        if self.in_notice && pipe == Pipe::Stderr && !text.is_empty() {
            self.in_notice = line.starts_with([' ', '\t']);
            if self.in_notice {
                return None;
            }
        }
        if text.is_empty() {
            return None;
        }
        if let Some(event) = buildkit_event(text) {
            let error = event.strip_prefix("ERROR").map(|rest| rest.strip_prefix(':').unwrap_or(rest));
            return match error {
                Some(rest) if rest.starts_with(' ') => Some(format!("Error: {}", rest.trim())),
                _ => buildkit_step(event),
            };
        }
        if let Some(step) = legacy_step(text) {
            return Some(step);
        }
        let noise = [
            "---> ",
            "Sending build context",
            "Removing intermediate container",
            "Successfully ",
            "[Warning] One or more build-args",
        ];
        if pipe == Pipe::Stdout || noise.iter().any(|start| text.starts_with(start)) {
            return None;
        }
        Some(text.to_owned())
    }
}

/// The rest of `#<n> <rest>`.
fn buildkit_event(text: &str) -> Option<&str> {
    let (number, rest) = text.strip_prefix('#')?.split_once(' ')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest.trim_start())
}

/// `[<i>/<t>] <text>`, `[ <i>/<t>] <text>`, `[<stage> <i>/<t>] <text>`.
fn buildkit_step(event: &str) -> Option<String> {
    let (bracket, text) = event.strip_prefix('[')?.split_once(']')?;
    let count = bracket.split_whitespace().last().filter(|count| is_count(count))?;
    Some(format!("Step {count}: {}", text.trim()))
}

/// `Step <i>/<t> : <text>`.
fn legacy_step(text: &str) -> Option<String> {
    let (count, text) = text.strip_prefix("Step ")?.split_once(" : ")?;
    is_count(count).then(|| format!("Step {count}: {}", text.trim()))
}

fn is_count(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('/').is_some_and(|(step, total)| is_number(step) && is_number(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn line(pipe: Pipe, line: &str, expected: Option<&str>) {
        let mut reported = Vec::new();
        Transcript::default().push(pipe, format!("{line}\n").as_bytes(), &mut |text| reported.push(text.to_owned()));
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(reported, expected, "{line:?}");
    }

    #[test]
    fn progress_of_both_builders() {
        use Pipe::{Stderr, Stdout};
        line(Stderr, "#5 [1/3] FROM acme/base:20-slim", Some("Step 1/3: FROM acme/base:20-slim"));
        line(Stderr, "#7 [ 2/10] RUN apk add jq", Some("Step 2/10: RUN apk add jq"));
        line(Stderr, "#12 [build 3/4] COPY . .", Some("Step 3/4: COPY . ."));
        line(Stderr, "\x1b[1m#5 [2/3] COPY . .\x1b[0m", Some("Step 2/3: COPY . ."));
        line(Stderr, "#9 ERROR: process did not complete", Some("Error: process did not complete"));
        line(Stderr, "#9 ERROR executor failed", Some("Error: executor failed"));
        line(Stderr, "#9 ERRORS are fine", None);
        line(Stderr, "#5 sha256:ab 2.1MB / 5.3MB", None);
        line(Stderr, "#1 [internal] load build definition from Dockerfile", None);
        line(Stderr, "#6 0.312 fetch", None);
        line(Stdout, "Step 2/7 : RUN true", Some("Step 2/7: RUN true"));
        line(Stdout, " ---> 1a2b3c4d5e6f", None);
        line(Stdout, "Sending build context to Docker daemon  4.096kB", None);
        line(Stderr, "Sending build context to Docker daemon  4.096kB", None);
        line(Stdout, "Removing intermediate container 0123", None);
        line(Stdout, "Successfully built 1a2b3c4d5e6f", None);
        line(Stderr, "[Warning] One or more build-args [GIT_SHA VERSION] were not consumed", None);
        line(Stdout, "Get:1 http://deb.debian.org bookworm", None);
        line(Stderr, "  debconf: delaying package configuration", Some("debconf: delaying package configuration"));
        line(Stderr, "# a comment of a script", Some("# a comment of a script"));
        line(Stdout, "   ", None);
    }

    #[test]
    fn the_notice_about_the_old_builder_is_left_out() {
        let text = "DEPRECATED: The legacy builder is deprecated.\n            Install the buildx component.\n\
                    \n            https://docs.docker.com/go/buildx/\n\nreal problem\n";
        let mut reported = Vec::new();
        let mut transcript = Transcript::default();
        transcript.push(Pipe::Stderr, text.as_bytes(), &mut |text| reported.push(text.to_owned()));
        assert_eq!(reported, ["real problem"]);
        assert_eq!(transcript.end(), "real problem");
    }

    #[test]
    fn carriage_returns_end_lines_and_reads_do_not() {
        let mut reported = Vec::new();
        let mut transcript = Transcript::default();
        for part in ["Step 1/2 : FR", "OM x\rStep 2/2 : RUN y"] {
            transcript.push(Pipe::Stdout, part.as_bytes(), &mut |text| reported.push(text.to_owned()));
        }
        transcript.finish(&mut |text| reported.push(text.to_owned()));
        assert_eq!(reported, ["Step 1/2: FROM x", "Step 2/2: RUN y"]);
    }

    #[test]
    fn the_line_that_says_what_failed_is_found() {
        #[track_caller]
        fn case(printed: &str, expected: &str) {
            let mut transcript = Transcript::default();
            transcript.push(Pipe::Stderr, printed.as_bytes(), &mut |_| {});
            assert_eq!(transcript.failure(), expected);
        }
        case(
            "#6 [2/2] RUN exit 9\n#6 ERROR: process\n------\n > [2/2] RUN exit 9:\n------\nDockerfile:2\n\
             ERROR: failed to solve: exit code: 9\n\nView build details: docker-desktop://x\n",
            "ERROR: failed to solve: exit code: 9",
        );
        let command = "The command '/bin/sh -c exit 9' returned a non-zero code: 9";
        case(&format!("Step 2/2 : RUN exit 9\n ---> Running in 1\n{command}\nRemoving\n"), command);
        case("Step 1/1 : FROM x\npull access denied\n", "pull access denied");
        case("", "it said nothing");
    }

    #[test]
    fn an_error_shows_the_end_of_both_pipes() {
        let mut transcript = Transcript::default();
        for number in 0..150 {
            let pipe = if number % 2 == 0 { Pipe::Stdout } else { Pipe::Stderr };
            transcript.push(pipe, format!("line {number}\n").as_bytes(), &mut |_| {});
        }
        let end = transcript.end();
        assert!(end.starts_with("line 50\nline 51\n") && end.ends_with("\nline 149"), "{end}");
    }
}
