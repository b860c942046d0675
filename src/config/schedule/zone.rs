//! Time zones: which one counts, and the step between its wall clock and instants (scheduler.md §3.1, §3.4).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDateTime, Offset as _, Timelike as _, Utc};
use shims::env::Environment;

use super::offsets::Offsets;
use crate::base::clock::UnixMs;

/// An IANA time zone. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(Option<Arc<Other>>);

/// A zone other than UTC.
#[derive(Debug, PartialEq, Eq)]
struct Other {
    name: String,
    offsets: Offsets,
}

/// The zone that schedules use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemZone {
    pub zone: Zone,
    /// A sentence for the user, when what they asked for does not exist.
    pub warning: Option<String>,
}

impl Zone {
    /// UTC.
    pub const UTC: Self = Self(None);

    /// The zone with this IANA name; `None` when there is none.
    pub fn parse(name: &str) -> Option<Self> {
        if name == Self::UTC.name() {
            return Some(Self::UTC);
        }
        Some(Self(Some(Arc::new(Other { name: name.to_owned(), offsets: Offsets::of(name)? }))))
    }

    /// The zone that `TZ` says, else that of the machine, else UTC.
    pub fn system(environment: &Environment) -> SystemZone {
        Self::system_below(environment, Path::new("/"))
    }

    fn system_below(environment: &Environment, root: &Path) -> SystemZone {
        let Some(wanted) = environment.get_os("TZ") else {
            return SystemZone { zone: machine_zone(root).unwrap_or(Self::UTC), warning: None };
        };
        let wanted = wanted.to_string_lossy();
        let name = wanted.strip_prefix(':').unwrap_or(&wanted);
        match Self::parse(name) {
            Some(zone) => SystemZone { zone, warning: None },
            None => {
                let warning = format!(
                    "TZ=\"{wanted}\" is not an IANA time zone such as Europe/Berlin; schedules are read in UTC"
                );
                SystemZone { zone: Self::UTC, warning: Some(warning) }
            }
        }
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        self.0.as_ref().map_or("UTC", |other| &other.name)
    }

    /// An instant as its clocks show it, with weekday and UTC offset: `Mon 2025-03-31 09:00:00 +02:00`. Milliseconds
    /// are shown when there are any.
    pub fn show(&self, at: UnixMs) -> String {
        let Some(utc) = DateTime::from_timestamp_millis(at.0) else { return at.to_iso() };
        let form = if at.0 % 1000 == 0 { "%a %Y-%m-%d %H:%M:%S %:z" } else { "%a %Y-%m-%d %H:%M:%S%.3f %:z" };
        self.local(utc).format(form).to_string()
    }

    /// What its clocks show at an instant, whole seconds; `None` for instants that no calendar has.
    pub(super) fn wall_clock(&self, at: UnixMs) -> Option<NaiveDateTime> {
        self.local(DateTime::from_timestamp_millis(at.0)?).naive_local().with_nanosecond(0)
    }

    /// When its clocks show this. Of two instants the earlier one. Never: the instant at which they would have shown it,
    /// had the clock not been set forward just before.
    pub(super) fn instant(&self, wall: NaiveDateTime) -> UnixMs {
        let offset = self.0.as_ref().map_or(Utc.fix(), |other| other.offsets.at_wall_clock(wall));
        let behind_utc = i64::from(offset.local_minus_utc()) * 1000;
        UnixMs(wall.and_utc().timestamp_millis() - behind_utc)
    }

    fn local(&self, at: DateTime<Utc>) -> DateTime<FixedOffset> {
        let offset = self.0.as_ref().map_or(Utc.fix(), |other| other.offsets.at(at.timestamp()));
        at.with_timezone(&offset)
    }
}

