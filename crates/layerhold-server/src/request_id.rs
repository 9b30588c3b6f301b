//! Request ids: what ties an answer to its log lines.
//!
//! An id has to be unique, not secret, and costs nothing: a counter run through a mixing function whose start the
//! process drew at random.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

/// 128 bits in the form of a random UUID, which is how ECR shows them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId(u128);

/// Draws request ids of one process.
#[derive(Debug)]
pub struct RequestIds {
    seed: [u64; 2],
    drawn: AtomicU64,
}

impl RequestIds {
    /// A source that no other process shares.
    #[must_use]
    pub fn new() -> RequestIds {
        // The standard library keys each `RandomState` with random bits of the system: the one source that needs no crate.
        RequestIds {
            seed: [RandomState::new().hash_one(0_u8), RandomState::new().hash_one(1_u8)],
            drawn: AtomicU64::new(0),
        }
    }

    /// The next id.
    pub fn draw(&self) -> RequestId {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let [high_seed, low_seed] = self.seed;
        let high = mix(high_seed.wrapping_add(number));
        let low = mix(low_seed ^ number.rotate_left(32));
        let bits = (u128::from(high) << 64) | u128::from(low);
        // Version 4, variant 1, as RFC 9562 places them.
        let version = 0xf_u128 << 76;
        let variant = 0x3_u128 << 62;
        RequestId((bits & !version & !variant) | (0x4_u128 << 76) | (0x2_u128 << 62))
    }
}

impl Default for RequestIds {
    fn default() -> RequestIds {
        RequestIds::new()
    }
}

/// SplitMix64's finaliser: a bijection, so that ids of one process never repeat.
fn mix(number: u64) -> u64 {
    let a = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}

impl RequestId {
    /// The 36 bytes of the UUID form.
    fn text(self) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut shift = 128_u32;
        for (place, byte) in text.iter_mut().enumerate() {
            if matches!(place, 8 | 13 | 18 | 23) {
                continue;
            }
            shift -= 4;
            let digit = (self.0 >> shift) & 0xf;
            *byte = HEX.get(digit as usize).copied().unwrap_or_default();
        }
        text
    }

    /// The id as a header's value.
    #[must_use]
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text()).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_distinct_and_have_the_form_of_a_uuid() {
        let ids = RequestIds::new();
        let drawn: HashSet<String> = (0..10_000).map(|_| ids.draw().to_string()).collect();
        assert_eq!(drawn.len(), 10_000);
        for id in drawn {
            let bytes = id.as_bytes();
            assert_eq!(bytes.len(), 36);
            assert!([8, 13, 18, 23].iter().all(|&i| bytes[i] == b'-'));
            assert_eq!(bytes[14], b'4');
            assert!(b"89ab".contains(&bytes[19]));
        }
    }
}
