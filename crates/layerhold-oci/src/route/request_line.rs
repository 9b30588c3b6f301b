//! From a method, a raw path and a raw query to a route.
//!
//! The path is read once, from its end: repository names hold slashes and may hold any of the protocol's own words, so
//! only the last one to three pieces say what a path means.

use std::borrow::Cow;

use http::Method;
use layerhold::{Algorithm, Digest, Reference, RepositoryName, Tag, UploadId};

use super::{Begin, Fetch, MountSource, Route};
use crate::code::{ErrorCode, OciError};
use crate::error::{unknown_manifest, unknown_name, unknown_path, unknown_upload};
use crate::percent;
use crate::query::{PageQuery, Query};

/// Reads a request line. `prefix` is what every repository name of the registry begins with, a slash after it.
pub(crate) fn route(method: &Method, path: &str, query: Option<&str>, prefix: Option<&str>) -> Result<Route, OciError> {
    let Some(rest) = path.strip_prefix("/v2") else {
        return Err(unknown_path());
    };
    if rest.is_empty() || rest == "/" {
        return Ok(Route::Version { fetch: fetch(method)? });
    }
    let Some(rest) = rest.strip_prefix('/') else {
        return Err(unknown_path());
    };
    let pieces = pieces(rest)?;
    let pieces: Vec<&str> = pieces.iter().map(AsRef::as_ref).collect();
    let query = Query::parse(query)?;
    let names = Names { prefix };
    match pieces.as_slice() {
        ["_catalog"] => Ok(Route::Catalog { fetch: fetch(method)?, page: PageQuery::of(&query)? }),
        [name @ .., "tags", "list"] if !name.is_empty() => {
            let fetch = fetch(method)?;
            Ok(Route::Tags { repository: names.of_pieces(name)?, page: PageQuery::of(&query)?, fetch })
        }
        [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] if !name.is_empty() => match *method {
            Method::POST => {
                let repository = names.of_pieces(name)?;
                Ok(Route::BeginUpload { repository, begin: begin(&query, &names)? })
            }
            _ => Err(wrong_method("POST")),
        },
        [name @ .., "blobs", "uploads", id] if !name.is_empty() => upload(method, names.of_pieces(name), id, &query),
        [name @ .., "manifests", reference] if !name.is_empty() && !reference.is_empty() => {
            manifest(method, names.of_pieces(name), reference, &query)
        }
        [name @ .., "blobs", digest] if !name.is_empty() && !digest.is_empty() => {
            blob(method, names.of_pieces(name), digest)
        }
        [name @ .., "referrers", subject] if !name.is_empty() && !subject.is_empty() => {
            let fetch = fetch(method)?;
            let repository = names.of_pieces(name)?;
            let artifact_types = query.all("artifactType").map(str::to_owned).collect();
            let page = PageQuery::of(&query)?;
            Ok(Route::Referrers { repository, subject: parse_digest(subject)?, artifact_types, page, fetch })
        }
        _ => Err(unknown_path()),
    }
}

/// The methods of a path that can only be read.
fn fetch(method: &Method) -> Result<Fetch, OciError> {
    match *method {
        Method::GET => Ok(Fetch::Body),
        Method::HEAD => Ok(Fetch::Head),
        _ => Err(wrong_method("GET, HEAD")),
    }
}

fn blob(method: &Method, repository: Result<RepositoryName, OciError>, digest: &str) -> Result<Route, OciError> {
    let fetch = match *method {
        Method::GET => Some(Fetch::Body),
        Method::HEAD => Some(Fetch::Head),
        Method::DELETE => None,
        _ => return Err(wrong_method("GET, HEAD, DELETE")),
    };
    let (repository, digest) = (repository?, parse_digest(digest)?);
    Ok(match fetch {
        Some(fetch) => Route::ReadBlob { repository, digest, fetch },
        None => Route::DeleteBlob { repository, digest },
    })
}

fn begin(query: &Query<'_>, names: &Names<'_>) -> Result<Begin, OciError> {
    if let Some(digest) = query.single("mount")? {
        let digest = parse_digest(digest)?;
        let from = query.single("from")?.map(|from| names.of_mount(from)).transpose()?;
        return Ok(Begin::Mount { digest, from });
    }
    if let Some(digest) = query.single("digest")? {
        return Ok(Begin::Whole { digest: parse_digest(digest)? });
    }
    let algorithm = match query.single("digest-algorithm")? {
        None => Algorithm::Sha256,
        Some(name) => Algorithm::from_name(name)
            .ok_or_else(|| OciError::bad_request(ErrorCode::DigestInvalid, "the digest algorithm is not supported"))?,
    };
    Ok(Begin::Session { algorithm })
}

fn upload(
    method: &Method,
    repository: Result<RepositoryName, OciError>,
    id: &str,
    query: &Query<'_>,
) -> Result<Route, OciError> {
    if !matches!(*method, Method::GET | Method::PATCH | Method::PUT | Method::DELETE) {
        return Err(wrong_method("GET, PATCH, PUT, DELETE"));
    }
    let repository = repository?;
    // A text that can be no id is an upload that nobody began.
    let Ok(upload) = id.parse::<UploadId>() else {
        return Err(unknown_upload());
    };
    Ok(match *method {
        Method::PATCH => Route::AppendUpload { repository, upload },
        Method::PUT => {
            let Some(digest) = query.single("digest")? else {
                return Err(OciError::bad_request(ErrorCode::DigestInvalid, "the query parameter digest is missing"));
            };
            Route::CompleteUpload { repository, upload, digest: parse_digest(digest)? }
        }
        Method::DELETE => Route::CancelUpload { repository, upload },
        _ => Route::UploadStatus { repository, upload },
    })
}

