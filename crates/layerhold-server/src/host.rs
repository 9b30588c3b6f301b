//! Which registry a request means.
//!
//! The first label of the Host says so: twelve digits are an account's private registry, `public` is the public one,
//! anything else means the registry that the listener serves by default. Region and domain play no part.

use http::request::Parts;

/// A registry, as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The private registry of the account that is served.
    Private,
    /// The public registry.
    Public,
    /// An account that does not exist.
    Unknown,
}

/// Judges a request's Host; `default` is what the listener serves.
#[must_use]
pub fn wanted(parts: &Parts, account: &str, default: Wanted) -> Wanted {
    let named = match parts.uri.authority() {
        // A target in absolute form overrides the header (RFC 9112, 3.2.2).
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()),
    };
    named.map_or(default, |host| judge(host, account, default))
}

fn judge(host: &str, account: &str, default: Wanted) -> Wanted {
    let label = host.split(['.', ':']).next().unwrap_or_default();
    if label.eq_ignore_ascii_case("public") {
        Wanted::Public
    } else if label.len() == 12 && label.bytes().all(|b| b.is_ascii_digit()) {
        if label == account { Wanted::Private } else { Wanted::Unknown }
    } else {
        default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_label_decides() {
        let account = "123456789012";
        for (host, by_default) in [
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com", [Wanted::Private, Wanted::Private]),
            ("123456789012:5000", [Wanted::Private, Wanted::Private]),
            ("999999999999.dkr.ecr.us-east-1.localhost:5000", [Wanted::Unknown, Wanted::Unknown]),
            ("public.ecr.aws", [Wanted::Public, Wanted::Public]),
            ("PUBLIC.localhost:5000", [Wanted::Public, Wanted::Public]),
            ("publicity.example", [Wanted::Private, Wanted::Public]),
            ("127.0.0.1:5000", [Wanted::Private, Wanted::Public]),
            ("[::1]:5000", [Wanted::Private, Wanted::Public]),
            ("localhost", [Wanted::Private, Wanted::Public]),
            ("1234567890123.example", [Wanted::Private, Wanted::Public]),
            ("", [Wanted::Private, Wanted::Public]),
        ] {
            let judged = [Wanted::Private, Wanted::Public].map(|default| judge(host, account, default));
            assert_eq!(judged, by_default, "{host}");
        }
    }

    #[test]
    fn an_absolute_target_overrides_the_header() {
        let (parts, ()) = http::Request::builder()
            .uri("http://public.example/v2/")
            .header("host", "123456789012.example")
            .body(())
            .unwrap()
            .into_parts();
        assert_eq!(wanted(&parts, "123456789012", Wanted::Private), Wanted::Public);
    }
}
