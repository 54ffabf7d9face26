//! Bodies that must be read to judge, or to rewrite: buffered to a stated limit, never let through
//! beyond it, and all those of a sandbox in the room that it has for them.

use super::body::{ClientBody, Peeked};
use super::inference::{Calls, rooms};
use super::refuse::Refusal;
use crate::policy::body::{NO_POST, graphql, rpc};
use crate::policy::{BodyNeed, BodyProtocol, BodySource, Code, OwnedBody};
use crate::record::Facts;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// A body that was read, and what it says. Empty where no rule needed it.
#[derive(Debug, Default)]
pub(crate) struct JudgedBody {
    bytes: Option<Bytes>,
    facts: Option<Box<OwnedBody>>,
}

/// What is to be read, and what of the head says how.
pub(crate) struct Asked<'a> {
    pub(crate) head: &'a http::request::Parts,
    pub(crate) query: Option<&'a str>,
    pub(crate) need: BodyNeed,
}

impl JudgedBody {
    /// A whole body that was read for the operator to see, and that no rule needed.
    pub(crate) fn seen(bytes: Bytes) -> Self {
        Self { bytes: Some(bytes), facts: None }
    }

    /// The bytes that were read.
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        self.bytes.as_ref()
    }

    pub(crate) fn facts(&self) -> Option<&OwnedBody> {
        self.facts.as_deref()
    }

    pub(crate) fn take_facts(&mut self) -> Option<Box<OwnedBody>> {
        self.facts.take()
    }

    /// The bytes that were judged and so are forwarded.
    pub(crate) fn take_bytes(&mut self) -> Option<Bytes> {
        self.bytes.take()
    }

    /// The id of the one JSON-RPC call, for the error object that a refused client gets.
    pub(crate) fn rpc_id(&self) -> Option<String> {
        match self.facts() {
            Some(OwnedBody::Rpc(calls)) => {
                let id = calls.first().and_then(|call| call.id.clone());
                Some(id.unwrap_or_else(|| "null".to_owned()))
            }
            _ => None,
        }
    }

    /// The facts as they stand in the record.
    pub(crate) fn recorded(&self) -> Option<Box<Facts>> {
        recorded(self.facts()?).map(Box::new)
    }
}

/// The facts of a body as they stand in a record.
pub(crate) fn recorded(body: &OwnedBody) -> Option<Facts> {
    match body {
        OwnedBody::Invalid(_) => None,
        OwnedBody::Graphql(operations) => {
            let line = |o: &crate::policy::GraphqlOperation| {
                let kind = match o.kind {
                    None => "persisted",
                    Some(crate::policy::GraphqlKind::Query) => "query",
                    Some(crate::policy::GraphqlKind::Mutation) => "mutation",
                    Some(crate::policy::GraphqlKind::Subscription) => "subscription",
                };
                let name = o.name.as_deref().or(o.persisted.as_deref()).unwrap_or("");
                format!("{kind} {name}{{{}}}", o.fields.join(","))
            };
            Some(Facts::Graphql(operations.iter().map(line).collect()))
        }
        OwnedBody::Rpc(calls) => {
            let line =
                |c: &crate::policy::RpcCall| (c.method.clone().unwrap_or_default(), c.tool.clone());
            Some(Facts::Rpc(calls.iter().map(line).collect()))
        }
    }
}

/// Why a body was not read to its end.
pub(crate) enum Ungathered {
    /// It has more bytes than are read.
    TooLong,
    /// The client's connection, or its framing.
    Broken(Refusal),
}

/// A body with the room that it takes: whoever holds a part of it holds the room.
struct Roomed {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Roomed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Room for `body`, of which at most `limit` bytes are read, where it takes some. A sandbox that holds all
/// it has waits.
pub(crate) async fn room(
    calls: &Calls,
    body: &ClientBody,
    (limit, within): (usize, Duration),
) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
    let hint = http_body::Body::size_hint(body);
    let most = hint
        .upper()
        .map_or(limit, |upper| usize::try_from(upper).map_or(limit, |upper| upper.min(limit)));
    if most == 0 || hint.lower() > limit as u64 {
        // It is not there, or not read.
        return Ok(None);
    }
    tokio::time::timeout(within, calls.room(most)).await.map(Some).map_err(|_| {
        let detail = "the sandbox's other bodies that are read before they go up hold all the room that \
                      there is for them (128 MiB): try again when one of those is answered";
        Refusal::unjudged(Code::NoRoom, detail).closing()
    })
}

/// What `bytes` turned out not to need is given back.
pub(crate) fn fit(room: &mut Option<OwnedSemaphorePermit>, bytes: usize) {
    if let Some(room) = room {
        drop(room.split(room.num_permits().saturating_sub(rooms(bytes))));
    }
}

