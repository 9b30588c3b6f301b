//! Tag mutability: whether a tag that exists may be moved to another manifest.
//!
//! The rule is a pure function from facts to a decision. The transaction that moves the tag gathers the facts under its
//! locks and carries the decision out; an adapter words the answer. The rule governs moving alone: a tag that does not
//! exist may always be made, and one that exists may always be dropped (Amazon ECR user guide, Preventing image tags from
//! being overwritten).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::digest::{Digest, excerpt};
use crate::name::Tag;

/// Most filters that one setting may hold (Amazon ECR API, `imageTagMutabilityExclusionFilters`: 1 to 5).
pub const EXCLUSION_FILTERS_MAX: usize = 5;

/// Longest filter in bytes (Amazon ECR API, `ImageTagMutabilityExclusionFilterValue`).
pub const EXCLUSION_FILTER_BYTES_MAX: usize = 128;

/// Most `*` in one filter. Amazon ECR's limit as its clients check it; its API model does not state it.
pub const EXCLUSION_FILTER_WILDCARDS_MAX: usize = 2;

/// Which tags may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mutability {
    /// Every tag may move.
    #[default]
    Mutable,
    /// No tag may move.
    Immutable,
    /// Only tags that match a filter may move.
    ImmutableWithExclusion,
    /// Only tags that match no filter may move.
    MutableWithExclusion,
}

impl Mutability {
    /// Every mode, in the order of their codes.
    pub const ALL: [Self; 4] =
        [Self::Mutable, Self::Immutable, Self::ImmutableWithExclusion, Self::MutableWithExclusion];

    /// The byte that stands for the mode on disk: 1 to 4, never reused.
    pub const fn code(self) -> u8 {
        match self {
            Self::Mutable => 1,
            Self::Immutable => 2,
            Self::ImmutableWithExclusion => 3,
            Self::MutableWithExclusion => 4,
        }
    }

    /// The mode that `code` stands for, if any.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.code() == code)
    }

    /// Whether the mode comes with filters.
    pub const fn has_exclusions(self) -> bool {
        matches!(self, Self::ImmutableWithExclusion | Self::MutableWithExclusion)
    }
}

impl fmt::Display for Mutability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mutable => "mutable",
            Self::Immutable => "immutable",
            Self::ImmutableWithExclusion => "immutable with exclusion",
            Self::MutableWithExclusion => "mutable with exclusion",
        })
    }
}

/// A pattern over whole tags: `*` stands for any run of characters, none included, every other character for itself.
///
/// 1 to 128 characters of `0-9 a-z A-Z . _ * -`, at most two of them `*`; case counts. Amazon ECR calls this filter type
/// `WILDCARD` and has no other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExclusionFilter(Arc<str>);

impl ExclusionFilter {
    /// Checks `value` and keeps a copy of it.
    ///
    /// # Errors
    /// [`InvalidFilter`].
    pub fn parse(value: &str) -> Result<Self, InvalidFilter> {
        let fault = |fault| InvalidFilter { fault, value: excerpt(value) };
        if value.is_empty() {
            return Err(fault(FilterFault::Empty));
        }
        if value.len() > EXCLUSION_FILTER_BYTES_MAX {
            return Err(fault(FilterFault::TooLong { length: value.len(), limit: EXCLUSION_FILTER_BYTES_MAX }));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'*' | b'-');
        if let Some(position) = value.bytes().position(|byte| !legal(byte)) {
            return Err(fault(FilterFault::Grammar { position }));
        }
        let count = value.bytes().filter(|byte| *byte == b'*').count();
        if count > EXCLUSION_FILTER_WILDCARDS_MAX {
            return Err(fault(FilterFault::TooManyWildcards { count, limit: EXCLUSION_FILTER_WILDCARDS_MAX }));
        }
        Ok(Self(value.into()))
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `tag` matches. Takes time in proportion to the length of the tag.
    pub fn matches(&self, tag: &Tag) -> bool {
        let tag = tag.as_str();
        let Some((prefix, rest)) = self.0.split_once('*') else { return tag == &*self.0 };
        let Some(tag) = tag.strip_prefix(prefix) else { return false };
        // The first place where the middle fits leaves the most room for the suffix, so no other needs a try.
        let (middle, suffix) = rest.split_once('*').unwrap_or(("", rest));
        tag.split_once(middle).is_some_and(|(_, tail)| tail.ends_with(suffix))
    }
}

impl fmt::Display for ExclusionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ExclusionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExclusionFilter({:?})", &*self.0)
    }
}

impl FromStr for ExclusionFilter {
    type Err = InvalidFilter;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::parse(value)
    }
}

/// Text that is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("exclusion filter {fault} value={value:?}")]
pub struct InvalidFilter {
    /// What is wrong.
    pub fault: FilterFault,
    /// The first 80 characters of what was given.
    pub value: String,
}

