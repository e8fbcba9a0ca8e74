//! Durations, sizes and counts as operators write them.
//!
//! Every parser answers an error with the words that follow "must be" in a report.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

const MILLIS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const BYTES: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// `500ms`, `60s`, `15m`, `1h`, `7d`, or a bare number of seconds.
pub(super) fn duration(text: &str, allowed: &RangeInclusive<Duration>) -> Result<Duration, String> {
    quantity(text, MILLIS, 1_000).map(Duration::from_millis).filter(|value| allowed.contains(value)).ok_or_else(|| {
        let [least, most] = [allowed.start(), allowed.end()].map(|bound| show(bound.as_millis(), MILLIS, "s"));
        format!("a duration from {least} to {most}, such as 500ms, 60s, 15m, 1h or 7d")
    })
}

/// `64KiB`, `1MiB`, `1GiB`, or a bare number of bytes.
pub(super) fn size(text: &str, allowed: &RangeInclusive<usize>) -> Result<usize, String> {
    quantity(text, BYTES, 1)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|value| allowed.contains(value))
        .ok_or_else(|| {
            let [least, most] = [allowed.start(), allowed.end()].map(|bound| show(*bound as u128, BYTES, ""));
            format!("a size from {least} to {most}, such as 65536, 64KiB or 1MiB")
        })
}

/// A whole number.
pub(super) fn count<T: FromStr + PartialOrd + Display>(text: &str, allowed: &RangeInclusive<T>) -> Result<T, String> {
    digits(text)
        .and_then(|digits| digits.parse().ok())
        .filter(|value| allowed.contains(value))
        .ok_or_else(|| format!("a whole number from {} to {}", allowed.start(), allowed.end()))
}

fn quantity(text: &str, units: &[(&str, u64)], bare: u64) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "" => bare,
        unit => units.iter().find(|(name, _)| *name == unit)?.1,
    };
    digits(number)?.parse::<u64>().ok()?.checked_mul(factor)
}

/// `FromStr` of the integers takes a sign; settings do not.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}

fn show(amount: u128, units: &[(&str, u64)], unit_of_zero: &str) -> String {
    if amount == 0 {
        return format!("0{unit_of_zero}");
    }
    units
        .iter()
        .rev()
        .find(|(_, factor)| amount.is_multiple_of(u128::from(*factor)))
        .map_or_else(|| amount.to_string(), |(name, factor)| format!("{}{name}", amount / u128::from(*factor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_hours(7 * 24);

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        let cases = [
            ("500ms", 500),
            ("60s", 60_000),
            ("15m", 900_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("3", 3_000),
            ("0", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text, &(Duration::ZERO..=WEEK)), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_durations_are_refused_with_what_is_allowed() {
        for text in ["", "s", "-1s", "+1s", "1.5s", "1 s", "1S", "1w", "1h30m", "8d", "99999999999999999999s"] {
            assert_eq!(
                duration(text, &(Duration::ZERO..=WEEK)),
                Err("a duration from 0s to 7d, such as 500ms, 60s, 15m, 1h or 7d".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_have_a_binary_unit_or_are_bytes() {
        let allowed = 16 << 10..=16 << 20;
        assert_eq!(size("16KiB", &allowed), Ok(16_384));
        assert_eq!(size("1MiB", &allowed), Ok(1_048_576));
        assert_eq!(size("1048577", &allowed), Ok(1_048_577));
        for text in ["1", "17MiB", "1MB", "1mib", "1.5MiB", "18446744073709551615GiB"] {
            assert_eq!(
                size(text, &allowed),
                Err("a size from 16KiB to 16MiB, such as 65536, 64KiB or 1MiB".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn counts_are_whole_numbers() {
        assert_eq!(count("100", &(1_u32..=100)), Ok(100));
        for text in ["", "0", "101", "+1", "-1", "1.0", "1k"] {
            assert_eq!(count(text, &(1_u32..=100)), Err("a whole number from 1 to 100".to_owned()), "{text}");
        }
    }
}
