//! Scheduling as lists of events, and random ones against the rules.

use super::agents::Scheduled;
use super::*;

const MINUTE: i64 = 60_000;

fn scheduler(limit: Option<u32>) -> Core {
    let mut core = Core::new(Mode::Scheduler { limit });
    for (name, granted, schedule) in [("dev", 1, true), ("docs", 2, false), ("off", 0, true)] {
        core.handle(agent(name, granted, schedule), UnixMs(0));
    }
    core.handle(Input::Ready, UnixMs(0));
    answer(&mut core, Claimed::default());
    core
}

fn agent(name: &str, granted: u32, schedule: bool) -> Input {
    // Every full minute.
    let next = NextFiring::new(|from| Some(UnixMs((from.0 / MINUTE + 1) * MINUTE)));
    let schedule = schedule.then(|| Scheduled { text: "* * * * *".into(), next });
    Input::Agent { name: name.into(), setup: Setup { granted, schedule, has_image: true, reruns: Reruns::UpTo(2) } }
}

fn answer(core: &mut Core, claimed: Claimed) -> Vec<Action> {
    core.handle(Input::Claimed(claimed), core.last_seen)
}

fn at(core: &mut Core, input: Input) -> Vec<Action> {
    core.handle(input, core.last_seen)
}

fn items(agents: &[(&str, i64)]) -> Claimed {
    let claims = agents
        .iter()
        .map(|(agent, item)| Claim::Item { agent: (*agent).into(), item: *item, reruns: Reruns::Never })
        .collect();
    Claimed { claims, ..Claimed::default() }
}

fn wish(free: &[(&str, u32)], room: Option<u32>) -> Action {
    let free = free.iter().map(|(agent, free)| ((*agent).to_owned(), *free)).collect();
    Action::Claim(Wish { free, room, ticks: Vec::new() })
}

