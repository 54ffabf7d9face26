//! One connection, one request, end to end.

pub mod websocket;
