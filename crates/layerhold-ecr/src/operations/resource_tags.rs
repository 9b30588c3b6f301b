//! Resource tags: keys and values that an owner puts on a repository. They are not image tags.

use crate::failure::Failure;
use crate::generated::types::{ErrorCode, Tag};
use crate::messages;

/// Resource tags that one repository may bear.
pub(super) const TAGS_MAX: usize = 50;
const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;

/// Judges the tags of a request, which become the tags of a repository.
///
/// # Errors
/// `TooManyTagsException`, or `InvalidTagParameterException` for the first tag that is wrong.
pub(super) fn judge(tags: &[Tag]) -> Result<(), Failure> {
    if tags.len() > TAGS_MAX {
        return Err(Failure::new(ErrorCode::TooManyTagsException, messages::too_many_resource_tags(TAGS_MAX)));
    }
    for (index, tag) in tags.iter().enumerate() {
        let invalid = |member: &str, detail: &str| {
            let path = format!("tags.{}.{member}", index + 1);
            Err(Failure::new(ErrorCode::InvalidTagParameterException, messages::invalid_parameter(&path, detail)))
        };
        let Some(key) = tag.key.as_deref() else { return invalid("Key", messages::MUST_NOT_BE_NULL) };
        let value = tag.value.as_deref().unwrap_or_default();
        if key.is_empty() {
            return invalid("Key", &messages::length_at_least(1));
        }
        for (member, text, max) in [("Key", key, KEY_CHARACTERS_MAX), ("Value", value, VALUE_CHARACTERS_MAX)] {
            if text.chars().count() > max {
                return invalid(member, &messages::length_at_most(max as u64));
            }
            if !text.chars().all(is_allowed) {
                return invalid(member, messages::TAG_CHARACTERS);
            }
        }
        if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            return invalid("Key", messages::RESERVED_TAG_KEY);
        }
        if tags.iter().take(index).any(|other| other.key.as_deref() == Some(key)) {
            return invalid("Key", messages::REPEATED_TAG_KEY);
        }
    }
    Ok(())
}

fn is_allowed(character: char) -> bool {
    character.is_alphanumeric() || character.is_whitespace() || "+-=._:/@".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) }
    }

    #[test]
    fn what_the_grammar_allows_is_accepted() {
        let (key, value) = ("é".repeat(128), "x".repeat(256));
        assert_eq!(judge(&[tag(&key, &value), tag("a b+-=._:/@", ""), tag("A", ""), tag("a", "")]), Ok(()));
        assert_eq!(judge(&[Tag { key: Some("a".to_owned()), value: None }]), Ok(()));
        let many = (0..50).map(|i| tag(&i.to_string(), "")).collect::<Vec<_>>();
        assert_eq!(judge(&many), Ok(()));
    }

    #[test]
    fn the_first_fault_is_named() {
        let judged = |tags: &[Tag]| judge(tags).unwrap_err().message().to_owned();
        let sentence = |path: &str, detail: &str| messages::invalid_parameter(path, detail);
        let too_long = messages::length_at_most(128);
        assert_eq!(judged(&[tag("a", ""), tag("", "")]), sentence("tags.2.Key", &messages::length_at_least(1)));
        assert_eq!(judged(&[tag(&"a".repeat(129), "")]), sentence("tags.1.Key", &too_long));
        assert_eq!(judged(&[tag("a", &"v".repeat(257))]), sentence("tags.1.Value", &messages::length_at_most(256)));
        assert_eq!(judged(&[tag("AWS:x", "")]), sentence("tags.1.Key", messages::RESERVED_TAG_KEY));
        assert_eq!(judged(&[tag("a", ""), tag("a", "2")]), sentence("tags.2.Key", messages::REPEATED_TAG_KEY));
        assert_eq!(judged(&[tag("a", "b\u{0}")]), sentence("tags.1.Value", messages::TAG_CHARACTERS));
        assert_eq!(judged(&[Tag::default()]), sentence("tags.1.Key", messages::MUST_NOT_BE_NULL));
        let many = (0..51).map(|i| tag(&i.to_string(), "")).collect::<Vec<_>>();
        assert_eq!(judge(&many).unwrap_err().code().as_str(), "TooManyTagsException");
    }
}