/// What is wrong with a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterFault {
    /// It has no characters.
    #[error("is empty")]
    Empty,
    /// It has too many bytes.
    #[error("is too long length={length} limit={limit}")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A character that no filter has.
    #[error("breaks its grammar position={position}")]
    Grammar {
        /// Byte position, from 0.
        position: usize,
    },
    /// Too many `*`.
    #[error("has too many wildcards count={count} limit={limit}")]
    TooManyWildcards {
        /// Wildcards given.
        count: usize,
        /// Wildcards allowed.
        limit: usize,
    },
}

/// A repository's setting: a mode, and the filters that belong to it.
///
/// There are 1 to [`EXCLUSION_FILTERS_MAX`] filters with a mode that has exclusions and none with another; no value of
/// this type is otherwise. Filters keep their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagMutability {
    mode: Mutability,
    filters: Vec<ExclusionFilter>,
}

impl TagMutability {
    /// Every tag may move: what a new repository has.
    pub const MUTABLE: Self = Self { mode: Mutability::Mutable, filters: Vec::new() };

    /// No tag may move.
    pub const IMMUTABLE: Self = Self { mode: Mutability::Immutable, filters: Vec::new() };

    /// Pairs a mode with its filters.
    ///
    /// # Errors
    /// [`InvalidMutability`] where they do not belong together.
    pub fn new(mode: Mutability, filters: Vec<ExclusionFilter>) -> Result<Self, InvalidMutability> {
        let count = filters.len();
        match (mode.has_exclusions(), count) {
            (true, 0) => Err(InvalidMutability::FiltersMissing { mode }),
            (false, 1..) => Err(InvalidMutability::FiltersUnexpected { mode, count }),
            (true, count) if count > EXCLUSION_FILTERS_MAX => {
                Err(InvalidMutability::TooManyFilters { count, limit: EXCLUSION_FILTERS_MAX })
            }
            _ => Ok(Self { mode, filters }),
        }
    }

    /// The mode.
    pub const fn mode(&self) -> Mutability {
        self.mode
    }

    /// The filters, in the order given; empty with a mode that has none.
    pub fn filters(&self) -> &[ExclusionFilter] {
        &self.filters
    }

    /// Whether `tag`, if it exists, may be moved.
    pub fn may_move(&self, tag: &Tag) -> bool {
        let excluded = || self.filters.iter().any(|filter| filter.matches(tag));
        match self.mode {
            Mutability::Mutable => true,
            Mutability::Immutable => false,
            Mutability::ImmutableWithExclusion => excluded(),
            Mutability::MutableWithExclusion => !excluded(),
        }
    }
}

/// A mode and filters that do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMutability {
    /// The mode needs filters.
    #[error("exclusion filters are missing mode={mode}")]
    FiltersMissing {
        /// The mode asked for.
        mode: Mutability,
    },
    /// The mode has no filters.
    #[error("exclusion filters do not belong to the mode mode={mode} count={count}")]
    FiltersUnexpected {
        /// The mode asked for.
        mode: Mutability,
        /// Filters given.
        count: usize,
    },
    /// More filters than a setting holds.
    #[error("too many exclusion filters count={count} limit={limit}")]
    TooManyFilters {
        /// Filters given.
        count: usize,
        /// Filters allowed.
        limit: usize,
    },
}

/// What the transaction knows of a tag that is about to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagFacts {
    /// The manifest that the tag names now; `None` where the tag does not exist.
    pub current: Option<Digest>,
    /// The manifest that it is to name.
    pub requested: Digest,
}

/// What to do about a tag that is about to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the tag is not set until the decision is carried out"]
pub enum TagDecision {
    /// The tag does not exist: make it.
    Create,
    /// The tag names that manifest already, whatever the setting. Nothing is written. ECR answers "already exists", OCI
    /// success.
    AlreadyThere,
    /// The tag names another manifest and may move: take it from there.
    Move {
        /// The manifest that loses the tag.
        from: Digest,
    },
    /// The tag names another manifest and may not move.
    Refuse {
        /// The manifest that keeps the tag.
        current: Digest,
    },
}

