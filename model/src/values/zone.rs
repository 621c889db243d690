//! Time zones, by their names in the IANA's database. The database is in the program: a container without `/usr/share/zoneinfo` has all of
//! them, what `check` says holds on every machine, and the gateways of a fleet begin their periods together. The price: what a country changes
//! comes with a new version. Knows no moment: when a period begins is said elsewhere.

use super::ValueError;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::sync::LazyLock;

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone of that name.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    DATABASE.get(name).ok().filter(|zone| !zone.is_unknown())
}

/// The name of a zone, as the database spells it.
pub fn parse_time_zone(text: &str) -> Result<String, ValueError> {
    let wrong = || ValueError::new(format!("`{text}` is no time zone"));
    if let Some(zone) = time_zone(text) {
        return match zone.iana_name() {
            Some(name) if name != text => Err(wrong().hint(format!("write `{name}`"))),
            Some(_) | None => Ok(text.to_owned()),
        };
    }
    // It is a time that a zone has for a part of the year, or an offset that no law follows.
    let is_offset = text.starts_with(['+', '-']) || text.get(..3).is_some_and(|start| matches!(start, "UTC" | "GMT"));
    if is_offset {
        return Err(wrong().hint("write where it is, such as `Europe/Paris`: an offset knows no summer time"));
    }
    if text.eq_ignore_ascii_case("local") || text.eq_ignore_ascii_case("system") {
        return Err(wrong().hint("name it, such as `Europe/Paris`: the gateways of a fleet may stand in several"));
    }
    let names: Vec<String> = DATABASE.available().map(|name| name.as_str().to_owned()).collect();
    let city = |name: &&String| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(text));
    let meant = names.iter().find(city).map(String::as_str);
    Err(match meant.or_else(|| crate::decode::nearest(text, names.iter().map(String::as_str))) {
        Some(near) => wrong().hint(format!("did you mean `{near}`?")),
        None => wrong().hint("write a name of the IANA's database, such as `Europe/Paris`, or `UTC`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_zone_is_written_as_the_database_has_it() {
        for name in ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Etc/GMT-3"] {
            assert_eq!(parse_time_zone(name).as_deref(), Ok(name));
        }
        for (text, hint) in [
            ("utc", "write `UTC`"),
            ("europe/paris", "write `Europe/Paris`"),
            ("Europe/Pariss", "did you mean `Europe/Paris`?"),
            ("Paris", "did you mean `Europe/Paris`?"),
            ("+01:00", "write where it is, such as `Europe/Paris`: an offset knows no summer time"),
            ("UTC+1", "write where it is, such as `Europe/Paris`: an offset knows no summer time"),
            ("local", "name it, such as `Europe/Paris`: the gateways of a fleet may stand in several"),
            ("the moon's far side", "write a name of the IANA's database, such as `Europe/Paris`, or `UTC`"),
            ("", "write a name of the IANA's database, such as `Europe/Paris`, or `UTC`"),
        ] {
            assert_eq!(parse_time_zone(text).expect_err("none").hint.as_deref(), Some(hint), "{text:?}");
        }
    }

    #[test]
    fn a_zone_knows_its_summer_time_without_files_of_the_system() {
        let zone = time_zone("Europe/Paris").expect("a zone");
        for (month, offset) in [(1, 3600), (7, 7200)] {
            let noon = zone.to_zoned(date(2026, month, 1).at(12, 0, 0, 0)).expect("a moment");
            assert_eq!(noon.offset().seconds(), offset);
        }
        assert!(time_zone("Etc/Unknown").is_none());
    }
}
