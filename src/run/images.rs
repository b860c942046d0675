//! Which image an agent runs from, and whether it has to be built: base, project base, agent image.
//!
//! Nothing is built when nothing changed: every image carries a digest of all that went into it, and one look at the
//! images of a project (`docker::image::inspect` with [`Layers::names`]) says which are current.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::base::error::one_line;
use crate::base::ids::sha256_hex;
use crate::docker::context::{Context, EMBEDDED_SHA256, PROGRAMS_DIR};
use crate::docker::dockerfile::{self, Kind, Programs, Target, Transformed};
use crate::docker::image::{self, Build, Builder, Entrypoint, Image, Images};
use crate::docker::{Docker, user_files};
use crate::model::names::{AgentName, ProjectHash};
use crate::model::wire::paths;

/// Revision of this program, the tag of what it builds.
pub const REVISION: &str = env!("AL_REVISION");
/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
const BASE: &str = "al-agent";
const PROJECT_BASE: &str = "al-project-base";
const BASE_LABEL: &str = "al.base-digest";
const DIGEST_LABEL: &str = "al.agent-digest";
/// Agents whose image would otherwise get a name that is taken.
const RESERVED: [&str; 3] = ["agent", "project-base", "scheduler"];

/// How images of a project are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `local.image`.
    pub image: Option<String>,
    /// `local.base`.
    pub base: String,
    /// `local.buildTimeout`.
    pub build_limit: Duration,
}

/// The images of a project.
///
/// A build ends early when the token of its [`Docker`] is used ([`Docker::cancelled_by`]).
pub struct Layers {
    docker: Docker,
    project: ProjectHash,
    settings: Settings,
    builder: OnceLock<Builder>,
}

/// An image that is ready.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its primary tag.
    pub name: String,
    /// What runs: tags can be moved by others.
    pub id: String,
    pub entrypoint: Entrypoint,
    pub origin: Origin,
    /// What did not keep it from being made.
    pub warnings: Vec<String>,
}

/// Where a ready image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Found current.
    Found,
    /// Built now. `replaced` is the image that had the name before, of use to nobody once its last run has ended: then
    /// it goes to [`image::remove_if_unnamed`]. While something is built nothing should be removed, and what stands on
    /// an image goes before it: agents, project base, base.
    Built { replaced: Option<String> },
}

/// What agent images stand on.
#[derive(Clone, Debug)]
pub struct Base {
    pub image: Ready,
    /// Its name in `FROM`.
    pub reference: String,
    /// Whether its programs are those of this version.
    pub programs: Programs,
}

/// A Dockerfile that a user wrote.
#[derive(Clone, Debug)]
pub struct UserDockerfile {
    pub text: String,
    /// How errors name it, `agents/dev/Dockerfile`.
    pub name: String,
    /// Directory whose files it may copy.
    pub directory: PathBuf,
}

/// What goes into an agent's image.
#[derive(Clone, Debug)]
pub struct AgentImage {
    pub agent: AgentName,
    /// `agent-config.json`.
    pub config_json: String,
    /// `ACTIONS.md`.
    pub instructions: Vec<u8>,
    /// Static part of the prompt.
    pub skeleton: String,
    pub timeout_seconds: u64,
    /// `test-script.sh`.
    pub script: Option<Vec<u8>>,
    /// Further files by their path below `static/`: `mock.toml`, `mock/<name>.toml`.
    pub files: Vec<(String, Vec<u8>)>,
    pub dockerfile: Option<UserDockerfile>,
}

/// Name of an agent's image, without tag.
pub fn image_name(agent: &AgentName) -> String {
    // With `x-` in front of any number of `x-`, so that the names stay distinct.
    let is_taken = RESERVED.contains(&agent.as_str().trim_start_matches("x-"));
    if is_taken { format!("al-x-{agent}") } else { format!("al-{agent}") }
}

impl Layers {
    /// Images of a project.
    pub fn new(docker: Docker, project: ProjectHash, settings: Settings) -> Self {
        Self { docker, project, settings, builder: OnceLock::new() }
    }

