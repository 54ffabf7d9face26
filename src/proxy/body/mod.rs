//! Bodies in both directions: counted, bounded in time, cut when they must end.
//!
//! [`UpBody`] goes to the origin, [`DownBody`] to the client. The end of a [`DownBody`] closes the
//! record and gives the connection back.

mod down;
mod up;

pub(crate) use down::{DownBody, Lease, Streaming};
pub(crate) use up::{Pace, Peeked, UpBody, Upload};

use super::scrub::{DecodeError, Unread};
use crate::policy::Code;
use crate::upstream::http::HttpError;
use bytes::Bytes;

/// Why a body stopped before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client's connection.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
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
            Self::Hyper(_) | Self::Http(_) | Self::Over(_) => Code::UpstreamClosed,
            Self::Unread(_) => Code::UpstreamProtocol,
            Self::Cut(code) => *code,
        }
    }
}

fn len(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}
