//! A store with something of everything, and ways to damage it.

use std::ops::ControlFlow;
use std::path::PathBuf;

use layerhold::check::{CheckOptions, Finding, Level, Outcome, RepairOptions, Report, Severity};
use layerhold::format::keys::{self, RegistryId, RepositoryId, Scope};
use layerhold::format::values::{BlobRow, Placement, Row, UploadRow};
use layerhold::registry::DeleteMode;
use layerhold::store::fs::FileSystem;
use layerhold::store::table::Table;
use layerhold::store::{Batch, Direction, KeyRange, Location};
use layerhold::{
    Algorithm, Call, Digest, Expected, MediaType, PartRange, PutManifest, Repository, RepositoryName,
    RepositorySettings, Tag, UploadId,
};
use layerhold_testkit::engine::{TestEngine, memory};
use layerhold_testkit::fs::SimFileSystem;

/// Everything in the scene, by what it is.
pub(crate) struct Scene {
    pub(crate) test: TestEngine,
    /// The repository `app`.
    pub(crate) app: Scope,
    /// The repository `other`, which mounts [`Scene::layer`].
    pub(crate) other: Scope,
    /// A deleted repository.
    pub(crate) dead: Scope,
    /// A small blob, in a row: the config of the image.
    pub(crate) config: Digest,
    /// A blob in a file with several groups.
    pub(crate) layer: Digest,
    /// A blob in a file with one group.
    pub(crate) thin: Digest,
    /// Tagged `v1` and `v2`.
    pub(crate) image: Digest,
    /// Names the image.
    pub(crate) index: Digest,
    /// Refers to the image.
    pub(crate) signature: Digest,
    /// A session whose bytes are in a row.
    pub(crate) small_upload: UploadId,
    /// A session whose bytes are in a file, with chaining values.
    pub(crate) large_upload: UploadId,
}

pub(crate) fn call() -> Call {
    Call::anonymous()
}

pub(crate) fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    layerhold_testkit::operation::pool::noise(seed, len)
}

fn put(repository: &Repository, document: String, tags: &[&str]) -> Digest {
    let mut put = PutManifest::new(document);
    put.tags = tags.iter().map(|text| tag(text)).collect();
    repository.put_manifest(&put, &call()).unwrap().digest
}

fn blob(repository: &Repository, bytes: &[u8]) -> Digest {
    repository.put_blob(bytes, &Expected::Computed, &call()).unwrap().digest
}

