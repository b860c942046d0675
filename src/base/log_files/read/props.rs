//! What holds for any log, and any way of reading it.

use proptest::prelude::*;
use serde_json::json;

use super::tests::{Bed, numbers};
use super::*;

/// What happens to a log, in order.
#[derive(Clone, Debug)]
enum Step {
    /// So many bytes of what waits to be written go to the file.
    Write(usize),
    /// Everything that waits is written, and the next entries go to the next day's file.
    NextDay,
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![5 => (1usize..60).prop_map(Step::Write), 1 => Just(Step::NextDay), 3 => (1usize..5).prop_map(Step::Read)]
}

/// Lines of entries and of other things, numbered in order.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let text = prop_oneof![Just(String::new()), "[a-zäöü€😀]{1,40}", Just("x".repeat(300))];
    prop::collection::vec((text, any::<bool>()), 1..20).prop_map(|lines| {
        let line = |(n, (text, noise)): (usize, (String, bool))| {
            let noise = if noise { format!("{}\n", text.replace('{', "")) } else { String::new() };
            format!("{noise}{}\n", json!({"n": n, "text": text}))
        };
        lines.into_iter().enumerate().map(line).collect()
    })
}

proptest! {
    #[test]
    fn a_follower_sees_every_entry_once_while_a_writer_appends(
        lines in lines(), steps in prop::collection::vec(step(), 0..40), piece in 1usize..50
    ) {
        let mut bed = Bed::new();
        bed.files.sizes = Sizes { piece, longest: 100_000 };
        let mut waiting: std::collections::VecDeque<u8> = lines.concat().into_bytes().into();
        let mut days = (1..=28).map(|day| format!("dev-2026-03-{day:02}.log")).cycle();
        let (mut file, mut seen) = (days.next().unwrap(), Vec::new());
        bed.append(&file, "");
        let mut cursor = bed.files.last(Query { limit: 1, filter: &Filter::default() }).unwrap().cursor.unwrap();
        let mut days_used = 1;
        for step in steps.into_iter().chain([Step::Write(usize::MAX), Step::Read(usize::MAX)]) {
            match step {
                Step::Write(count) => {
                    let count = count.min(waiting.len());
                    bed.append(&file, waiting.drain(..count).collect::<Vec<u8>>());
                }
                // A writer changes files between two lines.
                Step::NextDay if days_used < 28 => {
                    let end = waiting.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
                    bed.append(&file, waiting.drain(..end).collect::<Vec<u8>>());
                    file = days.next().unwrap();
                    days_used += 1;
                }
                Step::NextDay => {}
                Step::Read(limit) => {
                    let page = bed.files.after(&cursor, None, Query { limit, filter: &Filter::default() }).unwrap();
                    prop_assert!(page.entries.len() <= limit);
                    seen.extend(numbers(&page));
                    cursor = page.cursor.unwrap();
                }
            }
        }
        prop_assert_eq!(seen, (0..lines.len() as i64).collect::<Vec<_>>());
    }

    #[test]
    fn pages_backwards_and_forwards_have_the_same_entries(
        lines in lines(), limit in 1usize..6, piece in 1usize..50, per_day in 1usize..8
    ) {
        let mut bed = Bed::new();
        bed.files.sizes = Sizes { piece, longest: 100_000 };
        for (day, lines) in lines.chunks(per_day).enumerate() {
            bed.append(&format!("dev-2026-03-{:02}.log", day + 1), lines.concat());
        }
        let expected: Vec<i64> = (0..lines.len() as i64).collect();
        let query = Query { limit, filter: &Filter::default() };
        let mut page = bed.files.last(query).unwrap();
        let mut seen = numbers(&page);
        while let Some(back) = page.back {
            page = bed.files.before(&back, query).unwrap();
            seen.splice(0..0, numbers(&page));
        }
        prop_assert_eq!(&seen, &expected);
        let mut at = Position::start_of(Day::parse("2026-01-01").unwrap());
        let mut seen = Vec::new();
        loop {
            let page = bed.files.after(&at, None, query).unwrap();
            seen.extend(numbers(&page));
            at = page.cursor.unwrap();
            if !page.has_more {
                break;
            }
        }
        prop_assert_eq!(seen, expected);
    }
}