fn started(actions: &[Action]) -> Vec<(RunKey, &str, Cause, u32)> {
    let start = |action| match action {
        &Action::Start { run, ref agent, cause, rerun } => Some((run, agent.as_str(), cause, rerun)),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

fn ended(run: u64, result: RunResult) -> Input {
    Input::Ended { run: RunKey(run), result }
}

fn trigger(agent: &str, token: u64) -> Input {
    Input::Trigger { agent: agent.into(), token: Token(token), reruns: Reruns::UpTo(1) }
}

fn refused(why: NotNow) -> Action {
    Action::Refuse { token: Token(0), why }
}

mod one_shot {
    use super::*;

    fn core() -> Core {
        let mut core = Core::new(Mode::OneShot);
        for (name, granted) in [("dev", 1), ("reviewer", 2), ("off", 0)] {
            core.agents.set(name, Setup { granted, schedule: None, has_image: true, reruns: Reruns::Never });
        }
        core
    }

    fn root(core: &mut Core, reruns: Reruns) -> Vec<Action> {
        let actions = at(core, Input::StartRoot { agent: "dev".into(), reruns });
        answer(core, Claimed::default());
        actions
    }

    #[test]
    fn one_run_and_the_end() {
        let mut core = core();
        assert_eq!(started(&root(&mut core, Reruns::UpTo(2))), [(RunKey(0), "dev", Cause::Root, 0)]);
        at(&mut core, ended(0, RunResult::Completed));
        assert_eq!(answer(&mut core, Claimed::default()), [Action::Finish]);
    }

    #[test]
    fn reruns_stop_at_the_limit() {
        let mut core = core();
        root(&mut core, Reruns::UpTo(2));
        let actions = at(&mut core, ended(0, RunResult::Rerun));
        assert_eq!(started(&actions), [(RunKey(1), "dev", Cause::RerunOf(RunKey(0)), 1)]);
        let actions = at(&mut core, ended(1, RunResult::Rerun));
        assert_eq!(started(&actions), [(RunKey(2), "dev", Cause::RerunOf(RunKey(1)), 2)]);
        let actions = at(&mut core, ended(2, RunResult::Rerun));
        assert_eq!(actions[0], Action::RerunLimit { agent: "dev".into(), max: 2 });
    }

    #[test]
    fn calls_run_in_the_slots_of_their_agent_and_outlive_the_caller() {
        let mut core = core();
        root(&mut core, Reruns::Never);
        // The root run holds no slot: its own agent may be called through others, too.
        assert_eq!(at(&mut core, Input::QueueChanged), [wish(&[("dev", 1), ("reviewer", 2)], None)]);
        let two = answer(&mut core, items(&[("reviewer", 1), ("reviewer", 2)]));
        let start = |run, item| Action::StartItem { run: RunKey(run), item };
        assert_eq!(two, [start(1, 1), start(2, 2)]);
        assert_eq!(at(&mut core, Input::QueueChanged), [wish(&[("dev", 1)], None)]);
        assert_eq!(answer(&mut core, Claimed::default()), []);
        for (run, is_last) in [(0, false), (1, false), (2, true)] {
            at(&mut core, ended(run, RunResult::Completed));
            let finish: &[Action] = if is_last { &[Action::Finish] } else { &[] };
            assert_eq!(answer(&mut core, Claimed::default()), finish);
        }
    }

    #[test]
    fn stopping_kills_and_starts_nothing_more() {
        let mut core = core();
        root(&mut core, Reruns::UpTo(5));
        assert_eq!(at(&mut core, Input::Stop { kill: true }), [Action::KillAll]);
        assert_eq!(at(&mut core, Input::QueueChanged), []);
        assert_eq!(at(&mut core, ended(0, RunResult::Rerun)), [Action::Finish]);
    }
}

#[test]
fn a_schedule_fires_at_its_instant_and_not_before() {
    let mut core = scheduler(None);
    assert_eq!(core.next_wake(), Some(UnixMs(MINUTE)));
    assert_eq!(started(&core.handle(Input::Timer, UnixMs(MINUTE - 1))), []);
    answer(&mut core, Claimed::default());
    let actions = core.handle(Input::Timer, UnixMs(MINUTE));
    assert_eq!(actions[0], Action::NextFiring { agent: "dev".into(), at: Some(UnixMs(2 * MINUTE)) });
    assert_eq!(started(&actions), [(RunKey(0), "dev", Cause::Tick, 0)]);
    // `off` has a schedule and no slot.
    assert_eq!(core.armed(), 1);
}

#[test]
fn a_busy_agent_loses_its_firing_and_missed_ones_count_once() {
    let mut core = scheduler(None);
    core.handle(Input::Timer, UnixMs(MINUTE));
    answer(&mut core, Claimed::default());
    let actions = core.handle(Input::Timer, UnixMs(2 * MINUTE));
    assert!(actions.contains(&Action::TickSkipped { agent: "dev".into(), running: 1, scale: 1 }));
    answer(&mut core, Claimed::default());
    at(&mut core, ended(0, RunResult::Completed));
    answer(&mut core, Claimed::default());
    let actions = core.handle(Input::Timer, UnixMs(60 * MINUTE + 7));
    assert_eq!(started(&actions).len(), 1);
    assert_eq!(core.next_wake(), Some(UnixMs(61 * MINUTE)));
}

#[test]
fn a_clock_that_is_set_back_brings_earlier_firings() {
    let mut core = scheduler(None);
    core.handle(Input::Paused(true), UnixMs(50 * MINUTE));
    core.handle(Input::Paused(false), UnixMs(50 * MINUTE));
    assert_eq!(core.next_wake(), Some(UnixMs(51 * MINUTE)));
    // A little: the instant is kept.
    core.handle(Input::QueueChanged, UnixMs(49 * MINUTE + 30_000));
    assert_eq!(core.next_wake(), Some(UnixMs(51 * MINUTE)));
    core.handle(Input::QueueChanged, UnixMs(10 * MINUTE));
    assert_eq!(core.next_wake(), Some(UnixMs(11 * MINUTE)));
}

#[test]
fn a_firing_waits_for_room_in_the_project_and_starts_in_its_turn() {
    let mut core = scheduler(Some(1));
    assert_eq!(at(&mut core, Input::QueueChanged), [wish(&[("dev", 1), ("docs", 2)], Some(1))]);
    answer(&mut core, items(&[("docs", 1)]));
    let actions = core.handle(Input::Timer, UnixMs(MINUTE));
    assert_eq!(started(&actions), []);
    let ticks = vec![("dev".to_owned(), UnixMs(MINUTE))];
    let free = vec![("dev".to_owned(), 1), ("docs".to_owned(), 1)];
    // Without room only calls that somebody waits for can be claimed.
    assert_eq!(actions.last(), Some(&Action::Claim(Wish { free, room: Some(0), ticks })));
    answer(&mut core, Claimed::default());
    let actions = core.handle(ended(0, RunResult::Completed), UnixMs(MINUTE + 1));
    assert!(matches!(&actions[..], [Action::Claim(Wish { room: Some(1), ticks, .. })] if ticks.len() == 1));
    let claims = vec![Claim::Tick { agent: "dev".into() }];
    let actions = answer(&mut core, Claimed { claims, ..Claimed::default() });
    assert_eq!(started(&actions), [(RunKey(1), "dev", Cause::Tick, 0)]);
}

#[test]
fn what_waits_is_forgotten_on_pause_and_not_made_up() {
    let mut core = scheduler(Some(1));
    at(&mut core, Input::QueueChanged);
    answer(&mut core, items(&[("docs", 1)]));
    core.handle(Input::Timer, UnixMs(MINUTE));
    answer(&mut core, Claimed::default());
    let actions = at(&mut core, Input::Paused(true));
    assert_eq!(actions, [Action::NextFiring { agent: "dev".into(), at: None }]);
    at(&mut core, ended(0, RunResult::Completed));
    let actions = core.handle(Input::Paused(false), UnixMs(10 * MINUTE));
    assert_eq!(actions[0], Action::NextFiring { agent: "dev".into(), at: Some(UnixMs(11 * MINUTE)) });
    assert!(matches!(&actions[1], Action::Claim(Wish { ticks, .. }) if ticks.is_empty()));
}

#[test]
fn while_paused_only_people_start_runs() {
    let mut core = scheduler(None);
    at(&mut core, Input::Paused(true));
    assert_eq!(at(&mut core, Input::QueueChanged), []);
    assert_eq!(started(&at(&mut core, trigger("dev", 0))), [(RunKey(0), "dev", Cause::Manual(Token(0)), 0)]);
    assert_eq!(started(&at(&mut core, ended(0, RunResult::Rerun))), []);
}

#[test]
fn a_disabled_agent_waits_and_the_others_do_not() {
    let mut core = scheduler(None);
    let actions = at(&mut core, Input::Enabled { agent: "dev".into(), is_enabled: false });
    assert_eq!(actions, [Action::NextFiring { agent: "dev".into(), at: None }, wish(&[("docs", 2)], None)]);
    answer(&mut core, Claimed::default());
    assert_eq!(started(&at(&mut core, trigger("dev", 0))).len(), 1);
}

#[test]
fn why_a_person_cannot_start_a_run() {
    let mut core = scheduler(Some(2));
    assert_eq!(at(&mut core, trigger("nobody", 0))[0], refused(NotNow::UnknownAgent));
    answer(&mut core, Claimed::default());
    assert_eq!(at(&mut core, trigger("off", 0))[0], refused(NotNow::Disabled));
    answer(&mut core, Claimed::default());
    at(&mut core, trigger("dev", 1));
    answer(&mut core, Claimed::default());
    assert_eq!(at(&mut core, trigger("dev", 0))[0], refused(NotNow::NoFreeSlot));
    answer(&mut core, Claimed::default());
    at(&mut core, trigger("docs", 2));
    answer(&mut core, Claimed::default());
    assert_eq!(at(&mut core, trigger("docs", 0))[0], refused(NotNow::ProjectLimit(2)));
    answer(&mut core, Claimed::default());
    assert_eq!(at(&mut core, Input::Docker(Health::Down)), []);
    assert_eq!(at(&mut core, trigger("docs", 0))[0], refused(NotNow::NotAvailable));
}

#[test]
fn a_wish_during_a_claim_is_answered_after_it() {
    let mut core = scheduler(None);
    at(&mut core, Input::QueueChanged);
    assert_eq!(at(&mut core, trigger("dev", 0)), []);
    // The claim took the only slot.
    let actions = answer(&mut core, items(&[("dev", 7)]));
    assert_eq!(actions[..2], [Action::StartItem { run: RunKey(0), item: 7 }, refused(NotNow::NoFreeSlot)]);
}

#[test]
fn a_chain_of_reruns_keeps_its_slot() {
    let mut core = scheduler(None);
    core.handle(Input::Timer, UnixMs(MINUTE));
    answer(&mut core, Claimed::default());
    for rerun in 1..=2u64 {
        let actions = at(&mut core, ended(rerun - 1, RunResult::Rerun));
        assert_eq!(started(&actions).len(), 1, "rerun {rerun}");
        // The slot is taken again before anything is claimed.
        assert_eq!(actions.last(), Some(&wish(&[("docs", 2)], None)));
        answer(&mut core, Claimed::default());
    }
    let actions = at(&mut core, ended(2, RunResult::Rerun));
    assert_eq!(actions[0], Action::RerunLimit { agent: "dev".into(), max: 2 });
}

#[test]
fn without_docker_everything_waits_and_nothing_is_lost() {
    let mut core = scheduler(None);
    core.handle(Input::Timer, UnixMs(MINUTE));
    answer(&mut core, Claimed::default());
    at(&mut core, Input::Docker(Health::Down));
    // The chain waits in its slot.
    assert_eq!(started(&at(&mut core, ended(0, RunResult::Rerun))), []);
    let actions = core.handle(Input::Timer, UnixMs(2 * MINUTE));
    assert!(actions.contains(&Action::TickSkipped { agent: "dev".into(), running: 1, scale: 1 }));
    let actions = at(&mut core, Input::Docker(Health::Up));
    assert_eq!(started(&actions), [(RunKey(1), "dev", Cause::RerunOf(RunKey(0)), 1)]);
}

#[test]
fn a_chain_whose_agent_is_removed_while_it_waits_is_over() {
    let mut core = scheduler(Some(1));
    core.handle(Input::Timer, UnixMs(MINUTE));
    answer(&mut core, Claimed::default());
    at(&mut core, Input::Docker(Health::Down));
    at(&mut core, ended(0, RunResult::Rerun));
    assert!(core.is_held(RunKey(0)));
    at(&mut core, Input::AgentGone { agent: "dev".into() });
    assert!(!core.is_held(RunKey(0)));
    // Nor does it keep its place in the project.
    assert_eq!(at(&mut core, Input::Docker(Health::Up)), [wish(&[("docs", 2)], Some(1))]);
}

#[test]
fn a_chain_whose_agent_is_removed_while_it_is_committed_is_over() {
    let mut core = scheduler(None);
    core.handle(Input::Timer, UnixMs(MINUTE));
    answer(&mut core, Claimed::default());
    assert_eq!(started(&at(&mut core, ended(0, RunResult::Rerun))).len(), 1);
    answer(&mut core, Claimed::default());
    at(&mut core, Input::AgentGone { agent: "dev".into() });
    answer(&mut core, Claimed::default());
    // Otherwise it would be tried for ever.
    assert_eq!(started(&at(&mut core, Input::NotStarted { run: RunKey(1) })), []);
    assert_eq!(core.agents.busy(), 0);
}

#[test]
fn a_rerun_that_could_not_be_committed_goes_on_from_itself() {
    let mut core = scheduler(None);
    core.handle(Input::Timer, UnixMs(MINUTE));
    answer(&mut core, Claimed::default());
    at(&mut core, ended(0, RunResult::Rerun));
    answer(&mut core, Claimed::default());
    at(&mut core, Input::Storage(Health::Down));
    at(&mut core, Input::NotStarted { run: RunKey(1) });
    // Under this name it is remembered what the chain was started by.
    assert!(core.is_held(RunKey(1)));
    let actions = at(&mut core, Input::Storage(Health::Up));
    assert_eq!(started(&actions), [(RunKey(2), "dev", Cause::RerunOf(RunKey(1)), 1)]);
}

#[test]
fn a_chain_that_goes_on_before_everything_is_ready_waits_for_it() {
    let mut core = Core::new(Mode::Scheduler { limit: None });
    let setup = Setup { granted: 1, schedule: None, has_image: false, reruns: Reruns::UpTo(2) };
    for name in ["built", "unbuilt"] {
        core.handle(Input::Agent { name: name.into(), setup: setup.clone() }, UnixMs(0));
        core.handle(Input::Adopted { agent: name.into(), rerun: 0, reruns: Reruns::UpTo(2) }, UnixMs(0));
    }
    for run in 0..2 {
        assert_eq!(started(&at(&mut core, ended(run, RunResult::Rerun))), []);
    }
    at(&mut core, Input::ImageReady { agent: "built".into() });
    let actions = at(&mut core, Input::Ready);
    assert_eq!(started(&actions), [(RunKey(2), "built", Cause::RerunOf(RunKey(0)), 1)]);
    assert_eq!(core.agents.busy(), 1, "what has no image has no chain either");
}

#[test]
fn no_slots_no_further_rerun() {
    let mut core = scheduler(None);
    core.handle(Input::Timer, UnixMs(MINUTE));
    answer(&mut core, Claimed::default());
    at(&mut core, agent("dev", 0, true));
    assert_eq!(started(&at(&mut core, ended(0, RunResult::Rerun))), []);
}

#[test]
fn a_firing_that_could_not_be_committed_waits() {
    let mut core = scheduler(None);
    core.handle(Input::Timer, UnixMs(MINUTE));
    answer(&mut core, Claimed::default());
    at(&mut core, Input::Storage(Health::Down));
    assert_eq!(at(&mut core, Input::NotStarted { run: RunKey(0) }), []);
    let actions = at(&mut core, Input::Storage(Health::Up));
    assert!(matches!(&actions[..], [Action::Claim(Wish { ticks, .. })] if ticks.len() == 1));
}

#[test]
fn adopted_runs_hold_slots_beyond_what_was_granted() {
    let mut core = Core::new(Mode::Scheduler { limit: None });
    core.handle(agent("dev", 1, true), UnixMs(0));
    for _ in 0..2 {
        core.handle(Input::Adopted { agent: "dev".into(), rerun: 0, reruns: Reruns::UpTo(2) }, UnixMs(0));
    }
    assert_eq!(core.handle(Input::Ready, UnixMs(0)).len(), 1, "it is only armed");
    let actions = at(&mut core, Input::InitialRuns { agents: vec!["dev".into()] });
    assert_eq!(actions, [Action::InitialSkipped { agent: "dev".into() }]);
    at(&mut core, ended(0, RunResult::Completed));
    assert_eq!(at(&mut core, Input::QueueChanged), [], "one slot was too many");
    at(&mut core, ended(1, RunResult::Completed));
    assert!(core.claiming);
}

#[test]
fn a_schedule_that_is_taken_away_has_no_next_firing() {
    let mut core = scheduler(None);
    let actions = at(&mut core, agent("dev", 1, false));
    assert!(actions.contains(&Action::NextFiring { agent: "dev".into(), at: None }), "{actions:?}");
    assert_eq!((core.armed(), core.next_wake()), (0, None));
}

#[test]
fn another_schedule_starts_anew_and_a_removed_agent_is_forgotten() {
    let mut core = scheduler(None);
    let next = NextFiring::new(|_| Some(UnixMs(5)));
    let schedule = Some(Scheduled { text: "5 * * * *".into(), next });
    let setup = Setup { granted: 1, schedule, has_image: true, reruns: Reruns::Never };
    let actions = at(&mut core, Input::Agent { name: "dev".into(), setup });
    assert_eq!(actions[0], Action::NextFiring { agent: "dev".into(), at: Some(UnixMs(5)) });
    answer(&mut core, Claimed::default());
    at(&mut core, Input::AgentGone { agent: "dev".into() });
    assert_eq!(core.next_wake(), None);
    answer(&mut core, Claimed::default());
    assert_eq!(at(&mut core, trigger("dev", 0))[0], refused(NotNow::UnknownAgent));
}

mod props {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Op {
        Accept(usize),
        End { which: usize, result: RunResult },
        Trigger(usize),
        Pause(bool),
        Enable(usize, bool),
        Docker(bool),
        Storage(bool),
        Scale(usize, u32),
        Wait(i64),
        AnswerClaim,
    }

    const AGENTS: [&str; 3] = ["a", "b", "c"];

    fn op() -> impl Strategy<Value = Op> {
        let result = prop_oneof![Just(RunResult::Completed), Just(RunResult::Rerun), Just(RunResult::Error)];
        prop_oneof![
            6 => (0usize..3).prop_map(Op::Accept),
            6 => (0usize..9, result).prop_map(|(which, result)| Op::End { which, result }),
            2 => (0usize..3).prop_map(Op::Trigger),
            1 => any::<bool>().prop_map(Op::Pause),
            1 => (0usize..3, any::<bool>()).prop_map(|(agent, on)| Op::Enable(agent, on)),
            1 => any::<bool>().prop_map(Op::Docker),
            1 => any::<bool>().prop_map(Op::Storage),
            1 => (0usize..3, 0u32..4).prop_map(|(agent, scale)| Op::Scale(agent, scale)),
            3 => (0i64..90_000).prop_map(Op::Wait),
            8 => Just(Op::AnswerClaim),
        ]
    }

    /// The store and the runs, as naive as can be.
    struct World {
        core: Core,
        now: i64,
        queue: Vec<(usize, i64)>,
        next_item: i64,
        accepted: BTreeSet<i64>,
        running: Vec<(RunKey, String, Option<i64>)>,
        done: BTreeSet<i64>,
        wish: Option<Wish>,
        scales: [u32; 3],
        limit: u32,
        /// No manual or adopted run ever exceeds a slot; a shrunken agent may have more runs than slots for a while.
        most: [u32; 3],
    }

    impl World {
        fn feed(&mut self, input: Input) {
            let actions = self.core.handle(input, UnixMs(self.now));
            for action in actions {
                match action {
                    Action::Start { run, agent, .. } => self.running.push((run, agent, None)),
                    Action::StartItem { run, item } => {
                        let agent = AGENTS[self.agent_of(item)].to_owned();
                        self.running.push((run, agent, Some(item)));
                    }
                    Action::Claim(wish) => {
                        assert!(self.wish.is_none(), "two claims at once");
                        self.wish = Some(wish);
                    }
                    _ => {}
                }
            }
        }

        fn agent_of(&self, item: i64) -> usize {
            usize::try_from(item % 3).unwrap()
        }

        fn answer(&mut self) {
            let Some(mut wish) = self.wish.take() else { return };
            let mut claims = Vec::new();
            let mut queue = std::mem::take(&mut self.queue);
            queue.retain(|(agent, item)| {
                let free = wish.free.iter_mut().find(|(name, free)| name == AGENTS[*agent] && *free > 0);
                let Some((name, free)) = free.filter(|_| wish.room != Some(0)) else { return true };
                *free -= 1;
                wish.room = wish.room.map(|room| room - 1);
                claims.push(Claim::Item { agent: name.clone(), item: *item, reruns: Reruns::Never });
                false
            });
            self.queue = queue;
            for (agent, _) in &wish.ticks {
                let free = wish.free.iter_mut().find(|(name, free)| name == agent && *free > 0);
                if let Some((name, free)) = free.filter(|_| wish.room != Some(0)) {
                    *free -= 1;
                    wish.room = wish.room.map(|room| room - 1);
                    claims.push(Claim::Tick { agent: name.clone() });
                }
            }
            self.feed(Input::Claimed(Claimed { claims, more: false, next_due: None }));
        }

        fn check(&self) {
            let running = |agent: &str| self.running.iter().filter(|(_, name, _)| name == agent).count();
            for (at, agent) in AGENTS.iter().enumerate() {
                assert!(running(agent) <= self.most[at] as usize, "{agent} has more runs than slots");
            }
            assert!(self.running.len() <= self.limit as usize, "more runs than the project may have");
            let mut seen = BTreeSet::new();
            let all = self.queue.iter().map(|(_, item)| *item);
            let all = all.chain(self.running.iter().filter_map(|(_, _, item)| *item)).chain(self.done.iter().copied());
            all.for_each(|item| assert!(seen.insert(item), "item {item} twice"));
            assert_eq!(seen, self.accepted, "items lost");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_doubled_or_beyond_the_limits(ops in proptest::collection::vec(op(), 1..120), limit in 1u32..5) {
            let mut world = World {
                core: Core::new(Mode::Scheduler { limit: Some(limit) }),
                now: 1_000_000, queue: Vec::new(), next_item: 0, accepted: BTreeSet::new(), running: Vec::new(),
                done: BTreeSet::new(), wish: None, scales: [1, 2, 1], limit, most: [1, 2, 1],
            };
            for (name, scale) in AGENTS.iter().zip(world.scales) {
                world.feed(agent(name, scale, *name != "b"));
            }
            world.feed(Input::Ready);
            for op in ops {
                match op {
                    Op::Accept(agent) => {
                        while world.agent_of(world.next_item) != agent {
                            world.next_item += 1;
                        }
                        world.queue.push((agent, world.next_item));
                        world.accepted.insert(world.next_item);
                        world.next_item += 1;
                        world.feed(Input::QueueChanged);
                    }
                    Op::End { which, result } => {
                        if which < world.running.len() {
                            let (run, _, item) = world.running.remove(which);
                            world.done.extend(item);
                            world.feed(Input::Ended { run, result });
                        }
                    }
                    Op::Trigger(agent) => world.feed(trigger(AGENTS[agent], 0)),
                    Op::Pause(on) => world.feed(Input::Paused(on)),
                    Op::Enable(agent, is_enabled) => {
                        world.feed(Input::Enabled { agent: AGENTS[agent].into(), is_enabled });
                    }
                    Op::Docker(up) => world.feed(Input::Docker(if up { Health::Up } else { Health::Down })),
                    Op::Storage(up) => world.feed(Input::Storage(if up { Health::Up } else { Health::Down })),
                    Op::Scale(at, scale) => {
                        world.scales[at] = scale;
                        // A claim that is under way was made with the slots of before.
                        world.most[at] = world.most[at].max(scale);
                        world.feed(agent(AGENTS[at], scale, AGENTS[at] != "b"));
                    }
                    Op::Wait(ms) => {
                        world.now += ms;
                        world.feed(Input::Timer);
                    }
                    Op::AnswerClaim => world.answer(),
                }
                world.check();
            }
            // Once nothing stands in the way any more, everything that was accepted is carried out.
            for (at, name) in AGENTS.iter().enumerate() {
                world.feed(agent(name, 1, false));
                world.most[at] = world.most[at].max(1);
                world.feed(Input::Enabled { agent: (*name).into(), is_enabled: true });
            }
            world.feed(Input::Paused(false));
            world.feed(Input::Docker(Health::Up));
            world.feed(Input::Storage(Health::Up));
            let mut rounds = 0;
            while !(world.queue.is_empty() && world.running.is_empty()) {
                world.answer();
                if let Some((run, _, item)) = world.running.pop() {
                    world.done.extend(item);
                    world.feed(Input::Ended { run, result: RunResult::Completed });
                }
                world.check();
                rounds += 1;
                prop_assert!(rounds < 2000, "stuck: {:?}", world.queue);
            }
        }
    }
}