    /// Names of all images that matter for these agents: to be looked at before anything is ensured.
    pub fn names<'a>(&self, agents: impl IntoIterator<Item = &'a AgentName>) -> Vec<String> {
        let repositories = std::iter::once(PROJECT_BASE.to_owned()).chain(agents.into_iter().map(image_name));
        let tags = repositories.flat_map(|name| [primary(&name), self.own(&name)]);
        std::iter::once(self.base_name()).chain(tags).collect()
    }

    /// Makes sure that the base image is there and current. `known`: what [`Layers::names`] led to.
    ///
    /// # Errors
    /// When it cannot be built or pulled.
    pub fn ensure_base(&self, known: &Images, progress: &mut dyn FnMut(&str)) -> Result<Base> {
        let name = self.base_name();
        let is_ours = self.own_base().is_some();
        let digest = self.base_digest();
        let found = known.find(&name);
        if let Some(image) = found {
            let is_current = image.label(BASE_LABEL) == digest;
            if is_current || !is_ours {
                return Ok(base(found_ready(&name, image), &name, is_current));
            }
        } else if !is_ours && name.contains('/') {
            progress(&format!("Pulling {name}"));
            image::pull(&self.docker, &name)?;
            let Some(image) = image::inspect_one(&self.docker, &name)? else {
                bail!("image {name} was pulled, but it is not in Docker's local store");
            };
            return Ok(base(found_ready(&name, &image), &name, image.label(BASE_LABEL) == digest));
        }
        let mut context = Context::new(&self.recipe(Some(&digest)));
        context.add_programs("bin");
        context.add_docs("agent-docs");
        let aliases = if is_ours { vec![format!("{BASE}:{VERSION}"), format!("{BASE}:latest")] } else { Vec::new() };
        let ready = self
            .build(&name, &aliases, &[], &context, found, progress)
            .map_err(|error| self.explain_base(error))
            .with_context(|| format!("build base image {name}"))?;
        Ok(base(ready, &name, true))
    }

    /// Makes sure that the project's own base is there and current; gives `base` back when the project has none.
    ///
    /// # Errors
    /// When its Dockerfile is broken or cannot be built.
    pub fn ensure_project_base(
        &self,
        known: &Images,
        base: &Base,
        dockerfile: Option<&UserDockerfile>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Base> {
        let Some(file) = dockerfile.filter(|file| dockerfile::is_customised(&file.text)) else {
            return Ok(base.clone());
        };
        let transformed = transform(file, base, Kind::ProjectBase)?;
        let mut context = Context::default();
        add_user_part(&mut context, file, &transformed)?;
        let ready = self
            .ensure(PROJECT_BASE, context, &transformed, base, known, progress)
            .with_context(|| format!("build project base image from {}", file.name))?;
        Ok(Base { image: ready, reference: self.own(PROJECT_BASE), programs: Programs::Current })
    }

    /// Makes sure that an agent's image is there and current.
    ///
    /// # Errors
    /// When its Dockerfile is broken or cannot be built.
    pub fn ensure_agent(
        &self,
        known: &Images,
        base: &Base,
        agent: &AgentImage,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Ready> {
        let mut context = Context::default();
        let transformed = match &agent.dockerfile {
            Some(file) => {
                let transformed = transform(file, base, Kind::Agent)?;
                add_user_part(&mut context, file, &transformed)?;
                transformed
            }
            None => dockerfile::default_agent(&base.reference, base.programs),
        };
        add_baked_files(&mut context, agent);
        self.ensure(&image_name(&agent.agent), context, &transformed, base, known, progress).with_context(|| {
            match &agent.dockerfile {
                Some(file) => format!("build image of agent {} from {}", agent.agent, file.name),
                None => format!("build image of agent {}", agent.agent),
            }
        })
    }

    fn ensure(
        &self,
        name: &str,
        mut context: Context,
        transformed: &Transformed,
        base: &Base,
        known: &Images,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Ready> {
        context.add_file(crate::docker::context::DOCKERFILE, transformed.text.as_bytes().to_vec(), 0o644);
        if transformed.needs_programs {
            context.add_programs(PROGRAMS_DIR);
        }
        // An image that stands on something else is not affected by our base.
        let digest = context.digest(if transformed.uses_base { &base.image.id } else { "" });
        let (primary, own) = (primary(name), self.own(name));
        let current = |reference: &str| known.find(reference).filter(|image| image.label(DIGEST_LABEL) == digest);
        if let Some(image) = current(&own) {
            let mut ready = found_ready(&primary, image);
            if !image.tags.contains(&primary) {
                // Another project's agent of the same name took it.
                ready.warnings.extend(self.alias(&image.id, &primary).err());
            }
            return Ok(ready);
        }
        let aliases = [format!("{name}:{VERSION}"), format!("{name}:latest")];
        let labels = [(DIGEST_LABEL, digest.as_str())];
        let ready = match current(&primary) {
            Some(image) => found_ready(&primary, image),
            None => self.build(&primary, &aliases, &labels, &context, known.find(&own), progress)?,
        };
        // The project's own tag: what others build under the same name leaves this image a name, and is left one by us.
        image::tag(&self.docker, &ready.id, &own).with_context(|| format!("name image {own}"))?;
        Ok(ready)
    }

    fn build(
        &self,
        name: &str,
        aliases: &[String],
        labels: &[(&str, &str)],
        context: &Context,
        before: Option<&Image>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Ready> {
        let builder = match self.builder.get() {
            Some(builder) => *builder,
            None => *self.builder.get_or_init({
                let builder = Builder::detect(&self.docker)?;
                move || builder
            }),
        };
        let build = Build {
            tag: name,
            labels,
            build_args: &[("GIT_SHA", REVISION), ("VERSION", VERSION)],
            context: context.to_tar()?,
            limit: self.settings.build_limit,
        };
        let image = image::build(&self.docker, builder, &build, progress)?;
        let warnings = aliases.iter().filter_map(|alias| self.alias(&image.id, alias).err()).collect();
        let replaced = before.map(|image| image.id.clone()).filter(|id| *id != image.id);
        Ok(Ready {
            name: name.to_owned(),
            entrypoint: image.entrypoint,
            id: image.id,
            origin: Origin::Built { replaced },
            warnings,
        })
    }

    fn alias(&self, id: &str, name: &str) -> Result<(), String> {
        image::tag(&self.docker, id, name)
            .map_err(|error| format!("image {name} keeps its old meaning: {}", one_line(&error.into())))
    }

    /// Primary tag of an agent's image.
    pub fn agent_name(&self, agent: &AgentName) -> String {
        primary(&image_name(agent))
    }

    /// Primary tag of the project's own base.
    pub fn project_base_name(&self) -> String {
        primary(PROJECT_BASE)
    }

    /// `local.image`, unless it means our own base.
    pub fn base_name(&self) -> String {
        match self.own_base() {
            Some(name) => name,
            None => self.settings.image.clone().unwrap_or_default(),
        }
    }

    fn own_base(&self) -> Option<String> {
        let image = self.settings.image.as_deref().unwrap_or_default();
        let is_ours = image.is_empty() || image == BASE || image.starts_with("al-agent:");
        is_ours.then(|| primary(BASE))
    }

    /// Says what to do where the build failed because there is nothing to build on: the builder's own words are about
    /// registries and host names.
    fn explain_base(&self, error: anyhow::Error) -> anyhow::Error {
        let base = &self.settings.base;
        match image::inspect_one(&self.docker, base) {
            Ok(None) => anyhow!(
                "{error:#}\n  this machine has no image {base}, and it could not be fetched: let Docker reach its registry, or \
                 set `[local] base` in config.toml to an image that is there (`docker images`)"
            ),
            _ => error,
        }
    }

    fn base_digest(&self) -> String {
        sha256_hex(format!("{}{EMBEDDED_SHA256}", self.recipe(None)).as_bytes())
    }

    fn recipe(&self, digest: Option<&str>) -> String {
        dockerfile::base_recipe(&self.settings.base, env!("CARGO_PKG_REPOSITORY"), digest)
    }

    /// The tag that no other project uses.
    fn own(&self, name: &str) -> String {
        format!("{name}:{}", self.project)
    }
}

fn primary(name: &str) -> String {
    format!("{name}:{REVISION}")
}

fn base(image: Ready, name: &str, is_current: bool) -> Base {
    let programs = if is_current { Programs::Current } else { Programs::Unknown };
    Base { image, reference: name.to_owned(), programs }
}

fn found_ready(name: &str, image: &Image) -> Ready {
    Ready {
        name: name.to_owned(),
        id: image.id.clone(),
        entrypoint: image.entrypoint,
        origin: Origin::Found,
        warnings: Vec::new(),
    }
}

fn transform(file: &UserDockerfile, base: &Base, kind: Kind) -> Result<Transformed> {
    let target = Target { file: &file.name, base: &base.reference, base_programs: base.programs, kind };
    dockerfile::transform(&file.text, target)
}

fn add_user_part(context: &mut Context, file: &UserDockerfile, transformed: &Transformed) -> Result<()> {
    if transformed.needs_user_files {
        user_files::add(context, &file.directory)
            .with_context(|| format!("collect the files that {} may copy", file.name))?;
    }
    Ok(())
}

fn add_baked_files(context: &mut Context, agent: &AgentImage) {
    context.add_static(paths::CONFIG_NAME, agent.config_json.clone().into_bytes());
    context.add_static(paths::INSTRUCTIONS_NAME, agent.instructions.clone());
    context.add_static(paths::SKELETON_NAME, agent.skeleton.clone().into_bytes());
    context.add_static(paths::TIMEOUT_NAME, agent.timeout_seconds.to_string().into_bytes());
    if let Some(script) = &agent.script {
        context.add_static(paths::SCRIPT_NAME, script.clone());
    }
    for (path, content) in &agent.files {
        context.add_static(path, content.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentName {
        AgentName::parse(name).unwrap()
    }

    fn layers(image: Option<&str>) -> Layers {
        let settings = Settings {
            image: image.map(str::to_owned),
            base: "alpine:3.22".into(),
            build_limit: Duration::from_secs(1),
        };
        Layers::new(Docker::default(), ProjectHash::of(std::path::Path::new("/p")), settings)
    }

    #[test]
    fn names_of_images_are_never_taken_twice() {
        assert_eq!(image_name(&agent("dev")), "al-dev");
        assert_eq!(image_name(&agent("agent")), "al-x-agent");
        assert_eq!(image_name(&agent("project-base")), "al-x-project-base");
        assert_eq!(image_name(&agent("scheduler")), "al-x-scheduler");
        assert_eq!(image_name(&agent("x-agent")), "al-x-x-agent");
        assert_eq!(image_name(&agent("x-ray")), "al-x-ray");
    }

    #[track_caller]
    fn base_is(image: Option<&str>, expected: &str) {
        assert_eq!(layers(image).base_name(), expected);
    }

    #[test]
    fn which_name_the_base_has() {
        let ours = format!("al-agent:{REVISION}");
        base_is(None, &ours);
        base_is(Some("al-agent"), &ours);
        base_is(Some("al-agent:0.12.0"), &ours);
        base_is(Some("al-agent-tools:1"), "al-agent-tools:1");
        base_is(Some("me/tools"), "me/tools");
    }

    #[test]
    fn one_look_is_enough() {
        let layers = layers(None);
        let project = &layers.project;
        assert_eq!(
            layers.names([&agent("dev")]),
            [
                format!("al-agent:{REVISION}"),
                format!("al-project-base:{REVISION}"),
                format!("al-project-base:{project}"),
                format!("al-dev:{REVISION}"),
                format!("al-dev:{project}"),
            ]
        );
    }

    #[test]
    fn the_base_is_stale_when_its_recipe_changes() {
        let other = Settings { base: "debian:bookworm-slim".into(), ..layers(None).settings };
        let other = Layers::new(Docker::default(), layers(None).project, other);
        assert_ne!(layers(None).base_digest(), other.base_digest());
        assert_eq!(layers(None).base_digest(), layers(Some("me/tools")).base_digest());
    }
}