/// Decides what setting `tag` means under `mutability`, given what the tag names now.
pub fn decide(mutability: &TagMutability, tag: &Tag, facts: TagFacts) -> TagDecision {
    match facts.current {
        None => TagDecision::Create,
        Some(current) if current == facts.requested => TagDecision::AlreadyThere,
        Some(from) if mutability.may_move(tag) => TagDecision::Move { from },
        Some(current) => TagDecision::Refuse { current },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(value: &str) -> Tag {
        Tag::parse(value).unwrap()
    }

    fn filters(values: &[&str]) -> Vec<ExclusionFilter> {
        values.iter().map(|value| ExclusionFilter::parse(value).unwrap()).collect()
    }

    #[test]
    fn every_case_of_the_rule() {
        let (old, new) = (Digest::sha256(b"old"), Digest::sha256(b"new"));
        let plain = |mode| TagMutability::new(mode, vec![]).unwrap();
        let excluding = |mode| TagMutability::new(mode, filters(&["dev*"])).unwrap();
        let moved = TagDecision::Move { from: old };
        let refused = TagDecision::Refuse { current: old };
        // The setting, then what becomes of a tag that matches the filter and of one that does not.
        for (setting, matching, other) in [
            (plain(Mutability::Mutable), moved, moved),
            (plain(Mutability::Immutable), refused, refused),
            (excluding(Mutability::ImmutableWithExclusion), moved, refused),
            (excluding(Mutability::MutableWithExclusion), refused, moved),
        ] {
            for (name, decision) in [("dev-1", matching), ("v1", other)] {
                let tag = tag(name);
                let decide = |current| decide(&setting, &tag, TagFacts { current, requested: new });
                assert_eq!(decide(None), TagDecision::Create, "{} {name}", setting.mode());
                assert_eq!(decide(Some(new)), TagDecision::AlreadyThere, "{} {name}", setting.mode());
                assert_eq!(decide(Some(old)), decision, "{} {name}", setting.mode());
            }
        }
    }

    #[test]
    fn any_one_filter_excludes() {
        let setting = TagMutability::new(Mutability::ImmutableWithExclusion, filters(&["latest", "dev*"])).unwrap();
        for (name, may_move) in [("latest", true), ("dev", true), ("devel", true), ("latest2", false), ("v1", false)] {
            assert_eq!(setting.may_move(&tag(name)), may_move, "{name}");
        }
    }

    #[test]
    fn modes_and_filters_are_paired() {
        let six = ["a", "b", "c", "d", "e", "f"];
        for mode in Mutability::ALL {
            for count in 0..=six.len() {
                let made = TagMutability::new(mode, filters(&six[..count]));
                let expected = match (mode.has_exclusions(), count) {
                    (false, 0) | (true, 1..=5) => None,
                    (false, _) => Some(InvalidMutability::FiltersUnexpected { mode, count }),
                    (true, 0) => Some(InvalidMutability::FiltersMissing { mode }),
                    (true, _) => Some(InvalidMutability::TooManyFilters { count, limit: 5 }),
                };
                match made {
                    Ok(setting) => {
                        assert_eq!(expected, None);
                        assert_eq!((setting.mode(), setting.filters().len()), (mode, count));
                    }
                    Err(error) => assert_eq!(Some(error), expected),
                }
            }
            assert_eq!(Mutability::from_code(mode.code()), Some(mode));
        }
        assert_eq!(TagMutability::default(), TagMutability::MUTABLE);
        assert_eq!(Mutability::from_code(0), None);
        assert_eq!(Mutability::from_code(5), None);
    }

    #[test]
    fn filters_that_are_not() {
        let fault = |value: &str| ExclusionFilter::parse(value).unwrap_err().fault;
        assert_eq!(fault(""), FilterFault::Empty);
        assert_eq!(fault(&"a".repeat(129)), FilterFault::TooLong { length: 129, limit: 128 });
        assert!(ExclusionFilter::parse(&"a".repeat(128)).is_ok());
        for (value, position) in [("a?", 1), ("[a]", 0), ("a b", 1), ("é", 0), ("a\\*", 1), ("a/b", 1), ("a\n", 1)] {
            assert_eq!(fault(value), FilterFault::Grammar { position });
        }
        assert_eq!(fault("***"), FilterFault::TooManyWildcards { count: 3, limit: 2 });
        assert_eq!(fault("a*b*c*d"), FilterFault::TooManyWildcards { count: 3, limit: 2 });
    }

    #[test]
    fn a_filter_matches_whole_tags() {
        for (filter, yes, no) in [
            ("v1", &["v1"][..], &["v", "v11", "V1", "xv1"][..]),
            ("*", &["a", "latest", "."], &[]),
            ("**", &["a", "latest"], &[]),
            ("dev*", &["dev", "dev-1", "develop"], &["de", "Dev", "xdev", "-dev"]),
            ("*-rc", &["-rc", "1-rc"], &["rc", "1-rc2", "1-RC"]),
            ("a*b", &["ab", "aab", "a.b", "abab"], &["a", "b", "ba", "abc", "aba."]),
            ("aa*aa", &["aaaa", "aa-aa", "aaaaa"], &["aaa", "aa"]),
            ("*x*", &["x", "axb", "xx", "ax"], &["a", "X"]),
            ("a*b*c", &["abc", "a1b2c", "abbc", "abcbc", "abcc"], &["ac", "acb", "abcd", "ab", "bc"]),
            ("ab*ba*ab", &["abbaab", "ab-ba-ab", "abbabaab"], &["abaab", "abbab", "ababab"]),
            ("1.*", &["1.", "1.2"], &["1", "12", "102"]),
            ("a_*", &["a_", "a_b"], &["ab", "a-b"]),
        ] {
            let filter = ExclusionFilter::parse(filter).unwrap();
            for value in yes {
                assert!(filter.matches(&tag(value)), "{filter} {value}");
            }
            for value in no {
                assert!(!filter.matches(&tag(value)), "{filter} {value}");
            }
        }
    }
}
