//! GraphQL over HTTP: which operations a request runs.
//!
//! Owns the envelope (`query`, `operationName`, `extensions`, persisted ids) in a JSON body, an
//! `application/graphql` body, or a URL's query; `document` reads what is in `query`. The body
//! and the URL must not both speak. Multipart bodies (file uploads) are refused: their `map` may
//! rewrite any part of the operations.

mod document;
mod params;

use super::json::{Object, is_json, is_media_type, objects, parameter_resembles};
use crate::policy::GraphqlOperation;
use params::Params;
use sha2::{Digest, Sha256};

/// Names under which a request gives the id of a persisted document.
const IDS: [&str; 3] = ["id", "documentId", "queryId"];

/// Other names under which some server takes one: never understood, so never passed over.
const OTHER_IDS: [&str; 4] = ["docId", "queryHash", "hash", "sha256Hash"];

/// Every name that decides what runs, or with what.
const NAMES: [&str; 4] = ["query", "operationName", "variables", "extensions"];

/// The operations of a POST: one, or a batch in its order. Never empty.
///
/// `content_type` is the one `Content-Type` of the request; `query` is the URL's query without
/// `?`, which must not speak of GraphQL.
///
/// # Errors
/// A sentence for [`crate::policy::Body::Invalid`]: not JSON or GraphQL, another content type,
/// more than one reading, or a document whose operation can't be told.
pub fn from_post(
    content_type: Option<&str>,
    body: &[u8],
    query: Option<&str>,
) -> Result<Vec<GraphqlOperation>, &'static str> {
    if let Some(query) = query {
        let params = Params::parse(query)?;
        if params.any(&NAMES) || params.any(&IDS) || params.any(&OTHER_IDS) {
            return Err("both the URL and the body may say what runs");
        }
    }
    if is_json(content_type) {
        return objects(body)?.iter().map(operation).collect();
    }
    let content_type = content_type.ok_or("the request has no content type")?;
    if is_media_type(content_type, "application/graphql") {
        let document = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
        return document::facts(document, None).map(|operation| vec![operation]);
    }
    let essence = content_type.trim_start().as_bytes();
    if essence.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/")) {
        return Err("a multipart GraphQL request is not understood; send files another way");
    }
    Err("the content type is not application/json or application/graphql in UTF-8")
}

/// Whether some server could find a GraphQL request in a URL's query: under any name that decides
/// what runs, however it is spelled. Allocates nothing where nothing is escaped.
pub(crate) fn may_speak(query: &str) -> bool {
    // Some read ';' as '&'.
    let pairs = query.split([';', '&']);
    pairs.flat_map(|pair| form_urlencoded::parse(pair.as_bytes())).any(|(key, _)| {
        NAMES.iter().chain(&IDS).chain(&OTHER_IDS).any(|name| parameter_resembles(&key, name))
    })
}

/// The operation of a GET, always one. `query` is the URL's query without `?`. A mutation is
/// reported as such, though servers should refuse one (GraphQL over HTTP, "GET").
///
/// # Errors
/// As [`from_post`].
pub fn from_get(query: Option<&str>) -> Result<Vec<GraphqlOperation>, &'static str> {
    let params = Params::parse(query.ok_or("the URL has no query")?)?;
    if params.any(&OTHER_IDS) {
        return Err("a persisted document is named in a way that is not understood");
    }
    params.one("variables")?;
    let extensions = params.one("extensions")?;
    let extensions = extensions
        .map(|text| Object::parse(text).map_err(|_| "the extensions are not a JSON object"))
        .transpose()?;
    let ids = IDS.map(|name| Ok(params.one(name)?.map(str::to_owned)));
    let envelope = Envelope {
        document: params.one("query")?.map(str::to_owned),
        name: params.one("operationName")?.map(str::to_owned),
        hash: hash(extensions.as_ref())?,
        id: single(ids)?,
    };
    envelope.operation().map(|operation| vec![operation])
}

/// The operation of one JSON envelope: a body, a part of a batch, a WebSocket payload.
pub(super) fn operation(object: &Object<'_>) -> Result<GraphqlOperation, &'static str> {
    for name in OTHER_IDS {
        if object.given(name).is_ok_and(|value| value.is_none()) {
            continue;
        }
        return Err("a persisted document is named in a way that is not understood");
    }
    object.object("variables")?;
    let envelope = Envelope {
        document: object.text("query")?.filter(|document| !document.is_empty()),
        name: object.text("operationName")?.filter(|name| !name.is_empty()),
        hash: hash(object.object("extensions")?.as_ref())?,
        id: single(IDS.map(|name| object.text(name)))?,
    };
    envelope.operation()
}

/// What an envelope says, wherever it was.
struct Envelope {
    document: Option<String>,
    name: Option<String>,
    /// `extensions.persistedQuery.sha256Hash`.
    hash: Option<String>,
    id: Option<String>,
}

impl Envelope {
    fn operation(self) -> Result<GraphqlOperation, &'static str> {
        match (self.document, self.hash, self.id) {
            (Some(document), hash, None) => {
                if hash.as_ref().is_some_and(|hash| !is_hash_of(hash, &document)) {
                    return Err("the hash is not that of the document beside it");
                }
                let operation = document::facts(&document, self.name.as_deref())?;
                Ok(GraphqlOperation { persisted: hash, ..operation })
            }
            (None, Some(persisted), None) | (None, None, Some(persisted)) => {
                // The name that a client gives to a document it does not show proves nothing.
                let persisted = Some(persisted);
                Ok(GraphqlOperation { kind: None, name: None, fields: Vec::new(), persisted })
            }
            (None, None, None) => Err("the request has neither a document nor a persisted one"),
            (_, _, Some(_)) => Err("the request names a persisted document and another beside it"),
        }
    }
}

fn hash(extensions: Option<&Object<'_>>) -> Result<Option<String>, &'static str> {
    let Some(extensions) = extensions else { return Ok(None) };
    let Some(persisted) = extensions.object("persistedQuery")? else { return Ok(None) };
    match persisted.text("sha256Hash")? {
        Some(hash) if !hash.is_empty() => Ok(Some(hash)),
        _ => Err("persistedQuery has no sha256Hash"),
    }
}

/// The one id that is given.
fn single<const N: usize>(
    ids: [Result<Option<String>, &'static str>; N],
) -> Result<Option<String>, &'static str> {
    let mut found = None;
    for id in ids {
        let Some(id) = id? else { continue };
        if id.is_empty() || found.replace(id).is_some() {
            return Err("the id of the persisted document is empty or given twice");
        }
    }
    Ok(found)
}

fn is_hash_of(hash: &str, document: &str) -> bool {
    let digest = Sha256::digest(document.as_bytes());
    hash.len() == digest.len() * 2
        && hash.as_bytes().chunks(2).zip(digest.iter()).all(|(pair, byte)| {
            std::str::from_utf8(pair).is_ok_and(|pair| {
                pair.bytes().all(|b| b.is_ascii_hexdigit())
                    && u8::from_str_radix(pair, 16).is_ok_and(|value| value == *byte)
            })
        })
}

#[cfg(test)]
mod tests;
