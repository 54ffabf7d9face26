//! Model calls: bytes in, bytes out.
//!
//! Owns what is known of providers and of the shapes in which models are asked: which request is
//! which call, where its model stands, how errors and listings are spelled so that each SDK parses
//! them, which route takes a model, and how many tokens an answer says it cost. It opens no
//! connection and holds no key: `proxy` carries what is decided here.
//!
//! A body is never serialised again: the model is replaced in place ([`Body`]), and an answer is
//! read from a tee ([`Meter`]) while its bytes go by unaltered.

mod body;
mod call;
mod error;
mod ledger;
mod listing;
mod made;
mod members;
mod meter;
mod provider;
mod routes;
mod scan;
mod shape;
mod terms;

pub use body::{Body, BodyError};
pub use call::{Call, Operation, SERVED, Work, recognise};
pub use error::error_body;
pub use ledger::{Errors, Ledger, Owed, Spent, Today, Usage};
pub use listing::{listed, one_listed, read_listing};
pub use made::{Kept, Made, REMEMBERED};
pub use meter::{Meter, Tokens};
pub use provider::{Endpoint, EndpointError, Provider};
pub use routes::{Attempt, Budget, Models, Route, RouteError, Routes, Timeouts, matches};
pub use shape::Shape;

/// The name on which models are asked, on http and https, on every port: it is never resolved.
pub const HOST: &str = "inference.local";
