//! Building an image with the `docker` program.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::builder::Builder;
use super::transcript::Transcript;
use super::{Image, inspect_one};
use crate::base::files::{create_new, in_temporary_dir};
use crate::base::ids;
use crate::base::process::{Limit, Reason, Watch};
use crate::docker::cli::Docker;
use crate::docker::context::DOCKERFILE;

/// A build that prints nothing for so long is stuck.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);

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
            bail!("Docker build failed (exit {code}): {}\n{}", transcript.failure(), transcript.end());
        }
        Err(error) => {
            return Err(match error.reason {
                Reason::TimedOut(limit) => anyhow!("Docker build timed out after {}s", limit.as_secs()),
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

fn build_args(builder: Builder, build: &Build<'_>, id_file: &Path) -> Vec<String> {
    let mut args: Vec<String> =
        vec!["build".into(), "-t".into(), build.tag.into(), "--iidfile".into(), id_file.display().to_string()];
    for (name, value) in build.build_args {
        args.extend(["--build-arg".into(), format!("{name}={value}")]);
    }
    for (name, value) in build.labels {
        args.extend(["--label".into(), format!("{name}={value}")]);
    }
    args.extend(builder.args().iter().map(|arg| (*arg).to_owned()));
    args.extend(["-f".into(), DOCKERFILE.into(), "-".into()]);
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

#[cfg(test)]
mod tests {
    use super::*;

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
            build_args(Builder::Buildx, &build, Path::new("/tmp/id")).join(" "),
            "build -t al-dev:1 --iidfile /tmp/id --build-arg GIT_SHA=1 --build-arg VERSION=2 --label al.agent-digest=d \
             --progress=plain --load -f Dockerfile -"
        );
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
        fails("echo out; echo why >&2; exit 7", SOON, &["Docker build failed (exit 7): why\n", "out"]);
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
