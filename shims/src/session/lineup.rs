//! The models of a session: which of them is in use, and which is next when it cannot be had (agent-session.md §9.5).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::error::{Kind, ModelError};
use super::provider::{Model, Provider};

/// How long a model is left alone after it had no capacity.
const COOL_DOWN: Duration = Duration::from_secs(60);
/// How often the list is gone through for one request.
const PASSES: u32 = 4;
/// Pause after the first pass; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// One model of the list.
pub(super) struct Candidate {
    pub(super) provider: Box<dyn Provider>,
    /// Optional parameters that it has refused.
    pub(super) refused: Vec<String>,
    /// The context window in tokens, once it has turned out to be smaller than it is said to be.
    window: Option<u64>,
    /// Left alone until then.
    open_until: Option<Instant>,
}

impl Candidate {
    fn is_closed(&self, now: Instant) -> bool {
        self.open_until.is_none_or(|until| now >= until)
    }

    /// Tokens.
    pub(super) fn window(&self) -> u64 {
        self.window.unwrap_or(self.provider.model().facts.context_window)
    }

    /// Lets the window be at most so many tokens.
    pub(super) fn limit_window(&mut self, tokens: u64) {
        self.window = Some(self.window().min(tokens));
    }

    /// Lets the window be so many tokens.
    pub(super) fn set_window(&mut self, tokens: u64) {
        self.window = Some(tokens);
    }

    /// Whether the window is not the one of the configuration, but what a refused request told.
    pub(super) fn is_window_guessed(&self) -> bool {
        self.window.is_some()
    }
}

/// All models, first choice first.
pub(super) struct Lineup {
    candidates: Vec<Candidate>,
    current: usize,
}

/// The way of one request through the list.
pub(super) struct Walk {
    /// From 0.
    pass: u32,
    /// Who is still to be asked in this pass.
    left: VecDeque<usize>,
    /// The last error of each.
    errors: Vec<Option<ModelError>>,
}

/// What to do when the current model gives no answer.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// No other model would do better.
    Nothing,
    /// Ask the model that is now the current one. `from` is the index of the one before.
    Model { from: usize },
    /// Wait, then go through the list again.
    Pause { pass: u32, delay: Duration },
    /// There has been enough of that.
    Exhausted,
}

impl Lineup {
    /// The first of `providers`, of which there is at least one, is used first.
    pub(super) fn new(providers: Vec<Box<dyn Provider>>) -> Self {
        let candidate = |provider| Candidate { provider, refused: Vec::new(), window: None, open_until: None };
        Self { candidates: providers.into_iter().map(candidate).collect(), current: 0 }
    }

    pub(super) fn current(&self) -> &Candidate {
        &self.candidates[self.current]
    }

    pub(super) fn current_mut(&mut self) -> &mut Candidate {
        &mut self.candidates[self.current]
    }

    pub(super) fn model(&self) -> &Model {
        self.current().provider.model()
    }

    /// The model at an index.
    pub(super) fn model_at(&self, at: usize) -> &Model {
        self.candidates[at].provider.model()
    }

    /// Whether there is no other model.
    pub(super) fn is_alone(&self) -> bool {
        self.candidates.len() == 1
    }

    /// The models that bind their thinking to everything before it.
    pub(super) fn adaptive(&self) -> impl Iterator<Item = &Model> {
        self.candidates.iter().map(|candidate| candidate.provider.model()).filter(|model| model.facts.adaptive)
    }

    /// Begins with a request, which goes to the current model first.
    pub(super) fn begin(&self, now: Instant) -> Walk {
        let closed = |at: &usize| *at != self.current && self.candidates[*at].is_closed(now);
        let left = (0..self.candidates.len()).filter(closed).collect();
        Walk { pass: 0, left, errors: vec![None; self.candidates.len()] }
    }

    /// The current model has answered.
    pub(super) fn succeeded(&mut self) {
        self.current_mut().open_until = None;
    }

    /// The current model has failed, and retrying soon did not help.
    pub(super) fn failed(&mut self, walk: &mut Walk, error: &ModelError, now: Instant) -> Next {
        walk.errors[self.current] = Some(error.clone());
        let is_unreachable = matches!(error.kind, Kind::Server | Kind::Network);
        if self.is_alone() || !(is_unreachable || has_no_capacity(error)) {
            return Next::Nothing;
        }
        if has_no_capacity(error) {
            self.current_mut().open_until = Some(now + COOL_DOWN);
        }
        if let Some(next) = walk.left.pop_front() {
            return Next::Model { from: std::mem::replace(&mut self.current, next) };
        }
        if walk.pass + 1 == PASSES {
            return Next::Exhausted;
        }
        Next::Pause { pass: walk.pass, delay: (FIRST_PAUSE * 2_u32.pow(walk.pass)).min(LONGEST_PAUSE) }
    }

