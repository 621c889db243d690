//! Rates: so many in each second, minute or hour. `100/s`, `6000/min`, `10/h`.

use super::ValueError;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// More than a gateway can answer; and one of them still takes a microsecond, so that rounding is no matter.
const PER_SECOND_MAX: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    pub count: NonZeroU32,
    pub per: RateUnit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateUnit {
    Second,
    Minute,
    Hour,
}

impl RateUnit {
    pub fn duration(self) -> Duration {
        match self {
            RateUnit::Second => Duration::from_secs(1),
            RateUnit::Minute => Duration::from_secs(60),
            RateUnit::Hour => Duration::from_secs(3600),
        }
    }

    fn name(self) -> &'static str {
        match self {
            RateUnit::Second => "s",
            RateUnit::Minute => "min",
            RateUnit::Hour => "h",
        }
    }

    /// The unit, and else the one that was meant.
    fn parse(text: &str) -> Result<RateUnit, Option<RateUnit>> {
        Err(Some(match text {
            "s" => return Ok(RateUnit::Second),
            "min" => return Ok(RateUnit::Minute),
            "h" => return Ok(RateUnit::Hour),
            "S" | "sec" | "secs" | "second" | "seconds" => RateUnit::Second,
            "m" | "M" | "mins" | "minute" | "minutes" => RateUnit::Minute,
            "H" | "hr" | "hour" | "hours" => RateUnit::Hour,
            _ => return Err(None),
        }))
    }
}

impl Rate {
    /// `100/s`, `6000/min`, `10/h`.
    pub fn parse(text: &str) -> Result<Rate, ValueError> {
        let (number, unit) = match text.split_once('/') {
            Some((number, unit)) => (number, Some(unit)),
            None => (text, None),
        };
        let digits = number.trim();
        // `5r/s` is how others write it.
        let digits = digits.strip_suffix('r').unwrap_or(digits);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let error = ValueError::new(format!("`{text}` is not a rate"));
            let is_fraction = digits.contains(['.', ',']);
            return Err(error.hint(if is_fraction {
                "write a whole number and a longer unit, as in `90/min`"
            } else {
                "write a whole number and a unit: `100/s`, `6000/min` or `10/h`"
            }));
        }
        let Some(unit) = unit else {
            let hint = format!("write `{digits}/s`, `{digits}/min` or `{digits}/h`");
            return Err(ValueError::new(format!("a rate needs its unit: `{text}` has none")).hint(hint));
        };
        let per = match RateUnit::parse(unit.trim()) {
            Ok(per) => per,
            Err(Some(meant)) => {
                let message = format!("`{}` is not a unit of rates", unit.trim());
                return Err(ValueError::new(message).hint(format!("write `{digits}/{}`", meant.name())));
            }
            Err(None) => {
                let is_longer = ["d", "day", "days", "w", "week", "weeks", "month", "months"].contains(&unit.trim());
                let message = format!("`{}` is not a unit of rates", unit.trim());
                return Err(ValueError::new(message).hint(if is_longer {
                    "units are `s`, `min` and `h`; by the day, week and month count the quotas of plans"
                } else {
                    "units are `s`, `min` and `h`"
                }));
            }
        };
        let written = format!("{digits}/{}", per.name());
        if written != text {
            return Err(
                ValueError::new("a rate is a number, `/` and a unit, and nothing else").hint(format!("write `{written}`"))
            );
        }
        let most = PER_SECOND_MAX * per.duration().as_secs();
        match digits.parse::<u32>().ok().filter(|count| u64::from(*count) <= most) {
            Some(count) => {
                match NonZeroU32::new(count) {
                    Some(count) => Ok(Rate { count, per }),
                    None => Err(ValueError::new("a rate of nothing lets nothing through")
                        .hint(format!("write at least `1/{}`", per.name()))),
                }
            }
            None => Err(ValueError::new(format!("`{text}` is more than a gateway can do"))
                .hint(format!("write at most `{PER_SECOND_MAX}/s`"))),
        }
    }
}

/// As `parse` reads it.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_written() {
        for text in ["1/s", "100/s", "6000/min", "10/h", "1000000/s"] {
            assert_eq!(Rate::parse(text).expect("a rate").to_string(), text);
        }
    }

    #[test]
    fn what_is_no_rate_is_told_what_to_write() {
        for (text, hint) in [
            ("", "write a whole number and a unit: `100/s`, `6000/min` or `10/h`"),
            ("s", "write a whole number and a unit: `100/s`, `6000/min` or `10/h`"),
            ("-1/s", "write a whole number and a unit: `100/s`, `6000/min` or `10/h`"),
            ("1.5/s", "write a whole number and a longer unit, as in `90/min`"),
            ("5", "write `5/s`, `5/min` or `5/h`"),
            ("5/m", "write `5/min`"),
            ("5/sec", "write `5/s`"),
            ("5/hour", "write `5/h`"),
            ("5/d", "units are `s`, `min` and `h`; by the day, week and month count the quotas of plans"),
            ("5/year", "units are `s`, `min` and `h`"),
            ("5/", "units are `s`, `min` and `h`"),
            ("5r/s", "write `5/s`"),
            ("5 / s", "write `5/s`"),
            ("0/min", "write at least `1/min`"),
            ("1000001/s", "write at most `1000000/s`"),
            ("99999999999999999999/h", "write at most `1000000/s`"),
        ] {
            assert_eq!(Rate::parse(text).expect_err("no rate").hint.as_deref(), Some(hint), "{text:?}");
        }
    }
}
