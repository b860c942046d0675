//! Builds the in-container programs statically and embeds them, together with `agent-docs/`, `docs/`, the templates of
//! agents and the time zones, in the host program (style of the whole: one file that can be copied to another machine and used there).
//!
//! * `AL_SHIMS_DIR`: take `al-agent` and `al-shim` from this directory instead of building them (packagers, cross builds).
//! * `AL_REVISION`: revision to bake in instead of asking git.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "src/docker/jumps.rs"]
#[allow(unreachable_pub, reason = "it is shared with the program, which exports it")]
mod jumps;
#[path = "build/zones.rs"]
mod zones;

fn main() {
    println!("cargo::rerun-if-changed=src/docker/jumps.rs");
    // Another order of functions is another program.
    println!("cargo::rerun-if-changed=build/hot-functions.txt");
    let root = PathBuf::from(var("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(var("OUT_DIR"));
    let revision = revision(&root);
    let programs = programs_dir(&root, &out, &revision);
    let agent = programs.join("al-agent");
    let shim = programs.join("al-shim");
    let docs = files_below(&root.join("agent-docs"));

    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let programs = [("al-agent", &agent), ("al-shim", &shim)];
    for (name, path) in programs.into_iter().chain(docs.iter().map(|(name, path)| (name.as_str(), path))) {
        digest.update(name.as_bytes());
        digest.update(&read(path));
    }
    let digest: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();

    let mut code = String::new();
    code += &format!("pub(crate) const EMBEDDED_SHA256: &str = {digest:?};\n");
    for (name, path) in [("AL_AGENT", &agent), ("AL_SHIM", &shim)] {
        // Half of this program's size would be theirs, and they are read only when an image is built.
        let packed = out.join(format!("{name}.deflate"));
        fs::write(&packed, miniz_oxide::deflate::compress_to_vec(&with_addresses(read(path)), 9))
            .expect("write a packed program");
        code += &format!("pub(crate) static {name}: &[u8] = include_bytes!({packed:?});\n");
    }
    let packed_docs = out.join("docs.deflate");
    pack_files(&docs, &packed_docs);
    code += &format!("pub(crate) static AGENT_DOCS: &[u8] = include_bytes!({packed_docs:?});\n");
    fs::write(out.join("embedded.rs"), code).expect("write embedded.rs");
    fs::write(out.join("zones.rs"), zones(&out)).expect("write zones.rs");
    pack_files(&files_below(&root.join("src/setup/templates")), &out.join("templates.deflate"));
    pack_files(&files_below(&root.join("docs")), &out.join("user-docs.deflate"));

    println!("cargo::rustc-env=AL_REVISION={revision}");
    println!("cargo::rustc-env=AL_BUILD_DATE={}", date(&root));
    println!("cargo::rustc-env=AL_TARGET={}", var("TARGET"));
    println!("cargo::rustc-env=AL_TARGET_ARCH={}", var("CARGO_CFG_TARGET_ARCH"));
    println!("cargo::rustc-env=AL_BIN_AL_AGENT={}", agent.display());
    println!("cargo::rustc-env=AL_BIN_AL_SHIM={}", shim.display());
    println!("cargo::rustc-check-cfg=cfg(no_docker)");
    println!("cargo::rerun-if-env-changed=AL_TEST_NO_DOCKER");
    if std::env::var_os("AL_TEST_NO_DOCKER").is_some() {
        println!("cargo::rustc-cfg=no_docker");
    }
}

/// Code with the packed time zones.
fn zones(out: &Path) -> String {
    let mut code = String::from("static PACKS: &[&[u8]] = &[\n");
    for (number, pack) in zones::packs().iter().enumerate() {
        let path = out.join(format!("zones-{number}.deflate"));
        fs::write(&path, pack).expect("write packed zones");
        code += &format!("    include_bytes!({path:?}),\n");
    }
    code += "];\n";
    code
}

/// Directory with the two programs, built if need be.
fn programs_dir(root: &Path, out: &Path, revision: &str) -> PathBuf {
    println!("cargo::rerun-if-env-changed=AL_SHIMS_DIR");
    if let Some(dir) = std::env::var_os("AL_SHIMS_DIR") {
        let dir = fs::canonicalize(&dir).unwrap_or_else(|error| panic!("AL_SHIMS_DIR {}: {error}", dir.display()));
        println!("cargo::rerun-if-changed={}", dir.display());
        return dir;
    }
    for watched in ["shims", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    // One directory for all profiles of the outer build, next to them: the programs are the same in all of them, and
    // a directory of their own keeps the inner build off the lock that the outer one holds.
    // Programs without a revision have their own, so that a build for testing and one for use do not undo each other.
    let target_dir = target_root(out).join(if revision == "dev" { "shims-dev" } else { "shims" });
    let target = var("TARGET");
    let mut cargo = Command::new(var("CARGO"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let inherited = text.starts_with("CARGO") && text != "CARGO_HOME" && text != "CARGO_NET_OFFLINE";
        if inherited || ["RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "RUSTC"].contains(&&*text) {
            cargo.env_remove(&name);
        }
    }
    // `--target` is essential: without it the flags would also reach build scripts and derive macros, which a static
    // C runtime makes unloadable.
    let status = cargo
        .current_dir(root)
        .args(["build", "--release", "--locked", "-p", "shims", "--bins", "--target", &target, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        // Sessions read megabytes; the host program is as small as it can be instead.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("AL_REVISION", revision)
        .status()
        .unwrap_or_else(|error| panic!("run {}: {error}", var("CARGO")));
    assert!(status.success(), "building the in-container programs failed: {status}");
    target_dir.join(target).join("release")
}

/// The target directory of the outer build: the ancestor of `OUT_DIR` that cargo marked as a cache.
fn target_root(out: &Path) -> &Path {
    out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).unwrap_or(out)
}

/// Files below a directory with their names in it (`skills/calls.md`), sorted by name.
fn files_below(dir: &Path) -> Vec<(String, PathBuf)> {
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut files = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("read {}: {error}", next.display())) {
            let path = entry.expect("read a directory").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("is below it").to_str().expect("names are UTF-8");
                files.push((name.to_owned(), path));
            }
        }
    }
    files.sort();
    files
}

/// Packs texts that are read hardly ever: `<name>\0<content>\0` of every file.
fn pack_files(files: &[(String, PathBuf)], packed: &Path) {
    let mut all = Vec::new();
    for (name, path) in files {
        all.extend([name.as_bytes(), &[0], &read(path), &[0]].concat());
    }
    fs::write(packed, miniz_oxide::deflate::compress_to_vec(&all, 9)).expect("write packed files");
}

/// A program in the form that packs best.
fn with_addresses(program: Vec<u8>) -> Vec<u8> {
    let mut changed = program.clone();
    jumps::bring_into(&mut changed, jumps::Form::Addresses);
    let mut back = changed.clone();
    jumps::bring_into(&mut back, jumps::Form::Distances);
    assert!(back == program, "a program does not come back as it was");
    changed
}

/// Eight hex digits of the commit, `dev` outside a checkout.
fn revision(root: &Path) -> String {
    println!("cargo::rerun-if-env-changed=AL_REVISION");
    if let Ok(given) = std::env::var("AL_REVISION") {
        return given;
    }
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(root).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) =
            git(&["rev-parse", "--git-path", name]).map(|path| root.join(path)).filter(|path| path.exists())
        {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "--short=8", "HEAD"]).map_or_else(|| "dev".into(), |text| text.chars().take(8).collect())
}

/// The day of the commit, so that the same source gives the same program; `unknown` outside a checkout.
fn date(root: &Path) -> String {
    let output = Command::new("git").current_dir(root).args(["show", "-s", "--format=%cs", "HEAD"]).output();
    let text =
        output.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".into())
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
