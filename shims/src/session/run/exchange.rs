//! One request and its answer, however many attempts and models that takes (agent-session.md §9).

use std::time::{Duration, Instant};

use super::super::error::{Kind, ModelError};
use super::super::event::{Event, Notice, Retry, Role};
use super::super::lineup::{Next, Walk, has_no_capacity};
use super::super::message::{Assistant, Message};
use super::super::provider::{Delta, Request};
use super::super::retry::{self, Phases, Schedule, Wait};
use super::super::{End, classify, history, http};
use super::Session;
use crate::wire::config::Price;
use crate::wire::usage::Usage;

/// What the model is asked.
pub(super) enum Ask {
    /// To go on with the conversation.
    Conversation,
    /// Something beside it, without tools and without thinking.
    Aside { system: &'static str, message: Message, max_tokens: u64 },
}

/// What has become of a request so far.
struct Effort {
    schedule: Schedule,
    /// Retries with the models before the current one.
    retries: u32,
    walk: Walk,
    /// The conversation has been shortened because the current model found it too long.
    recovered: bool,
}

impl Session {
    /// One response of the model, which becomes part of the conversation.
    pub(super) fn respond(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Result<Assistant, End> {
        self.ensure_room(sink)?;
        sink(Event::MessageStart(Role::Assistant));
        let message = self.exchange(&Ask::Conversation, sink)?;
        self.usage += message.usage;
        self.text.push_str(&message.text());
        self.add(Message::Assistant(message.clone()), sink);
        Ok(message)
    }

    /// The answer to a request. Whether there is room for it has been seen to.
    pub(super) fn exchange(&mut self, ask: &Ask, sink: &mut dyn FnMut(Event<'_>)) -> Result<Assistant, End> {
        let walk = self.lineup.begin(Instant::now());
        let mut effort = Effort { schedule: Schedule::default(), retries: 0, walk, recovered: false };
        let answer = loop {
            let max_tokens = match ask {
                Ask::Conversation => self.output_limit(),
                Ask::Aside { max_tokens, .. } => Ok(*max_tokens),
            };
            let max_tokens = match max_tokens {
                Ok(max_tokens) => max_tokens,
                Err(error) => break Err(self.failed(error)),
            };
            let error = match self.attempt(ask, max_tokens, sink) {
                Ok(message) => break Ok(message),
                Err(error) => error,
            };
            sink(Event::AttemptFailed(&error));
            if let Err(end) = self.prepare_next(error, ask, &mut effort, sink) {
                break Err(end);
            }
        };
        if answer.is_ok() {
            self.lineup.succeeded();
        }
        let attempt = effort.retries + effort.schedule.retries();
        if attempt > 0 {
            sink(Event::RetryEnd { success: answer.is_ok(), attempt });
        }
        answer
    }

    fn attempt(
        &mut self,
        ask: &Ask,
        max_tokens: u64,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<Assistant, ModelError> {
        let candidate = self.lineup.current_mut();
        let is_aside = matches!(ask, Ask::Aside { .. });
        let (system, messages) = match ask {
            Ask::Conversation => (self.system.as_str(), self.messages.as_slice()),
            Ask::Aside { system, message, .. } => (*system, std::slice::from_ref(message)),
        };
        let request = Request {
            system,
            messages,
            max_tokens,
            refused: &candidate.refused,
            tools: !is_aside,
            cancel: &self.tools.cancel,
            deadline: self.deadline,
        };
        let mut message = candidate.provider.send(&request, &mut |delta| match delta {
            Delta::Warning(text) => sink(Event::Notice(Notice::Warning(text))),
            Delta::Text(_) | Delta::Thinking(_) if is_aside => {}
            Delta::Text(text) => sink(Event::TextDelta(text)),
            Delta::Thinking(text) => sink(Event::ThinkingDelta(text)),
        })?;
        let facts = candidate.provider.model().facts;
        complete(&mut message, &facts.price);
        if message.usage.input_tokens + message.usage.cache_read_tokens > facts.context_window {
            // It was paid for all the same.
            self.usage += Usage { turn_count: 0, ..message.usage };
            let text = "the request was larger than the context window";
            return Err(ModelError::new(Kind::ContextOverflow, text));
        }
        Ok(message)
    }

    /// After a failed attempt: does what is needed before the next one.
    ///
    /// # Errors
    /// There will be none.
    fn prepare_next(
        &mut self,
        error: ModelError,
        ask: &Ask,
        effort: &mut Effort,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), End> {
        if let Some(end) = self.stopped() {
            return Err(end);
        }
        if self.leave_out_rejected(&error, sink) {
            return Ok(());
        }
        if error.kind == Kind::ContextOverflow && matches!(ask, Ask::Conversation) && !effort.recovered {
            effort.recovered = true;
            return self.recover(error, sink);
        }
        let phases = if self.lineup.is_alone() { Phases::Both } else { Phases::FastOnly };
        if let Some(wait) = effort.schedule.next(&error, retry::random(), phases) {
            return match self.is_worth_waiting(wait.delay) {
                true => self.wait_for_retry(wait, &error, sink),
                false => Err(self.failed(error)),
            };
        }
        match self.lineup.failed(&mut effort.walk, &error, Instant::now()) {
            Next::Nothing => Err(self.failed(error)),
            Next::Model { from } => {
                let to = self.lineup.model();
                sink(Event::ModelSwitched { from: self.lineup.model_at(from), to, error: &error });
                self.begin_with_model(ask, effort, sink)
            }
            Next::Pause { delay, .. } if !self.is_worth_waiting(delay) => Err(self.all_failed(error, effort)),
            Next::Pause { pass, delay } => {
                sink(Event::Notice(Notice::ModelsExhausted { pass, delay }));
                self.wait(delay)?;
                self.lineup.next_pass(&mut effort.walk, Instant::now());
                self.begin_with_model(ask, effort, sink)
            }
            Next::Exhausted => {
                if effort.walk.decisive().is_some_and(|(_, error)| has_no_capacity(error)) {
                    sink(Event::Notice(Notice::ModelsGivenUp));
                }
                Err(self.all_failed(error, effort))
            }
        }
    }

    /// A request goes to another model, whose window may be smaller.
    fn begin_with_model(&mut self, ask: &Ask, effort: &mut Effort, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), End> {
        effort.retries += effort.schedule.retries();
        effort.schedule = Schedule::default();
        effort.recovered = false;
        match ask {
            Ask::Conversation => self.ensure_room(sink),
            Ask::Aside { .. } => Ok(()),
        }
    }

    /// The end when no model of the list can be had.
    fn all_failed(&self, last: ModelError, effort: &Effort) -> End {
        let Some((at, error)) = effort.walk.decisive() else { return self.failed(last) };
        let model = self.lineup.model_at(at);
        End::Failed { error: error.clone().into(), provider: model.provider.clone(), model: model.id.clone() }
    }

    fn wait_for_retry(&self, wait: Wait, error: &ModelError, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), End> {
        let Wait { phase, attempt, max_attempts, delay } = wait;
        sink(Event::RetryStart(Retry { phase, attempt, max_attempts, delay, error }));
        self.wait(delay)
    }

    fn wait(&self, delay: Duration) -> Result<(), End> {
        http::wait(self.scaled(delay), &self.tools.cancel).then_some(()).ok_or(End::Cancelled)
    }

    /// Whether there is time for anything after a wait.
    fn is_worth_waiting(&self, delay: Duration) -> bool {
        let end = Instant::now() + self.scaled(delay) + retry::BEFORE_DEADLINE;
        self.deadline.is_none_or(|deadline| end <= deadline)
    }

    fn scaled(&self, delay: Duration) -> Duration {
        delay.div_f64(self.lineup.current().provider.time_scale())
    }

    /// Takes a parameter that the provider refused out of all further requests. Returns whether that changes anything.
    fn leave_out_rejected(&mut self, error: &ModelError, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let Some(param) = error.rejected.as_deref() else { return false };
        let adaptive = self.model().facts.adaptive;
        let refused = &mut self.lineup.current_mut().refused;
        if refused.iter().any(|seen| seen == param) {
            return false;
        }
        refused.push(param.to_owned());
        if param == classify::THINKING_BLOCKS {
            // Models that think by budget want their own thinking back, or none asked for.
            if !adaptive {
                refused.push("thinking".into());
            }
            history::drop_thinking_of(&mut self.messages, |_| true);
        }
        sink(Event::Notice(Notice::ParameterRejected { param }));
        true
    }
}

/// Fills in what follows from the counts of a response.
fn complete(message: &mut Assistant, price: &Price) {
    let usage = &mut message.usage;
    usage.total_tokens = usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
    usage.turn_count = 1;
    let cost = usage.input_tokens as f64 * price.input
        + usage.output_tokens as f64 * price.output
        + usage.cache_read_tokens as f64 * price.cache_read
        + usage.cache_write_tokens as f64 * price.cache_write;
    // A provider that says what it charges knows better than the table.
    usage.cost = message.charged.unwrap_or(cost / 1e6);
}
