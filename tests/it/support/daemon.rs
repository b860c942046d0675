//! A running `al start` of a test: started, asked over HTTP, stopped; killed as a crash would.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::al::{Done, Running};
use super::http::{Answer, exchange, request, request_bytes};
use super::project::Project;
use super::wait;

/// A scheduler of a project.
pub(crate) struct Daemon<'p> {
    running: Option<Running<'p>>,
    project: &'p Project,
    pub(crate) port: u16,
}

/// A port that is free on loopback, and whose successor is, and that no other test of this process gets.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let start = 20_000 + u16::try_from(std::process::id() % 200).unwrap() * 60;
        let port = start + NEXT.fetch_add(2, Ordering::Relaxed) % 12_000;
        let is_free = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
}

impl<'p> Daemon<'p> {
    /// Starts it and waits until it serves requests and starts what waits.
    #[track_caller]
    pub(crate) fn start(project: &'p Project) -> Self {
        Self::with(project, &[])
    }

    /// As [`Daemon::start`], with further arguments.
    #[track_caller]
    pub(crate) fn with(project: &'p Project, args: &[&str]) -> Self {
        let daemon = Self::launch(project, free_port(), args, &[]);
        daemon.wait_for("scheduler started");
        daemon
    }

    /// As [`Daemon::start`], on the port that the project's configuration names.
    #[track_caller]
    pub(crate) fn on(project: &'p Project, port: u16) -> Self {
        let daemon = Self::launch(project, port, &[], &[]);
        daemon.wait_for("scheduler started");
        daemon
    }

    /// Starts it and waits for nothing.
    pub(crate) fn launch(project: &'p Project, port: u16, args: &[&str], env: &[(&str, &str)]) -> Self {
        let port_text = port.to_string();
        let args = ["start", "-H", "--port", port_text.as_str()].iter().chain(args).copied().collect::<Vec<_>>();
        let al = env.iter().fold(project.al(&args), |al, (name, value)| al.env(name, value));
        Self { running: Some(al.start()), project, port }
    }

    /// Starts another one on the same port after this one has ended, and waits until it starts what waits.
    #[track_caller]
    pub(crate) fn again(&self) -> Self {
        let daemon = self.again_at_once();
        daemon.wait_for("scheduler started");
        daemon
    }

    /// As [`Daemon::again`], and waits for nothing.
    pub(crate) fn again_at_once(&self) -> Self {
        Self::launch(self.project, self.port, &[], &[])
    }

    pub(crate) fn running(&self) -> &Running<'p> {
        self.running.as_ref().expect("it was not ended")
    }

    /// Waits until it has printed this.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> &Self {
        self.running().wait_for(text);
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The API key.
    pub(crate) fn key(&self) -> String {
        let path = self.project.home().join(".action-llama/credentials/gateway_api_key/default/key");
        std::fs::read_to_string(path).expect("there is a key").trim().to_owned()
    }

    fn auth(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.key())
    }

    /// Asks with the API key.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Answer {
        request(self.address(), "GET", target, &self.auth(), "")
    }

    /// Posts with the API key.
    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: &Value) -> Answer {
        request(self.address(), "POST", target, &self.auth(), &body.to_string())
    }

    /// As [`Daemon::post`] without a body; `None` when there is no answer.
    pub(crate) fn try_post(&self, target: &str) -> Option<Answer> {
        let bytes = exchange(self.address(), &request_bytes("POST", target, &self.auth(), b""));
        bytes.ok().filter(|bytes| !bytes.is_empty()).map(|bytes| Answer::parse(&bytes))
    }

    /// A delivery to the source of type `test`.
    #[track_caller]
    pub(crate) fn deliver(&self, delivery_id: &str, body: &Value) -> Answer {
        let fields = format!("Content-Type: application/json\r\nX-Delivery-Id: {delivery_id}\r\n");
        request(self.address(), "POST", "/webhooks/test", &fields, &body.to_string())
    }

    /// The status that scripts see.
    pub(crate) fn status(&self) -> Value {
        self.get("/control/status").json()
    }

    /// Items in these states, newest first.
    pub(crate) fn items(&self, states: &str) -> Vec<Value> {
        let answer = self.get(&format!("/control/queue?limit=1000&state={states}")).json();
        answer["items"].as_array().expect("a list").clone()
    }

    /// Waits until so many items are in this state.
    #[track_caller]
    pub(crate) fn wait_for_items(&self, state: &str, count: usize) -> Vec<Value> {
        wait::until(&format!("{count} items {state}"), || self.items(state), |items| items.len() == count)
    }

    /// Starts a run by hand that carries out this script; gives its instance.
    #[track_caller]
    pub(crate) fn trigger(&self, agent: &str, task: &str) -> String {
        let answer = self.post(&format!("/control/trigger/{agent}"), &json!({ "prompt": task }));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["instanceId"].as_str().expect("an instance").to_owned()
    }

    /// A webhook whose title is this script, for agents of [`Project::on_hook`]; it has to be accepted.
    #[track_caller]
    pub(crate) fn work(&self, id: &str, script: &str) -> Answer {
        let answer = self.deliver(id, &json!({"event": id, "title": script}));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    /// Waits until so many runs of the agent go on; gives their instances.
    #[track_caller]
    pub(crate) fn wait_for_runs(&self, agent: &str, count: usize) -> Vec<String> {
        let what = format!("{count} runs of {agent}");
        wait::until(&what, || self.instances(agent), |instances| instances.len() == count)
    }

    /// Instances of an agent that go on.
    pub(crate) fn instances(&self, agent: &str) -> Vec<String> {
        let status = self.status();
        let all = status["instances"].as_array().expect("a list");
        let of_agent = all.iter().filter(|instance| instance["agentName"] == agent);
        of_agent.map(|instance| instance["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// What is shown of an agent.
    #[track_caller]
    pub(crate) fn agent(&self, name: &str) -> Value {
        let status = self.status();
        let agents = status["agents"].as_array().expect("a list");
        agents.iter().find(|agent| agent["name"] == name).cloned().unwrap_or(Value::Null)
    }

    /// Waits until the run that an agent with a schedule makes at the start has ended. It takes a slot before the status
    /// shows it.
    #[track_caller]
    pub(crate) fn wait_for_initial_run(&self, agent: &str) {
        wait::until("the initial run", || self.agent(agent)["lastRunAt"].clone(), Value::is_string);
        self.wait_until_idle();
    }

    /// Waits until nothing runs.
    #[track_caller]
    pub(crate) fn wait_until_idle(&self) {
        wait::until("nothing to run", || self.status()["running"].clone(), |running| *running == 0);
    }

    /// Ends it with SIGTERM and waits.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Done {
        self.running().signal(Signal::TERM);
        self.running.take().expect("it was not ended").finish()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Done {
        self.running.take().expect("it was not ended").finish()
    }

    /// Waits until it has killed itself. It can be started [`Daemon::again`].
    #[track_caller]
    pub(crate) fn crashed(&mut self) {
        self.running.take().expect("it was not ended").finish().expect(-Signal::KILL.as_raw());
    }

    /// Kills it as a crash would, and waits until it is gone. It can be started [`Daemon::again`].
    pub(crate) fn crash(&mut self) {
        let running = self.running.take().expect("it was not ended");
        running.signal(Signal::KILL);
        drop(running.finish());
    }
}
