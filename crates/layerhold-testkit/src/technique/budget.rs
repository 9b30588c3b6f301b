//! How much is to be done, and which part of it here.

use std::str::FromStr;

/// When a run ends. What a state file remembers of earlier runs counts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// After so many units.
    Units(u64),
    /// After so many milliseconds.
    Milliseconds(u64),
    /// Once so many distinct states were met, by this shard.
    States(u64),
    /// After the last unit.
    All,
    /// After what the technique calls a short look.
    Brief,
}

impl FromStr for Budget {
    type Err = String;

    /// `500` (units), `90s`, `30m`, `2h`, `2000000states`, `all` or `brief`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| format!("not a budget text={text}"));
        let ms = |digits: &str, unit_ms: u64| {
            let ms = number(digits)?.checked_mul(unit_ms).ok_or_else(|| format!("no such time text={text}"))?;
            Ok(Self::Milliseconds(ms))
        };
        match text {
            "all" => Ok(Self::All),
            "brief" => Ok(Self::Brief),
            _ if text.ends_with("states") => Ok(Self::States(number(text.trim_end_matches("states"))?)),
            _ => match text.split_at_checked(text.len().saturating_sub(1)) {
                Some((digits, "s")) => ms(digits, 1_000),
                Some((digits, "m")) => ms(digits, 60_000),
                Some((digits, "h")) => ms(digits, 3_600_000),
                _ => Ok(Self::Units(number(text)?)),
            },
        }
    }
}

/// One of several processes that share the units of a run: the one with number `index` (from 1) of `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    /// One process does all.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// The number of this shard's unit that comes after `done` others.
    pub(super) fn unit(self, done: u64) -> u64 {
        done * self.count + self.index - 1
    }

    /// How many of `units` units are this shard's.
    pub(super) fn share(self, units: u64) -> u64 {
        (units + self.count - self.index) / self.count
    }
}

impl FromStr for Shard {
    type Err = String;

    /// `2/4`: the second of four.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err(format!("not a shard such as 1/2 text={text}")),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_units_or_times() {
        let parse = |text: &str| text.parse::<Budget>();
        assert_eq!(parse("12"), Ok(Budget::Units(12)));
        assert_eq!(parse("2000000states"), Ok(Budget::States(2_000_000)));
        assert_eq!(parse("90s"), Ok(Budget::Milliseconds(90_000)));
        assert_eq!(parse("2h"), Ok(Budget::Milliseconds(7_200_000)));
        assert_eq!(parse("all"), Ok(Budget::All));
        for wrong in ["", "s", "states", "-1", "1d", "99999999999999999999h", "\u{e4}"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shards_share_every_unit_once() {
        for (count, units) in [(1, 7), (3, 7), (3, 9), (4, 2)] {
            let mut seen = Vec::new();
            for index in 1..=count {
                let shard: Shard = format!("{index}/{count}").parse().unwrap();
                seen.extend((0..shard.share(units)).map(|done| shard.unit(done)));
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..units).collect::<Vec<_>>(), "{count} shards");
        }
        for wrong in ["0/2", "3/2", "1", "1/0", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
