//! The three layers of images, built for real with every builder that is here.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use action_llama::base::Cancel;
use action_llama::docker::image::{self, Entrypoint};
use action_llama::docker::{Docker, Failure, failure};
use action_llama::model::names::ProjectHash;
use action_llama::run::images::{AgentImage, Base, Layers, Origin, REVISION, Ready, Settings, UserDockerfile, VERSION};

use crate::run_docker::{BASE, Place};

/// Debian's client, which has BuildKit inside.
const SECOND_CLIENT: &str = "/usr/bin/docker";

/// An image with all programs that the base recipe wants, so that no test but the first one fetches packages. It stays
/// on the machine, like the layers that builds leave there.
fn tools() -> &'static str {
    static TOOLS: OnceLock<String> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let name = "al-it-tools:1".to_owned();
        let docker = Docker::default();
        let known = image::inspect(&docker, std::slice::from_ref(&name)).unwrap();
        let layers = Layers::new(docker, ProjectHash::of(Path::new("/")), settings(&name, BASE));
        layers.ensure_base(&known, &mut |_| {}).unwrap().reference
    })
}

fn settings(image: &str, base: &str) -> Settings {
    Settings { image: Some(image.into()), base: base.into(), build_limit: Duration::from_secs(300) }
}

/// Builds of equal content share images, and one test must not remove what another one builds on.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A project with one agent.
struct Project {
    // In this order: what was made is removed before the next test begins.
    place: Place,
    _turn: MutexGuard<'static, ()>,
    layers: Layers,
    agent: AgentImage,
}

impl Project {
    fn new(docker: Docker) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Place::new();
        // A name of its own: the tests of this crate do not fight over al-agent:latest.
        let settings = settings(&format!("al-it-{}-base:1", place.id), tools());
        let layers = Layers::new(docker, place.project.clone(), settings);
        let agent = AgentImage {
            agent: place.agent(),
            config_json: "{}".into(),
            instructions: b"Do it.".to_vec(),
            skeleton: "<x>".into(),
            timeout_seconds: 900,
            script: None,
            files: vec![("mock/a.toml".into(), b"m".to_vec())],
            dockerfile: None,
        };
        Self { place, _turn: turn, layers, agent }
    }

    fn known(&self) -> image::Images {
        image::inspect(&self.place.docker, &self.layers.names([&self.agent.agent])).unwrap()
    }

    fn base(&self) -> Base {
        self.layers.ensure_base(&self.known(), &mut |_| {}).unwrap()
    }

    fn ensure(&self) -> (Ready, Vec<String>) {
        let mut progress = Vec::new();
        let base = self.base();
        let ready = self.layers.ensure_agent(&self.known(), &base, &self.agent, &mut |text| progress.push(text.into()));
        let ready = ready.unwrap_or_else(|error| panic!("{error:#}"));
        if let Origin::Built { replaced: Some(id) } = &ready.origin {
            image::remove_if_unnamed(&self.place.docker, id);
        }
        (ready, progress)
    }

    fn set_dockerfile(&mut self, text: &str) {
        self.agent.dockerfile = Some(self.user_file(text));
    }

    fn user_file(&self, text: &str) -> UserDockerfile {
        UserDockerfile {
            text: text.into(),
            name: "agents/dev/Dockerfile".into(),
            directory: self.place.dir.path().to_path_buf(),
        }
    }

    fn inspect(&self, id: &str, format: &str) -> String {
        self.place.docker(&["image", "inspect", "--format", format, id])
    }

    fn layers_of(&self, id: &str) -> Vec<String> {
        serde_json::from_str(&self.inspect(id, "{{json .RootFS.Layers}}")).unwrap()
    }

    /// Output of a shell command in an image.
    fn sh(&self, id: &str, script: &str) -> String {
        self.place.docker(&["run", "--rm", "--network", "none", "--entrypoint", "sh", id, "-c", script])
    }
}

