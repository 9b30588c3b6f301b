//! The value types against slower and more obvious forms of themselves, over random input.
//!
//! Each property compares with an independent statement of the same rule: a grammar spelled out by splitting instead of one
//! pass, a pattern matched by trying everything, BLAKE3 over all bytes at once. A failure prints its input and is kept
//! beside this file, from where the next run replays it.

#![expect(clippy::indexing_slicing, reason = "a test may panic, and clippy only excuses the test functions themselves")]

use std::collections::BTreeMap;

use layerhold::blob::fingerprint::{FingerprintHasher, Frontier, GroupLen, root_from_groups, verify_group};
use layerhold::descriptor::MediaType;
use layerhold::digest::{Algorithm, Digest, DigestHasher};
use layerhold::manifest::document::{DocumentLimits, ManifestDocument, ManifestError, ManifestKind, Role};
use layerhold::manifest::json::{Json, JsonLimits};
use layerhold::name::{Reference, RepositoryName, Tag};
use layerhold::tag::rules::ExclusionFilter;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The repository grammar by cutting the name apart.
fn is_repository_name(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_mark = |mark: &str| matches!(mark, "." | "_" | "__") || mark.chars().all(|c| c == '-');
    name.len() <= 256
        && name.split('/').all(|component| {
            component.starts_with(alphanumeric)
                && component.ends_with(alphanumeric)
                && component.split(alphanumeric).filter(|mark| !mark.is_empty()).all(is_mark)
        })
}

/// Whether `pattern` matches `text`, by trying every length for every `*`.
fn matches_by_trying(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|len| matches_by_trying(rest, &text[len..])),
        Some((byte, rest)) => text.first() == Some(byte) && matches_by_trying(rest, &text[1..]),
    }
}

/// Splits `bytes` at the places that `cuts` point to, in any order and perhaps twice.
fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Any JSON value, not too large.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inside| {
        prop_oneof![
            vec(inside.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inside, 0..6).prop_map(|members| json!(members)),
        ]
    })
}

fn same(ours: &Json<'_>, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(ours), Value::Bool(theirs)) => ours == theirs,
        (Json::Unsigned(ours), Value::Number(theirs)) => theirs.as_u64() == Some(*ours),
        (Json::Negative(ours), Value::Number(theirs)) => *ours < 0 && theirs.as_i64() == Some(*ours),
        (Json::String(ours), Value::String(theirs)) => ours == theirs,
        (Json::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
        }
        (Json::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().all(|(key, ours)| theirs.get(key).is_some_and(|theirs| same(ours, theirs)))
        }
        _ => false,
    }
}

/// A manifest, or nearly one: a mixture of members that belong to some kind, most of them right. Three in four start as
/// one kind, so that documents that are accepted are common.
fn nearly_a_manifest() -> impl Strategy<Value = Value> {
    let media_types = vec![
        MediaType::OCI_MANIFEST,
        MediaType::OCI_INDEX,
        MediaType::DOCKER_MANIFEST,
        MediaType::DOCKER_MANIFEST_LIST,
        MediaType::DOCKER_MANIFEST_V1,
        MediaType::OCI_LAYER,
    ];
    let media_type = prop::sample::select(media_types).prop_map(|media_type| json!(media_type.as_str()));
    let digest = any::<u8>().prop_map(|seed| json!(Digest::sha256(&[seed]).to_string()));
    let descriptor = (media_type.clone(), digest.clone(), 0..1_000_u64)
        .prop_map(|(media_type, digest, size)| json!({"mediaType": media_type, "digest": digest, "size": size}));
    let list = vec(descriptor.clone(), 0..4).prop_map(Value::from);
    let old_layers = vec(digest.prop_map(|digest| json!({"blobSum": digest})), 0..4).prop_map(Value::from);
    let value_of = move |name: &'static str| match name {
        "schemaVersion" => prop::sample::select(vec![2, 2, 2, 1]).prop_map(|version| json!(version)).boxed(),
        "mediaType" | "artifactType" => media_type.clone().boxed(),
        "config" | "subject" => descriptor.clone().boxed(),
        "fsLayers" => old_layers.clone().boxed(),
        _ => list.clone().boxed(),
    };
    let member = move |name: &'static str| {
        prop_oneof![19 => value_of(name), 1 => any_json()].prop_map(move |value| (name.to_owned(), value))
    };
    let kinds = vec![
        vec!["schemaVersion", "mediaType", "config", "layers"],
        vec!["schemaVersion", "mediaType", "manifests"],
        vec!["schemaVersion", "mediaType", "fsLayers"],
        vec![],
    ];
    let others = prop::sample::subsequence(
        vec!["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "artifactType", "fsLayers"],
        0..3,
    );
    (prop::sample::select(kinds), others).prop_flat_map(move |(kind, others)| {
        let members: Vec<_> = kind.into_iter().chain(others).map(&member).collect();
        members.prop_map(|members| json!(members.into_iter().collect::<BTreeMap<String, Value>>()))
    })
}

