//! The rows: what is measured, and what it is held against.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::client::Client;
use crate::content;
use crate::peers::Peer;

/// How much work each row does.
pub(crate) struct Work {
    pub(crate) layer_bytes: usize,
    pub(crate) period: Duration,
    pub(crate) clients: usize,
}

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// Layerhold's figure over distribution's: what the project aims at.
    pub(crate) goal: f64,
    /// The same ratio: what must hold today.
    pub(crate) floor: f64,
    pub(crate) measure: fn(&Peer, &Work, usize) -> Result<f64>,
}

/// Layers of the rows that move several.
const LAYERS: usize = 8;
/// How many of them at once.
const AT_ONCE: usize = 4;
/// Tags in the repository of the tag page.
const TAGS: usize = 5000;
/// Pages fetched for one figure.
const PAGES: usize = 50;

/// The table of the project's design, in its order. The first two goals are written there as shares of the machine's
/// limit; here they stand as the ratio that the limit makes of them.
pub(crate) const ALL: &[Row] = &[
    Row {
        name: "push of one large layer",
        unit: "MB/s",
        better: Better::Higher,
        goal: 2.39,
        floor: 1.0,
        measure: push_layer,
    },
    Row {
        name: "pull of one large layer",
        unit: "MB/s",
        better: Better::Higher,
        goal: 1.03,
        floor: 0.9,
        measure: pull_layer,
    },
    Row {
        name: "push of 8 layers, 4 at once",
        unit: "MB/s",
        better: Better::Higher,
        goal: 2.2,
        floor: 1.0,
        measure: push_layers,
    },
    Row {
        name: "pull of 8 layers, 4 at once",
        unit: "MB/s",
        better: Better::Higher,
        goal: 1.25,
        floor: 0.9,
        measure: pull_layers,
    },
    Row {
        name: "push of small images",
        unit: "/s",
        better: Better::Higher,
        goal: 17.0,
        floor: 1.0,
        measure: push_images,
    },
    Row {
        name: "pull of small images",
        unit: "/s",
        better: Better::Higher,
        goal: 25.0,
        floor: 1.0,
        measure: pull_images,
    },
    Row { name: "manifest HEAD", unit: "/s", better: Better::Higher, goal: 30.0, floor: 1.0, measure: head_manifest },
    Row {
        name: "new tag on an existing image",
        unit: "/s",
        better: Better::Higher,
        goal: 12.0,
        floor: 1.0,
        measure: new_tags,
    },
    Row {
        name: "page of 100 tags of 5,000",
        unit: "ms",
        better: Better::Lower,
        goal: 0.05,
        floor: 1.0,
        measure: tag_page,
    },
];

const ACCEPT: &str = "Accept: application/vnd.oci.image.manifest.v1+json\r\n";

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn push_layer(peer: &Peer, work: &Work, round: usize) -> Result<f64> {
    let layer = content::bytes(1_000 + round as u64, work.layer_bytes);
    let digest = content::digest(&layer);
    let mut client = Client::connect(peer.address)?;
    let begin = Instant::now();
    client.push_layer("large", &layer, &digest)?;
    Ok(megabytes(layer.len()) / begin.elapsed().as_secs_f64())
}

fn pull_layer(peer: &Peer, work: &Work, _: usize) -> Result<f64> {
    let layer = content::bytes(2_000, work.layer_bytes);
    let digest = content::digest(&layer);
    let mut client = Client::connect(peer.address)?;
    let path = format!("/v2/pull-large/blobs/{digest}");
    if client.call("HEAD", &path, "", b"")?.status != 200 {
        client.push_layer("pull-large", &layer, &digest)?;
    }
    drop(layer);
    // The first read fills whatever caches there are.
    client.expect(200, "GET", &path, "", b"")?;
    let begin = Instant::now();
    let answer = client.expect(200, "GET", &path, "", b"")?;
    Ok(answer.body_bytes as f64 / 1e6 / begin.elapsed().as_secs_f64())
}

