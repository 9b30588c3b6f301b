//! Image manifests over blobs that a repository holds.

use layerhold::{Digest, MediaType, PutManifest, Repository, Tag};

use crate::content::bytes;
use crate::store::put;

/// Layers that all images share.
pub const BASE_LAYERS: u64 = 12;

/// Length of each blob. What is in a layer makes no difference to a manifest.
const BLOB_BYTES: usize = 128;

/// An image that is ready to be put: its blobs are there.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest, to be put under one new tag.
    pub put: PutManifest,
    /// The config and the layer that no other image has.
    pub own: [Digest; 2],
    /// The tag.
    pub tag: Tag,
}

/// Pushes the layers that all images share.
#[must_use]
pub fn base(repository: &Repository) -> Vec<Digest> {
    (0..BASE_LAYERS).map(|number| put(repository, &bytes(number, BLOB_BYTES))).collect()
}

/// Pushes what image `number` has for itself, a config and a layer, and writes its manifest.
#[must_use]
pub fn image(repository: &Repository, base: &[Digest], number: u64) -> Image {
    let own = [2 * number, 2 * number + 1].map(|seed| put(repository, &bytes(BASE_LAYERS + seed, BLOB_BYTES)));
    let [config, layer] = &own;
    let descriptor = |kind: &str, digest: &Digest| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{BLOB_BYTES}}}"#)
    };
    let layers: Vec<_> = base.iter().chain([layer]).map(|digest| descriptor("layer.v1.tar+gzip", digest)).collect();
    let document = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        MediaType::OCI_MANIFEST,
        descriptor("config.v1+json", config),
        layers.join(","),
    );
    let tag = Tag::parse(&format!("v{number:012}")).unwrap();
    Image { put: PutManifest::new(document).with_tag(tag.clone()), own, tag }
}
