//! What a store holds, counted.

use std::fmt::Write;

use layerhold::{Engine, RegistryName};

/// Repositories listed at a time.
const PAGE: u32 = 1000;

/// Some lines about `engine`'s store: its sequence, how far the scrub came, and for each registry its repositories, images,
/// tags, blobs and bytes.
///
/// # Errors
/// What the engine says.
pub(crate) fn summarise(engine: &Engine) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = format!("sequence {}", engine.sequence());
    let scrub = engine.scrub_progress()?;
    let state = if scrub.running { "running" } else { "at rest" };
    write!(
        text,
        "\nscrub: pass {} {state}, bytes {}, blobs {}, manifests {}, findings {}, unreadable blobs {}, oldest verification {} s ago",
        scrub.pass,
        scrub.bytes,
        scrub.blobs,
        scrub.manifests,
        scrub.findings,
        scrub.suspects,
        scrub.age_ms / 1_000,
    )?;
    let mut after = None;
    loop {
        let page = engine.registries(after.as_ref(), PAGE)?;
        for name in &page.items {
            text.push_str(&registry_line(engine, name)?);
        }
        after = page.items.last().filter(|_| page.next.is_some()).cloned();
        if after.is_none() {
            return Ok(text);
        }
    }
}

fn registry_line(engine: &Engine, name: &RegistryName) -> Result<String, Box<dyn std::error::Error>> {
    let registry = engine.registry(name);
    let (mut repositories, mut images, mut tags, mut blobs, mut bytes) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    let mut after = None;
    loop {
        let page = registry.list_repositories(after.as_ref(), PAGE)?;
        for repository in &page.items {
            repositories += 1;
            images += repository.usage.images;
            tags += repository.usage.tags;
            blobs += repository.usage.blobs;
            bytes += repository.usage.logical_bytes;
        }
        after = page.items.last().filter(|_| page.next.is_some()).map(|last| last.name.clone());
        if after.is_none() {
            break;
        }
    }
    Ok(format!(
        "\nregistry {name}: repositories {repositories}, images {images}, tags {tags}, blobs {blobs}, logical bytes {bytes}"
    ))
}
