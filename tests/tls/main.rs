//! TLS on both sides: the CA, its leaves, clients and origins.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod tls_kit;

mod ca;
mod clients;
mod hello;
mod intercept;
mod leaf;
mod origins;