proptest! {
    #[test]
    fn repository_names_follow_the_grammar(name in "[a-c0-1._/A-]{0,12}") {
        prop_assert_eq!(RepositoryName::parse(&name).is_ok(), !name.is_empty() && is_repository_name(&name));
    }

    #[test]
    fn repository_names_survive_anything(name in any::<String>()) {
        if let Ok(parsed) = RepositoryName::parse(&name) {
            prop_assert!(is_repository_name(&name));
            prop_assert_eq!(parsed.as_str(), name.as_str());
            prop_assert!(!name.split('/').any(|component| component.is_empty() || component == "." || component == ".."));
        }
    }

    #[test]
    fn a_reference_is_what_it_prints(text in "[a-zA-Z0-9:._-]{0,20}|sha256:[0-9a-f]{64}|sha512:[0-9a-fA]{127,129}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(reference.to_string(), text.as_str());
            prop_assert_eq!(matches!(reference, Reference::Digest(_)), text.contains(':'));
        }
    }

    #[test]
    fn digests_survive_anything(text in any::<String>()) {
        prop_assert!(Digest::parse(&text).is_err());
        let named = format!("sha256:{text}");
        prop_assert!(Digest::parse(&named).is_err());
    }

    #[test]
    fn media_types_are_two_restricted_names(text in "[aB9/+. ;*é-]{0,10}") {
        let restricted = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
        };
        let names: Vec<&str> = text.split('/').collect();
        prop_assert_eq!(MediaType::parse(&text).is_ok(), names.len() == 2 && names.into_iter().all(restricted));
    }

    #[test]
    fn filters_match_as_if_everything_were_tried(
        filter in "[ab.]{0,4}[*]?[ab.]{0,4}[*]?[ab.]{0,4}",
        tag in "[ab.]{1,14}",
    ) {
        prop_assume!(!filter.is_empty());
        let found = ExclusionFilter::parse(&filter).unwrap().matches(&Tag::parse(&tag).unwrap());
        prop_assert_eq!(found, matches_by_trying(filter.as_bytes(), tag.as_bytes()));
    }

    #[test]
    fn a_digest_does_not_care_where_it_is_cut_or_put_aside(
        bytes in vec(any::<u8>(), 0..700),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
        sha512 in any::<bool>(),
    ) {
        let algorithm = if sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let mut hasher = DigestHasher::new(algorithm);
        for piece in pieces(&bytes, &cuts) {
            hasher.update(piece);
            hasher = DigestHasher::restore(&hasher.save()).unwrap();
        }
        prop_assert_eq!(hasher.finalize(), Digest::of(algorithm, &bytes));
    }

    #[test]
    fn hash_states_survive_anything(bytes in vec(any::<u8>(), 0..300), sha512 in any::<bool>(), cut in any::<bool>()) {
        prop_assert!(bytes.first() == Some(&1) || DigestHasher::restore(&bytes).is_err());
        // A state of the right length, every byte of which is wrong: taken or refused, and if taken then as it is.
        let mut state = if sha512 { vec![1, 2] } else { vec![1, 1] };
        state.extend(&bytes);
        state.resize(if sha512 { 210 } else { 106 } - usize::from(cut), 0);
        if let Ok(hasher) = DigestHasher::restore(&state) {
            prop_assert!(!cut);
            prop_assert_eq!(hasher.save(), state);
            hasher.finalize();
        }
    }

    #[test]
    fn frontiers_survive_anything(
        group in 0..33_u32,
        offset in prop_oneof![any::<u64>(), 0..20_000_u64, Just(1_024_u64)],
        values in 0..66_usize,
        fill in any::<u8>(),
    ) {
        let mut saved = vec![1];
        saved.extend(1_u32.checked_shl(group).unwrap_or(1_025).to_be_bytes());
        saved.extend(offset.to_be_bytes());
        saved.resize(13 + 32 * values, fill);
        for len in 0..saved.len() {
            let _ = Frontier::parse(&saved[..len]);
        }
        if let Ok(frontier) = Frontier::parse(&saved) {
            let tail = vec![fill; frontier.tail_len()];
            prop_assert_eq!(frontier.tail_start() + tail.len() as u64, offset);
            let hasher = FingerprintHasher::restore(&saved, &tail).unwrap();
            prop_assert_eq!(hasher.save_frontier(), saved);
            prop_assert_eq!(hasher.finish().len, offset);
        }
    }

    #[test]
    fn a_fingerprint_does_not_care_where_it_is_cut_or_put_aside(
        seed in any::<u64>(),
        len in 0..40_000_usize,
        group in 0..4_u32,
        cuts in vec((any::<prop::sample::Index>(), any::<bool>()), 0..8),
    ) {
        let group_len = GroupLen::new(1_024 << group).unwrap();
        let bytes: Vec<u8> =
            (0..len as u64).map(|i| ((i ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        let (cuts, put_aside): (Vec<_>, Vec<_>) = cuts.into_iter().unzip();
        let mut hasher = FingerprintHasher::new(group_len);
        let mut values = Vec::new();
        let mut aside = put_aside.iter().cycle();
        let mut offset = 0;
        for piece in pieces(&bytes, &cuts) {
            hasher.update(piece);
            offset += piece.len();
            let run = hasher.take_groups();
            prop_assert_eq!(run.first, values.len() as u64);
            values.extend(run.values);
            if aside.next() == Some(&true) {
                let saved = hasher.save_frontier();
                let tail = &bytes[usize::try_from(Frontier::parse(&saved).unwrap().tail_start()).unwrap()..offset];
                hasher = FingerprintHasher::restore(&saved, tail).unwrap();
            }
        }
        let fingerprint = hasher.finish();
        prop_assert_eq!(fingerprint.remaining.first, values.len() as u64);
        values.extend(fingerprint.remaining.values);
        prop_assert_eq!(fingerprint.root, *blake3::hash(&bytes).as_bytes());
        prop_assert_eq!(root_from_groups(group_len, &values, len as u64), Some(fingerprint.root));
        for (index, content) in bytes.chunks(group_len.as_usize()).enumerate() {
            prop_assert!(verify_group(group_len, index as u64, content, &values[index], values.len() == 1));
        }
    }

    #[test]
    fn json_means_what_others_read_in_it(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let parsed = Json::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
        prop_assert!(same(&parsed, &value), "{parsed:?} {value:?}");
        // Cut anywhere, it is another document or none; it never panics.
        for len in 0..text.len() {
            let _ = Json::parse(&text.as_bytes()[..len], &JsonLimits::default());
        }
    }

    #[test]
    fn json_survives_anything(
        bytes in vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:0123456789\\u".to_vec())], 0..60),
    ) {
        let limits = JsonLimits { depth_max: 4, values_max: 10 };
        let read = Json::parse(&bytes, &limits);
        prop_assert!(read.is_err() || serde_json::from_slice::<Value>(&bytes).is_ok());
    }

    #[test]
    fn a_manifest_is_one_kind_or_refused(
        document in nearly_a_manifest(),
        declared in any::<bool>(),
        schema1 in any::<bool>(),
    ) {
        let limits = DocumentLimits { schema1, ..DocumentLimits::default() };
        let declared = declared.then_some(MediaType::OCI_MANIFEST);
        let parsed = ManifestDocument::parse(document.to_string().as_bytes(), declared.as_ref(), &limits);
        let kinds = [["manifests", ""], ["layers", "config"], ["fsLayers", ""]]
            .iter()
            .filter(|members| members.iter().any(|member| document.get(*member).is_some()))
            .count();
        match parsed {
            Ok(parsed) => {
                prop_assert!(kinds <= 1);
                prop_assert_eq!(ManifestKind::of(&parsed.media_type), Some(parsed.kind));
                let named = document["mediaType"].as_str();
                prop_assert_eq!(named.or(declared.as_ref().map(MediaType::as_str)), Some(parsed.media_type.as_str()));
                prop_assert!(schema1 || parsed.kind != ManifestKind::Schema1);
                let list = ["layers", "manifests", "fsLayers"].iter().find_map(|list| document[list].as_array());
                let configs = parsed.references.iter().filter(|reference| reference.role == Role::Config).count();
                prop_assert_eq!(parsed.references.len(), list.unwrap().len() + configs);
                prop_assert_eq!(configs == 1, parsed.kind == ManifestKind::ImageManifest);
            }
            Err(ManifestError::Ambiguous { .. }) => prop_assert!(kinds > 1),
            Err(ManifestError::MediaTypeMissing) => {
                prop_assert!(declared.is_none());
                prop_assert!(document.get("mediaType").is_none_or(Value::is_null));
            }
            Err(_) => {}
        }
    }
}
