//! Listings, page by page.

use layerhold::{Digest, MediaType, Page, PutManifest, RegistryName, RepositorySettings, TagFilter};

use super::support::{call, create, image, name, push_image, store, tag};

/// All pages of a listing, none longer than asked for.
fn all<T>(limit: u32, mut page: impl FnMut(Option<&[u8]>) -> Page<T>) -> Vec<T> {
    let (mut items, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let page = page(after.as_deref());
        assert!(page.items.len() <= limit as usize);
        items.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return items,
        }
    }
}

#[test]
fn tags_come_in_byte_order_whatever_the_page() {
    let store = store();
    let tags = ["v1", "V1", "v10", "v1.1", "latest", "_", "0"];
    push_image(&store.repository, b"layer", &tags);
    let mut sorted = tags.to_vec();
    sorted.sort_unstable();
    for limit in [1, 2, 3, 100] {
        let listed = all(limit, |after| store.repository.list_tags(after, limit).expect("a page"));
        assert_eq!(listed.iter().map(|detail| detail.tag.as_str()).collect::<Vec<_>>(), sorted, "limit {limit}");
    }
    let after = store.repository.list_tags_after(Some("v1\u{0}"), 100).expect("any text will do");
    assert_eq!(after.items.iter().map(|detail| detail.tag.as_str()).collect::<Vec<_>>(), ["v1.1", "v10"]);
}

#[test]
fn a_listing_goes_on_where_it_stood_when_things_come_and_go() {
    let store = store();
    push_image(&store.repository, b"layer", &["b", "d", "f"]);
    let first = store.repository.list_tags(None, 2).expect("a page");
    store.repository.untag(&tag("d"), &call()).expect("the tag that the token names");
    push_image(&store.repository, b"layer", &["a", "e"]);
    let second = store.repository.list_tags(first.next.as_deref(), 10).expect("a page");
    assert_eq!(second.items.iter().map(|detail| detail.tag.as_str()).collect::<Vec<_>>(), ["e", "f"]);
}

#[test]
fn images_are_told_apart_by_their_tags() {
    let store = store();
    let tagged = push_image(&store.repository, b"tagged", &["v1", "v2"]).digest;
    let untagged = push_image(&store.repository, b"untagged", &[]).digest;
    let entries = |filter| all(1, |after| store.repository.list_images(filter, after, 1).expect("a page"));
    assert_eq!(entries(TagFilter::Tagged).len(), 2, "one entry for each tag");
    let only: Vec<_> = entries(TagFilter::Untagged).into_iter().map(|entry| (entry.digest, entry.tag)).collect();
    assert_eq!(only, [(untagged, None)]);
    assert_eq!(entries(TagFilter::Any).len(), 3);
    let details = all(1, |after| store.repository.describe_images(TagFilter::Tagged, after, 1).expect("a page"));
    assert_eq!(details.len(), 1, "one element for each digest");
    assert_eq!((details[0].digest, details[0].tags.as_slice()), (tagged, [tag("v1"), tag("v2")].as_slice()));
    assert_eq!(details[0].image_bytes, 2 + 6);
}

#[test]
fn a_token_of_nobody_s_making_does_no_harm() {
    let store = store();
    push_image(&store.repository, b"layer", &["v1"]);
    for token in [&b""[..], b"\xff\xff", b"v", &[0; 200]] {
        store.repository.list_tags(Some(token), 10).expect("a page");
        store.repository.list_images(TagFilter::Any, Some(token), 10).expect("a page");
        store.repository.describe_images(TagFilter::Any, Some(token), 10).expect("a page");
        store.repository.referrers(&Digest::sha256(b""), &[], Some(token), 10).expect("a page");
        store.repository.tag_history(&tag("v1"), Some(token), 10).expect("a page");
    }
}

#[test]
fn referrers_are_found_whether_or_not_their_subject_is_there() {
    let store = store();
    let subject = Digest::sha256(b"not there yet");
    let config = String::from_utf8(image(&store.repository, b"layer")).expect("text");
    for kind in ["application/vnd.example.sbom", "application/vnd.example.signature"] {
        let members = format!(
            r#","artifactType":"{kind}","annotations":{{"k":"v"}},"subject":{{"mediaType":"{}","digest":"{subject}","size":3}}}}"#,
            MediaType::OCI_MANIFEST
        );
        let text = config.strip_suffix('}').expect("an object").to_owned() + &members;
        let put = store.repository.put_manifest(&PutManifest::new(text), &call()).expect("a referrer");
        assert_eq!(put.subject, Some(subject));
    }
    let every = all(1, |after| store.repository.referrers(&subject, &[], after, 1).expect("a page"));
    assert_eq!(every.len(), 2);
    let types = ["application/vnd.example.sbom".to_owned()];
    let some = all(1, |after| store.repository.referrers(&subject, &types, after, 1).expect("a page"));
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].annotations.get("k").map(String::as_str), Some("v"));
    let none = store.repository.referrers(&Digest::sha256(b"else"), &[], None, 10).expect("a page");
    assert!(none.items.is_empty());
}

#[test]
fn repositories_come_in_name_order() {
    let store = store();
    for text in ["zz", "app/base", "app-1", "a0"] {
        create(&store.test, text, &RepositorySettings::default());
    }
    let registry = store.test.registry();
    let first = registry.list_repositories(None, 3).expect("a page");
    let names: Vec<_> = first.items.iter().map(|detail| detail.name.as_str().to_owned()).collect();
    assert_eq!(names, ["a0", "app", "app-1"]);
    assert!(first.next.is_some());
    let alone = registry.list_repository_names(None, 3).expect("a page");
    assert_eq!(alone, first.map(|detail| detail.name));
    let rest = registry.list_repositories(Some(&name("app-1")), 3).expect("a page");
    assert_eq!(rest.items.iter().map(|detail| detail.name.as_str()).collect::<Vec<_>>(), ["app/base", "zz"]);
    assert!(rest.next.is_none());
}

#[test]
fn registries_come_in_name_order_page_by_page() {
    let store = store();
    for text in ["private/b", "private", "a"] {
        let name = RegistryName::parse(text).expect("a legal name");
        store.test.engine().create_registry(&name, &call()).expect("a registry");
    }
    let first = store.test.engine().registries(None, 3).expect("a page");
    let names = |page: &Page<RegistryName>| page.items.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        (names(&first), first.next.is_some()),
        (vec!["a".to_owned(), "private".to_owned(), "private/b".to_owned()], true)
    );
    let rest = store.test.engine().registries(first.items.last(), 3).expect("a page");
    assert_eq!((names(&rest), rest.next), (vec!["test".to_owned()], None));
}
