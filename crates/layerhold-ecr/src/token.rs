//! Page tokens: where a listing goes on, sealed so that only the same query can use it.
//!
//! A token is the engine's own place in the listing and a keyed hash over that place and over the query that gave it:
//! operation, registry, repository and filters. `maxResults` is left out, so it may change from page to page. Nobody
//! without the key can make a token, and one that was made for another query does not open.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The first byte of every token. Another layout takes another byte, so that an old token is refused, not misread.
const VERSION: u8 = 1;
const HASH_BYTES: usize = blake3::OUT_LEN;

/// The key that seals page tokens. Every server that may get the same client's next request needs the same key.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl TokenKey {
    /// A key out of 32 bytes that nobody can guess.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash of `parts` under this key, for the use that `context` names. The same parts under another context have
    /// nothing to do with it.
    pub(crate) fn hash(&self, context: &str, parts: &[&[u8]]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in std::iter::once(&context.as_bytes()).chain(parts) {
            // Lengths go in first, so that no two lists of parts look alike.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }
}

/// A query, as far as its next page must repeat it.
#[derive(Debug, Clone)]
pub struct Query {
    parts: Vec<String>,
}

impl Query {
    /// A query by `operation` on `registry`.
    pub fn new(operation: &str, registry: &str) -> Self {
        Self { parts: vec![operation.to_owned(), registry.to_owned()] }
    }

    /// The same, narrowed by `part`. The order of parts counts.
    #[must_use]
    pub fn narrowed(mut self, part: impl Into<String>) -> Self {
        self.parts.push(part.into());
        self
    }

    fn seal(&self, key: &TokenKey, place: &[u8]) -> blake3::Hash {
        let parts = self.parts.iter().map(String::as_bytes).chain(std::iter::once(place)).collect::<Vec<_>>();
        key.hash("page token", &parts)
    }

    /// The token with which this query goes on at `place`.
    pub fn token(&self, key: &TokenKey, place: &[u8]) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(self.seal(key, place).as_bytes());
        bytes.extend_from_slice(place);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place that `token` holds; nothing if it is not a token of this query.
    pub fn place(&self, key: &TokenKey, token: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (seal, place) = rest.split_first_chunk::<HASH_BYTES>()?;
        // blake3::Hash compares in constant time.
        (*version == VERSION && self.seal(key, place) == blake3::Hash::from_bytes(*seal)).then(|| place.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Query {
        Query::new("ListImages", "private/000000000000/us-east-1").narrowed("app").narrowed("TAGGED")
    }

    #[test]
    fn a_token_opens_for_its_own_query_only() {
        let key = TokenKey::new([7; 32]);
        let token = query().token(&key, b"place");
        assert_eq!(query().place(&key, &token).as_deref(), Some(&b"place"[..]));
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));

        let others = [
            Query::new("DescribeImages", "private/000000000000/us-east-1").narrowed("app").narrowed("TAGGED"),
            Query::new("ListImages", "public/000000000000").narrowed("app").narrowed("TAGGED"),
            Query::new("ListImages", "private/000000000000/us-east-1").narrowed("app").narrowed("ANY"),
            Query::new("ListImages", "private/000000000000/us-east-1").narrowed("ap").narrowed("pTAGGED"),
            Query::new("ListImages", "private/000000000000/us-east-1").narrowed("app"),
        ];
        for other in others {
            assert_eq!(other.place(&key, &token), None, "{other:?}");
        }
        assert_eq!(query().place(&TokenKey::new([8; 32]), &token), None);
    }

    #[test]
    fn what_was_changed_or_invented_does_not_open() {
        let key = TokenKey::new([7; 32]);
        let token = query().token(&key, b"place");
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(query().place(&key, &URL_SAFE_NO_PAD.encode(changed)), None, "byte {at}");
        }
        for end in 0..bytes.len() {
            assert_eq!(query().place(&key, &URL_SAFE_NO_PAD.encode(&bytes[..end])), None, "cut at {end}");
        }
        for invented in ["", "a", "!", "AAAA", "é", &format!("{token}=")] {
            assert_eq!(query().place(&key, invented), None, "{invented}");
        }
    }
}
