//! Each kind of damage by itself: what is found, what is mended, what is left.

use std::path::Path;

use layerhold::change::{Event, RepositoryEvent};
use layerhold::check::{Fault, Level, Outcome, Severity};
use layerhold::format::footer::Footer;
use layerhold::format::keys::{self, RegistryId, RepositoryId, Scope};
use layerhold::format::parsed::Key;
use layerhold::format::values::{
    BlobRow, BlobState, GroupsRow, LinkRow, ManifestRow, NextIdsRow, OperationRow, Placement, ReferencesRow,
    RepositoryRow, Row, TagRow, UploadRow, UsageRow,
};
use layerhold::store::fs::{FileSystem, OpenMode};
use layerhold::store::{Batch, Location};
use layerhold::{Digest, Expected, RepositoryName};
use layerhold_testkit::fs::damage;

use crate::scene::{Scene, bytes, call, tag};

const REGISTRY: RegistryId = RegistryId(1);

type BlobOf = fn(&Scene) -> Digest;
type Harm<'a> = &'a dyn Fn(&mut Scene);
/// What is found at each level.
type AtLevels<'a> = [&'a [&'a str]; 3];

/// Damages a store, and compares what a check finds, and what another one finds after a repair.
fn case(damage: impl FnOnce(&mut Scene), found: &[&str], left: &[&str]) -> Scene {
    case_at(Level::Metadata, damage, found, left)
}

fn case_at(level: Level, damage: impl FnOnce(&mut Scene), found: &[&str], left: &[&str]) -> Scene {
    let mut scene = Scene::new();
    assert_eq!(scene.names(level), [] as [&str; 0], "before the damage");
    damage(&mut scene);
    let (report, findings) = scene.check(level);
    assert_eq!(crate::scene::names(&findings), found, "{findings:#?}");
    assert_eq!(report.is_clean(), found.is_empty());
    let before = scene.test.engine().sequence();
    let (report, outcomes) = scene.repair(level);
    assert_eq!(scene.names(level), left, "after the repair: {outcomes:#?}");
    let (_, still) = scene.check(level);
    let wrong = left.iter().any(|name| severity(&still, name) >= Severity::Wrong);
    assert_eq!(!report.is_sound(), wrong, "{report:?}");
    let mended = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Mended { .. })).count() as u64;
    assert_eq!(report.mended, mended);
    assert_eq!(scene.test.engine().sequence() - before, mended, "each mend is a change");
    let changes = scene.test.engine().changes(before, 1_000).unwrap();
    let is_mend = |event: &Event| match event {
        Event::Repaired { .. } | Event::BlobQuarantined { .. } => true,
        Event::Repository { event, .. } => matches!(event, RepositoryEvent::ManifestQuarantined { .. }),
        _ => false,
    };
    assert!(changes.iter().all(|change| is_mend(&change.event)), "{changes:?}");
    // Once more changes nothing.
    let (again, _) = scene.repair(level);
    assert_eq!(again.mended, 0);
    // What was mended holds after a crash, too.
    scene.test.kill().unwrap();
    assert_eq!(scene.names(level), left);
    scene
}

fn severity(findings: &[layerhold::check::Finding], name: &str) -> Severity {
    findings.iter().find(|finding| finding.fault.name() == name).map_or(Severity::Allowed, |f| f.fault.severity())
}

/// Damage that is mended without a trace.
fn mended(damage: impl FnOnce(&mut Scene), found: &[&str]) -> Scene {
    case(damage, found, &[])
}

/// Damage of which a repair can only speak.
fn kept(damage: impl FnOnce(&mut Scene), found: &[&str]) -> Scene {
    case(damage, found, found)
}

#[test]
fn a_sound_store_is_clean_at_every_level_and_says_what_it_read() {
    let scene = Scene::new();
    let (report, findings) = scene.check(Level::Bytes);
    assert_eq!(findings, []);
    assert_eq!(report.files, 2);
    assert_eq!(report.bytes, 200_000 + 20_000 + 2 + 9);
    assert!(report.rows > 60 && report.is_clean());
    assert_eq!(report.findings, [("dead-repository", 1)].into());
}

