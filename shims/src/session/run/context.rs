//! How much of the context window a conversation takes, and what is done when it takes too much (agent-session.md §14).

use super::super::compact::{self, SUMMARISER};
use super::super::error::{Kind, ModelError};
use super::super::event::{Compaction, CompactionReason, Event};
use super::super::message::{Content, Message};
use super::super::{End, classify, estimate, history};
use super::Session;
use super::exchange::Ask;
use crate::wire::usage::Usage;

/// A request with less room for the answer is not worth sending.
const LEAST_OUTPUT: u64 = 256;
/// With less room than this for the answer a conversation is shortened first.
const COMFORTABLE_OUTPUT: u64 = 4096;
/// Most tokens that stay free for the answer, and most of the newest messages that are kept as they are.
const MOST_RESERVE: u64 = 16_384;
const MOST_KEPT: u64 = 20_000;

/// What is known of the room in the context window.
#[derive(Default)]
pub(super) struct Room {
    /// Counts of responses before this one say nothing any more.
    counted_from: usize,
    /// The response before which a conversation was last shortened, when that saved little.
    last_in_vain: Option<u64>,
    /// Tokens that were left when it was last shortened.
    left: u64,
}

impl Session {
    /// The context window of the current model in tokens, as far as is known.
    fn window(&self) -> u64 {
        self.lineup.current().window()
    }

    fn reserve(&self) -> u64 {
        MOST_RESERVE.min(self.window() / 4)
    }

    /// Output limit of a request for which there is room enough.
    pub(super) fn wanted_output(&self) -> u64 {
        let current = self.lineup.current();
        current.provider.wanted_output(&current.refused)
    }

    /// Tokens of the conversation: what the provider counted last, and estimates of everything since.
    pub(super) fn context(&self) -> u64 {
        let responses = self.messages.iter().enumerate().skip(self.room.counted_from).rev();
        let mut counts = responses.filter_map(|(at, message)| match message {
            Message::Assistant(assistant) => Some((at + 1, assistant.usage.total_tokens)),
            _ => None,
        });
        match counts.find(|(_, tokens)| *tokens > 0) {
            Some((since, tokens)) => tokens + estimate::messages(&self.messages[since..]),
            None => self.estimated(),
        }
    }

    /// Our own estimate of a whole request.
    fn estimated(&self) -> u64 {
        self.overhead() + estimate::messages(&self.messages)
    }

    /// Tokens of what goes with every request.
    fn overhead(&self) -> u64 {
        estimate::text(&self.system) + estimate::tools()
    }

    /// Tokens that are left for an answer.
    fn room(&self) -> u64 {
        let window = self.window();
        window.saturating_sub(self.context() + (window / 32).min(1024))
    }

    /// The output limit that still fits into the context window.
    ///
    /// # Errors
    /// There is no room for an answer worth having.
    pub(super) fn output_limit(&self) -> Result<u64, ModelError> {
        let (wanted, room) = (self.wanted_output(), self.room());
        if wanted <= room || room >= LEAST_OUTPUT {
            return Ok(wanted.min(room));
        }
        Err(self.too_long("the conversation"))
    }

    fn too_long(&self, what: &str) -> ModelError {
        let (context, window) = (self.context(), self.window());
        let text = format!("{what} has about {context} tokens, the context window of the model {window}");
        ModelError::new(Kind::ContextOverflow, text)
    }

    /// Shortens the conversation if the next request would come near the end of the context window.
    ///
    /// # Errors
    /// The session is over, because of that or for another reason.
    pub(super) fn ensure_room(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), End> {
        let (window, wanted) = (self.window(), self.wanted_output());
        let is_full = self.context() > window - self.reserve();
        let is_tight = wanted.min(self.room()) < wanted.min(COMFORTABLE_OUTPUT).min(window / 8);
        if !is_full && !is_tight {
            return Ok(());
        }
        if self.lineup.current().is_window_guessed()
            && self.output_limit().is_ok()
            && self.context() < self.room.left + window / 10
        {
            // What takes most of a window that may be larger than that cannot go; a summary for every few words costs more
            // than it saves.
            return Ok(());
        }
        self.compact(CompactionReason::Threshold, sink)?.map_err(|error| self.failed(error))
    }

