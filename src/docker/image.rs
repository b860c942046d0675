//! Images: looking at them, building, tagging, removing.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::cli::{Docker, DockerError, Failure, PROBE_LIMIT, PULL_LIMIT};
use super::probe::major_minor;
use crate::base::files::{create_new, in_temporary_dir};
use crate::base::ids;
use crate::base::process::{Limit, Pipe, Reason, Watch};
use crate::base::text::{printable, tail};

/// A build that prints nothing for so long is stuck.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// What an error shows of a build's output.
const ERROR_LINES: usize = 100;
const ERROR_BYTES: usize = 16 * 1024;
/// Longest line of a build that is kept.
const LINE_BYTES: usize = 16 * 1024;
/// Entry point that Dockerfiles of earlier versions set; it does not exist any more.
const FORMER_ENTRYPOINT: [&str; 2] = ["node", "/app/dist/agents/container-entry.js"];

/// An image in the local store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`
    pub id: String,
    /// Names with tags, as Docker shows them.
    pub tags: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub entrypoint: Entrypoint,
    digests: Vec<String>,
}

/// What an image would execute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entrypoint {
    /// Nothing of its own: the entry program has to be given.
    #[default]
    Missing,
    /// A wrapper that executes the entry program.
    Own,
}

impl Image {
    /// A label; empty when it is not set.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    fn is_called(&self, reference: &str) -> bool {
        let familiar = familiar(reference);
        self.id == reference || self.tags.contains(&familiar) || self.digests.contains(&familiar)
    }
}

/// The images that were found among those asked for.
#[derive(Clone, Debug, Default)]
pub struct Images(Vec<Image>);

impl Images {
    /// An image by the reference under which it was asked for.
    pub fn find(&self, reference: &str) -> Option<&Image> {
        self.0.iter().find(|image| image.is_called(reference))
    }
}

/// A reference as Docker writes it in `RepoTags` and `RepoDigests`.
fn familiar(reference: &str) -> String {
    let mut name = reference;
    for prefix in ["docker.io/", "index.docker.io/"] {
        name = name.strip_prefix(prefix).unwrap_or(name);
    }
    name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawImage {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    config: Option<RawConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    entrypoint: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

fn parse(line: &str) -> Result<Image> {
    let raw: RawImage = serde_json::from_str(line).context("read what docker image inspect gave")?;
    let config = raw.config.unwrap_or_default();
    let entrypoint = config.entrypoint.unwrap_or_default();
    let missing = entrypoint.is_empty() || entrypoint == FORMER_ENTRYPOINT;
    Ok(Image {
        id: raw.id,
        tags: raw.repo_tags.unwrap_or_default(),
        labels: config.labels.unwrap_or_default(),
        entrypoint: if missing { Entrypoint::Missing } else { Entrypoint::Own },
        digests: raw.repo_digests.unwrap_or_default(),
    })
}

/// Looks at any number of images with one start of the client. Those that do not exist are left out.
///
/// # Errors
/// When the daemon does not answer or answers something else.
pub fn inspect(docker: &Docker, references: &[String]) -> Result<Images> {
    if references.is_empty() {
        return Ok(Images::default());
    }
    let args = ["image", "inspect", "--format", "{{json .}}"].into_iter().map(str::to_owned);
    let output = docker.call_any_status(args.chain(references.iter().cloned()))?;
    if !output.status.success() {
        let error = docker.error_of("image inspect", &output);
        if error.failure != Failure::ImageMissing {
            return Err(error.into());
        }
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Images(text.lines().filter(|line| !line.trim().is_empty()).map(parse).collect::<Result<_>>()?))
}

/// Looks at one image.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_one(docker: &Docker, reference: &str) -> Result<Option<Image>> {
    Ok(inspect(docker, &[reference.to_owned()])?.0.pop())
}

/// Which of Docker's builders is used, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// BuildKit by the buildx plugin.
    Buildx,
    /// BuildKit inside a client before version 23.
    BuildKit,
    /// The old builder, which every client has.
    Legacy,
}

