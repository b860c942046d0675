//! Packs what `chrono-tz` knows of time zones. `src/config/schedule/offsets.rs` reads it and has the form.
//!
//! In that crate they are a megabyte of tables full of pointers. A static program that uses it writes all of them anew
//! at each start, whether anyone asks for a zone or not, and has that megabyte in memory while it runs. Packed they
//! are 27 KB that stay in the file until they are asked for.

use std::collections::BTreeMap;

use chrono::{DateTime, Offset as _, TimeZone as _};
use chrono_tz::{TZ_VARIANTS, Tz};

/// Zones that are packed together. With more of them the file is smaller, and more is unpacked (now 35 KB) to read one.
const PACK: usize = 32;

/// Seconds between the instants at which a zone is asked for its offset. Changes that are nearer to each other could
/// be overlooked; the nearest that there are have a week between them, and [`changes`] checks that it stays so.
const STEP: i64 = 3 * 24 * 60 * 60;

/// All changes are between these: the beginnings of 1840 and 2110.
const BEGIN: i64 = -4_102_444_800;
const END: i64 = 4_417_977_600;

/// All zones, in packs.
pub(crate) fn packs() -> Vec<Vec<u8>> {
    let mut zones: BTreeMap<Vec<u8>, Vec<&str>> = BTreeMap::new();
    for zone in TZ_VARIANTS {
        zones.entry(table(&zone)).or_default().push(zone.name());
    }
    let mut zones: Vec<_> = zones.into_iter().map(|(table, names)| (names, table)).collect();
    // Neighbours have names, and often offsets, that are alike.
    zones.sort();
    let packs = zones.chunks(PACK).map(|pack| {
        let mut plain = Vec::new();
        for (names, table) in pack {
            bytes(&mut plain, names.join(" ").as_bytes());
            bytes(&mut plain, table);
        }
        miniz_oxide::deflate::compress_to_vec(&plain, 9)
    });
    packs.collect()
}

/// Offsets of a zone over time.
fn table(zone: &Tz) -> Vec<u8> {
    let mut table = Vec::new();
    let (mut last, mut offset) = (0, offset_at(zone, BEGIN));
    number(&mut table, offset.into());
    for at in changes(zone) {
        let new = offset_at(zone, at);
        number(&mut table, at - last);
        number(&mut table, (new - offset).into());
        (last, offset) = (at, new);
    }
    table
}

/// The seconds from which on a zone has another offset than in the second before.
fn changes(zone: &Tz) -> Vec<i64> {
    let mut changes = Vec::new();
    let (mut now, mut offset) = (BEGIN, offset_at(zone, BEGIN));
    while now < END {
        let next = now + STEP;
        if offset_at(zone, next) == offset {
            now = next;
        } else {
            now = change_between(zone, now, next);
            offset = offset_at(zone, now);
            changes.push(now);
        }
    }
    let near = changes.windows(2).find(|pair| pair[1] - pair[0] < 2 * STEP);
    assert_eq!(near, None, "{zone} changes so often that some changes may have been overlooked");
    changes
}

/// The first second after a change: later than `before`, not later than `after`.
fn change_between(zone: &Tz, mut before: i64, mut after: i64) -> i64 {
    let offset = offset_at(zone, before);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if offset_at(zone, middle) == offset { before = middle } else { after = middle }
    }
    after
}

/// Seconds east of UTC at a second since 1970.
fn offset_at(zone: &Tz, at: i64) -> i32 {
    let at = DateTime::from_timestamp(at, 0).expect("a calendar has it").naive_utc();
    zone.offset_from_utc_datetime(&at).fix().local_minus_utc()
}

/// Appends seven bits per byte, the lowest ones first; the highest bit of a byte says that more follow. The lowest bit
/// of all is the sign.
fn number(to: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest > 127 {
        to.push(u8::try_from(rest & 127).expect("seven bits") | 128);
        rest >>= 7;
    }
    to.push(u8::try_from(rest).expect("seven bits"));
}

/// Appends the length, then the bytes.
fn bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    number(to, i64::try_from(bytes.len()).expect("a length"));
    to.extend(bytes);
}