/// The zone that the machine is set to.
fn machine_zone(root: &Path) -> Option<Zone> {
    let localtime = root.join("etc/localtime");
    let linked = || fs::read_link(&localtime).ok().and_then(|target| zone_of_file(&target));
    let resolved = || fs::canonicalize(&localtime).ok().and_then(|target| zone_of_file(&target));
    let named = || Zone::parse(fs::read_to_string(root.join("etc/timezone")).ok()?.trim());
    linked().or_else(resolved).or_else(named)
}

/// `/usr/share/zoneinfo/Europe/Berlin` is Europe/Berlin.
fn zone_of_file(path: &Path) -> Option<Zone> {
    let (_, name) = path.to_str()?.rsplit_once("zoneinfo/")?;
    let name = ["posix/", "right/"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    Zone::parse(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn environment(tz: &str) -> Environment {
        [("TZ", tz)].into_iter().collect()
    }

    /// A machine with this link and this file, either may be empty for none.
    fn machine(link: &str, file: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        if !link.is_empty() {
            symlink(link, root.path().join("etc/localtime")).unwrap();
        }
        if !file.is_empty() {
            fs::write(root.path().join("etc/timezone"), file).unwrap();
        }
        root
    }

    #[track_caller]
    fn found(environment: &Environment, machine: &tempfile::TempDir, expected: &str) -> Option<String> {
        let found = Zone::system_below(environment, machine.path());
        assert_eq!(found.zone.name(), expected);
        found.warning
    }

    #[test]
    fn tz_counts_more_than_the_machine() {
        let machine = machine("/usr/share/zoneinfo/Europe/Berlin", "Asia/Tokyo\n");
        assert_eq!(found(&environment("America/New_York"), &machine, "America/New_York"), None);
        assert_eq!(found(&environment(":America/New_York"), &machine, "America/New_York"), None);
        assert_eq!(found(&Environment::default(), &machine, "Europe/Berlin"), None);
    }

    #[test]
    fn a_zone_that_does_not_exist_is_utc_with_a_warning() {
        let machine = machine("/usr/share/zoneinfo/Europe/Berlin", "");
        for wrong in ["Mars/Phobos", "CET-1CEST", "", "/etc/localtime"] {
            let warning = found(&environment(wrong), &machine, "UTC").unwrap();
            assert!(warning.contains(&format!("\"{wrong}\"")) && warning.contains("UTC"), "{warning}");
        }
    }

    #[test]
    fn the_machine_says_its_zone_in_several_ways() {
        let none = Environment::default();
        for (link, file, expected) in [
            ("../usr/share/zoneinfo/Asia/Kolkata", "", "Asia/Kolkata"),
            ("/usr/share/zoneinfo/posix/Asia/Kolkata", "", "Asia/Kolkata"),
            ("", "Australia/Lord_Howe\n", "Australia/Lord_Howe"),
            ("/usr/share/zoneinfo/Nowhere", "Asia/Tokyo", "Asia/Tokyo"),
            ("", "nonsense", "UTC"),
            ("", "", "UTC"),
        ] {
            assert_eq!(found(&none, &machine(link, file), expected), None);
        }
    }

    #[test]
    fn a_link_to_a_link_is_followed() {
        let root = machine("links/localtime", "");
        let zoneinfo = root.path().join("zoneinfo/Asia");
        fs::create_dir_all(&zoneinfo).unwrap();
        fs::create_dir(root.path().join("etc/links")).unwrap();
        fs::write(zoneinfo.join("Tokyo"), "").unwrap();
        symlink(zoneinfo.join("Tokyo"), root.path().join("etc/links/localtime")).unwrap();
        assert_eq!(found(&Environment::default(), &root, "Asia/Tokyo"), None);
    }

    #[test]
    fn clock_changes_are_known_to_the_end_of_2099() {
        let new_york = Zone::parse("America/New_York").unwrap();
        assert!(new_york.show(UnixMs(4_087_598_400_000)).ends_with("-04:00"), "July 2099");
        assert!(new_york.show(UnixMs(4_073_565_600_000)).ends_with("-05:00"), "February 2099");
    }
}