pub(crate) fn image(config: &Digest, config_len: usize, layers: &[(Digest, usize)], rest: &str) -> String {
    let layer = |(digest, size): &(Digest, usize)| {
        format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{size}}}"#, MediaType::OCI_LAYER)
    };
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":{config_len}}},"layers":[{}]{rest}}}"#,
        MediaType::OCI_MANIFEST,
        MediaType::OCI_CONFIG,
        layers.iter().map(layer).collect::<Vec<_>>().join(","),
    )
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::on(memory())
    }

    pub(crate) fn on(test: TestEngine) -> Self {
        let registry = test.registry();
        let create = |text: &str| {
            let name = RepositoryName::parse(text).unwrap();
            let id = registry.create_repository(&name, &RepositorySettings::default(), &call()).unwrap().id;
            (registry.repository(&name), Scope { registry: RegistryId(1), repository: RepositoryId(id) })
        };
        let ((app_handle, app), (other_handle, other), (dead_handle, dead)) =
            (create("app"), create("other"), create("dead"));
        let config = blob(&app_handle, b"{}");
        let layer = blob(&app_handle, &bytes(200_000, 1));
        let thin = blob(&app_handle, &bytes(20_000, 2));
        let document = image(&config, 2, &[(layer, 200_000), (thin, 20_000)], "");
        let len = document.len();
        let image_digest = put(&app_handle, document, &["v1", "v2"]);
        let index = put(
            &app_handle,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{image_digest}","size":{len}}}]}}"#,
                MediaType::OCI_INDEX,
                MediaType::OCI_MANIFEST
            ),
            &["all"],
        );
        let subject = format!(
            r#","subject":{{"mediaType":"{}","digest":"{image_digest}","size":{len}}},"annotations":{{"a":"b"}}"#,
            MediaType::OCI_MANIFEST
        );
        let signature = put(&app_handle, image(&config, 2, &[(thin, 20_000)], &subject), &[]);
        app_handle.untag(&tag("v2"), &call()).unwrap();
        put(&app_handle, image(&config, 2, &[(layer, 200_000), (thin, 20_000)], ""), &["v2"]);
        let from = RepositoryName::parse("app").unwrap();
        other_handle.mount_blob(&layer, &from, &call()).unwrap();
        let old = blob(&dead_handle, b"forgotten");
        put(&dead_handle, image(&old, 9, &[], ""), &["v1"]);
        registry.delete_repository(dead_handle.name(), DeleteMode::Force, &call()).unwrap();

        let small_upload = app_handle.begin_upload(Algorithm::Sha256, &call()).unwrap();
        let part = |upload: &UploadId, first_byte: u64, len: usize| {
            let range = PartRange { first_byte, len: len as u64 };
            app_handle.append_part(upload, range, bytes(len, first_byte), &call()).unwrap();
        };
        part(&small_upload, 0, 100);
        let large_upload = app_handle.begin_upload(Algorithm::Sha256, &call()).unwrap();
        part(&large_upload, 0, 150_000);
        part(&large_upload, 150_000, 50_001);
        Self {
            test,
            app,
            other,
            dead,
            config,
            layer,
            thin,
            image: image_digest,
            index,
            signature,
            small_upload,
            large_upload,
        }
    }

    pub(crate) fn app_handle(&self) -> Repository {
        self.test.registry().repository(&RepositoryName::parse("app").unwrap())
    }

    pub(crate) fn fs(&self) -> &SimFileSystem {
        self.test.fs().unwrap()
    }

    /// Writes rows behind the engine's back, durably.
    pub(crate) fn plant(&mut self, batch: &Batch) {
        let table = self.test.table().unwrap();
        table.apply(&[batch], None).unwrap();
        table.flush().unwrap();
        // Opened anew, as after any damage on the medium: nothing that was remembered covers it.
        self.test.kill().unwrap();
    }

    pub(crate) fn delete(&mut self, key: &[u8]) {
        assert!(self.get(key).is_some(), "nothing to delete");
        let mut batch = Batch::new();
        batch.delete(key);
        self.plant(&batch);
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        let mut batch = Batch::new();
        batch.put(key, value);
        self.plant(&batch);
    }

    pub(crate) fn edit<R: Row>(&mut self, key: &[u8], edit: impl FnOnce(&mut R)) {
        let mut row = R::decode(&self.get(key).unwrap()).unwrap();
        edit(&mut row);
        self.put(key, &row.encode());
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let table = self.test.table().unwrap();
        table.view().unwrap().get(key).unwrap()
    }

    pub(crate) fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let range = KeyRange { start: vec![1], end: vec![255] };
        let table = self.test.table().unwrap();
        let view = table.view().unwrap();
        view.scan(&range, Direction::Forward, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        rows
    }

    pub(crate) fn location(&self, blob: &Digest) -> Location {
        let row = BlobRow::decode(&self.get(&keys::blob(RegistryId(1), blob)).unwrap()).unwrap();
        match row.placement {
            Placement::Inline(location) | Placement::File(location) => location,
        }
    }

    pub(crate) fn upload_row(&self, upload: &UploadId) -> UploadRow {
        UploadRow::decode(&self.get(&keys::upload(&upload.0)).unwrap()).unwrap()
    }

    pub(crate) fn path(location: Location) -> PathBuf {
        let text = location.to_string();
        format!("blobs/{}/{text}", &text[..2]).into()
    }

    pub(crate) fn remove_file(&self, location: Location) {
        self.fs().remove_file(&Self::path(location)).unwrap();
    }

    /// All findings but those that are as they should be.
    pub(crate) fn check(&self, level: Level) -> (Report, Vec<Finding>) {
        let mut all: Vec<(Finding, Outcome)> = Vec::new();
        let report = self.test.engine().check(&CheckOptions::default().with_level(level), &mut all).unwrap();
        let findings = all.into_iter().map(|(finding, _)| finding);
        (report, findings.filter(|finding| finding.fault.severity() > Severity::Allowed).collect())
    }

    pub(crate) fn names(&self, level: Level) -> Vec<&'static str> {
        names(&self.check(level).1)
    }

    pub(crate) fn repair(&self, level: Level) -> (Report, Vec<(Finding, Outcome)>) {
        let mut all: Vec<(Finding, Outcome)> = Vec::new();
        let options = RepairOptions::default().with_level(level);
        let report = self.test.engine().repair(&options, &call(), &mut all).unwrap();
        (report, all)
    }
}

/// The names of findings, each once, in order.
pub(crate) fn names(findings: &[Finding]) -> Vec<&'static str> {
    let mut names: Vec<_> = findings.iter().map(|finding| finding.fault.name()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
