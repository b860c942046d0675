//! How the project's limit is shared out as slots (scheduler.md §2.3). Pure.

use std::collections::BTreeMap;

/// An agent that got fewer slots than it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reduced {
    pub(super) agent: String,
    pub(super) requested: u32,
    pub(super) granted: u32,
}

/// Slots by agent, from what each asks for; and who got fewer. Agents that ask for none get none and do not count.
pub(super) fn allocate(wanted: &BTreeMap<String, u32>, limit: Option<u32>) -> (BTreeMap<String, u32>, Vec<Reduced>) {
    let mut granted = wanted.clone();
    let mut reduced = Vec::new();
    let Some(limit) = limit else { return (granted, reduced) };
    let mut used = 0u32;
    for (agent, slots) in granted.iter_mut().filter(|(_, slots)| **slots > 0) {
        let requested = *slots;
        // Every active agent has a slot; the cap on runs at once holds anyway.
        *slots = requested.min(limit.saturating_sub(used).max(1));
        used = used.saturating_add(*slots);
        if *slots < requested {
            reduced.push(Reduced { agent: agent.clone(), requested, granted: *slots });
        }
    }
    (granted, reduced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(wanted: &[u32], limit: Option<u32>, expected: &[u32]) {
        let wanted = wanted.iter().enumerate().map(|(at, slots)| (format!("a{at}"), *slots)).collect();
        let (granted, reduced) = allocate(&wanted, limit);
        assert_eq!(granted.values().copied().collect::<Vec<_>>(), expected);
        assert_eq!(reduced.len(), wanted.values().zip(expected).filter(|(wanted, got)| wanted != got).count());
    }

    #[test]
    fn slots_are_given_in_order_and_nobody_active_goes_empty() {
        case(&[2, 3, 1], None, &[2, 3, 1]);
        case(&[2, 3, 1], Some(4), &[2, 2, 1]);
        case(&[2, 3, 1], Some(1), &[1, 1, 1]);
        case(&[0, 3, 0], Some(2), &[0, 2, 0]);
        case(&[2, 2], Some(9), &[2, 2]);
    }
}