/// The layers of the rows with several: together as large as the large one.
fn several(seed: u64, work: &Work) -> Vec<(Vec<u8>, String)> {
    let layers = (0..LAYERS as u64).map(|n| content::bytes(seed + n, work.layer_bytes / LAYERS));
    layers.map(|layer| (content::digest(&layer), layer)).map(|(digest, layer)| (layer, digest)).collect()
}

/// Runs `each` for every item on `AT_ONCE` connections and says how long the whole took.
fn at_once<T: Sync>(peer: &Peer, items: &[T], each: impl Fn(&mut Client, &T) -> Result<()> + Sync) -> Result<Duration> {
    let next = AtomicU64::new(0);
    let mut clients = (0..AT_ONCE).map(|_| Client::connect(peer.address)).collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let (next, each) = (&next, &each);
                scope.spawn(move || -> Result<()> {
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                        each(client, item)?;
                    }
                    Ok(())
                })
            })
            .collect();
        running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".into())))
    })?;
    Ok(begin.elapsed())
}

fn push_layers(peer: &Peer, work: &Work, round: usize) -> Result<f64> {
    let layers = several(10_000 + 100 * round as u64, work);
    let took = at_once(peer, &layers, |client, (layer, digest)| client.push_layer("several", layer, digest))?;
    Ok(megabytes(layers.iter().map(|(layer, _)| layer.len()).sum()) / took.as_secs_f64())
}

fn pull_layers(peer: &Peer, work: &Work, round: usize) -> Result<f64> {
    let layers = several(20_000, work);
    if round == 0 {
        at_once(peer, &layers, |client, (layer, digest)| client.push_layer("pull-several", layer, digest))?;
    }
    let total = megabytes(layers.iter().map(|(layer, _)| layer.len()).sum());
    let paths: Vec<String> = layers.into_iter().map(|(_, digest)| format!("/v2/pull-several/blobs/{digest}")).collect();
    let pull = || at_once(peer, &paths, |client, path| client.expect(200, "GET", path, "", b"").map(drop));
    pull()?;
    Ok(total / pull()?.as_secs_f64())
}

