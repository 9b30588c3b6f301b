//! Whether two sets of facts are the same, in two walks, without lookups and without keeping either set.
//!
//! Rows that must match one to one lie in different orders (a link by repository, its way back by digest), so that they
//! cannot be walked together; looking each one up would cost a random read. Instead each side adds up a keyed hash of
//! each of its facts. Equal sums mean equal sets, but for a chance of 2^-128 in which nobody has a hand, since the key is
//! drawn anew. The sums are kept in parts: where one differs, only the facts that fall into it are looked at again.

use crate::clock::Entropy;

const PARTS: usize = 1024;

/// Two sets of facts that must be equal.
pub(super) struct Relation {
    key: [u8; 32],
    sums: Vec<u128>,
}

impl Relation {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Self { key, sums: vec![0; PARTS] }
    }

    /// A fact of the one side. No fact is told twice.
    pub(super) fn left(&mut self, fact: &[u8]) {
        let (part, hash) = self.hash(fact);
        self.add(part, hash);
    }

    /// A fact of the other side.
    pub(super) fn right(&mut self, fact: &[u8]) {
        let (part, hash) = self.hash(fact);
        self.add(part, hash.wrapping_neg());
    }

    /// The same for a fact that is to be doubted by what it is about, not by what it says.
    pub(super) fn left_about(&mut self, subject: &[u8], fact: &[u8]) {
        let ((part, _), (_, hash)) = (self.hash(subject), self.hash(&[subject, fact].concat()));
        self.add(part, hash);
    }

    /// See [`Relation::left_about`].
    pub(super) fn right_about(&mut self, subject: &[u8], fact: &[u8]) {
        let ((part, _), (_, hash)) = (self.hash(subject), self.hash(&[subject, fact].concat()));
        self.add(part, hash.wrapping_neg());
    }

    fn add(&mut self, part: usize, hash: u128) {
        if let Some(sum) = self.sums.get_mut(part) {
            *sum = sum.wrapping_add(hash);
        }
    }

    /// Whether both sides are the same.
    pub(super) fn is_even(&self) -> bool {
        self.sums.iter().all(|sum| *sum == 0)
    }

    /// Whether a fact may be one that the other side lacks.
    pub(super) fn doubts(&self, fact: &[u8]) -> bool {
        let (part, _) = self.hash(fact);
        self.sums.get(part).is_some_and(|sum| *sum != 0)
    }

    fn hash(&self, fact: &[u8]) -> (usize, u128) {
        let hash = blake3::keyed_hash(&self.key, fact);
        let bytes = hash.as_bytes();
        let sum = bytes.first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        let part = bytes.last_chunk::<2>().map_or(0, |bytes| u16::from_be_bytes(*bytes));
        (usize::from(part) % PARTS, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;

    #[test]
    fn equal_sets_are_even_in_any_order_and_what_one_side_lacks_is_doubted() {
        let facts: Vec<[u8; 4]> = (0..5_000u32).map(u32::to_be_bytes).collect();
        let mut relation = Relation::new(&SystemEntropy);
        facts.iter().for_each(|fact| relation.left(fact));
        facts.iter().rev().for_each(|fact| relation.right(fact));
        assert!(relation.is_even());
        relation.left(b"only here");
        relation.right(b"only there");
        assert!(!relation.is_even());
        assert!(relation.doubts(b"only here") && relation.doubts(b"only there"));
        assert!(facts.iter().filter(|fact| relation.doubts(*fact)).count() < 100);
    }
}