fn manifest(
    method: &Method,
    repository: Result<RepositoryName, OciError>,
    reference: &str,
    query: &Query<'_>,
) -> Result<Route, OciError> {
    let fetch = match *method {
        Method::GET => Some(Fetch::Body),
        Method::HEAD => Some(Fetch::Head),
        Method::PUT | Method::DELETE => None,
        _ => return Err(wrong_method("GET, HEAD, PUT, DELETE")),
    };
    let repository = repository?;
    if *method == Method::PUT {
        return put_manifest(repository, reference, query);
    }
    let reference = if reference.contains(':') {
        Reference::Digest(parse_digest(reference)?)
    } else {
        // A text that can be no tag is a tag that names nothing.
        Reference::Tag(parse_tag(reference).ok_or_else(unknown_manifest)?)
    };
    Ok(match fetch {
        Some(fetch) => Route::ReadManifest { repository, reference, fetch },
        None => Route::DeleteManifest { repository, reference },
    })
}

fn put_manifest(repository: RepositoryName, reference: &str, query: &Query<'_>) -> Result<Route, OciError> {
    let bad_tag =
        || OciError::bad_request(ErrorCode::TagInvalid, "the tag is not one of 1 to 128 letters, digits, _ . -");
    let mut tags = Vec::new();
    for tag in query.all("tag") {
        let tag = parse_tag(tag).ok_or_else(bad_tag)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if reference.contains(':') {
        return Ok(Route::PutManifest { repository, expected: Some(parse_digest(reference)?), tags });
    }
    if !tags.is_empty() {
        return Err(OciError::bad_request(
            ErrorCode::TagInvalid,
            "tags in the query go with a digest in the path, not with a tag",
        ));
    }
    Ok(Route::PutManifest { repository, expected: None, tags: vec![parse_tag(reference).ok_or_else(bad_tag)?] })
}

/// Splits a path at its slashes and decodes each piece. Only the last piece may be empty.
fn pieces(path: &str) -> Result<Vec<Cow<'_, str>>, OciError> {
    let refused = |why: &str| OciError::bad_request(ErrorCode::NameInvalid, why);
    let mut pieces = Vec::with_capacity(8);
    let mut rest = Some(path);
    while let Some(path) = rest {
        let (piece, tail) = match path.split_once('/') {
            Some((piece, tail)) => (piece, Some(tail)),
            None => (path, None),
        };
        rest = tail;
        if piece.is_empty() && rest.is_some() {
            return Err(refused("the path holds an empty piece"));
        }
        let piece = percent::decode(piece).map_err(|_| refused("the path is not a percent-encoding of UTF-8 text"))?;
        if piece == "." || piece == ".." {
            return Err(refused("the path holds a dot segment"));
        }
        if piece.contains('/') {
            return Err(refused("the path holds an encoded slash"));
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Names as the registry spells them for its clients.
struct Names<'a> {
    prefix: Option<&'a str>,
}

impl Names<'_> {
    fn of_pieces(&self, pieces: &[&str]) -> Result<RepositoryName, OciError> {
        let pieces = match (self.prefix, pieces) {
            (None, pieces) => pieces,
            (Some(prefix), [first, rest @ ..]) if *first == prefix && !rest.is_empty() => rest,
            (Some(_), pieces) => return Err(self.outside(&pieces.join("/"))),
        };
        match pieces {
            [name] => parse_name(name),
            pieces => parse_name(&pieces.join("/")),
        }
    }

    fn of_mount(&self, from: &str) -> Result<MountSource, OciError> {
        match self.prefix {
            None => parse_name(from).map(MountSource::Here),
            Some(prefix) => match from.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) {
                Some(name) => parse_name(name).map(MountSource::Here),
                None => parse_name(from).map(|_| MountSource::Elsewhere),
            },
        }
    }

    /// What a name outside of the registry answers: that it is no name, or that nothing bears it.
    fn outside(&self, name: &str) -> OciError {
        match parse_name(name) {
            Err(error) => error,
            Ok(name) => unknown_name(name.as_str()),
        }
    }
}

fn parse_name(name: &str) -> Result<RepositoryName, OciError> {
    RepositoryName::parse(name).map_err(|error| OciError::bad_request(ErrorCode::NameInvalid, error.to_string()))
}

fn parse_digest(digest: &str) -> Result<Digest, OciError> {
    Digest::parse(digest).map_err(|error| OciError::bad_request(ErrorCode::DigestInvalid, error.to_string()))
}

/// A tag in OCI's grammar; the engine takes more, for ECR's sake.
fn parse_tag(tag: &str) -> Option<Tag> {
    Tag::parse(tag).ok().filter(Tag::is_oci)
}

fn wrong_method(allowed: &'static str) -> OciError {
    OciError::method_not_allowed(allowed, "the method is not one of this path")
}

#[cfg(test)]
#[path = "request_line_tests.rs"]
mod tests;