impl Builder {
    /// Asks the client what it can do: one start, rarely two.
    ///
    /// # Errors
    /// When the client cannot be started.
    pub fn detect(docker: &Docker) -> Result<Self> {
        let wish = docker.variable("DOCKER_BUILDKIT");
        let limit = Limit::Within(PROBE_LIMIT);
        // Without the plugin some clients take `buildx` for an unknown command, others print their help and succeed.
        let output = docker.cmd(["buildx", "version"]).run_any_status(limit).map_err(|cause| docker.error(cause))?;
        let has_buildx = output.status.success() && output.text().contains("buildx");
        let mut client = (0, 0);
        if !has_buildx && is_true(wish.as_deref()) {
            let output = docker.call_within(PROBE_LIMIT, ["--version"])?;
            let text = output.text();
            client = text.split("version ").nth(1).and_then(major_minor).unwrap_or((u32::MAX, 0));
        }
        Ok(Self::select(has_buildx, client.0, wish.as_deref()))
    }

    fn select(has_buildx: bool, client_major: u32, wish: Option<&str>) -> Self {
        match (has_buildx, wish) {
            (true, wish) if !is_false(wish) => Self::Buildx,
            (false, wish) if is_true(wish) && client_major < 23 => Self::BuildKit,
            _ => Self::Legacy,
        }
    }

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Buildx => &["--progress=plain", "--load"],
            Self::BuildKit => &["--progress=plain"],
            Self::Legacy => &["--force-rm"],
        }
    }
}

fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| ["1", "t", "true"].contains(&value.to_ascii_lowercase().as_str()))
}

fn is_false(value: Option<&str>) -> bool {
    value.is_some_and(|value| ["0", "f", "false"].contains(&value.to_ascii_lowercase().as_str()))
}

/// One image to build.
pub struct Build<'a> {
    /// Name with tag.
    pub tag: &'a str,
    pub labels: &'a [(&'a str, &'a str)],
    pub build_args: &'a [(&'a str, &'a str)],
    /// The context, a tar archive.
    pub context: Vec<u8>,
    /// Limit of the whole build.
    pub limit: Duration,
}

/// Builds an image and tells what it is doing.
///
/// # Errors
/// With the end of the build's output when it fails; also when it does not end in time, is cancelled, or succeeds
/// without leaving an image in the local store.
pub fn build(docker: &Docker, builder: Builder, build: &Build<'_>, progress: &mut dyn FnMut(&str)) -> Result<Image> {
    match build_once(docker, builder, build, progress) {
        // The old builder fails when an image that it took from its cache is removed meanwhile.
        Err(error) if error.to_string().contains("unknown parent image ID") => {
            build_once(docker, builder, build, progress)
        }
        built => built,
    }
}

fn build_once(docker: &Docker, builder: Builder, build: &Build<'_>, progress: &mut dyn FnMut(&str)) -> Result<Image> {
    progress("Building image locally");
    let id_file = IdFile::new()?;
    let mut cmd = docker.cmd(build_args(builder, build, &id_file.0)).input(build.context.clone());
    if builder == Builder::Legacy {
        cmd = cmd.env("DOCKER_BUILDKIT", "0");
    }
    let mut transcript = Transcript::default();
    let ended = cmd.run_with(Limit::Within(build.limit), &mut |pipe, bytes| {
        transcript.push(pipe, bytes, progress);
        Watch::SilenceFor(SILENCE_LIMIT)
    });
    transcript.finish(progress);
    match ended {
        Ok((status, _)) if status.success() => {}
        Ok((status, _)) => {
            let code = status.code().map_or_else(|| status.to_string(), |code| code.to_string());
            bail!("Docker build failed (exit {code}):\n{}", transcript.end());
        }
        Err(error) => {
            return Err(match error.reason {
                Reason::TimedOut(limit) => anyhow::anyhow!("Docker build timed out after {}s", limit.as_secs()),
                _ => docker.error(error).into(),
            });
        }
    }
    // By its id: between two builds of that name the tag may belong to somebody else's.
    let reference = id_file.read().unwrap_or_else(|| build.tag.to_owned());
    let Some(image) = inspect_one(docker, &reference)? else {
        bail!(
            "image {} was built, but it is not in Docker's local store: the selected builder does not load images; select \
             one that does: docker buildx use default",
            build.tag
        );
    };
    Ok(image)
}

