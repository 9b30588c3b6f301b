//! Harm to the files of blobs, along every path on which bytes leave.

use layerhold::blob::{Damage, MountError, OpenError, ReadFault, download};
use layerhold::change::Event;
use layerhold::{BlobReader, ErrorKind, Expected, MediaType, PutManifest};
use layerhold_testkit::fs::{Call, Failure, Fault, Repeat, damage};
use layerhold_testkit::operation::pool::noise;

use super::odd::Oddity;
use super::support::{GROUP, Rig, call, name, read};

/// What a medium does to one file, and what should be found.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip,
    Zero,
    Truncate,
    Extend,
    Delete,
    Swap,
}

impl Harm {
    const ALL: [Self; 6] = [Self::Flip, Self::Zero, Self::Truncate, Self::Extend, Self::Delete, Self::Swap];

    fn act(self, rig: &Rig, digest: &layerhold::Digest) {
        let file = rig.file(digest);
        match self {
            Self::Flip => damage::flip_bit(&rig.fs, &file, 2 * GROUP as u64 * 8 + 5),
            Self::Zero => damage::zero(&rig.fs, &file, 2 * GROUP as u64, GROUP),
            Self::Truncate => damage::truncate(&rig.fs, &file, 2 * GROUP as u64),
            Self::Extend => damage::append(&rig.fs, &file, b"more"),
            Self::Delete => damage::delete(&rig.fs, &file),
            Self::Swap => {
                let other = rig.push(&noise(99, 5 * GROUP + 77));
                damage::swap(&rig.fs, &file, &rig.file(&other))
            }
        }
        .unwrap();
    }

    /// What a read of the whole or of a range in the third group finds.
    fn damage(self, whole: bool) -> Damage {
        let expected = 5 * GROUP as u64 + 77 + 128;
        match self {
            Self::Swap if whole => Damage::Bytes { offset: 0 },
            Self::Flip | Self::Zero | Self::Swap => Damage::Bytes { offset: 2 * GROUP as u64 },
            Self::Truncate => Damage::Length { expected, found: 2 * GROUP as u64 },
            Self::Extend => Damage::Length { expected, found: expected + 4 },
            Self::Delete => Damage::Missing,
        }
    }
}

/// A way on which bytes leave; an error where they do not.
type Path = fn(&Rig, &layerhold::Digest) -> Result<(), ErrorKind>;

fn all(reader: &BlobReader) -> Result<(), ErrorKind> {
    let mut buf = vec![0; GROUP + 1];
    let mut at = 0;
    loop {
        match reader.read_at(at, &mut buf).map_err(|fault| fault.kind())? {
            0 => return Ok(()),
            read => at += read as u64,
        }
    }
}

fn opened(rig: &Rig, digest: &layerhold::Digest) -> Result<BlobReader, ErrorKind> {
    rig.app().blob(digest).map_err(|error| error.kind())
}

const PATHS: [(&str, Path); 5] = [
    ("whole", |rig, digest| all(&opened(rig, digest)?)),
    ("range", |rig, digest| {
        let reader = opened(rig, digest)?;
        reader.read_at(2 * GROUP as u64 + 10, &mut [0; 20]).map(drop).map_err(|fault| fault.kind())
    }),
    ("mapped", |rig, digest| {
        let reader = opened(rig, digest)?;
        reader.map_at(2 * GROUP as u64 + 10, 20).map(drop).map_err(|fault| fault.kind())
    }),
    ("download", |rig, digest| {
        let grant = rig.app().grant_download(digest, 60_000).map_err(|error| error.kind())?;
        all(&rig.engine.open_download(&grant.token).map_err(|error| error.kind())?)
    }),
    ("mounted", |rig, digest| {
        rig.repository("other").mount_blob(digest, &name("app"), &call()).map_err(|error| error.kind())?;
        all(&rig.repository("other").blob(digest).map_err(|error| error.kind())?)
    }),
];

