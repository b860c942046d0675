//! Which of Docker's builders makes an image.

use anyhow::Result;

use crate::base::process::Limit;
use crate::docker::cli::{Docker, PROBE_LIMIT};
use crate::docker::probe::major_minor;

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

    pub(super) fn args(self) -> &'static [&'static str] {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