/// Runs `each(client, connection, iteration)` on every connection for the period and gives how often a second it ran.
fn rate(peer: &Peer, work: &Work, each: impl Fn(&mut Client, usize, u64) -> Result<()> + Sync) -> Result<f64> {
    let mut clients = (0..work.clients).map(|_| Client::connect(peer.address)).collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    let done = std::thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(connection, client)| {
                let each = &each;
                scope.spawn(move || -> Result<u64> {
                    let mut done = 0;
                    while begin.elapsed() < work.period {
                        each(client, connection, done)?;
                        done += 1;
                    }
                    Ok(done)
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".into())))
            .sum::<Result<u64>>()
    })?;
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

/// A small image: configuration, layer, manifest.
fn small_image(seed: u64) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let config = format!(r#"{{"architecture":"amd64","os":"linux","seed":{seed}}}"#).into_bytes();
    let layer = content::bytes(seed, 4096);
    let manifest = content::manifest(&config, &layer);
    (config, layer, manifest)
}

fn push_image(client: &mut Client, repository: &str, tag: &str, seed: u64) -> Result<()> {
    let (config, layer, manifest) = small_image(seed);
    client.expect(404, "HEAD", &format!("/v2/{repository}/manifests/{tag}"), ACCEPT, b"")?;
    for blob in [&config, &layer] {
        let digest = content::digest(blob);
        client.expect(404, "HEAD", &format!("/v2/{repository}/blobs/{digest}"), "", b"")?;
        client.push_blob(repository, blob, &digest)?;
    }
    client.push_manifest(repository, tag, &manifest)
}

fn push_images(peer: &Peer, work: &Work, round: usize) -> Result<f64> {
    rate(peer, work, |client, connection, iteration| {
        let seed = (3_000_000 + round as u64 * 100_000 + iteration) * 64 + connection as u64;
        push_image(client, &format!("small-{connection}"), &format!("r{round}-{iteration}"), seed)
    })
}

/// Images that the reading rows pull.
const IMAGES: u64 = 64;

fn prepare_images(peer: &Peer) -> Result<()> {
    let mut client = Client::connect(peer.address)?;
    if client.call("HEAD", &format!("/v2/read/manifests/v{}", IMAGES - 1), ACCEPT, b"")?.status == 200 {
        return Ok(());
    }
    (0..IMAGES).try_for_each(|n| push_image(&mut client, "read", &format!("v{n}"), 7_000_000 + n))
}

fn pull_images(peer: &Peer, work: &Work, _: usize) -> Result<f64> {
    prepare_images(peer)?;
    let paths: Vec<[String; 3]> = (0..IMAGES)
        .map(|n| {
            let (config, layer, _) = small_image(7_000_000 + n);
            [
                format!("/v2/read/manifests/v{n}"),
                format!("/v2/read/blobs/{}", content::digest(&config)),
                format!("/v2/read/blobs/{}", content::digest(&layer)),
            ]
        })
        .collect();
    rate(peer, work, |client, connection, iteration| {
        let at = (connection as u64 * 7 + iteration) % IMAGES;
        let [manifest, config, layer] = paths.get(at as usize).ok_or("no such image")?;
        client.expect(200, "GET", manifest, ACCEPT, b"")?;
        client.expect(200, "GET", config, "", b"")?;
        client.expect(200, "GET", layer, "", b"")?;
        Ok(())
    })
}

fn head_manifest(peer: &Peer, work: &Work, _: usize) -> Result<f64> {
    prepare_images(peer)?;
    rate(peer, work, |client, connection, iteration| {
        let at = (connection as u64 * 7 + iteration) % IMAGES;
        client.expect(200, "HEAD", &format!("/v2/read/manifests/v{at}"), ACCEPT, b"").map(drop)
    })
}

fn new_tags(peer: &Peer, work: &Work, round: usize) -> Result<f64> {
    /// ECR allows 1,000 tags to an image, so each connection moves on to another one before that.
    const TAGS_EACH: u64 = 900;
    const IMAGES_EACH: u64 = 16;
    let seed = |connection: usize, n: u64| 8_000_000 + (round * work.clients + connection) as u64 * IMAGES_EACH + n;
    let mut images = Vec::new();
    let mut client = Client::connect(peer.address)?;
    for connection in 0..work.clients {
        for n in 0..IMAGES_EACH {
            push_image(&mut client, &format!("tagged-{connection}"), &format!("r{round}-{n}"), seed(connection, n))?;
            images.push(small_image(seed(connection, n)).2);
        }
    }
    rate(peer, work, |client, connection, iteration| {
        let at = connection as u64 * IMAGES_EACH + iteration / TAGS_EACH;
        let image = images.get(at as usize).filter(|_| iteration / TAGS_EACH < IMAGES_EACH);
        let image = image.ok_or("the server is too fast for the images that were prepared: raise IMAGES_EACH")?;
        client.push_manifest(&format!("tagged-{connection}"), &format!("new-r{round}-{iteration}"), image)
    })
}

fn tag_page(peer: &Peer, _: &Work, round: usize) -> Result<f64> {
    let mut client = Client::connect(peer.address)?;
    if round == 0 {
        prepare_tags(&mut client)?;
    }
    let mut took = Vec::with_capacity(PAGES);
    for page in 0..PAGES {
        let path = format!("/v2/pages/tags/list?n=100&last=t{:04}", page * 97);
        let begin = Instant::now();
        client.expect(200, "GET", &path, "", b"")?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(crate::table::median(took))
}

/// `TAGS` tags over enough images to stay below ECR's quota of tags for each.
fn prepare_tags(client: &mut Client) -> Result<()> {
    const TAGS_EACH: usize = 500;
    for n in 0..TAGS / TAGS_EACH {
        let seed = 9_000_000 + n as u64;
        push_image(client, "pages", &format!("first-{n}"), seed)?;
        let (.., manifest) = small_image(seed);
        for tag in n * TAGS_EACH..(n + 1) * TAGS_EACH {
            client.push_manifest("pages", &format!("t{tag:04}"), &manifest)?;
        }
    }
    Ok(())
}