#[test]
fn every_harm_is_found_on_every_path_written_down_once_and_healed_by_a_push() {
    for harm in Harm::ALL {
        for (path, go) in PATHS {
            let mut rig = Rig::new();
            let (digest, bytes) = rig.pushed(1);
            let (bystander, bystander_bytes) = rig.pushed(2);
            let generation = rig.blob_row(&digest).generation;
            let file = rig.file(&digest);
            harm.act(&rig, &digest);

            assert_eq!(go(&rig, &digest), Err(ErrorKind::Corrupt), "{harm:?} {path}");
            for round in 0..2 {
                let found = Event::BlobQuarantined {
                    registry: layerhold::RegistryName::parse("test").ok(),
                    digest,
                    location: rig.location(&digest),
                    damage: harm.damage(!matches!(path, "range" | "mapped")),
                };
                let events = rig.events();
                assert_eq!(events.iter().filter(|event| **event == found).count(), 1, "{harm:?} {path}: {events:?}");
                assert_eq!(rig.incidents().len(), 1, "{harm:?} {path}");
                assert_eq!(rig.blob_row(&digest).generation, generation + 1);
                assert!(rig.exists(&file) || matches!(harm, Harm::Delete), "it is kept until it is healed");
                assert_eq!(go(&rig, &digest).unwrap_err() == ErrorKind::NotFound, path == "mounted", "{harm:?} {path}");
                assert_absent_to_a_push(&rig, &digest);
                assert!(matches!(rig.app().blob(&digest), Err(OpenError::Corrupt { .. })));
                assert_eq!(read(&rig.app(), &bystander), bystander_bytes, "{harm:?} harmed another blob");
                if round == 0 {
                    rig = rig.killed();
                }
            }

            let pushed = rig.app().put_blob(&bytes, &Expected::Digest(digest), &call()).unwrap();
            assert!(pushed.already_linked && pushed.healed, "{pushed:?}");
            rig = rig.killed();
            assert_eq!(rig.incidents().last().unwrap(), "blob healed", "{harm:?} {path}");
            assert_eq!(rig.blob_row(&digest).generation, generation + 2);
            assert!(rig.is_present(&digest));
            assert_eq!(go(&rig, &digest), Ok(()), "{harm:?} {path}");
            assert_eq!(read(&rig.app(), &digest), bytes);
            rig.engine.maintain().unwrap();
            assert!(!rig.exists(&file), "the damaged bytes go once others are there");
        }
    }
}

fn assert_absent_to_a_push(rig: &Rig, digest: &layerhold::Digest) {
    assert!(!rig.is_present(digest));
    let refused = rig.repository("other").mount_blob(digest, &name("app"), &call()).unwrap_err();
    assert!(matches!(refused, MountError::SourceNotFound { .. }), "{refused}");
    let config = rig.push(b"{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{digest}","size":9}}]}}"#,
        MediaType::OCI_MANIFEST,
        MediaType::OCI_CONFIG,
        MediaType::OCI_LAYER
    );
    match rig.app().put_manifest(&PutManifest::new(manifest), &call()).unwrap_err() {
        layerhold::manifest::PutError::BlobsMissing { digests } => assert_eq!(digests, [*digest]),
        error => panic!("{error}"),
    }
}

#[test]
fn a_download_token_of_before_says_corrupt_and_reads_again_once_healed() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    let token = rig.app().grant_download(&digest, 60_000).unwrap().token;
    Harm::Flip.act(&rig, &digest);
    assert!(all(&rig.engine.open_download(&token).unwrap()).is_err());
    assert!(matches!(rig.engine.open_download(&token), Err(download::Error::Corrupt { .. })));
    rig.push(&bytes);
    assert_eq!(all(&rig.engine.open_download(&token).unwrap()), Ok(()));
}

#[test]
fn damage_that_nobody_noticed_is_healed_too() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    Harm::Flip.act(&rig, &digest);
    rig.push(&bytes);
    assert_eq!(read(&rig.app(), &digest), bytes);
    assert!(rig.incidents().is_empty(), "nobody knew");
}

