//! Makes the images of a project and remembers what is ready.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::assemble::user_dockerfile;
use super::images::{AgentImage as ImageContent, Base, Layers, Origin, Ready, Settings, UserDockerfile};
use super::life::{AgentImage, log_dir};
use super::observer::{Observer, Report};
use crate::base::Cancel;
use crate::base::error::AgentError;
use crate::base::files::write_atomic;
use crate::config::Project;
use crate::docker::image::{self, Entrypoint, Images};
use crate::docker::launch::Program;
use crate::docker::{Docker, Failure};
use crate::model::names::AgentName;

/// Makes images. Two agents can be built at once; what both stand on is built before.
pub struct ImageMaker {
    layers: Layers,
    docker: Docker,
    dockerfile: Result<Option<UserDockerfile>>,
    observer: Arc<dyn Observer>,
    /// Directory of the project's logs.
    logs: PathBuf,
    /// Held while it is built: whoever needs it meanwhile waits.
    base: Mutex<Option<Base>>,
    /// By agent, held while its image is built: two runs that need the same image build it once.
    ready: Mutex<HashMap<String, Arc<Mutex<Option<AgentImage>>>>>,
    /// Ids of images that others took the place of. They go when nothing is built any more.
    replaced: Mutex<Vec<String>>,
}

impl ImageMaker {
    /// For a project. Builds end when the client's token is used.
    pub fn new(project: &Project, docker: Docker, observer: Arc<dyn Observer>) -> Self {
        let local = &project.settings.local;
        let settings = Settings {
            image: Some(local.image.clone()),
            base: local.base.clone(),
            build_limit: Duration::from_secs(local.build_timeout),
        };
        Self {
            layers: Layers::new(docker.clone(), project.hash.clone(), settings),
            docker,
            dockerfile: user_dockerfile(&project.dir, "Dockerfile"),
            observer,
            logs: log_dir(&project.dir),
            base: Mutex::default(),
            ready: Mutex::default(),
            replaced: Mutex::default(),
        }
    }

    /// Names of all images that matter for these agents.
    pub fn names<'a>(&self, agents: impl IntoIterator<Item = &'a AgentName>) -> Vec<String> {
        self.layers.names(agents)
    }

    /// What Docker has of these agents' images.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn known<'a>(&self, agents: impl IntoIterator<Item = &'a AgentName>) -> Result<Images> {
        image::inspect(&self.docker, &self.names(agents))
    }

    /// The image of an agent for a run that needs it now; it is looked for once and built when need be.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn image(&self, content: &ImageContent, cancel: &Cancel) -> Result<AgentImage> {
        if let Some(image) = lock(&self.place(&content.agent)).clone() {
            return Ok(image);
        }
        let docker = self.docker.cancelled_by(cancel);
        let known = image::inspect(&docker, &self.layers.names([&content.agent]))?;
        self.prepare(&known, content)
    }

    /// Makes sure of an agent's image and everything below it, given what Docker has.
    ///
    /// # Errors
    /// When something cannot be built.
    pub fn prepare(&self, known: &Images, content: &ImageContent) -> Result<AgentImage> {
        let base = self.base(known, &mut |name, text| self.observer.report(&Report::Build { image: name, text }))?;
        let place = self.place(&content.agent);
        let mut place = lock(&place);
        if let Some(image) = &*place {
            return Ok(image.clone());
        }
        let name = self.layers.agent_name(&content.agent);
        let mut progress = |text: &str| self.observer.report(&Report::Build { image: &name, text });
        let image = self.build(known, &base, content, &mut progress)?;
        *place = Some(image.clone());
        drop(place);
        self.remove_replaced();
        Ok(image)
    }

    /// Makes sure of what all agents stand on. `progress` gets the image's name and a text.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn base(&self, known: &Images, progress: &mut dyn FnMut(&str, &str)) -> Result<Base> {
        let mut made = lock(&self.base);
        if let Some(base) = &*made {
            return Ok(base.clone());
        }
        let name = self.layers.base_name();
        let base = self.layers.ensure_base(known, &mut |text| progress(&name, text)).map_err(failed)?;
        self.use_of(&base.image);
        let dockerfile = self.dockerfile.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        let name = self.layers.project_base_name();
        let mut progress = |text: &str| progress(&name, text);
        let project =
            self.layers.ensure_project_base(known, &base, dockerfile.as_ref(), &mut progress).map_err(failed)?;
        self.use_of(&project.image);
        Ok(made.insert(project).clone())
    }

    /// Makes sure of an agent's image as its files are now.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn build(
        &self,
        known: &Images,
        base: &Base,
        content: &ImageContent,
        progress: &mut dyn FnMut(&str),
    ) -> Result<AgentImage> {
        let ready = self.layers.ensure_agent(known, base, content, progress).map_err(|error| {
            let error = failed(error);
            self.keep_failure(&content.agent, &error);
            error
        })?;
        Ok(self.use_of(&ready))
    }

    /// Keeps what the last failed build of an agent's image printed: a table has room for one line of it.
    fn keep_failure(&self, agent: &AgentName, error: &anyhow::Error) {
        // The error itself goes on its way whether it can be kept or not.
        let _ = std::fs::create_dir_all(&self.logs);
        let _ = write_atomic(&self.logs.join(format!("build-{agent}.log")), format!("{error:#}\n").as_bytes(), 0o600);
    }

    /// Removes images that others took the place of, as far as no container needs them. Not while something is built.
    pub fn remove_replaced(&self) {
        let mut replaced = std::mem::take(&mut *lock(&self.replaced));
        // What stands on an image goes before it. What a container is made of goes the next time.
        replaced.reverse();
        replaced.retain(|id| image::remove_if_unnamed(&self.docker, id) == Some(Failure::ImageInUse));
        replaced.reverse();
        lock(&self.replaced).splice(0..0, replaced);
    }

    /// Whether there may be something to remove.
    pub fn has_replaced(&self) -> bool {
        !lock(&self.replaced).is_empty()
    }

    /// Name of the base image.
    pub fn base_name(&self) -> String {
        self.layers.base_name()
    }

    /// Primary tag of an agent's image.
    pub fn name_of(&self, agent: &AgentName) -> String {
        self.layers.agent_name(agent)
    }

    /// Says what went wrong on the side, and notes what nobody needs any more.
    fn use_of(&self, ready: &Ready) -> AgentImage {
        ready.warnings.iter().for_each(|warning| self.observer.report(&Report::Warning { text: warning }));
        if let Origin::Built { replaced: Some(id) } = &ready.origin {
            lock(&self.replaced).push(id.clone());
        }
        let program = match ready.entrypoint {
            Entrypoint::Missing => Program::Agent,
            Entrypoint::Own => Program::OfImage,
        };
        AgentImage { id: ready.id.clone(), program }
    }

    fn place(&self, agent: &AgentName) -> Arc<Mutex<Option<AgentImage>>> {
        lock(&self.ready).entry(agent.to_string()).or_default().clone()
    }
}

/// A failed build is the agent's problem, not the program's.
fn failed(error: anyhow::Error) -> anyhow::Error {
    AgentError(format!("{error:#}")).into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