#[test]
fn names_and_repositories() {
    let name = |text: &str| RepositoryName::parse(text).unwrap();
    let app = |text: &str| keys::repository_name(REGISTRY, &name(text));
    mended(|s| s.delete(&app("app")), &["registry-usage", "repository-without-name"]);
    mended(|s| s.put(&app("gone"), &3u64.to_be_bytes()), &["name-excess", "registry-usage"]);
    case(
        |s| s.put(&app("gone"), &77u64.to_be_bytes()),
        &["ids-behind", "name-without-repository", "registry-usage"],
        &["name-without-repository"],
    );
    mended(|s| s.put(&app("app"), b"short"), &["repository-without-name", "unreadable-derived-row"]);
    mended(|s| s.delete(&keys::dead_repository(s.dead)), &["dead-repository-unlisted"]);
    mended(|s| s.put(&keys::dead_repository(s.dead), &[1; 8]), &["unreadable-derived-row"]);
    mended(|s| s.put(&keys::dead_repository(s.app), &[0; 8]), &["dead-repository-excess"]);
    mended(|s| s.edit::<NextIdsRow>(&keys::meta::next_ids(), |row| row.repository = RepositoryId(2)), &["ids-behind"]);
    mended(|s| s.delete(&keys::meta::next_ids()), &["ids-behind"]);
    mended(|s| s.put(&keys::meta::next_ids(), b"\x01"), &["unreadable-derived-row"]);
    kept(|s| s.put(&[2, b'x'], &1u32.to_be_bytes()), &["registry-shared"]);
    // Ids of rows that have no repository or registry of theirs are in use, too.
    case(
        |s| s.put(&keys::pull_time(scope(1, 55), &s_digest()), &[0; 8]),
        &["ids-behind", "manifest-rows-left-over", "rows-without-repository"],
        &[],
    );
    case(
        |s| {
            let thin = s.get(&keys::blob(REGISTRY, &s.thin)).unwrap();
            let mut row = BlobRow::decode(&thin).unwrap();
            row.placement = Placement::File(Location([6; 16]));
            s.put(&keys::blob(RegistryId(7), &s.thin), &row.encode());
        },
        &["ids-behind", "registry-unnamed", "registry-usage"],
        &["registry-unnamed"],
    );
    kept(|s| s.put(&keys::meta::low_water(), b"\x01"), &["unreadable-row"]);
    kept(|s| s.put(b"\x07what", b""), &["unknown-row"]);
    kept(|s| s.put(b"\x10sh", b""), &["unknown-row"]);
}

#[test]
fn a_registry_or_repository_that_is_gone_is_named_by_what_it_leaves() {
    kept(|s| s.delete(&[&[2], &b"test"[..]].concat()), &["registry-unnamed"]);
    let found = ["name-without-repository", "rows-without-repository"];
    kept(|s| s.delete(&keys::repository(s.other)), &found);
    kept(|s| s.put(&keys::repository(s.other), b"\x01"), &["unreadable-row"]);
}

#[test]
fn links() {
    let link = |s: &Scene| keys::link(s.app, &s.layer);
    mended(|s| s.delete(&keys::link_back(s.app, &s.layer)), &["link-back-missing"]);
    kept(|s| s.put(&keys::link_back(s.other, &s.thin), &[]), &["link-back-excess"]);
    mended(|s| s.put(&keys::link_back(s.dead, &s.thin), &[]), &["link-back-excess"]);
    mended(|s| s.put(&keys::link_back(s.app, &s.thin), b"x"), &["unreadable-derived-row"]);
    mended(|s| s.edit::<LinkRow>(&link(s), |row| row.size += 1), &["link-size", "usage"]);
    // The image could not have been put without it, so it was there.
    let scene = mended(|s| s.delete(&link(s)), &["link-missing", "reference-unmet", "usage"]);
    assert!(scene.app_handle().blob(&scene.layer).is_ok());
    // No manifest needs it. The counters say that it was there, until they are counted anew.
    let scene = mended(|s| s.delete(&keys::link(s.other, &s.layer)), &["link-missing", "usage"]);
    let other = scene.test.registry().repository(&RepositoryName::parse("other").unwrap());
    assert!(other.blob(&scene.layer).is_ok());
    let counters_too = |s: &mut Scene| {
        s.delete(&keys::link(s.other, &s.layer));
        s.edit::<UsageRow>(&keys::repository_usage(s.other), |row| row.0[3] += 1);
    };
    let scene = case(counters_too, &["link-back-excess", "usage"], &["link-back-excess"]);
    assert!(scene.get(&keys::link_back(scene.other, &scene.layer)).is_some());
    mended(|s| s.put(&link(s), b"\x01"), &["unreadable-row", "usage"]);
}

#[test]
fn blobs_in_rows() {
    let blob = |s: &Scene| keys::blob(REGISTRY, &s.config);
    let quarantined = ["blob-quarantined"];
    case(|s| s.delete(&keys::inline_bytes(s.location(&s.config))), &["inline-bytes-missing"], &quarantined);
    case(|s| s.put(&keys::inline_bytes(s.location(&s.config)), b"[]"), &["inline-bytes-damaged"], &quarantined);
    // Bytes that are right after all are served again, once all of them were read.
    for blob in [|s: &Scene| s.config, |s: &Scene| s.layer, |s: &Scene| s.thin] {
        let quarantine = |s: &mut Scene| {
            s.edit::<BlobRow>(&keys::blob(REGISTRY, &blob(s)), |row| row.state = BlobState::Quarantined);
        };
        case_at(Level::Bytes, quarantine, &quarantined, &[]);
    }
    mended(|s| s.put(&keys::suspect(REGISTRY, &s_digest()), b"\x01"), &["suspect-left-over"]);
    mended(|s| s.put(&keys::inline_bytes(Location([7; 16])), b"nobody's"), &["inline-bytes-left-over"]);
    let found = ["dangling-link", "inline-bytes-left-over", "registry-usage"];
    case(|s| s.delete(&blob(s)), &found, &["dangling-link", "inline-bytes-left-over"]);
    kept(|s| s.edit::<BlobRow>(&blob(s), |row| row.state = BlobState::Quarantined), &["blob-quarantined"]);
    kept(|s| s.edit::<BlobRow>(&blob(s), |row| row.group_len = 3), &["blob-row-damaged"]);
}

