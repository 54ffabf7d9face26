//! The query of a URL as GraphQL servers read it: form-encoded pairs, strictly.
//!
//! Owns what makes a query string ambiguous: a parameter given twice, `name[]` and other
//! spellings that frameworks fold into one name, `;` as a separator, escapes that are no escapes,
//! bytes that are not UTF-8.

use super::super::json::parameter_resembles;

/// The decoded pairs of a query, in order.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Decodes a query (without `?`).
    pub(super) fn parse(query: &str) -> Result<Self, &'static str> {
        if query.contains(';') {
            return Err("the query has a ';', which some servers read as '&'");
        }
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        decoded.collect::<Result<_, _>>().map(Self)
    }

    /// The value of `name`; an empty one counts as absent. An error where it is given twice, or
    /// where another name could be taken for it.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, &'static str> {
        let mut found = None;
        for (key, value) in &self.0 {
            if key == name {
                if found.replace(value.as_str()).is_some() {
                    return Err("a parameter that decides is given twice");
                }
            } else if parameter_resembles(key, name) {
                return Err("a parameter is spelled so that it could be taken for another");
            }
        }
        Ok(found.filter(|value| !value.is_empty()))
    }

    /// Whether any of `names`, in any spelling, is there.
    pub(super) fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.iter().any(|(key, _)| parameter_resembles(key, name)))
    }
}

fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err("the query has a bad percent escape");
                };
                u8::try_from(high * 16 + low).expect("two hex digits are a byte")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "the query is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_as_forms_are() {
        let params = Params::parse("query=%7Ba%7D+b&x&&operationName=").unwrap();
        assert_eq!(params.one("query"), Ok(Some("{a} b")));
        assert_eq!(params.one("operationName"), Ok(None));
        assert_eq!(params.one("id"), Ok(None));
    }

    #[test]
    fn a_parameter_with_two_readings_is_refused() {
        for query in [
            "query=a&query=b",
            "query=a&Query=b",
            "query[]=a",
            "query[0]=a",
            "[query]=a",
            "+query=a",
            "q%75ery_=a",
        ] {
            assert!(Params::parse(query).unwrap().one("query").is_err(), "{query}");
        }
        for query in ["query=a;query=b", "query=%7", "query=%zz", "query=%ff", "%=a"] {
            assert!(Params::parse(query).is_err(), "{query}");
        }
    }
}
