//! The query of a request: names and values, decoded once.

use std::borrow::Cow;

use crate::code::{ErrorCode, OciError};
use crate::percent;

/// Most parameters that are looked at: far above the tags that one request may set, far below what costs anything.
const PARAMETERS_MAX: usize = 1_024;

/// The parameters of a request, in their order.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Splits and decodes a raw query.
    pub(crate) fn parse(raw: Option<&'a str>) -> Result<Query<'a>, OciError> {
        let mut parameters = Vec::new();
        for piece in raw.unwrap_or_default().split('&').filter(|piece| !piece.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(OciError::bad_request(
                    ErrorCode::Unsupported,
                    format!("the query has too many parameters limit={PARAMETERS_MAX}"),
                ));
            }
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            match (percent::decode(name), percent::decode(value)) {
                (Ok(name), Ok(value)) => parameters.push((name, value)),
                _ => {
                    return Err(OciError::bad_request(
                        ErrorCode::Unsupported,
                        "the query is not a percent-encoding of UTF-8 text",
                    ));
                }
            }
        }
        Ok(Query { parameters })
    }

    /// The value of a parameter that may stand once. Twice is refused: whoever authorised the request may have looked
    /// at the other one.
    pub(crate) fn single(&self, name: &str) -> Result<Option<&str>, OciError> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(OciError::bad_request(
                ErrorCode::Unsupported,
                format!("the query parameter is given more than once name={name}"),
            ));
        }
        Ok(first)
    }

    /// Every value of a parameter, in their order.
    pub(crate) fn all<'q>(&'q self, name: &str) -> impl Iterator<Item = &'q str> {
        self.parameters.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_ref())
    }
}

/// Which page of a listing is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// Most items on the page, at most [`PAGE_ITEMS_MAX`]; `None` where the client names no number.
    pub items: Option<u32>,
    /// The text after which the page begins: any text, whether anything bears it or not.
    pub last: Option<String>,
}

/// Most items on a page of a listing, and what a page holds when the client names no number. ECR's published maximum.
pub const PAGE_ITEMS_MAX: u32 = 1_000;

impl PageQuery {
    pub(crate) fn of(query: &Query<'_>) -> Result<PageQuery, OciError> {
        let items = match query.single("n")? {
            None => None,
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                Some(text.parse().unwrap_or(u32::MAX).min(PAGE_ITEMS_MAX))
            }
            Some(_) => {
                return Err(OciError::bad_request(
                    ErrorCode::PaginationNumberInvalid,
                    "the number of items is not a number parameter=n",
                ));
            }
        };
        Ok(PageQuery { items, last: query.single("last")?.map(str::to_owned) })
    }

    /// Most items on the page.
    pub(crate) fn limit(&self) -> u32 {
        self.items.unwrap_or(PAGE_ITEMS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_ITEMS_MAX, PARAMETERS_MAX, PageQuery, Query};
    use crate::code::ErrorCode;

    fn code(result: Result<impl Sized, crate::OciError>) -> Option<ErrorCode> {
        result.err().map(|error| error.code())
    }

    #[test]
    fn parameters_are_split_and_decoded() {
        let query = Query::parse(Some("digest=sha256%3Aab&tag=a&&tag=b&flag&x=1=2&t=a+b")).unwrap();
        assert_eq!(query.single("digest").unwrap(), Some("sha256:ab"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.single("flag").unwrap(), Some(""));
        assert_eq!(query.single("x").unwrap(), Some("1=2"));
        assert_eq!(query.single("t").unwrap(), Some("a+b"));
        assert_eq!(query.single("none").unwrap(), None);
        assert_eq!(Query::parse(None).unwrap().single("n").unwrap(), None);
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        let query = Query::parse(Some("digest=a&digest=a")).unwrap();
        assert_eq!(code(query.single("digest")), Some(ErrorCode::Unsupported));
        let query = Query::parse(Some("digest=a&%64igest=b")).unwrap();
        assert_eq!(code(query.single("digest")), Some(ErrorCode::Unsupported));
    }

    #[test]
    fn bad_queries_are_refused() {
        for raw in ["a=%", "%zz=1", "a=%00", "a=%ff"] {
            assert_eq!(code(Query::parse(Some(raw))), Some(ErrorCode::Unsupported), "raw={raw}");
        }
        assert!(Query::parse(Some(&"a&".repeat(PARAMETERS_MAX))).is_ok());
        assert_eq!(code(Query::parse(Some(&"a&".repeat(PARAMETERS_MAX + 1)))), Some(ErrorCode::Unsupported));
    }

    #[test]
    fn pages() {
        let page = |raw| PageQuery::of(&Query::parse(Some(raw)).unwrap());
        assert_eq!(page("").unwrap(), PageQuery { items: None, last: None });
        assert_eq!(page("n=10&last=v1").unwrap(), PageQuery { items: Some(10), last: Some("v1".into()) });
        assert_eq!(page("n=0").unwrap().limit(), 0);
        assert_eq!(page("n=1001").unwrap().limit(), PAGE_ITEMS_MAX);
        assert_eq!(page("n=9223372036854775808").unwrap().limit(), PAGE_ITEMS_MAX);
        assert_eq!(page("n=99999999999999999999999").unwrap().limit(), PAGE_ITEMS_MAX);
        for raw in ["n=", "n=-1", "n=ten", "n=1.0", "n=%201", "n=0x10", "n=+1"] {
            assert_eq!(code(page(raw)), Some(ErrorCode::PaginationNumberInvalid), "raw={raw}");
        }
        assert_eq!(code(page("n=1&n=2")), Some(ErrorCode::Unsupported));
    }
}
