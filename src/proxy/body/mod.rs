//! Bodies in both directions: counted, bounded in time, cut when they must end.
//!
//! [`UpBody`] goes to the origin, [`DownBody`] to the client. The end of a [`DownBody`] closes the
//! record and gives the connection back.

mod client;
mod down;
mod kept;
mod pace;
mod up;

pub(crate) use client::ClientBody;
pub(crate) use down::{DownBody, Lease, Streaming};
pub(crate) use pace::{Pace, Upload};
pub(crate) use up::{Peeked, UpBody};

use super::refuse::Refusal;
use super::scrub::{DecodeError, Unread};
use crate::policy::Code;
use crate::upstream::http::HttpError;
use bytes::Bytes;

/// Why a body stopped before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client's connection.
    #[error(transparent)]
    Hyper(hyper::Error),
    /// The client's connection, asked once more.
    #[error("the client's body broke off")]
    Broken {
        /// The client has gone; otherwise what it sends is malformed.
        left: bool,
    },
    /// The client's stream.
    #[error("{0}")]
    Http2(#[source] h2::Error),
    /// The origin's connection.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It can't be looked through for what must not reach the client.
    #[error(transparent)]
    Unread(DecodeError),
    /// Cut by the gateway.
    #[error("ended by the gateway: {}", .0.as_str())]
    Cut(Code),
    /// Its record is closed; an HTTP/2 origin hears that the stream was cancelled.
    #[error("its answer is over")]
    Over(#[source] h2::Error),
}

impl From<Unread> for BodyError {
    fn from(error: Unread) -> Self {
        match error {
            Unread::Http(error) => Self::Http(error),
            Unread::Decode(error) => Self::Unread(error),
        }
    }
}

impl BodyError {
    /// What the record of an answer that broke off says.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Unread(_) => Code::UpstreamProtocol,
            Self::Http(error) if error.is_protocol() => Code::UpstreamProtocol,
            Self::Hyper(_)
            | Self::Broken { .. }
            | Self::Http2(_)
            | Self::Http(_)
            | Self::Over(_) => Code::UpstreamClosed,
            Self::Cut(code) => *code,
        }
    }
}

/// The refusal for a client's body that broke off: it can hardly be told, but the record says whose
/// doing it was.
pub(crate) fn broken(error: &(dyn std::error::Error + 'static)) -> Refusal {
    if has_left(error) {
        return Refusal::unjudged(Code::ClientGone, "the client left before its body was whole")
            .closing();
    }
    let detail = "the client's body is malformed, or ended before its end";
    Refusal::unjudged(Code::BadFraming, detail).closing()
}

/// Whether it was the client's connection that ended, or the client took its stream back.
fn has_left(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind;
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_remote() || error.is_io();
        }
        if let Some(BodyError::Broken { left }) = error.downcast_ref::<BodyError>() {
            return *left;
        }
        error.downcast_ref::<std::io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
            )
        })
    })
}

fn len(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}
