//! Dates of SC00070: `20250131T235959999Z`, or `+00000000T000100000` for a minute from now.
//!
//! Only the proleptic Gregorian calendar in UTC from 1970 to the end of 9999 is needed: a day count in both directions.

use crate::message::WallTime;

/// The last time that has a date: the end of the year 9999.
const LAST: WallTime = WallTime(253_402_300_799_999);
const DAY_MS: i64 = 86_400_000;
/// Days from 1 March of the year 0 to 1 January 1970.
const DAYS_TO_EPOCH: i64 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// Length of a date as written here, in bytes.
pub(crate) const DATE_BYTES: usize = 19;

/// Whether `bytes` have the form of a date, whether or not the calendar has that day.
pub(crate) fn is_date(bytes: &[u8]) -> bool {
    Fields::read(bytes).is_some()
}

/// Reads a date; a relative one counts from `now`. Times before 1970 become the epoch, those after 9999 the last
/// millisecond of that year. Returns `None` if `bytes` are not a date or the calendar has no such day.
pub(crate) fn read(bytes: &[u8], now: WallTime) -> Option<WallTime> {
    let fields = Fields::read(bytes)?;
    let milliseconds = match fields.sign {
        None => {
            let in_calendar = (1..=12).contains(&fields.month)
                && (1..=days_in_month(fields.year, fields.month)).contains(&fields.day)
                && fields.hour < 24
                && fields.minute < 60
                // A leap second is the first second of the next minute, as on clocks without leap seconds.
                && fields.second <= 60;
            in_calendar
                .then(|| days_from_date(fields.year, fields.month, fields.day) * DAY_MS + fields.time_of_day())?
        }
        Some(sign) => fields.relative_to(i64::try_from(now.min(LAST).0).ok()?, sign),
    };
    Some(WallTime(u64::try_from(milliseconds).unwrap_or(0)).min(LAST))
}