/// Every builder that this machine has, by client and `DOCKER_BUILDKIT`.
fn clients() -> Vec<Docker> {
    let mut clients = vec![Docker::default()];
    if Path::new(SECOND_CLIENT).exists() {
        clients.push(Docker::new(SECOND_CLIENT));
        clients.push(Docker::new(SECOND_CLIENT).env("DOCKER_BUILDKIT", "1"));
    }
    clients
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn every_builder_makes_the_layers_once() {
    for client in clients() {
        let mut project = Project::new(client);
        let (first, progress) = project.ensure();
        assert_eq!(first.origin, Origin::Built { replaced: None });
        assert_eq!(first.warnings, Vec::<String>::new());
        assert_eq!(first.entrypoint, Entrypoint::Own);
        assert_eq!(progress[0], "Building image locally");
        assert!(progress.iter().any(|text| text.starts_with("Step ") && text.contains("COPY static/")), "{progress:?}");
        let tags = project.inspect(&first.id, "{{json .RepoTags}}");
        for tag in [REVISION, VERSION, "latest", project.place.project.as_str()] {
            assert!(tags.contains(&format!("al-{}:{tag}\"", project.agent.agent)), "{tags}");
        }
        let (second, progress) = project.ensure();
        assert_eq!((second.id.as_str(), second.origin), (first.id.as_str(), Origin::Found));
        assert_eq!(progress, Vec::<String>::new());

        project.agent.instructions = b"Do something else.".to_vec();
        let before = project.layers_of(&first.id);
        let (third, _) = project.ensure();
        assert_eq!(third.origin, Origin::Built { replaced: Some(first.id.clone()) });
        let after = project.layers_of(&third.id);
        assert_eq!(before.len(), after.len());
        assert_eq!(before[..before.len() - 1], after[..after.len() - 1], "only the last layer was made again");
        assert_ne!(before.last(), after.last());

        assert!(image::inspect_one(&project.place.docker, &first.id).unwrap().is_none(), "the replaced image is gone");
        image::remove_if_unnamed(&project.place.docker, &third.id);
        assert!(image::inspect_one(&project.place.docker, &third.id).unwrap().is_some(), "it has names");
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_image_has_what_a_run_needs() {
    let project = Project::new(Docker::default());
    let (ready, _) = project.ensure();
    let text = project.sh(
        &ready.id,
        "stat -c '%a %U %n' /app/static/* /app/static/mock/* /app/bin/al-agent; readlink /app/bin/rlock; id -un; \
         cat /app/static/ACTIONS.md /app/static/timeout; for c in bash git curl jq ssh; do command -v $c; done; readlink /workspace; ls /app/agent-docs; pwd",
    );
    for expected in [
        "444 root /app/static/ACTIONS.md",
        "444 root /app/static/agent-config.json",
        "444 root /app/static/prompt-static.txt",
        "444 root /app/static/timeout",
        "444 root /app/static/mock/a.toml",
        "755 root /app/bin/al-agent",
        "al-shim\nnode\n",
        "Do it.900",
        "/usr/bin/ssh",
        "/tmp/workspace",
        "AGENTS.md",
        "\n/app",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let version = project.inspect(&ready.id, "{{index .Config.Labels \"org.opencontainers.image.version\"}}");
    assert_eq!(version, VERSION);
    assert_eq!(project.inspect(&ready.id, "{{.Config.User}}"), "node");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn dockerfiles_of_users_build_with_every_builder() {
    for client in clients() {
        let mut project = Project::new(client);
        project.set_dockerfile("FROM al-agent:latest\nUSER root\nRUN echo made > /made\nUSER node\n");
        let (ready, _) = project.ensure();
        assert_eq!(project.sh(&ready.id, "cat /made; id -u; cat /app/static/timeout"), "made\n1000\n900");

        // Without USER lines, with a file of its own, on an image that is not ours.
        std::fs::write(project.place.dir.path().join("note.txt"), "note").unwrap();
        project.set_dockerfile("FROM al-agent\nRUN touch /root-was-here\nCOPY note.txt /note.txt");
        let (ready, _) = project.ensure();
        assert_eq!(project.sh(&ready.id, "ls /root-was-here; id -un; cat /note.txt"), "/root-was-here\nnode\nnote");
        let (again, _) = project.ensure();
        assert_eq!(again.origin, Origin::Found);
        std::fs::write(project.place.dir.path().join("note.txt"), "changed").unwrap();
        let (ready, _) = project.ensure();
        assert_eq!(project.sh(&ready.id, "cat /note.txt"), "changed");

        project
            .set_dockerfile(&format!("FROM {BASE}\nENTRYPOINT [\"node\",\"/app/dist/agents/container-entry.js\"]\n"));
        let (ready, _) = project.ensure();
        assert_eq!(ready.entrypoint, Entrypoint::Missing);
        assert_eq!(project.sh(&ready.id, "readlink /app/bin/al-call; cat /app/static/ACTIONS.md"), "al-shim\nDo it.");
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_project_base_stands_between() {
    let project = Project::new(Docker::default());
    let base = project.base();
    let ensure = |text: &str| {
        let file = project.user_file(text);
        project.layers.ensure_project_base(&project.known(), &base, Some(&file), &mut |_| {}).unwrap()
    };
    assert_eq!(ensure("FROM al-agent:latest\n").reference, base.reference, "not customised");
    let made = ensure("FROM al-agent:latest\nRUN echo project > /project\n");
    assert_eq!(made.reference, format!("al-project-base:{}", project.place.project));
    assert_eq!(ensure("FROM al-agent:latest\nRUN echo project > /project\n").image.origin, Origin::Found);
    let ready = project.layers.ensure_agent(&project.known(), &made, &project.agent, &mut |_| {}).unwrap();
    assert_eq!(project.sh(&ready.id, "cat /project; id -un"), "project\nnode");
    // A change of the project base reaches the agents.
    let changed = ensure("FROM al-agent:latest\nRUN echo changed > /project\n");
    assert_eq!(changed.image.origin, Origin::Built { replaced: Some(made.image.id.clone()) });
    let before = ready;
    let ready = project.layers.ensure_agent(&project.known(), &changed, &project.agent, &mut |_| {}).unwrap();
    assert_eq!(project.sh(&ready.id, "cat /project"), "changed");
    for id in [&before.id, &made.image.id] {
        image::remove_if_unnamed(&project.place.docker, id);
        assert!(image::inspect_one(&project.place.docker, id).unwrap().is_none(), "{id} is gone");
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_failing_build_shows_why() {
    for client in clients() {
        let mut project = Project::new(client);
        project.set_dockerfile("FROM al-agent\nRUN echo the reason is this >&2; exit 7\n");
        let base = project.base();
        let error = project.layers.ensure_agent(&project.known(), &base, &project.agent, &mut |_| {}).unwrap_err();
        let text = format!("{error:#}");
        let name = &project.agent.agent;
        assert!(text.contains(&format!("build image of agent {name} from agents/dev/Dockerfile")), "{text}");
        assert!(text.contains("Docker build failed (exit ") && text.contains("the reason is this"), "{text}");
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_build_ends_when_it_is_not_wanted_any_more() {
    let token = Cancel::new();
    let mut project = Project::new(Docker::default().cancelled_by(&token));
    project.set_dockerfile("FROM al-agent\nRUN sleep 300\n");
    let base = project.base();
    let error = project.layers.ensure_agent(&project.known(), &base, &project.agent, &mut |text| {
        if text.contains("sleep 300") {
            token.cancel();
        }
    });
    assert_eq!(failure(&error.unwrap_err()), Failure::Cancelled);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn projects_with_agents_of_one_name_leave_each_other_alone() {
    let mut project = Project::new(Docker::default());
    let (first, _) = project.ensure();
    let other = Place::new();
    let settings = settings(&format!("al-it-{}-base:1", project.place.id), tools());
    let theirs =
        std::mem::replace(&mut project.layers, Layers::new(Docker::default(), other.project.clone(), settings));
    project.agent.instructions = b"Other project.".to_vec();
    let (second, _) = project.ensure();
    assert_eq!(second.origin, Origin::Built { replaced: None });
    image::remove_if_unnamed(&project.place.docker, &first.id);
    assert!(image::inspect_one(&project.place.docker, &first.id).unwrap().is_some());
    project.layers = theirs;
    project.agent.instructions = b"Do it.".to_vec();
    let (again, progress) = project.ensure();
    assert_eq!((again.id, again.origin, progress.len()), (first.id, Origin::Found, 0));
}
