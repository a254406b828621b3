//! Stamps: the hybrid logical clock that orders commands, and the version tokens made of it.
//!
//! A stamp is microseconds since the epoch, pushed forward where needed so that it is strictly increasing in a shard
//! and above every stamp that the shard has received. So it is close to real time (`receivedAt` *is* the stamp), yet
//! a cause is always stamped below its effect, whatever the machines' clocks say.
//!
//! Source: Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical Physical Clocks" (OPODIS 2014), in its single-number
//! form: the logical part lives in the low bits, which a microsecond clock seldom needs.
//!
//! This module reads no clock: the leader passes its own. How far apart clocks may be is for the replica to judge.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Microseconds since 1970-01-01T00:00:00Z, never lower than what it followed. Zero is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Before every stamp that was ever given out.
    pub const ZERO: Self = Self(0);

    /// The stamp for something that happens at `now_micros`, strictly above `last`.
    ///
    /// A clock that stands still or goes back makes stamps rise by one until it has caught up; a clock before 1970
    /// counts as 1970. At the end of the range (the year 586,524) it stays there.
    #[must_use]
    pub fn next(now_micros: i64, last: Self) -> Self {
        let now = u64::try_from(now_micros).unwrap_or(0);
        Self(now.max(last.0.saturating_add(1)))
    }

    /// The `last` to go on from after receiving a message: the larger of the two.
    #[must_use]
    pub fn observe(self, received: Self) -> Self {
        self.max(received)
    }

    /// As microseconds since the epoch, for comparing with the times of events.
    pub fn as_micros(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Stamp {
    /// The version token: exactly 16 lower-case hexadecimal digits, whose text order is the order of stamps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Stamp {
    type Err = Error;

    /// Reads a version token back; refuses anything but 16 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Error> {
        const BAD: Error = Error::Invalid { what: "version token", why: "it is not 16 hexadecimal digits" };
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BAD);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| BAD)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stamps_rise_strictly_whatever_the_clock_does(clock in prop::collection::vec(any::<i64>(), 1..50)) {
            let mut last = Stamp::ZERO;
            for now in clock {
                let next = Stamp::next(now, last);
                prop_assert!(next > last);
                prop_assert!(next.0 as i128 >= i128::from(now));
                last = next;
            }
        }

        #[test]
        fn a_token_is_read_back_and_sorts_as_its_stamp(a: u64, b: u64) {
            let (x, y) = (Stamp(a), Stamp(b));
            prop_assert_eq!(x.to_string().parse::<Stamp>().unwrap(), x);
            prop_assert_eq!(x.to_string().cmp(&y.to_string()), a.cmp(&b));
        }
    }

    #[test]
    fn an_effect_is_stamped_above_what_was_received() {
        let received = Stamp(1_000);
        let last = Stamp(5).observe(received);
        assert!(Stamp::next(10, last) > received);
    }

    #[test]
    fn what_is_not_a_token_is_refused() {
        for bad in ["", "0", "00000000000000001", "000000000000000g", "+000000000000001", " 00000000000000a"]
        {
            assert!(bad.parse::<Stamp>().is_err(), "{bad}");
        }
    }
}
