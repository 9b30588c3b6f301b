//! The bytes on disk, as docs/format.md spells them: the examples of that page are compared with what the code writes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use layerhold::Tag;
use layerhold::digest::Digest;
use layerhold::format::keys::{self, RegistryId, RepositoryId, Scope};
use layerhold::format::values::{Row, TagRow};

const PAGE: &str = include_str!("../../../docs/format.md");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes behind `label` in the page's example.
fn example(label: &str) -> String {
    let line = PAGE.lines().find_map(|line| line.strip_prefix(label)).expect("the page has the example");
    line.split_whitespace().collect()
}

#[test]
fn the_worked_example_is_what_the_code_writes() {
    let scope = Scope { registry: RegistryId(7), repository: RepositoryId(9) };
    let key = keys::tag(scope, &Tag::parse("v1").unwrap());
    let value = TagRow { digest: Digest::sha256(b""), tagged_wall_ms: 1 }.encode();
    assert_eq!(hex(&key), example("key    "));
    assert_eq!(hex(&value), example("value  "));
}

#[test]
fn every_family_of_the_code_is_in_the_page() {
    let keys = include_str!("../src/format/keys.rs");
    let families = keys.split("pub enum Family {").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
    let mut count = 0;
    for line in families.lines().filter(|line| line.contains("= 0x")) {
        let byte = line.split("0x").nth(1).unwrap().trim_end_matches(',');
        assert!(PAGE.contains(&format!("| `{byte}` ")), "family {line} is not described");
        count += 1;
    }
    assert!(count > 20, "the families were not found");
}