/// All of a body, as one piece: what came in a million chunks takes no more room than its bytes.
pub(crate) async fn gather(mut body: ClientBody, limit: usize) -> Result<Bytes, Ungathered> {
    let length = http_body::Body::size_hint(&body);
    if length.lower() > limit as u64 {
        return Err(Ungathered::TooLong);
    }
    // As much as it says it has; where it does not say, what was taken beyond its bytes is given back.
    let mut all = match length.exact() {
        Some(length) => BytesMut::with_capacity(usize::try_from(length).unwrap_or(0)),
        None => BytesMut::new(),
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Ungathered::Broken(super::body::broken(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - all.len() {
            return Err(Ungathered::TooLong);
        }
        all.extend_from_slice(&data);
    }
    match all.capacity() > all.len() + all.len() / 4 {
        true => Ok(Bytes::copy_from_slice(&all)),
        false => Ok(all.freeze()),
    }
}

/// Reads `body` as far as `asked.need` allows and understands it.
pub(crate) async fn read(
    asked: Asked<'_>,
    body: &mut Option<ClientBody>,
    (calls, within): (&Calls, Duration),
) -> Result<JudgedBody, Refusal> {
    let limit = asked.need.limit;
    let nowhere = asked.need.source == BodySource::Nowhere;
    // What waits for no body goes on as it came.
    let there = |body: &mut ClientBody| !(nowhere && http_body::Body::is_end_stream(body));
    let Some(incoming) = body.take_if(there) else { return Ok(JudgedBody::default()) };
    let mut room = room(calls, &incoming, (limit, within)).await?;
    let bytes = match tokio::time::timeout(within, gather(incoming, limit)).await {
        Err(_) => {
            let detail = "the body, which must be read to judge it, did not come in time";
            return Err(Refusal::unjudged(Code::BodyTimeout, detail).closing());
        }
        Ok(Err(Ungathered::TooLong)) => {
            let detail = format!(
                "the body must be read to judge it and has more than {limit} bytes; \
                 the operator can raise `buffer` in the gateway's config"
            );
            return Err(Refusal::unjudged(Code::JudgedBodyTooLarge, detail).closing());
        }
        Ok(Err(Ungathered::Broken(refusal))) => return Err(refusal),
        Ok(Ok(bytes)) => bytes,
    };
    fit(&mut room, bytes.len());
    let bytes = Bytes::from_owner(Roomed { bytes, _room: room });
    let facts = (!nowhere || !bytes.is_empty()).then(|| Box::new(understand(&asked, &bytes)));
    Ok(JudgedBody { bytes: Some(bytes), facts })
}

/// Reads all of a body whose first part may have been read already.
pub(crate) async fn whole(
    (first, body): (Option<Peeked>, Option<ClientBody>),
    limit: (usize, &str),
    (calls, within): (&Calls, Duration),
) -> Result<Bytes, Refusal> {
    let (mut all, rest) = match first {
        Some(peeked) => (BytesMut::from(&peeked.first[..]), peeked.rest),
        None => (BytesMut::new(), body),
    };
    let Some(rest) = rest else { return Ok(all.freeze()) };
    // What was read already is at most what is shown of a body.
    let mut room = room(calls, &rest, (limit.0, within)).await?;
    let bytes =
        match tokio::time::timeout(within, gather(rest, limit.0 - all.len().min(limit.0))).await {
            Err(_) => {
                let detail = format!("the body did not come in time, and {}", limit.1);
                return Err(Refusal::unjudged(Code::BodyTimeout, detail).closing());
            }
            Ok(Err(Ungathered::TooLong)) => return Err(too_long(limit)),
            Ok(Err(Ungathered::Broken(refusal))) => return Err(refusal),
            Ok(Ok(bytes)) if all.is_empty() => bytes,
            Ok(Ok(bytes)) => {
                all.extend_from_slice(&bytes);
                all.freeze()
            }
        };
    fit(&mut room, bytes.len());
    Ok(Bytes::from_owner(Roomed { bytes, _room: room }))
}

/// The refusal for a body over `limit`, which says why there is one.
pub(crate) fn too_long((limit, why): (usize, &str)) -> Refusal {
    let detail = format!(
        "the body has more than {limit} bytes, and {why}; \
         the operator can raise `buffer` in the gateway's config"
    );
    Refusal::unjudged(Code::RewrittenBodyTooLarge, detail).closing()
}

fn understand(asked: &Asked<'_>, bytes: &[u8]) -> OwnedBody {
    let headers = &asked.head.headers;
    let read = match (asked.need.source, asked.need.protocol) {
        (BodySource::Nowhere, _) => return OwnedBody::Invalid(NO_POST),
        _ if !super::scrub::coding(headers).is_ok_and(super::scrub::Coding::is_identity) => {
            return OwnedBody::Invalid("the body is compressed, so it can't be judged");
        }
        (BodySource::Query, _) if !bytes.is_empty() => {
            return OwnedBody::Invalid("the operation is in the query, and there is a body");
        }
        (BodySource::Query, _) => graphql::from_get(asked.query).map(OwnedBody::Graphql),
        (BodySource::Body, BodyProtocol::Graphql) => content_type(headers)
            .and_then(|kind| graphql::from_post(kind, bytes, asked.query))
            .map(OwnedBody::Graphql),
        (BodySource::Body, BodyProtocol::Rpc { .. }) => {
            content_type(headers).and_then(|kind| rpc::from_post(kind, bytes)).map(OwnedBody::Rpc)
        }
    };
    read.unwrap_or_else(OwnedBody::Invalid)
}

/// The content type, if one is said. Of two a server may take either.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(kind), None) => kind
            .to_str()
            .map(Some)
            .map_err(|_| "the content type is not ASCII: send application/json"),
        (Some(_), Some(_)) => Err("there are two Content-Type fields: send one, application/json"),
    }
}
