//! Durations and sizes: numbers that mean nothing without their unit, so a bare one is refused. Whole numbers only: `1.5s` is
//! `1500ms`, and one spelling is enough.

use super::ValueError;
use std::time::Duration;

/// Milliseconds in each unit, longest first: the order in which a duration is written back.
const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes in each unit; the binary ones come first and are the ones written back.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// More is a slip of the finger: a hundred years.
const DURATION_MAX_MS: u64 = 100 * 365 * 86_400_000;

/// More cannot be held by any counter of bytes that others may sign.
const SIZE_MAX: u64 = i64::MAX as u64;

/// `250ms`, `5s`, `5min`, `1h`, `30d`.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let smaller = |text: &str| exactly(text, &DURATIONS).map(|ms| format_duration(Duration::from_millis(ms)));
    let (number, unit) = split(text, ("duration", "15s"), smaller, |joined| parse_duration(joined).err())?;
    if unit.is_empty() {
        return Err(bare(text, "a duration needs a unit", &format!("{number}s")));
    }
    let Some(&(_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
        let fix = match unit {
            "m" | "M" | "mins" | "minute" | "minutes" => format!("{number}min"),
            "S" | "sec" | "secs" | "second" | "seconds" => format!("{number}s"),
            "H" | "hr" | "hours" | "hour" => format!("{number}h"),
            "D" | "day" | "days" => format!("{number}d"),
            "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => format!("{number}ms"),
            _ => "units are `ms`, `s`, `min`, `h` and `d`".to_owned(),
        };
        return Err(unknown_unit(unit, "durations", fix));
    };
    match number.checked_mul(factor) {
        Some(ms) if ms <= DURATION_MAX_MS => Ok(Duration::from_millis(ms)),
        Some(_) | None => Err(ValueError::new(format!("`{text}` is longer than a hundred years"))),
    }
}

/// `512B`, `64KiB`, `10MiB`, `1GiB`, and the decimal `KB`, `MB`, `GB`. In bytes.
pub fn parse_size(text: &str) -> Result<u64, ValueError> {
    let smaller = |text: &str| exactly(text, &SIZES).map(format_size);
    let (number, unit) = split(text, ("size", "10MiB"), smaller, |joined| parse_size(joined).err())?;
    if unit.is_empty() {
        return Err(bare(text, "a size needs a unit", &format!("{number}B` or `{number}KiB")));
    }
    let Some(&(_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        let fix = match unit.to_ascii_lowercase().as_str() {
            "k" | "kib" | "kb" | "kilobyte" | "kilobytes" => format!("{number}KiB"),
            "m" | "mib" | "mb" | "megabyte" | "megabytes" => format!("{number}MiB"),
            "g" | "gib" | "gb" | "gigabyte" | "gigabytes" => format!("{number}GiB"),
            "b" | "byte" | "bytes" => format!("{number}B"),
            _ => "units are `B`, `KiB`, `MiB`, `GiB`, and the decimal `KB`, `MB`, `GB`".to_owned(),
        };
        return Err(unknown_unit(unit, "sizes", fix));
    };
    match number.checked_mul(factor) {
        Some(bytes) if bytes <= SIZE_MAX => Ok(bytes),
        Some(_) | None => Err(ValueError::new(format!("`{text}` is more bytes than can be counted"))),
    }
}

/// As `parse_duration` reads it, in the longest unit that divides it.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis() as u64;
    if ms == 0 {
        return "0s".to_owned();
    }
    for (unit, factor) in DURATIONS {
        if ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

/// As `parse_size` reads it, in the longest binary unit that divides it.
pub fn format_size(bytes: u64) -> String {
    for (unit, factor) in &SIZES[..4] {
        if bytes != 0 && bytes.is_multiple_of(*factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

/// `0.5s` in the smallest unit, where it is a whole number of those. `,` is a point to many.
fn exactly(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',')?);
    let (whole, rest) = number.split_once(['.', ','])?;
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)?;
    let tenths = 10_u64.checked_pow(u32::try_from(rest.len()).ok()?)?;
    let part = rest.parse::<u64>().ok()?.checked_mul(factor)?;
    let exact = whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(part / tenths)?;
    (part.is_multiple_of(tenths) && exact > 0).then_some(exact)
}

/// `smaller`: the same in a smaller unit, if there is one. `wrong`: what there is to say of the same without its space.
fn split<'a>(
    text: &'a str,
    (what, example): (&str, &str),
    smaller: impl Fn(&str) -> Option<String>,
    wrong: fn(&str) -> Option<ValueError>,
) -> Result<(u64, &'a str), ValueError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if digits == 0 {
        return Err(ValueError::new(format!("`{text}` is not a {what}")).hint(format!("write a number and a unit: `{example}`")));
    }
    if unit.starts_with(['.', ',', '_']) {
        let hint = match smaller(text) {
            Some(exact) => format!("take a smaller unit: `{exact}`"),
            None => format!("take a smaller unit, as in `{}`", if what == "size" { "1536KiB" } else { "1500ms" }),
        };
        return Err(ValueError::new(format!("`{text}` is not a whole number")).hint(hint));
    }
    if unit.starts_with(' ') {
        let joined = format!("{number}{}", unit.trim());
        let error = ValueError::new(format!("a {what} has no space before its unit"));
        // What stands behind the space may be no unit either.
        let hint = wrong(&joined).map_or_else(|| Some(format!("write `{joined}`")), |wrong| wrong.hint);
        return Err(ValueError { hint, ..error });
    }
    match number.parse() {
        Ok(number) => Ok((number, unit)),
        Err(_) => Err(ValueError::new(format!("`{text}` is too large a number"))),
    }
}

fn bare(text: &str, message: &str, fix: &str) -> ValueError {
    ValueError::new(format!("{message}: `{text}` has none")).hint(format!("write `{fix}`"))
}

fn unknown_unit(unit: &str, what: &str, fix: String) -> ValueError {
    let hint = if fix.starts_with("units") { fix } else { format!("write `{fix}`") };
    ValueError::new(format!("`{unit}` is not a unit of {what}")).hint(hint)
}
