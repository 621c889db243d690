//! Times as signatures write them: `20150830T123600Z`. Pure arithmetic on the calendar.

/// Seconds since 1970 of a stamp; `None` if it is not one of a day that exists.
pub fn parse(stamp: &[u8]) -> Option<u64> {
    let [date @ .., b'T', _, _, _, _, _, _, b'Z'] = stamp else { return None };
    if date.len() != 8 {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = &stamp[from..to];
        digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let time = days * 86_400 + hour * 3600 + minute * 60 + second;
    // A month 13 or a February 30 would come back as another day.
    ((1..=12).contains(&month) && format(time) == stamp).then_some(time)
}

/// The stamp of a moment.
pub fn format(time: u64) -> [u8; 16] {
    let (year, month, day) = civil(time / 86_400);
    let second = time % 86_400;
    let mut stamp = *b"00000000T000000Z";
    for (at, width, value) in
        [(0, 4, year), (4, 2, month), (6, 2, day), (9, 2, second / 3600), (11, 2, second / 60 % 60), (13, 2, second % 60)]
    {
        let mut rest = value;
        for digit in stamp[at..at + width].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
    stamp
}

/// Years begin in March here, so that a leap day is a year's last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.max(1) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970
}

/// From 0000-03-01.
const DAYS_TO_1970: u64 = 719_468;

fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_go_both_ways() {
        for (stamp, time) in [
            ("19700101T000000Z", 0),
            ("20150830T123600Z", 1_440_938_160),
            ("20000229T235959Z", 951_868_799),
            ("20991231T235959Z", 4_102_444_799),
        ] {
            assert_eq!(parse(stamp.as_bytes()), Some(time), "{stamp}");
            assert_eq!(format(time), *stamp.as_bytes());
        }
        for day in 0..200_000 {
            assert_eq!(parse(&format(day * 86_400 + 1)), Some(day * 86_400 + 1));
        }
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for stamp in [
            "",
            "20150830",
            "20150830T123600",
            "20150830T123600z",
            "2015-08-30T12:36:00Z",
            "20150230T123600Z",
            "20151330T123600Z",
            "20150030T123600Z",
            "20150800T123600Z",
            "20150830T243600Z",
            "20150830T126000Z",
            "20150830T123660Z",
            "19691231T235959Z",
            "2015083 T123600Z",
            "+0150830T123600Z",
            "00000101T000000Z",
        ] {
            assert_eq!(parse(stamp.as_bytes()), None, "{stamp:?}");
        }
    }
}
