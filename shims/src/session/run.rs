//! The loop (agent-session.md §6): model request, tool calls, model request, until the model is done.

use std::path::PathBuf;
use std::time::Instant;

use self::batch::AfterTools;
use self::context::Room;
use super::compact::Dropped;
use super::error::ModelError;
use super::event::{Event, Notice, Role};
use super::limits::Budget;
use super::lineup::Lineup;
use super::message::{Content, Message, Stop};
use super::{End, Input, Outcome, Owner, tools};
use crate::cancel::Cancel;
use crate::wire::usage::Usage;

mod batch;
#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod compaction_tests;
mod context;
mod exchange;
#[cfg(test)]
mod fallback_tests;
#[cfg(test)]
mod formats_tests;
#[cfg(test)]
mod server_tests;
mod start;
#[cfg(test)]
mod tests;

pub use self::batch::{MOST_PERMISSION_ERRORS, is_permission_text};

/// How often in a row a model that ran into the output limit is asked to go on.
const MOST_CONTINUATIONS: u32 = 2;

const CONTINUE: &str =
    "Your last answer was cut off because it reached the output limit. Go on from exactly where it stopped.";

/// Holds a session of one prompt. Everything that happens is reported to its owner; nothing is logged.
pub fn run(input: Input, prompt: String, cancel: Cancel, owner: &mut dyn Owner) -> Outcome {
    match Session::start(input, owner) {
        Ok(mut session) => {
            let end = session.prompt(prompt, cancel, owner);
            session.outcome(end)
        }
        Err(reason) => Outcome { end: End::NotStarted { reason }, text: String::new(), usage: Usage::default() },
    }
}

/// A conversation that can be continued with further prompts.
pub struct Session {
    system: String,
    messages: Vec<Message>,
    lineup: Lineup,
    room: Room,
    dropped: Dropped,
    budget: Budget,
    tools: tools::Context,
    exit_file: Option<PathBuf>,
    deadline: Option<Instant>,
    permission_hits: u32,
    text: String,
    usage: Usage,
}

impl Session {
    /// Says something to the model and goes on until it is done. `cancel` ends the running request and the running tool;
    /// the conversation can be continued after that.
    pub fn prompt(&mut self, text: String, cancel: Cancel, owner: &mut dyn Owner) -> End {
        self.tools.cancel = cancel;
        owner.hear(Event::AgentStart);
        let end = self.converse(text, owner);
        owner.hear(Event::AgentEnd);
        end
    }

    /// Ends the session: kills what its tools have left running, and says how it went.
    pub fn outcome(self, end: End) -> Outcome {
        self.tools.groups.kill_all();
        Outcome { end, text: self.text, usage: self.usage }
    }

    fn converse(&mut self, text: String, owner: &mut dyn Owner) -> End {
        let mut to_say = Some(text);
        let mut continuations = 0;
        loop {
            if let Some(end) = self.stopped().or_else(|| self.out_of_budget()) {
                return end;
            }
            owner.hear(Event::TurnStart);
            if let Some(text) = to_say.take() {
                owner.hear(Event::MessageStart(Role::User));
                self.add(Message::User(vec![Content::Text(text)]), &mut |event| owner.hear(event));
            }
            let message = match self.respond(&mut |event| owner.hear(event)) {
                Ok(message) => message,
                Err(end) => return end,
            };
            let (results, after) = self.run_tools(&message, owner);
            owner.hear(Event::TurnEnd { message: &message, results: &results, usage: self.usage });
            let has_calls = message.calls().next().is_some();
            match after {
                AfterTools::End(end) => return end,
                AfterTools::GoOn if has_calls => {
                    continuations = 0;
                    to_say = self.budget_hint();
                }
                AfterTools::GoOn if message.stop != Stop::Length => {
                    if message.text().trim().is_empty() {
                        owner.hear(Event::Notice(Notice::EmptyResponse));
                    }
                    return End::Completed;
                }
                AfterTools::GoOn if continuations == MOST_CONTINUATIONS => {
                    owner.hear(Event::Notice(Notice::OutputLimit));
                    return End::Completed;
                }
                AfterTools::GoOn => {
                    continuations += 1;
                    to_say = Some(CONTINUE.into());
                }
            }
        }
    }

    fn add(&mut self, message: Message, sink: &mut dyn FnMut(Event<'_>)) {
        sink(Event::MessageEnd(&message));
        self.messages.push(message);
    }

    fn stopped(&self) -> Option<End> {
        if self.tools.cancel.is_cancelled() {
            return Some(End::Cancelled);
        }
        let over = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        over.then_some(End::OutOfTime)
    }

    fn out_of_budget(&self) -> Option<End> {
        self.budget.exceeded(&self.usage).map(|error| self.failed(error))
    }

    /// What the model has to know about its budget before it goes on.
    fn budget_hint(&mut self) -> Option<String> {
        let price = self.model().facts.price;
        let next = self.context() as f64 * price.input + self.wanted_output() as f64 * price.output;
        self.budget.hint(&self.usage, next / 1e6, Instant::now())
    }

    /// The end that an error of the current model is.
    fn failed(&self, error: ModelError) -> End {
        let model = self.model();
        End::Failed { error: error.into(), provider: model.provider.clone(), model: model.id.clone() }
    }

    fn model(&self) -> &super::provider::Model {
        self.lineup.model()
    }
}