#[test]
fn one_group_and_ranges_beside_the_damage() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    let reader = rig.app().blob(&digest).unwrap();
    Harm::Flip.act(&rig, &digest);
    let mut buf = [0; 100];
    for group in [0, 1, 3, 5] {
        let at = group * GROUP;
        let read = reader.read_at(at as u64, &mut buf).unwrap();
        assert_eq!(buf[..read], bytes[at..at + read], "a group that is right is given out");
    }
    match reader.read_at(2 * GROUP as u64 + 1, &mut buf).unwrap_err() {
        ReadFault::Corrupt { digest: found, offset } => assert_eq!((found, offset), (digest, 2 * GROUP as u64)),
        fault => panic!("{fault}"),
    }
    assert_eq!(reader.read_at(0, &mut buf).unwrap(), 100, "a reader of before goes on with what is right");

    let only = rig.push(&noise(5, 2_000));
    damage::flip_bit(&rig.fs, &rig.file(&only), 9).unwrap();
    assert!(all(&rig.app().blob(&only).unwrap()).is_err());
    assert_eq!(rig.incidents().last().unwrap(), "blob quarantined: wrong digest");
}

#[test]
fn a_footer_is_nobodys_reason_to_refuse_bytes() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    damage::flip_bit(&rig.fs, &rig.file(&digest), (bytes.len() as u64 + 3) * 8).unwrap();
    assert_eq!(read(&rig.app(), &digest), bytes);
}

#[test]
fn a_reader_whose_location_was_replaced_goes_on_at_the_new_one() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    let reader = rig.app().blob(&digest).unwrap();
    let old = rig.file(&digest);
    rig.push(&bytes);
    assert!(rig.file(&digest) != old && rig.exists(&old), "the reader keeps its file");
    damage::zero(&rig.fs, &old, 0, GROUP).unwrap();
    let mut buf = vec![0; bytes.len()];
    assert_eq!(reader.read_at(0, &mut buf).unwrap(), bytes.len());
    assert_eq!(buf, bytes);
    assert_eq!(reader.map_at(3, 100).unwrap()[..], bytes[3..103]);
    assert!(rig.incidents().is_empty(), "the blob is not damaged: its old bytes are");
    assert!(rig.is_present(&digest));
}

#[test]
fn a_read_that_fails_once_says_nothing_of_the_bytes() {
    use layerhold::format::keys;
    use layerhold::format::values::{Row, SuspectRow};

    for kind in [Call::Read, Call::Open, Call::Len, Call::Map] {
        let rig = Rig::new();
        let (digest, bytes) = rig.pushed(1);
        let reader = rig.app().blob(&digest).unwrap();
        rig.failing.arm(Fault { call: Some(kind), nth: 1, failure: Failure::Eio, repeat: Repeat::Once });
        let failed = match kind {
            Call::Read => reader.read_at(0, &mut [0; 10]).map(drop).map_err(|fault| fault.kind()),
            Call::Map => reader.map_at(GROUP as u64 + 3, 10).map(drop).map_err(|fault| fault.kind()),
            _ => rig.app().blob(&digest).map(drop).map_err(|error| error.kind()),
        };
        assert_eq!(failed, Err(ErrorKind::Internal), "{kind:?}");
        let suspect = rig.row(&keys::suspect(super::support::REGISTRY, &digest));
        let suspect = SuspectRow::decode(&suspect.expect("a scrub is to look")).unwrap();
        assert_eq!(suspect.generation, rig.blob_row(&digest).generation);
        assert!(rig.incidents().is_empty() && rig.is_present(&digest), "{kind:?}");
        assert_eq!(read(&rig.app(), &digest), bytes);
        rig.push(&bytes);
        assert_eq!(rig.row(&keys::suspect(super::support::REGISTRY, &digest)), None, "the new bytes are no suspect");
    }
}