fn build_args(builder: Builder, build: &Build<'_>, id_file: &std::path::Path) -> Vec<String> {
    let mut args: Vec<String> =
        vec!["build".into(), "-t".into(), build.tag.into(), "--iidfile".into(), id_file.display().to_string()];
    for (name, value) in build.build_args {
        args.extend(["--build-arg".into(), format!("{name}={value}")]);
    }
    for (name, value) in build.labels {
        args.extend(["--label".into(), format!("{name}={value}")]);
    }
    args.extend(builder.args().iter().map(|arg| (*arg).to_owned()));
    args.extend(["-f".into(), super::context::DOCKERFILE.into(), "-".into()]);
    args
}

/// Length of `sha256:` and 64 digits.
const ID_BYTES: usize = 71;

/// Where the client writes the id of what it built. Its name cannot be guessed, so nobody can put a link there.
struct IdFile(PathBuf);

impl IdFile {
    /// Takes the room that it will need, so that a full disk is noticed before the build and not after it.
    fn new() -> Result<Self> {
        in_temporary_dir(|temp| {
            let file = Self(temp.join(format!("al-image-id-{}", ids::hex32())));
            create_new(&file.0, &[b' '; ID_BYTES], 0o600)?;
            Ok(file)
        })
    }

    fn read(&self) -> Option<String> {
        let text = fs::read_to_string(&self.0).ok()?;
        Some(text.trim().to_owned()).filter(|id| !id.is_empty())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Output of a build: its end for an error, and its steps for people.
#[derive(Default)]
struct Transcript {
    pending: [Vec<u8>; 2],
    last: VecDeque<String>,
    progress: Progress,
}

impl Transcript {
    fn push(&mut self, pipe: Pipe, bytes: &[u8], report: &mut dyn FnMut(&str)) {
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                self.line(pipe, report);
            } else if self.pending[pipe as usize].len() < LINE_BYTES {
                self.pending[pipe as usize].push(*byte);
            }
        }
    }

