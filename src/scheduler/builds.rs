//! Building images beside everything else: two threads, what all agents stand on first (containers.md §4.1).

use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::base::{Cancel, worker};
use crate::docker::image::Images;
use crate::model::names::AgentName;
use crate::run::image_maker::ImageMaker;
use crate::run::images::AgentImage as ImageContent;
use crate::run::life::AgentImage;

/// Builds at once.
const THREADS: usize = 2;

/// What is told of builds.
pub(super) enum Built {
    /// Progress of what all agents stand on.
    BaseProgress {
        text: String,
    },
    /// What all agents stand on is there (id of the image), or could not be made.
    Base(Result<String>),
    Progress {
        agent: String,
        text: String,
    },
    /// An agent's image is there, or could not be made.
    Agent {
        agent: String,
        image: Result<AgentImage>,
    },
}

/// Something to build.
enum Job {
    Base(Arc<Images>),
    Agent {
        content: Arc<ImageContent>,
        known: Option<Arc<Images>>,
    },
    /// Nothing may be built meanwhile: it could come to stand on what is removed.
    Tidy,
}

/// The building threads.
pub(super) struct Builds {
    maker: Arc<ImageMaker>,
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<Result<()>>>,
    /// Ends what is being built.
    end: Cancel,
}

impl Builds {
    /// Starts the threads. `end`: the token of the maker's client; `tell` is called on the threads.
    ///
    /// # Errors
    /// When the system refuses them.
    pub(super) fn start(
        maker: Arc<ImageMaker>,
        end: Cancel,
        tell: impl Fn(Built) + Send + Sync + 'static,
    ) -> Result<Self> {
        // Unbounded, but an agent is built once at a time.
        let (jobs, waiting) = unbounded();
        let mut builds = Self { maker, jobs, threads: Vec::new(), end };
        let tell = Arc::new(tell);
        let building = Arc::new(RwLock::new(()));
        for number in 1..=THREADS {
            let (maker, waiting, tell) = (Arc::clone(&builds.maker), waiting.clone(), Arc::clone(&tell));
            let (building, end) = (Arc::clone(&building), builds.end.clone());
            let work = move || work(&maker, &waiting, &building, &end, &*tell);
            builds.threads.push(worker::spawn(format!("build-{number}"), work)?);
        }
        Ok(builds)
    }

    /// Makes sure of what all agents stand on. `known`: what Docker has.
    pub(super) fn base(&self, known: Arc<Images>) {
        let _ = self.jobs.send(Job::Base(known));
    }

    /// Makes sure of an agent's image. Without `known` Docker is asked what it has.
    pub(super) fn agent(&self, content: Arc<ImageContent>, known: Option<Arc<Images>>) {
        let _ = self.jobs.send(Job::Agent { content, known });
    }

    /// Has images removed that others took the place of.
    pub(super) fn tidy(&self) {
        if self.maker.has_replaced() {
            let _ = self.jobs.send(Job::Tidy);
        }
    }

    /// Ends what is being built, and the threads: nothing of it goes on, or is left, when this returns.
    pub(super) fn end(&mut self) {
        self.end.cancel();
        // The threads end when nobody can ask for more.
        self.jobs = unbounded().0;
        for thread in self.threads.drain(..) {
            let _ = worker::join(thread);
        }
    }

    /// Name of the base image.
    pub(super) fn base_name(&self) -> String {
        self.maker.base_name()
    }

    /// Primary tag of an agent's image.
    pub(super) fn image_name(&self, agent: &AgentName) -> String {
        self.maker.name_of(agent)
    }
}

fn work(maker: &ImageMaker, jobs: &Receiver<Job>, building: &RwLock<()>, end: &Cancel, tell: &dyn Fn(Built)) {
    let beside_others = || building.read().unwrap_or_else(PoisonError::into_inner);
    for job in jobs.iter().take_while(|_| !end.is_cancelled()) {
        match job {
            Job::Base(known) => {
                let _building = beside_others();
                let mut progress = |_: &str, text: &str| tell(Built::BaseProgress { text: text.into() });
                let base = worker::guarded(|| maker.base(&known, &mut progress)).flatten();
                tell(Built::Base(base.map(|base| base.image.id)));
            }
            Job::Agent { content, known } => {
                let _building = beside_others();
                let agent = content.agent.to_string();
                let mut progress = |text: &str| tell(Built::Progress { agent: agent.clone(), text: text.into() });
                let image = worker::guarded(|| build(maker, &content, known, &mut progress)).flatten();
                tell(Built::Agent { agent: agent.clone(), image });
            }
            Job::Tidy => {
                let _alone = building.write().unwrap_or_else(PoisonError::into_inner);
                let _ = worker::guarded(|| maker.remove_replaced());
            }
        }
    }
}

fn build(
    maker: &ImageMaker,
    content: &ImageContent,
    known: Option<Arc<Images>>,
    progress: &mut dyn FnMut(&str),
) -> Result<AgentImage> {
    let known = match known {
        Some(known) => known,
        None => Arc::new(maker.known([&content.agent])?),
    };
    let base = maker.base(&known, &mut |_, text| progress(text))?;
    maker.build(&known, &base, content, progress)
}