/// Writes a time as a date in UTC. Times after the year 9999 are written as its last millisecond.
pub(crate) fn write(moment: WallTime) -> [u8; DATE_BYTES] {
    let milliseconds = i64::try_from(moment.min(LAST).0).unwrap_or(0);
    let (year, month, day) = date_from_days(milliseconds.div_euclid(DAY_MS));
    let time = milliseconds.rem_euclid(DAY_MS);
    let mut text = *b"00000000T000000000Z";
    let fields = [
        (0..4, year),
        (4..6, month),
        (6..8, day),
        (9..11, time / 3_600_000),
        (11..13, time / 60_000 % 60),
        (13..15, time / 1_000 % 60),
        (15..18, time % 1_000),
    ];
    for (place, mut value) in fields {
        for digit in text[place].iter_mut().rev() {
            *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    }
    text
}

/// Returns a time as the text of a date.
pub(crate) fn date_text(moment: WallTime) -> String {
    write(moment).iter().map(|byte| char::from(*byte)).collect()
}

/// The numbers in a date.
struct Fields {
    /// 1 or -1 for relative dates.
    sign: Option<i64>,
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    millisecond: i64,
}

impl Fields {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (sign, rest) = match bytes.split_first()? {
            (b'+', rest) => (Some(1), rest),
            (b'-', rest) => (Some(-1), rest),
            _ => (None, bytes),
        };
        // The type designator. All count as UTC: see the module `text`.
        let digits = match rest.split_last()? {
            (designator, digits) if designator.is_ascii_alphabetic() => digits,
            _ => rest,
        };
        if digits.len() != DATE_BYTES - 1 || !matches!(digits[8], b'T' | b't') {
            return None;
        }
        let number = |start: usize, end: usize| {
            digits[start..end]
                .iter()
                .try_fold(0_i64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
        };
        Some(Self {
            sign,
            year: number(0, 4)?,
            month: number(4, 6)?,
            day: number(6, 8)?,
            hour: number(9, 11)?,
            minute: number(11, 13)?,
            second: number(13, 15)?,
            millisecond: number(15, 18)?,
        })
    }

    fn time_of_day(&self) -> i64 {
        ((self.hour * 60 + self.minute) * 60 + self.second) * 1_000 + self.millisecond
    }

    /// Years and months follow the calendar, with the day kept within its month; the rest is a span of time.
    fn relative_to(&self, now: i64, sign: i64) -> i64 {
        let (year, month, day) = date_from_days(now.div_euclid(DAY_MS));
        let months = year * 12 + (month - 1) + sign * (self.year * 12 + self.month);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        let days = days_from_date(year, month, day.min(days_in_month(year, month)));
        days * DAY_MS + now.rem_euclid(DAY_MS) + sign * (self.day * DAY_MS + self.time_of_day())
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days since the epoch. Years begin in March here, so that the leap day is the last day of a year.
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let march_year = if month <= 2 { year - 1 } else { year };
    let months_since_march = (month + 9) % 12;
    let day_of_year = (153 * months_since_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - DAYS_TO_EPOCH
}

/// Returns year, month and day of a number of days since the epoch.
fn date_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_EPOCH;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    // Removes leap days, so that the remaining years have 365 days.
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = (months_since_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_706_659_200_000); // 2024-01-31T00:00:00Z

    fn moment(text: &str) -> Option<u64> {
        read(text.as_bytes(), NOW).map(|moment| moment.0)
    }

    #[test]
    fn every_day_until_the_last_reads_back() {
        for day in 0..=LAST.0 / 86_400_000 {
            let start = WallTime(day * 86_400_000);
            assert_eq!(read(&write(start), NOW), Some(start), "day {day}");
        }
        assert_eq!(&write(LAST), b"99991231T235959999Z");
        assert_eq!(&write(WallTime(u64::MAX)), b"99991231T235959999Z");
        assert_eq!(&write(WallTime(0)), b"19700101T000000000Z");
    }

    #[test]
    fn known_moments() {
        assert_eq!(moment("20091201T010101111"), Some(1_259_629_261_111));
        assert_eq!(moment("20020314T091400500Z"), Some(1_016_097_240_500));
        assert_eq!(moment("20020314t091400500z"), Some(1_016_097_240_500));
        assert_eq!(moment("20001211T100025100A"), Some(976_528_825_100));
        assert_eq!(moment("20240229T000000000Z"), Some(1_709_164_800_000));
        assert_eq!(moment("20161231T235960000Z"), moment("20170101T000000000Z"));
        assert_eq!(moment("19691231T235959999Z"), Some(0));
    }

    #[test]
    fn relative_moments_count_from_now() {
        assert_eq!(moment("+00000000T000000001"), Some(NOW.0 + 1));
        assert_eq!(moment("+00000001T010000000Z"), Some(NOW.0 + 25 * 3_600_000));
        assert_eq!(moment("+00000000T990000000"), Some(NOW.0 + 99 * 3_600_000));
        assert_eq!(moment("-00000000T000000001"), Some(NOW.0 - 1));
        assert_eq!(moment("+00000100T000000000"), moment("20240229T000000000Z"), "the day stays within its month");
        assert_eq!(moment("+00010000T000000000"), moment("20250131T000000000Z"));
        assert_eq!(moment("+99990000T000000000"), Some(LAST.0));
        assert_eq!(moment("-99990000T000000000"), Some(0));
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "Z",
            "tomorrow",
            "20240230T000000000Z",
            "20241301T000000000Z",
            "20240001T000000000Z",
            "20240100T000000000Z",
            "20240101T240000000Z",
            "20240101T006000000Z",
            "20240101T000061000Z",
            "20230229T000000000Z",
            "21000229T000000000Z",
            "2024-01-01T00:00Z",
            "20240101T000000000ZZ",
            "20240101 000000000Z",
            "20240101T00000000Z",
            "20240101T0000000000",
            "+",
            "2024010+T000000000Z",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