    /// Goes through the list again, after the pause.
    pub(super) fn next_pass(&mut self, walk: &mut Walk, now: Instant) {
        walk.pass += 1;
        let all = 0..self.candidates.len();
        walk.left = all.clone().filter(|at| self.candidates[*at].is_closed(now)).collect();
        if walk.left.is_empty() {
            walk.left = all.collect();
        }
        self.current = walk.left.pop_front().unwrap_or(self.current);
    }
}

impl Walk {
    /// The error that stands for all of them when none of the models has answered, and whose it is: one for want of
    /// capacity if there is one, because that one passes.
    pub(super) fn decisive(&self) -> Option<(usize, &ModelError)> {
        let errors = || self.errors.iter().enumerate().filter_map(|(at, error)| Some((at, error.as_ref()?)));
        errors().rfind(|(_, error)| has_no_capacity(error)).or_else(|| errors().next_back())
    }
}

/// Whether a model should be left alone for a while.
pub(super) fn has_no_capacity(error: &ModelError) -> bool {
    matches!(error.kind, Kind::RateLimit | Kind::Overloaded | Kind::Quota)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::message::Assistant;
    use crate::session::provider::{Delta, Request};
    use crate::session::registry::{Facts, Thinking};
    use crate::wire::config::Price;

    /// A model that is never asked.
    struct Silent(Model);

    impl Provider for Silent {
        fn model(&self) -> &Model {
            &self.0
        }

        fn send(&mut self, _: &Request<'_>, _: &mut dyn FnMut(Delta<'_>)) -> Result<Assistant, ModelError> {
            unreachable!()
        }
    }

    fn lineup(models: usize) -> Lineup {
        let facts = Facts {
            reasoning: false,
            images: false,
            adaptive: false,
            context_window: 1000,
            max_tokens: 100,
            price: Price::default(),
        };
        let model = |at: usize| Model {
            provider: "p".into(),
            id: at.to_string(),
            api: "mock",
            base_url: None,
            thinking: Thinking::Off,
            facts,
        };
        Lineup::new((0..models).map(|at| Box::new(Silent(model(at))) as Box<dyn Provider>).collect())
    }

    fn error(kind: Kind) -> ModelError {
        ModelError::new(kind, "no")
    }

    #[test]
    fn a_model_without_capacity_is_left_alone_for_a_minute() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut lineup = lineup(3);
        let mut walk = lineup.begin(start);
        assert_eq!(lineup.failed(&mut walk, &error(Kind::RateLimit), start), Next::Model { from: 0 });
        lineup.succeeded();
        assert_eq!(lineup.model().id, "1");
        assert_eq!(lineup.begin(after(59)).left, [2]);
        // The current one comes first, then the list from its beginning.
        assert_eq!(lineup.begin(after(60)).left, [0, 2]);
    }

    #[test]
    fn an_outage_leaves_the_model_in_the_list() {
        let start = Instant::now();
        let mut lineup = lineup(2);
        let mut walk = lineup.begin(start);
        assert_eq!(lineup.failed(&mut walk, &error(Kind::Server), start), Next::Model { from: 0 });
        assert_eq!(lineup.begin(start).left, [0]);
        assert_eq!(
            lineup.failed(&mut walk, &error(Kind::Quota), start),
            Next::Pause { pass: 0, delay: Duration::from_secs(30) }
        );
        // The second one is left alone now, so that only the first is asked again.
        lineup.next_pass(&mut walk, start);
        assert_eq!((lineup.model().id.as_str(), walk.left.len()), ("0", 0));
    }

    #[test]
    fn when_all_are_left_alone_all_are_asked() {
        let start = Instant::now();
        let mut lineup = lineup(2);
        let mut walk = lineup.begin(start);
        let mut pauses = Vec::new();
        loop {
            match lineup.failed(&mut walk, &error(Kind::Overloaded), start) {
                Next::Model { .. } => {}
                Next::Pause { delay, .. } => {
                    pauses.push(delay.as_secs());
                    lineup.next_pass(&mut walk, start);
                    assert_eq!((lineup.model().id.as_str(), walk.left.len()), ("0", 1));
                }
                end => break assert_eq!(end, Next::Exhausted),
            }
        }
        assert_eq!(pauses, [30, 60, 120]);
    }

    #[test]
    fn a_window_only_becomes_smaller() {
        let mut lineup = lineup(1);
        lineup.current_mut().limit_window(900);
        lineup.current_mut().limit_window(950);
        assert_eq!(lineup.current().window(), 900);
        let start = Instant::now();
        let mut walk = lineup.begin(start);
        assert_eq!(lineup.failed(&mut walk, &error(Kind::RateLimit), start), Next::Nothing);
    }
}