/// A bit that turned over between the medium and the reader.
#[test]
fn one_wrong_read_of_right_bytes_is_read_again_and_harms_nobody() {
    let wrong_once = |rig: &Rig, digest: &layerhold::Digest, at: u64| {
        rig.odd.oddity.tell(Some((rig.file(digest), Oddity::FlippedOnce(at, 0))));
    };
    let assert_sound = |rig: &Rig, digest: &layerhold::Digest, incidents: &[&str]| {
        assert!(!rig.odd.oddity.is_told(), "the read was wrong");
        assert_eq!(rig.incidents(), incidents);
        assert!(rig.is_present(digest));
    };
    let rig = Rig::new();
    let (several, bytes) = rig.pushed(1);
    let short = noise(5, 2_000);
    let only = rig.push(&short);
    for (digest, bytes, at) in [(several, &bytes, 2 * GROUP as u64 + 9), (only, &short, 7)] {
        wrong_once(&rig, &digest, at);
        assert_eq!(read(&rig.app(), &digest), *bytes);
        assert_sound(&rig, &digest, &[]);

        wrong_once(&rig, &digest, at);
        while !rig.engine.scrub_step(layerhold::ScrubBudget::bytes(1_000_000)).unwrap().pass_completed {}
        assert_sound(&rig, &digest, &[]);
    }
    // The whole blob has to prove right, and one reading of it is wrong.
    rig.set_row(&layerhold::format::keys::groups(rig.location(&several), 0), None);
    wrong_once(&rig, &several, 3 * GROUP as u64);
    assert_eq!(read(&rig.app(), &several), bytes);
    assert_sound(&rig, &several, &["blob rebuilt"]);
}

#[test]
fn a_failed_read_that_could_not_be_noted_is_noted_by_the_next_one() {
    use layerhold::format::keys;

    let rig = Rig::new();
    let (digest, _) = rig.pushed(1);
    let reader = rig.app().blob(&digest).unwrap();
    for noted in [false, true] {
        rig.metadata.refuse(i64::from(!noted));
        rig.failing.arm(Fault { call: Some(Call::Read), nth: 1, failure: Failure::Eio, repeat: Repeat::Once });
        assert_eq!(reader.read_at(0, &mut [0; 10]).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(rig.row(&keys::suspect(super::support::REGISTRY, &digest)).is_some(), noted);
    }
}

#[test]
fn what_the_process_lacks_makes_nothing_suspect() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    rig.failing.arm(Fault { call: Some(Call::Open), nth: 1, failure: Failure::Enospc, repeat: Repeat::Once });
    assert!(rig.app().blob(&digest).is_err());
    assert_eq!(rig.row(&layerhold::format::keys::suspect(super::support::REGISTRY, &digest)), None);
    assert_eq!(read(&rig.app(), &digest), bytes);
}

#[test]
fn damage_is_refused_even_where_it_cannot_be_written_down() {
    let rig = Rig::new();
    let (digest, _) = rig.pushed(1);
    let reader = rig.app().blob(&digest).unwrap();
    Harm::Flip.act(&rig, &digest);
    rig.engine.close().unwrap();
    assert_eq!(all(&reader), Err(ErrorKind::Corrupt));
    assert_eq!(all(&rig.app().blob(&digest).unwrap()), Err(ErrorKind::Corrupt));
    assert!(rig.incidents().is_empty());
}

#[test]
fn a_replayed_push_is_told_its_first_outcome_and_heals_nothing() {
    let rig = Rig::new();
    let bytes = noise(4, 3 * GROUP);
    let id = layerhold::OperationId([9; 16]);
    let once = || rig.app().put_blob(&bytes, &Expected::Computed, &call().with_operation_id(id)).unwrap();
    let digest = once().digest;
    damage::delete(&rig.fs, &rig.file(&digest)).unwrap();
    assert!(rig.app().blob(&digest).is_err());
    once();
    assert!(!rig.is_present(&digest), "the outcome is of before the damage");
    rig.push(&bytes);
    assert!(rig.is_present(&digest));
}