#[test]
fn a_root_that_the_digest_disproves_is_computed_again_and_the_blob_stays_readable() {
    let whole = |s: &Scene, digest: &Digest, len: usize| {
        let mut all = vec![0; len];
        s.app_handle().blob(digest).unwrap().read_at(0, &mut all).unwrap();
        assert_eq!(Digest::sha256(&all), *digest);
    };
    let (rows, footer, both) = ("blob-row-damaged", "footer-differs", "groups-wrong");
    let cases: [(BlobOf, usize, AtLevels<'_>); 3] = [
        (|s| s.config, 2, [&[rows], &[rows], &[rows]]),
        (|s| s.thin, 20_000, [&[], &[footer], &[rows, footer]]),
        (|s| s.layer, 200_000, [&[both], &[footer, both], &[rows, footer, both]]),
    ];
    for (blob, len, found) in cases {
        for (level, found) in [Level::Metadata, Level::Files, Level::Bytes].into_iter().zip(found) {
            let key = |s: &Scene| keys::blob(REGISTRY, &blob(s));
            let mut right = None;
            let damage = |s: &mut Scene| {
                right = s.get(&key(s));
                s.edit::<BlobRow>(&key(s), |row| row.root[5] ^= 1);
            };
            let scene = case_at(level, damage, found, &[]);
            whole(&scene, &blob(&scene), len);
            if !found.is_empty() {
                let root = |row: &[u8]| BlobRow::decode(row).unwrap().root;
                assert_eq!(root(&scene.get(&key(&scene)).unwrap()), root(&right.unwrap()));
            }
        }
    }
    // A length that the bytes do not have is the row's fault as well.
    let longer = |s: &mut Scene| {
        s.edit::<BlobRow>(&keys::blob(REGISTRY, &s.config), |row| (row.size, row.stored_size) = (3, 3));
    };
    let scene = mended(longer, &["blob-row-damaged", "link-size", "registry-usage"]);
    whole(&scene, &scene.config, 2);
}

#[test]
fn chaining_values_and_removals() {
    let groups = |s: &Scene| keys::groups(s.location(&s.layer), 0);
    mended(|s| s.delete(&groups(s)), &["groups-wrong"]);
    mended(
        |s| {
            let mut row = s.get(&groups(s)).unwrap();
            row[40] ^= 1;
            s.put(&groups(s), &row);
        },
        &["groups-wrong"],
    );
    let scene = mended(|s| s.delete(&groups(s)), &["groups-wrong"]);
    let mut byte = [0];
    scene.app_handle().blob(&scene.layer).unwrap().read_at(150_000, &mut byte).unwrap();
    assert_eq!(byte[0], bytes(200_000, 1)[150_000]);
    mended(
        |s| {
            let row = GroupsRow(vec![[1; 32]; 2]);
            s.put(&keys::groups(Location([9; 16]), 0), &row.encode(Location([9; 16]), 0));
        },
        &["groups-left-over"],
    );
    mended(|s| s.put(&keys::removal(s.location(&s.layer)), &[]), &["removal-of-live"]);
    mended(|s| s.put(&keys::removal(s.upload_row(&s.large_upload).location), &[]), &["removal-of-live"]);
    // A removal without an owner goes by itself.
    let mut scene = Scene::new();
    scene.put(&keys::removal(Location([9; 16])), &[]);
    assert_eq!(scene.check(Level::Files).0.findings.get("removal-pending"), Some(&1));
    scene.test.engine().maintain().unwrap();
    assert_eq!(scene.check(Level::Files).0.findings.get("removal-pending"), None);
    // With groups that do not follow one another the values cannot even be told apart.
    kept(
        |s| {
            let upload = s.upload_row(&s.large_upload);
            s.delete(&keys::groups(upload.location, 0));
        },
        &["upload-groups"],
    );
}

#[test]
fn upload_sessions() {
    let upload = |s: &Scene| keys::upload(&s.small_upload.0);
    let expiry = |s: &Scene| keys::upload_expiry(s.upload_row(&s.small_upload).expires_ms, &s.small_upload.0);
    mended(|s| s.delete(&expiry(s)), &["upload-without-expiry"]);
    mended(|s| s.put(&expiry(s), b"x"), &["unreadable-derived-row"]);
    mended(|s| s.put(&keys::upload_expiry(5, &s.small_upload.0), &[]), &["upload-expiry-excess"]);
    kept(|s| s.delete(&keys::upload_bytes(&s.small_upload.0)), &["upload-bytes"]);
    kept(|s| s.put(&keys::upload_bytes(&s.large_upload.0), b"x"), &["upload-bytes"]);
    kept(|s| s.delete(&keys::upload_part(&s.large_upload.0, 0)), &["upload-parts"]);
    kept(|s| s.edit::<UploadRow>(&upload(s), |row| row.frontier[0] ^= 4), &["upload-state"]);
    kept(|s| s.edit::<UploadRow>(&upload(s), |row| row.hash_state.truncate(3)), &["upload-state"]);
    kept(|s| s.put(&upload(s), b"\x01"), &["unreadable-row"]);
    let found = ["upload-expiry-excess", "upload-rows-left-over"];
    let mut scene = mended(|s| s.delete(&upload(s)), &found);
    scene.test.engine().maintain().unwrap();
    assert_eq!(scene.get(&keys::upload_part(&scene.small_upload.0, 0)), None);
    scene.test.kill().unwrap();
    case(
        |s| s.edit::<UploadRow>(&upload(s), |row| row.scope.repository = RepositoryId(99)),
        &["ids-behind", "rows-without-repository"],
        &["rows-without-repository"],
    );
}

#[test]
fn manifests() {
    let manifest = |s: &Scene| keys::manifest(s.app, &s.image);
    kept(|s| s.delete(&keys::manifest_bytes(s.app, &s.image)), &["manifest-bytes-missing"]);
    kept(|s| s.put(&keys::manifest_bytes(s.app, &s.image), b"{}"), &["manifest-bytes-damaged"]);
    let scene =
        mended(|s| s.delete(&manifest(s)), &["dangling-tag", "manifest-row-missing", "reference-unmet", "usage"]);
    assert_eq!(scene.app_handle().describe().unwrap().usage.images, 3);
    mended(|s| s.put(&manifest(s), b"\x01"), &["unreadable-row"]);
    // No tag and no index names it: perhaps it was deleted.
    case(
        |s| s.delete(&keys::manifest(s.app, &s.signature)),
        &["manifest-row-missing", "usage"],
        &["manifest-row-missing"],
    );
    mended(|s| s.edit::<ManifestRow>(&manifest(s), |row| row.size += 1), &["manifest-row-differs"]);
    mended(|s| s.edit::<ManifestRow>(&manifest(s), |row| row.image_bytes += 1), &["manifest-row-differs"]);
    mended(|s| s.edit::<ManifestRow>(&manifest(s), |row| row.subject = Some(s_digest())), &["manifest-row-differs"]);
    mended(|s| s.edit::<ManifestRow>(&manifest(s), |row| row.tags += 1), &["tag-count"]);
    mended(|s| s.delete(&keys::manifest_references(s.app, &s.image)), &["manifest-references"]);
    mended(
        |s| s.edit::<ReferencesRow>(&keys::manifest_references(s.app, &s.image), |row| drop(row.0.pop())),
        &["manifest-references"],
    );
    mended(
        |s| s.put(&keys::manifest_references(s.app, &s_digest()), &ReferencesRow::default().encode()),
        &["manifest-rows-left-over"],
    );
    mended(|s| s.put(&keys::pull_time(s.app, &s_digest()), &[0; 8]), &["manifest-rows-left-over"]);
    mended(|s| s.put(&keys::pull_time(s.app, &s.image), b"x"), &["unreadable-derived-row"]);
}

fn scope(registry: u32, repository: u64) -> Scope {
    Scope { registry: RegistryId(registry), repository: RepositoryId(repository) }
}

fn s_digest() -> Digest {
    Digest::sha256(b"nothing that is stored")
}

#[test]
fn references_and_referrers() {
    let back = |s: &Scene| keys::back_reference(s.app, &s.layer, &s.image, 2);
    let referrer = |s: &Scene| keys::referrer(s.app, &s.image, &s.signature);
    mended(|s| s.delete(&back(s)), &["back-reference-missing"]);
    mended(|s| s.put(&back(s), b"another/type"), &["back-reference-missing"]);
    mended(|s| s.put(&back(s), b"\xff"), &["back-reference-missing"]);
    mended(|s| s.put(&keys::back_reference(s.app, &s.config, &s_digest(), 1), b"a/b"), &["back-reference-excess"]);
    mended(|s| s.put(&keys::back_reference(s.other, &s.config, &s.image, 1), b"a/b"), &["back-reference-excess"]);
    mended(|s| s.delete(&referrer(s)), &["referrer-missing"]);
    mended(
        |s| {
            let row = s.get(&referrer(s)).unwrap();
            s.put(&keys::referrer(s.app, &s.index, &s.signature), &row);
        },
        &["referrer-excess"],
    );
    mended(|s| s.put(&referrer(s), b"\x01"), &["referrer-missing"]);
    // A repository that took sparse images once may lack what its manifests require.
    let lacking = |s: &mut Scene| {
        let mut batch = Batch::new();
        batch.delete(&keys::link(s.app, &s.thin));
        batch.delete(&keys::link_back(s.app, &s.thin));
        s.plant(&batch);
    };
    case(lacking, &["reference-unmet", "usage"], &["reference-unmet"]);
    let scene = case(
        |s| {
            s.app_handle().put_sparse_images(true, &call()).unwrap();
            s.app_handle().put_sparse_images(false, &call()).unwrap();
            lacking(s);
        },
        &["usage"],
        &[],
    );
    assert_eq!(scene.check(Level::Metadata).0.findings.get("reference-open"), Some(&2));
}

#[test]
fn tags() {
    let v1 = |s: &Scene| keys::tag(s.app, &tag("v1"));
    let back = |s: &Scene| keys::tag_by_digest(s.app, &s.image, &tag("v1"));
    mended(|s| s.delete(&back(s)), &["tag-by-digest-missing", "tag-count"]);
    mended(|s| s.put(&keys::tag_by_digest(s.app, &s.index, &tag("v1")), &[]), &["tag-by-digest-excess", "tag-count"]);
    mended(|s| s.put(&back(s), b"x"), &["unreadable-derived-row"]);
    let scene = mended(|s| s.delete(&v1(s)), &["tag-missing", "usage"]);
    assert_eq!(TagRow::decode(&scene.get(&v1(&scene)).unwrap()).unwrap().digest, scene.image);
    mended(|s| s.put(&v1(s), b"\x01"), &["unreadable-row"]);
    let both = |s: &mut Scene| {
        let mut batch = Batch::new();
        batch.delete(&v1(s));
        batch.delete(&back(s));
        s.plant(&batch);
    };
    case(both, &["tag-count", "tag-missing", "usage"], &["tag-missing"]);
    let history = |s: &Scene| {
        let stem = keys::tag_history_stem(s.app, &tag("v1"));
        s.rows().into_iter().map(|(key, _)| key).find(|key| key.starts_with(&stem)).unwrap()
    };
    kept(|s| s.delete(&history(s)), &["tag-history"]);
    kept(|s| s.put(&history(s), b"\x01"), &["tag-history", "unreadable-row"]);
    kept(
        |s| {
            let mut batch = Batch::new();
            let to = TagRow { digest: s_digest(), tagged_wall_ms: 0 };
            batch.put(&v1(s), &to.encode());
            batch.delete(&back(s));
            batch.put(&keys::tag_by_digest(s.app, &s_digest(), &tag("v1")), &[]);
            let image = keys::manifest(s.app, &s.image);
            let mut row = ManifestRow::decode(&s.get(&image).unwrap()).unwrap();
            row.tags -= 1;
            batch.put(&image, &row.encode());
            s.plant(&batch);
        },
        &["dangling-tag", "tag-history"],
    );
    // History and way back agree against the tag's row: they are two.
    let elsewhere = |s: &mut Scene| {
        let index = s.index;
        s.edit::<TagRow>(&v1(s), |row| row.digest = index);
    };
    let scene = mended(elsewhere, &["tag-history"]);
    assert_eq!(TagRow::decode(&scene.get(&v1(&scene)).unwrap()).unwrap().digest, scene.image);
    assert!(scene.get(&back(&scene)).is_some());
    assert_eq!(scene.get(&keys::tag_by_digest(scene.app, &scene.index, &tag("v1"))), None);
    // With a way back to either, or without the manifest, nothing is taken away.
    let both = |s: &mut Scene| {
        elsewhere(s);
        let index = keys::manifest(s.app, &s.index);
        s.put(&keys::tag_by_digest(s.app, &s.index, &tag("v1")), &[]);
        s.edit::<ManifestRow>(&index, |row| row.tags += 1);
    };
    let scene = kept(both, &["tag-history"]);
    assert!(scene.get(&back(&scene)).is_some());
    let without_history = |s: &mut Scene| {
        elsewhere(s);
        s.delete(&history(s));
    };
    case(
        without_history,
        &["tag-by-digest-excess", "tag-by-digest-missing", "tag-history"],
        &["tag-by-digest-excess", "tag-history"],
    );
}

#[test]
fn the_change_log() {
    kept(|s| s.delete(&keys::change(5)), &["change-gap", "operation-excess"]);
    kept(|s| s.put(&keys::change(5), b"\x01"), &["operation-excess", "unreadable-row"]);
    kept(
        |s| {
            let last = s.test.engine().sequence();
            s.delete(&keys::change(last));
        },
        &["changes-behind", "operation-excess"],
    );
    // Only an accepted loss explains a gap, and only one above what it brought back.
    let gap_before = |choice: u8, recovered: u64| {
        move |s: &mut Scene| {
            let row = s.get(&keys::change(6)).unwrap();
            let principal_len = usize::from(row[36]);
            let event = [&[7, choice, 0][..], &recovered.to_be_bytes()].concat();
            s.put(&keys::change(6), &[&row[..37 + principal_len], &event].concat());
            s.delete(&keys::change(5));
        }
    };
    let (restore, accept_loss) = (1, 2);
    kept(gap_before(accept_loss, 4), &["operation-excess"]);
    kept(gap_before(accept_loss, 5), &["change-gap", "operation-excess"]);
    kept(gap_before(restore, 4), &["change-gap", "operation-excess"]);
    let operation = |s: &Scene| {
        let change = &s.test.engine().changes(4, 1).unwrap()[0];
        keys::operation(&change.operation_id.0)
    };
    kept(|s| s.delete(&operation(s)), &["operation-missing"]);
    let row = |sequence| OperationRow { sequence, arguments: [0; 32], result: Vec::new() }.encode();
    mended(|s| s.put(&keys::operation(&[1; 16]), &row(0)), &["operation-excess"]);
    kept(|s| s.put(&keys::operation(&[1; 16]), b"\x01"), &["unreadable-row"]);
}

#[test]
fn counters() {
    mended(|s| s.edit::<UsageRow>(&keys::repository_usage(s.app), |row| row.0[0] += 7), &["usage"]);
    mended(|s| s.delete(&keys::repository_usage(s.app)), &["usage"]);
    mended(|s| s.put(&keys::repository_usage(s.app), b"\x01"), &["unreadable-derived-row"]);
    mended(|s| s.put(&keys::repository_usage(s.dead), b"\x01"), &["unreadable-derived-row"]);
    mended(|s| s.edit::<UsageRow>(&keys::registry_usage(REGISTRY), |row| row.0[3] -= 7), &["registry-usage"]);
    let scene = mended(|s| s.delete(&keys::registry_usage(REGISTRY)), &["registry-usage"]);
    scene.app_handle().put_blob(b"counts on", &Expected::Computed, &call()).unwrap();
    assert!(scene.check(Level::Metadata).0.is_clean());
    let scene = mended(|s| s.put(&keys::registry_usage(REGISTRY), b"\x01"), &["unreadable-derived-row"]);
    scene.app_handle().put_blob(b"counts on", &Expected::Computed, &call()).unwrap();
    assert!(scene.check(Level::Metadata).0.is_clean());
}

#[test]
fn files() {
    let at = |s: &Scene| s.location(&s.layer);
    let path = |s: &Scene| Scene::path(s.location(&s.layer));
    let left = |damage: &dyn Fn(&mut Scene), name: &str| {
        let left = if name == "footer-differs" { name } else { "blob-quarantined" };
        let scene = case_at(Level::Files, damage, &[name], &[left]);
        let (_, findings) = scene.check(Level::Files);
        let touched = &findings[0].touched.repositories;
        assert_eq!(touched.iter().map(|r| r.name.as_ref().unwrap().as_str()).collect::<Vec<_>>(), ["app", "other"]);
        assert_eq!(touched[0].manifests, [scene.image]);
        assert_eq!(touched[0].tags, [tag("v1"), tag("v2")]);
    };
    left(&|s| s.remove_file(at(s)), "file-missing");
    left(&|s| damage::truncate(s.fs(), &path(s), 100).unwrap(), "file-size");
    left(&|s| damage::flip_bit(s.fs(), &path(s), 8 * 200_010).unwrap(), "footer-differs");
    let scene = Scene::new();
    damage::flip_bit(scene.fs(), &path(&scene), 8 * 70_000).unwrap();
    assert_eq!(scene.names(Level::Files), [] as [&str; 0]);
    let (_, findings) = scene.check(Level::Bytes);
    assert!(matches!(findings[..], [ref one] if matches!(one.fault, Fault::FileDamaged { offset: 65_536, .. })));
    scene.repair(Level::Bytes);
    assert_eq!(scene.names(Level::Bytes), ["blob-quarantined"]);
    // Behind the first 64 MiB, too, at which values are compared for the first time.
    let mut scene = Scene::new();
    let large = bytes((66 << 20) + 5, 4);
    let digest = scene.app_handle().put_blob(&large[..], &Expected::Computed, &call()).unwrap().digest;
    let location = scene.location(&digest);
    let (mut values, mut batch) = (Vec::new(), Batch::new());
    for (key, value) in scene.rows() {
        if let Some(Key::Groups(of, first)) = Key::parse(&key).filter(|_| key[1..].starts_with(&location.0)) {
            values.extend(GroupsRow::decode(&value, of, first).unwrap().0);
            batch.delete(&key);
        }
    }
    // All of them in one row, which holds those of both comparisons.
    batch.put(&keys::groups(location, 0), &GroupsRow(values).encode(location, 0));
    scene.plant(&batch);
    damage::flip_bit(scene.fs(), &Scene::path(scene.location(&digest)), 8 * (65 << 20)).unwrap();
    let (_, findings) = scene.check(Level::Bytes);
    assert!(
        matches!(findings[..], [ref one] if matches!(one.fault, Fault::FileDamaged { offset: 68_157_440, .. })),
        "{findings:#?}"
    );
    case_at(
        Level::Files,
        |s| s.remove_file(s.upload_row(&s.large_upload).location),
        &["upload-file"],
        &["upload-file"],
    );
}

pub(crate) fn write(fs: &dyn FileSystem, location: Location, bytes: &[u8]) {
    let path = Scene::path(location);
    let _ = fs.create_dir(path.parent().unwrap());
    fs.sync_dir(Path::new("blobs")).unwrap();
    let file = fs.create_new(&path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(path.parent().unwrap()).unwrap();
}

fn blob_file(content: &[u8]) -> Vec<u8> {
    let root = *blake3::hash(content).as_bytes();
    let footer = Footer { digest: Digest::sha256(content), size: content.len() as u64, group_len: 65_536, root };
    [content, &footer.encode()[..]].concat()
}

/// Another file of the blob `thin`, which nothing has.
fn twin_of(scene: &Scene, location: Location) {
    write(scene.fs(), location, &blob_file(&bytes(20_000, 2)));
}

#[test]
fn files_of_nobody() {
    let orphan = Location([5; 16]);
    let scene = case_at(Level::Files, |s| write(s.fs(), orphan, b"some bytes of an upload"), &["orphan-file"], &[]);
    assert!(scene.fs().open(&Scene::path(orphan), OpenMode::Read).is_err());
    // The file of a blob that nothing has may be the only copy.
    let found = ["unclaimed-file"];
    case_at(Level::Files, |s| write(s.fs(), orphan, &blob_file(&bytes(9_000, 77))), &found, &found);
    // Not so where the blob is stored elsewhere, once those bytes were read.
    let twin = |s: &mut Scene| twin_of(s, orphan);
    case_at(Level::Files, twin, &found, &found);
    case_at(Level::Bytes, twin, &found, &[]);
    let damaged_other = |s: &mut Scene| {
        twin(s);
        damage::flip_bit(s.fs(), &Scene::path(s.location(&s.thin)), 5).unwrap();
    };
    case_at(Level::Files, damaged_other, &found, &found);
    let scene = Scene::new();
    twin_of(&scene, orphan);
    damage::flip_bit(scene.fs(), &Scene::path(scene.location(&scene.thin)), 5).unwrap();
    scene.repair(Level::Bytes);
    assert!(scene.fs().file_len(&Scene::path(orphan)).is_ok(), "it was the only copy");
    // Without its footer a file may still be the blob that a link leads to.
    for damaged in [
        |s: &Scene, path: &Path| damage::flip_bit(s.fs(), path, 8 * 200_010).unwrap(),
        |s: &Scene, path: &Path| damage::truncate(s.fs(), path, 200_000).unwrap(),
    ] {
        let lost = |s: &mut Scene| {
            damaged(s, &Scene::path(s.location(&s.layer)));
            s.delete(&keys::blob(REGISTRY, &s.layer));
        };
        let found = ["dangling-link", "orphan-file", "registry-usage"];
        case_at(Level::Files, lost, &found, &["dangling-link", "orphan-file"]);
    }
    // The file of a blob whose row is gone gives the row back.
    for blob in [|s: &Scene| s.layer, |s: &Scene| s.thin] {
        let found = ["dangling-link", "lost-blob", "registry-usage"];
        let scene = case_at(Level::Files, |s| s.delete(&keys::blob(REGISTRY, &blob(s))), &found, &[]);
        let mut byte = [0];
        scene.app_handle().blob(&blob(&scene)).unwrap().read_at(10_000, &mut byte).unwrap();
    }
    // A blob whose own bytes are gone, or known to be damaged, is read from another file of its bytes.
    let later = |s: &Scene| write(s.fs(), orphan, &blob_file(&bytes(200_000, 1)));
    let removed = |s: &mut Scene| {
        later(s);
        s.remove_file(s.location(&s.layer));
    };
    let quarantined = |s: &mut Scene| {
        later(s);
        damage::flip_bit(s.fs(), &Scene::path(s.location(&s.layer)), 5).unwrap();
        s.edit::<BlobRow>(&keys::blob(REGISTRY, &s.layer), |row| row.state = BlobState::Quarantined);
    };
    let cases: [(Harm<'_>, &str, &[&str]); 2] =
        [(&removed, "file-missing", &[]), (&quarantined, "blob-quarantined", &["unclaimed-file"])];
    for (damage, of_blob, left) in cases {
        let mut old = None;
        let damage = |s: &mut Scene| {
            old = Some(s.location(&s.layer));
            damage(s);
        };
        let scene = case_at(Level::Files, damage, &[of_blob, "unclaimed-file"], left);
        let mut all = vec![0; 200_000];
        scene.app_handle().blob(&scene.layer).unwrap().read_at(0, &mut all).unwrap();
        assert_eq!((Digest::sha256(&all), scene.location(&scene.layer)), (scene.layer, orphan));
        // What its row led to before goes once all bytes were read.
        scene.repair(Level::Bytes);
        scene.test.engine().maintain().unwrap();
        assert_eq!(scene.names(Level::Bytes), [] as [&str; 0]);
        let old = old.unwrap();
        assert!(scene.fs().open(&Scene::path(old), OpenMode::Read).is_err());
        assert_eq!(scene.get(&keys::groups(old, 0)), None);
    }
    // A row that led to another blob's file takes nothing from that.
    let mut scene = Scene::new();
    let (thin, layer) = (keys::blob(REGISTRY, &scene.thin), scene.location(&scene.layer));
    scene.edit::<BlobRow>(&thin, |row| row.placement = Placement::File(layer));
    scene.repair(Level::Bytes);
    assert_eq!(scene.names(Level::Bytes), [] as [&str; 0]);
    // Of damaged bytes it is not.
    let no_better = |s: &mut Scene| {
        quarantined(s);
        damage::flip_bit(s.fs(), &Scene::path(orphan), 7).unwrap();
    };
    let found = ["blob-quarantined", "unclaimed-file"];
    case_at(Level::Files, no_better, &found, &found);
    // But not where its bytes are damaged.
    let scene = case_at(
        Level::Files,
        |s| {
            damage::flip_bit(s.fs(), &Scene::path(s.location(&s.thin)), 5).unwrap();
            s.delete(&keys::blob(REGISTRY, &s.thin));
        },
        &["dangling-link", "lost-blob", "registry-usage"],
        &["dangling-link", "lost-blob"],
    );
    drop(scene);
    // Two blobs of one location.
    let mut scene = Scene::new();
    let thin = scene.get(&keys::blob(REGISTRY, &scene.thin)).unwrap();
    let mut row = BlobRow::decode(&thin).unwrap();
    row.placement = BlobRow::decode(&scene.get(&keys::blob(REGISTRY, &scene.layer)).unwrap()).unwrap().placement;
    let key = keys::blob(REGISTRY, &scene.thin);
    scene.put(&key, &row.encode());
    let names = scene.names(Level::Files);
    assert!(names.contains(&"location-shared"), "{names:?}");
    // A blob of one group and a session; two sessions.
    for level in [Level::Metadata, Level::Files] {
        let mut scene = Scene::new();
        let location = scene.location(&scene.thin);
        let upload = keys::upload(&scene.small_upload.0);
        scene.edit::<UploadRow>(&upload, |row| row.location = location);
        assert_eq!(scene.names(level), ["location-shared"]);
        let other = scene.upload_row(&scene.large_upload).location;
        scene.edit::<UploadRow>(&upload, |row| row.location = other);
        assert!(scene.names(level).contains(&"location-shared"));
    }
}

#[test]
fn what_several_rounds_of_a_repair_leave_is_told_once() {
    let mut scene = Scene::new();
    let mut batch = Batch::new();
    // Mended, and left: the first takes a second round to see that nothing is left to mend.
    batch.delete(&keys::tag_by_digest(scene.app, &scene.image, &tag("v1")));
    batch.put(b"\x07what", b"");
    batch.delete(&keys::manifest_bytes(scene.app, &scene.index));
    scene.plant(&batch);
    let (_, found) = scene.check(Level::Metadata);
    let (report, outcomes) = scene.repair(Level::Metadata);
    let told = |name: &str| outcomes.iter().filter(|(finding, _)| finding.fault.name() == name).count();
    assert_eq!((told("unknown-row"), report.findings["unknown-row"]), (1, 1), "{outcomes:#?}");
    assert_eq!(told("dead-repository"), 1);
    let left = scene.check(Level::Metadata).1;
    assert!(left.len() < found.len());
    assert_eq!(report.left, left.len() as u64, "{left:#?}");
}

#[test]
fn a_repository_that_is_dead_may_be_as_it_likes_but_its_rows_still_fit() {
    let scene = Scene::new();
    let row = RepositoryRow::decode(&scene.get(&keys::repository(scene.dead)).unwrap()).unwrap();
    assert!(row.dead_since_ms.is_some());
    let dead = scene.dead;
    mended(|s| s.edit::<UsageRow>(&keys::repository_usage(dead), |row| row.0[1] += 1), &["usage"]);
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let mut names: Vec<_> = Fault::NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Fault::NAMES.len());
    let errors = include_str!("../../../../docs/errors.md");
    for name in names {
        assert!(errors.contains(&format!("`{name}`")), "docs/errors.md does not say what {name} is");
    }
}