    /// Shortens the conversation after a request that was too long. The window is smaller than was thought.
    ///
    /// # Errors
    /// As for [`Session::ensure_room`]; if nothing helps, it is over with the error of that request.
    pub(super) fn recover(&mut self, error: ModelError, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), End> {
        let named = classify::named_window(&error.message).filter(|window| *window < self.window());
        // After that only estimates count, whatever little the provider may have counted before.
        let tokens = self.context().max(self.estimated()) / 10 * 9;
        self.lineup.current_mut().limit_window(tokens);
        let Err(_) = self.compact(CompactionReason::Overflow, sink)? else { return Ok(()) };
        // Nothing can go, but perhaps it was the room for the answer that was too much.
        let Some(window) = named else { return Err(self.failed(error)) };
        self.lineup.current_mut().set_window(window);
        self.output_limit().map(drop).map_err(|_| self.failed(error))
    }

    /// Replaces old messages by a summary and shortens results until the conversation fits. The inner result is whether
    /// that has helped.
    pub(super) fn compact(
        &mut self,
        reason: CompactionReason,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<Result<(), ModelError>, End> {
        sink(Event::CompactionStart(reason));
        let tokens_before = self.context();
        let estimated = self.estimated();
        let usage_before = self.usage;
        let mut summary_length = 0;
        if let Some(cut) = compact::cut_point(&self.messages, MOST_KEPT.min(self.window() / 4)) {
            let summary = self.summarise(cut, sink)?;
            summary_length = summary.as_ref().map_or(0, |summary| summary.chars().count());
            self.dropped.rewrite(&mut self.messages, cut, summary);
        }
        let mut limit = (self.window() - self.reserve()) / 5 * 4;
        if reason == CompactionReason::Overflow {
            // The window follows from what the provider counts, and it may count quite differently.
            limit = (limit as f64 * estimated as f64 / tokens_before.max(estimated) as f64) as u64;
        }
        let overhead = self.overhead();
        let left = compact::shorten_results(&mut self.messages, limit.saturating_sub(overhead));
        let tokens_after = overhead + left;
        self.forget_bound_thinking();
        self.room.counted_from = self.messages.len();
        self.room.left = tokens_after;
        let usage = difference(self.usage, usage_before);
        sink(Event::CompactionEnd(Compaction { reason, tokens_before, tokens_after, summary_length, usage }));
        if self.lineup.current().is_window_guessed() && self.output_limit().is_ok() {
            // The provider decides, unless the request would be the same again.
            let is_same = reason == CompactionReason::Overflow && tokens_after >= estimated;
            return Ok(if is_same { Err(self.too_long("nothing of the conversation can go: it")) } else { Ok(()) });
        }
        if tokens_after > limit {
            return Ok(Err(self.too_long("the conversation cannot be shortened any further: it")));
        }
        let in_vain = tokens_after > estimated / 10 * 9;
        let turn = self.usage.turn_count;
        let again = self.room.last_in_vain.is_some_and(|last| turn <= last + 1);
        self.room.last_in_vain = in_vain.then_some(turn);
        if in_vain && again {
            return Ok(Err(self.too_long("shortening the conversation does not help: it")));
        }
        Ok(Ok(()))
    }

    /// A summary of the messages between the prompt and `cut`; `None` when none can be had.
    fn summarise(&mut self, cut: usize, sink: &mut dyn FnMut(Event<'_>)) -> Result<Option<String>, End> {
        let window = self.window();
        let max_tokens = (self.reserve() * 4 / 5).min(self.model().facts.max_tokens);
        let limit = window.saturating_sub(max_tokens + (window / 8).min(4096));
        let text = self.dropped.request(&self.messages[1..cut], limit);
        let ask = Ask::Aside { system: SUMMARISER, message: Message::User(vec![Content::Text(text)]), max_tokens };
        match self.exchange(&ask, sink) {
            Ok(answer) => {
                self.usage += Usage { turn_count: 0, ..answer.usage };
                let text = answer.text();
                Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
            }
            // The conversation itself may still go on.
            Err(End::Failed { .. }) => Ok(None),
            Err(end) => Err(end),
        }
    }

    /// After messages have been changed: models whose thinking is bound to everything before it do not get it back.
    pub(super) fn forget_bound_thinking(&mut self) {
        let models: Vec<_> = self.lineup.adaptive().map(|model| (model.provider.clone(), model.id.clone())).collect();
        history::drop_thinking_of(&mut self.messages, |assistant| {
            models.iter().any(|(provider, id)| *provider == assistant.provider && *id == assistant.model)
        });
    }
}

fn difference(after: Usage, before: Usage) -> Usage {
    Usage {
        input_tokens: after.input_tokens - before.input_tokens,
        output_tokens: after.output_tokens - before.output_tokens,
        cache_read_tokens: after.cache_read_tokens - before.cache_read_tokens,
        cache_write_tokens: after.cache_write_tokens - before.cache_write_tokens,
        total_tokens: after.total_tokens - before.total_tokens,
        cost: after.cost - before.cost,
        turn_count: after.turn_count - before.turn_count,
    }
}
