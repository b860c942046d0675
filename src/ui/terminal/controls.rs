//! What keys do: the selection, what is shown below the table, the question before a kill. Pure.

use crate::model::status::AgentStatus;
use crate::scheduler::handle::{Control, Snapshot};
use crate::ui::keyboard::Key;

/// What a person has chosen so far.
#[derive(Debug, Default)]
pub(super) struct Controls {
    /// Name of the selected agent; `None` before the first look at them.
    selected: Option<String>,
    /// Where it was: another agent that takes its place is selected when it is gone.
    place: usize,
    pub(super) pane: Pane,
    pub(super) question: Option<Question>,
}

/// What stands below the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Recent,
    /// The log of the selected agent.
    Log,
    Help,
}

/// Whether these runs are to be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) agent: String,
    pub(super) runs: u32,
    /// A frame with it has been drawn.
    pub(super) is_shown: bool,
}

impl Controls {
    /// Keeps the selection on an agent that there is.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let place = self.selected.as_ref().and_then(|name| snapshot.agents.keys().position(|other| other == name));
        self.select(place.unwrap_or(self.place), snapshot);
        if self.question.as_ref().is_some_and(|question| !snapshot.agents.contains_key(&question.agent)) {
            self.question = None;
        }
    }

    /// Index of the selected agent.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// The agent whose log is wanted.
    pub(super) fn log_wanted(&self) -> Option<&str> {
        self.selected.as_deref().filter(|_| self.pane == Pane::Log)
    }

    fn select(&mut self, place: usize, snapshot: &Snapshot) {
        self.place = place.min(snapshot.agents.len().saturating_sub(1));
        self.selected = snapshot.agents.keys().nth(self.place).cloned();
    }

    /// The question, if there is one, can be read.
    pub(super) fn shown(&mut self) {
        if let Some(question) = &mut self.question {
            question.is_shown = true;
        }
    }

    /// Does what a key is for; gives a wish for the scheduler.
    pub(super) fn press(&mut self, key: Key, snapshot: &Snapshot) -> Option<Control> {
        if snapshot.scheduler.as_ref().is_none_or(|info| info.initializing) {
            return None;
        }
        self.follow(snapshot);
        if let Some(Question { agent, is_shown, .. }) = self.question.take() {
            // What was typed before anybody could read it is no answer.
            return (is_shown && key == Key::Char('y')).then_some(Control::KillAgent { agent });
        }
        match key {
            Key::Up => self.select(self.place.saturating_sub(1), snapshot),
            Key::Down => self.select(self.place + 1, snapshot),
            Key::Enter | Key::Char('l') => self.toggle(Pane::Log),
            Key::Char('?') => self.toggle(Pane::Help),
            Key::Escape => self.pane = Pane::Recent,
            Key::Char(char) => {
                let agent = self.selected.as_ref().and_then(|name| snapshot.agents.get(name))?;
                return self.of_agent(char, agent);
            }
            _ => {}
        }
        None
    }

    fn of_agent(&mut self, char: char, agent: &AgentStatus) -> Option<Control> {
        let name = agent.name.clone();
        match char {
            ' ' if agent.wanted_scale == 0 => None,
            ' ' if agent.paused => Some(Control::Enable { agent: name }),
            ' ' => Some(Control::Disable { agent: name }),
            'r' => Some(Control::Trigger { agent: name, prompt: None, queue: false }),
            'k' if agent.running_count > 0 => {
                self.question = Some(Question { agent: name, runs: agent.running_count, is_shown: false });
                None
            }
            _ => None,
        }
    }

    fn toggle(&mut self, pane: Pane) {
        self.pane = if self.pane == pane { Pane::Recent } else { pane };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::clock::UnixMs;
    use crate::model::status::SchedulerInfo;

    fn snapshot(names: &[&str]) -> Snapshot {
        let info = SchedulerInfo { initializing: false, ..SchedulerInfo::new(None, UnixMs(0)) };
        let agent = |name: &&str| ((*name).to_owned(), Arc::new(AgentStatus::idle(name, 1, 900)));
        Snapshot { scheduler: Some(Arc::new(info)), agents: names.iter().map(agent).collect(), ..Snapshot::default() }
    }

    fn change(snapshot: &mut Snapshot, name: &str, change: impl FnOnce(&mut AgentStatus)) {
        change(Arc::make_mut(snapshot.agents.get_mut(name).unwrap()));
    }

    #[test]
    fn the_selection_stops_at_the_ends_and_stays_with_its_agent() {
        let mut controls = Controls::default();
        let two = snapshot(&["b", "d"]);
        for (key, expected) in [(Key::Up, 0), (Key::Down, 1), (Key::Down, 1)] {
            controls.press(key, &two);
            assert_eq!(controls.place(), expected);
        }
        controls.follow(&snapshot(&["a", "b", "c", "d", "e"]));
        assert_eq!(controls.place(), 3);
        controls.follow(&snapshot(&["a"]));
        assert_eq!(controls.place(), 0);
        controls.follow(&snapshot(&[]));
        assert_eq!((controls.place(), controls.press(Key::Char('r'), &snapshot(&[]))), (0, None));
    }

    #[test]
    fn nothing_but_an_interrupt_counts_while_initializing() {
        let mut controls = Controls::default();
        let mut snapshot = snapshot(&["a", "b"]);
        Arc::make_mut(snapshot.scheduler.as_mut().unwrap()).initializing = true;
        for key in [Key::Down, Key::Char('r'), Key::Char('?'), Key::Char(' ')] {
            assert_eq!(controls.press(key, &snapshot), None);
        }
        assert_eq!((controls.place(), controls.pane), (0, Pane::Recent));
    }

    #[test]
    fn space_turns_an_agent_off_and_on_but_not_one_that_is_off_by_configuration() {
        let mut controls = Controls::default();
        let mut snapshot = snapshot(&["a"]);
        let agent = || "a".to_owned();
        assert_eq!(controls.press(Key::Char(' '), &snapshot), Some(Control::Disable { agent: agent() }));
        change(&mut snapshot, "a", |agent| agent.paused = true);
        assert_eq!(controls.press(Key::Char(' '), &snapshot), Some(Control::Enable { agent: agent() }));
        change(&mut snapshot, "a", |agent| agent.wanted_scale = 0);
        assert_eq!(controls.press(Key::Char(' '), &snapshot), None);
    }

    #[test]
    fn a_kill_is_asked_for_and_only_y_means_yes() {
        let mut controls = Controls::default();
        let mut snapshot = snapshot(&["a", "b"]);
        assert_eq!((controls.press(Key::Char('k'), &snapshot), &controls.question), (None, &None));
        change(&mut snapshot, "a", |agent| agent.running_count = 2);
        let asked = Question { agent: "a".into(), runs: 2, is_shown: true };
        for (answer, expected) in [
            (Key::Char('n'), None),
            (Key::Down, None),
            (Key::Enter, None),
            (Key::Char('y'), Some(Control::KillAgent { agent: "a".into() })),
        ] {
            assert_eq!(controls.press(Key::Char('k'), &snapshot), None);
            controls.shown();
            assert_eq!(controls.question.as_ref(), Some(&asked));
            assert_eq!(controls.press(answer, &snapshot), expected);
            assert_eq!((&controls.question, controls.place(), controls.pane), (&None, 0, Pane::Recent));
        }
        assert_eq!(controls.press(Key::Char('k'), &snapshot), None);
        assert_eq!(
            (controls.press(Key::Char('y'), &snapshot), &controls.question),
            (None, &None),
            "nobody has seen it"
        );
    }

    #[test]
    fn panes_close_by_their_key_or_escape() {
        let mut controls = Controls::default();
        let snapshot = snapshot(&["a"]);
        for (key, expected) in [
            (Key::Char('l'), Pane::Log),
            (Key::Enter, Pane::Recent),
            (Key::Enter, Pane::Log),
            (Key::Char('?'), Pane::Help),
            (Key::Char('?'), Pane::Recent),
            (Key::Char('?'), Pane::Help),
            (Key::Escape, Pane::Recent),
        ] {
            controls.press(key, &snapshot);
            assert_eq!(controls.pane, expected, "{key:?}");
        }
    }
}
