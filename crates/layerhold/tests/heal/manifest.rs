//! Harm to the bytes of manifests.

use layerhold::format::keys::{self, RepositoryId, Scope};
use layerhold::manifest::{ManifestRead, PutError, ReadError};
use layerhold::{Digest, ErrorKind, MediaType, PutManifest, Reference, Tag};

use super::support::{REGISTRY, Rig, call};

const SCOPE: Scope = Scope { registry: REGISTRY, repository: RepositoryId(1) };

fn image(rig: &Rig, layer: &[u8]) -> Vec<u8> {
    let (config, layer) = (rig.push(b"{}"), rig.push(layer));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{layer}","size":5}}]}}"#,
        MediaType::OCI_MANIFEST,
        MediaType::OCI_CONFIG,
        MediaType::OCI_LAYER
    )
    .into_bytes()
}

fn index(child: &Digest) -> PutManifest {
    PutManifest::new(format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{child}","size":10}}]}}"#,
        MediaType::OCI_INDEX,
        MediaType::OCI_MANIFEST
    ))
}

#[test]
fn a_damaged_manifest_is_corrupt_to_a_pull_absent_to_a_push_and_healed_by_putting_it_again() {
    let tag = Tag::parse("v1").unwrap();
    for removed in [false, true] {
        let mut rig = Rig::new();
        let bytes = image(&rig, b"layer");
        let put = PutManifest::new(bytes.clone()).with_tag(tag.clone());
        let digest = rig.app().put_manifest(&put, &call()).unwrap().digest;
        let other = rig.app().put_manifest(&PutManifest::new(image(&rig, b"other")), &call()).unwrap().digest;
        let mut damaged = bytes.clone();
        damaged[10] ^= 2;
        let stored = if removed { None } else { Some(damaged.as_slice()) };
        rig.set_row(&keys::manifest_bytes(SCOPE, &digest), stored);

        let by_tag = Reference::Tag(tag.clone());
        let by_digest = Reference::Digest(digest);
        assert!(rig.app().manifest_head(&by_digest).is_ok(), "nobody has looked yet");
        for round in 0..2 {
            for reference in [&by_tag, &by_digest] {
                let error = rig.app().manifest(reference, ManifestRead::Pull).unwrap_err();
                assert!(matches!(error, ReadError::Corrupt { digest: found } if found == digest), "{error}");
                let error = rig.app().manifest_head(reference).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt);
            }
            assert_eq!(rig.incidents(), ["manifest quarantined"]);
            match rig.app().put_manifest(&index(&digest), &call()).unwrap_err() {
                PutError::ManifestsMissing { digests } => assert_eq!(digests, [digest]),
                error => panic!("{error}"),
            }
            assert!(rig.app().manifest(&Reference::Digest(other), ManifestRead::Pull).is_ok());
            if round == 0 {
                rig = rig.killed();
            }
        }
        let again = rig.app().put_manifest(&put, &call()).unwrap();
        assert!(!again.created && again.healed && !again.changed_nothing());
        let rig = rig.killed();
        assert_eq!(rig.app().manifest(&by_tag, ManifestRead::Pull).unwrap().bytes, bytes);
        assert_eq!(rig.incidents(), ["manifest quarantined", "manifest healed"]);
        assert!(rig.app().put_manifest(&put, &call()).unwrap().changed_nothing());
        rig.app().put_manifest(&index(&digest), &call()).unwrap();
    }
}

#[test]
fn a_manifest_whose_damage_nobody_noticed_is_healed_too() {
    let rig = Rig::new();
    let bytes = image(&rig, b"layer");
    let put = PutManifest::new(bytes.clone());
    let digest = rig.app().put_manifest(&put, &call()).unwrap().digest;
    rig.set_row(&keys::manifest_bytes(SCOPE, &digest), Some(b"{}"));
    assert!(rig.app().put_manifest(&put, &call()).unwrap().healed);
    assert_eq!(rig.app().manifest(&Reference::Digest(digest), ManifestRead::Peek).unwrap().bytes, bytes);
    assert_eq!(rig.incidents(), ["manifest healed"]);
}

#[test]
fn a_quarantined_manifest_can_be_deleted() {
    let rig = Rig::new();
    let digest = rig.app().put_manifest(&PutManifest::new(image(&rig, b"layer")), &call()).unwrap().digest;
    rig.set_row(&keys::manifest_bytes(SCOPE, &digest), None);
    assert!(rig.app().manifest(&Reference::Digest(digest), ManifestRead::Pull).is_err());
    assert!(rig.app().delete_manifest(&digest, &call()).unwrap().manifest_deleted);
    let gone = rig.app().manifest(&Reference::Digest(digest), ManifestRead::Pull).unwrap_err();
    assert!(matches!(gone, ReadError::NotFound { .. }));
    rig.app().delete_blob(&Digest::sha256(b"layer"), &call()).expect("nothing references it any more");
}