    fn finish(&mut self, report: &mut dyn FnMut(&str)) {
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
            self.last.push_back(line.trim_end().to_owned());
        }
    }

    fn end(&self) -> String {
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

/// Gives an image another name.
///
/// # Errors
/// When the daemon refuses.
pub fn tag(docker: &Docker, id: &str, name: &str) -> Result<(), DockerError> {
    docker.call(["tag", id, name]).map(|_| ())
}

/// Fetches an image from its registry.
///
/// # Errors
/// When it cannot be had, naming it.
pub fn pull(docker: &Docker, name: &str) -> Result<()> {
    docker.call_within(PULL_LIMIT, ["pull", name]).with_context(|| format!("pull image {name}"))?;
    Ok(())
}

/// Removes an image that a rebuild replaced, unless it still has a name. Gives why the daemon would not; that does not
/// matter much: what stays costs disk space and nothing else.
pub fn remove_if_unnamed(docker: &Docker, id: &str) -> Option<Failure> {
    match inspect_one(docker, id) {
        Ok(Some(image)) if image.tags.is_empty() => docker.call(["image", "rm", id]).err().map(|error| error.failure),
        _ => None,
    }
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
    fn an_error_shows_the_end_of_both_pipes() {
        let mut transcript = Transcript::default();
        for number in 0..150 {
            let pipe = if number % 2 == 0 { Pipe::Stdout } else { Pipe::Stderr };
            transcript.push(pipe, format!("line {number}\n").as_bytes(), &mut |_| {});
        }
        let end = transcript.end();
        assert!(end.starts_with("line 50\nline 51\n") && end.ends_with("\nline 149"), "{end}");
    }

    #[track_caller]
    fn builder(has_buildx: bool, client: u32, wish: Option<&str>, expected: Builder) {
        assert_eq!(Builder::select(has_buildx, client, wish), expected);
    }

    #[test]
    fn builders() {
        builder(true, 28, None, Builder::Buildx);
        builder(true, 28, Some("1"), Builder::Buildx);
        builder(true, 28, Some("0"), Builder::Legacy);
        builder(false, 20, Some("1"), Builder::BuildKit);
        builder(false, 20, Some("0"), Builder::Legacy);
        builder(false, 20, None, Builder::Legacy);
        builder(false, 28, Some("1"), Builder::Legacy);
        builder(false, 28, None, Builder::Legacy);
    }

    #[test]
    fn the_command_line_of_a_build() {
        let build = Build {
            tag: "al-dev:1",
            labels: &[("al.agent-digest", "d")],
            build_args: &[("GIT_SHA", "1"), ("VERSION", "2")],
            context: Vec::new(),
            limit: Duration::ZERO,
        };
        assert_eq!(
            build_args(Builder::Buildx, &build, std::path::Path::new("/tmp/id")).join(" "),
            "build -t al-dev:1 --iidfile /tmp/id --build-arg GIT_SHA=1 --build-arg VERSION=2 --label al.agent-digest=d \
             --progress=plain --load -f Dockerfile -"
        );
    }

    #[track_caller]
    fn entrypoint(json: &str, expected: Entrypoint) {
        let image = parse(&format!(r#"{{"Id":"sha256:1","RepoTags":null,"Config":{{"Entrypoint":{json}}}}}"#)).unwrap();
        assert_eq!(image.entrypoint, expected, "{json}");
    }

    #[test]
    fn entry_points() {
        entrypoint("null", Entrypoint::Missing);
        entrypoint("[]", Entrypoint::Missing);
        entrypoint(r#"["node","/app/dist/agents/container-entry.js"]"#, Entrypoint::Missing);
        entrypoint(r#"["/app/bin/al-agent"]"#, Entrypoint::Own);
        entrypoint(r#"["/wrapper.sh"]"#, Entrypoint::Own);
        assert_eq!(parse(r#"{"Id":"x"}"#).unwrap().entrypoint, Entrypoint::Missing);
    }

    #[track_caller]
    fn found(reference: &str, expected: bool) {
        let json = r#"{"Id":"sha256:1","RepoTags":["debian:bookworm-slim","me/x:latest","r.example:5000/y:2"],
            "RepoDigests":["me/x@sha256:aa"]}"#;
        let images = Images(vec![parse(json).unwrap()]);
        assert_eq!(images.find(reference).is_some(), expected, "{reference}");
    }

    #[test]
    fn images_are_found_under_every_spelling() {
        found("debian:bookworm-slim", true);
        found("docker.io/library/debian:bookworm-slim", true);
        found("library/debian:bookworm-slim", true);
        found("me/x", true);
        found("me/x@sha256:aa", true);
        found("sha256:1", true);
        found("r.example:5000/y:2", true);
        found("r.example:5000/y", false);
        found("debian", false);
    }

    /// Builds with a stand-in for the client; `$dir` is a directory of its own, `$id` the file for the id.
    fn build_with(script: &str, limit: Duration) -> (Result<Image>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("docker");
        let text = format!("#!/bin/sh\ndir={}; id=$5; cat >/dev/null\n{script}\n", dir.path().display());
        crate::base::files::create_new(&program, text.as_bytes(), 0o755).unwrap();
        let build = Build { tag: "al-dev:1", labels: &[], build_args: &[], context: b"tar".to_vec(), limit };
        let mut reported = Vec::new();
        let built =
            super::build(&Docker::new(program), Builder::Legacy, &build, &mut |text| reported.push(text.into()));
        (built, reported)
    }

    const SOON: Duration = Duration::from_secs(10);

    #[track_caller]
    fn fails(script: &str, limit: Duration, expected: &[&str]) {
        let text = format!("{:#}", build_with(script, limit).0.unwrap_err());
        for part in expected {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn builds_that_fail() {
        fails("echo out; echo why >&2; exit 7", SOON, &["Docker build failed (exit 7):\n", "out", "why"]);
        fails("exec sleep 60", Duration::from_millis(50), &["Docker build timed out after 0s"]);
        let lost = "case $1 in image) echo 'Error: No such image: x' >&2; exit 1;; *) echo sha256:1 >$id;; esac";
        fails(lost, SOON, &["al-dev:1", "docker buildx use default"]);
    }

    #[test]
    fn a_build_whose_cache_was_removed_is_repeated() {
        let script = "case $1 in image) echo '{\"Id\":\"sha256:2\"}'; exit;; esac; echo \"Step 1/1 : FROM x\"
            [ -e $dir/second ] && echo sha256:2 >$id && exit; touch $dir/second
            echo 'failed to set parent sha256:1: unknown parent image ID sha256:1' >&2; exit 1";
        let (built, reported) = build_with(script, SOON);
        assert_eq!(built.unwrap().id, "sha256:2");
        assert_eq!(reported.iter().filter(|text| *text == "Step 1/1: FROM x").count(), 2);
    }
}
