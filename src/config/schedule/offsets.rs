//! How far the clocks of a time zone are from UTC, at every instant (scheduler.md §3.4).
//!
//! The data are part of the program, since minimal systems have none: `build/zones.rs` packs them, and only those of a
//! zone that is asked for are kept in memory.

use chrono::{FixedOffset, NaiveDateTime};
use miniz_oxide::inflate::decompress_to_vec;

// `PACKS`: all zones, a few per pack. Unpacked it is a list of
// * names that mean the same zone, with spaces between them: length, UTF-8
// * their offsets: length, then the seconds east of UTC at first, and for each change the seconds since the one before
//   (the first one: since 1970) and the seconds by which the clock is set forward.
// All numbers, lengths too, have the form that `Reader::number` reads.
include!(concat!(env!("OUT_DIR"), "/zones.rs"));

/// The offsets of a zone over time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    /// Before the first change.
    first: FixedOffset,
    /// In order of time.
    changes: Vec<Change>,
}

#[derive(Debug, PartialEq, Eq)]
struct Change {
    /// The first second since 1970 with the new offset.
    at: i64,
    /// What the clocks show, as if it were UTC, from when on nothing is left that they skip or show a second time.
    passed: i64,
    /// The new one.
    offset: FixedOffset,
}

impl Offsets {
    /// Those of the zone with this IANA name; `None` when there is none.
    pub(super) fn of(name: &str) -> Option<Self> {
        PACKS.iter().find_map(|pack| find(&decompress_to_vec(pack).ok()?, name))
    }

    /// The offset at a second since 1970.
    pub(super) fn at(&self, second: i64) -> FixedOffset {
        self.after(self.changes.partition_point(|change| change.at <= second))
    }

    /// The offset when the clocks show this. Of two the earlier one; when they skip it, that of just before.
    pub(super) fn at_wall_clock(&self, wall: NaiveDateTime) -> FixedOffset {
        let wall = wall.and_utc().timestamp();
        self.after(self.changes.partition_point(|change| change.passed <= wall))
    }

    /// The offset after so many changes.
    fn after(&self, count: usize) -> FixedOffset {
        count.checked_sub(1).map_or(self.first, |last| self.changes[last].offset)
    }

    fn read(mut table: Reader<'_>) -> Option<Self> {
        let mut offset = table.offset_from(0)?;
        let mut offsets = Self { first: offset, changes: Vec::new() };
        let mut at = 0;
        while !table.0.is_empty() {
            at += table.number()?;
            let before = offset.local_minus_utc();
            offset = table.offset_from(before)?;
            let passed = at + i64::from(before.max(offset.local_minus_utc()));
            offsets.changes.push(Change { at, passed, offset });
        }
        Some(offsets)
    }
}

/// The offsets of a zone, if it is among these.
fn find(zones: &[u8], name: &str) -> Option<Offsets> {
    let mut zones = Reader(zones);
    while !zones.0.is_empty() {
        let names = zones.bytes()?;
        let table = zones.bytes()?;
        if names.split(|byte| *byte == b' ').any(|known| known == name.as_bytes()) {
            return Offsets::read(Reader(table));
        }
    }
    None
}

/// What is not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Seven bits per byte, the lowest ones first; the highest bit of a byte says that more follow. The lowest bit of
    /// all is the sign.
    fn number(&mut self) -> Option<i64> {
        let mut bits = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            bits |= u64::from(byte & 127) << shift;
            if *byte < 128 {
                return Some((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed());
            }
        }
        None
    }

    /// A length, then the bytes.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// This many seconds more than these.
    fn offset_from(&mut self, seconds: i32) -> Option<FixedOffset> {
        FixedOffset::east_opt(seconds.checked_add(i32::try_from(self.number()?).ok()?)?)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, MappedLocalTime, Offset as _, TimeZone as _};
    use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

    use super::super::Zone;
    use super::*;

    /// Beginnings of 1900 and 2100, in seconds since 1970.
    const YEARS: std::ops::Range<i64> = -2_208_988_800..4_102_444_800;

    /// Pseudo-random seconds.
    fn seconds(seed: u64) -> impl Iterator<Item = i64> {
        let next =
            |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let length = (YEARS.end - YEARS.start).cast_unsigned();
        std::iter::successors(next(&seed), next).map(move |state| YEARS.start + ((state >> 20) % length).cast_signed())
    }

    fn calendar(second: i64) -> NaiveDateTime {
        DateTime::from_timestamp(second, 0).unwrap().naive_utc()
    }

    /// What the crate `chrono-tz` says of wall clocks, by the rule of [`Offsets::at_wall_clock`].
    fn reference(zone: &Tz, wall: &NaiveDateTime) -> FixedOffset {
        match zone.offset_from_local_datetime(wall) {
            MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => offset.fix(),
            MappedLocalTime::None => GapInfo::new(wall, zone).and_then(|gap| gap.begin).unwrap().1.fix(),
        }
    }

    #[test]
    fn every_zone_is_as_in_the_crate_that_it_comes_from() {
        let far = [i64::from(i32::MIN) * 4, YEARS.start * 2, YEARS.end + 1_000_000_000, i64::from(i32::MAX) * 100];
        for (zone, seed) in TZ_VARIANTS.iter().zip(1..) {
            let offsets = Offsets::of(zone.name()).unwrap_or_else(|| panic!("{zone} is missing"));
            let near = |change: &Change| [change.at - 1, change.at, change.at + 1];
            let changes = offsets.changes.iter().flat_map(near);
            for second in changes.chain(seconds(seed).take(3000)).chain(far) {
                let expected = zone.offset_from_utc_datetime(&calendar(second)).fix();
                assert_eq!(offsets.at(second), expected, "{zone} at {second}");
            }
            let edges = |change: &Change| {
                let before = offsets.at(change.at - 1);
                let walls = [before, change.offset].map(|offset| change.at + i64::from(offset.local_minus_utc()));
                walls.into_iter().flat_map(|wall| [wall - 1, wall, wall + 1]).chain([(walls[0] + walls[1]) / 2])
            };
            let changes = offsets.changes.iter().flat_map(edges);
            for wall in changes.chain(seconds(!seed).take(3000)).chain(far).map(calendar) {
                assert_eq!(offsets.at_wall_clock(wall), reference(zone, &wall), "{zone} when clocks show {wall}");
            }
        }
    }

    #[test]
    fn only_a_whole_name_is_one() {
        let packed = PACKS.iter().map(|pack| decompress_to_vec(pack).unwrap());
        let longest = packed.flat_map(|pack| {
            let mut zones = Reader(&pack);
            std::iter::from_fn(|| zones.bytes().map(<[u8]>::to_vec)).step_by(2).collect::<Vec<_>>()
        });
        let longest = String::from_utf8(longest.max_by_key(Vec::len).unwrap()).unwrap();
        assert!(longest.contains(' '), "a zone with several names");
        for wrong in [longest.as_str(), "", " ", "Europe", "Europe/", "europe/berlin", "Berlin", "Europe/Berlin "] {
            assert_eq!(Zone::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn utc_needs_no_table_and_is_like_the_one_there_is() {
        let utc = Offsets::of("UTC").unwrap();
        assert_eq!((utc.at(0).local_minus_utc(), utc.changes.len()), (0, 0));
        assert_eq!(Zone::parse("UTC"), Some(Zone::UTC));
    }
}
