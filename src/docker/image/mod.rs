//! Images: looking at them, building, tagging, removing.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::cli::{Docker, DockerError, Failure, PULL_LIMIT};

mod build;
mod builder;
mod transcript;

pub use build::{Build, build};
pub use builder::Builder;

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
}
