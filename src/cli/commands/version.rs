//! `al version`: which program this is, exactly (cli-config.md §14.4).

use std::io::Write as _;

use anyhow::Result;
use serde_json::json;

use crate::base::term::stdout;
use crate::cli::args::OnlyJson;
use crate::docker::context::EMBEDDED_SHA256;

/// Characters of a digest that are shown.
const SHOWN: usize = 12;

/// Prints version, revision and what is embedded.
pub(crate) fn run(args: OnlyJson) -> Result<u8> {
    let digest = &EMBEDDED_SHA256[..SHOWN];
    let (version, revision, built, target) =
        (env!("CARGO_PKG_VERSION"), env!("AL_REVISION"), env!("AL_BUILD_DATE"), env!("AL_TARGET"));
    let text = if args.json {
        let shims = json!({"version": shims::VERSION, "sha256": EMBEDDED_SHA256});
        format!(
            "{}\n",
            json!({"version": version, "revision": revision, "date": built, "target": target, "shims": shims})
        )
    } else {
        let shims = shims::VERSION;
        format!(
            "al {version}\n  revision:  {revision}\n  built:     {built}\n  target:    {target}\n  in images: {shims} (sha256 \
             {digest})\n"
        )
    };
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}
