//! WebSocket (RFC 6455) as bytes: frames in, messages out, each with the bytes to forward.
//!
//! What an origin that got a credential sends is written anew, frame by frame, without it (I4).
//!
//! Owns the framing rules and the `Sec-WebSocket-Accept` check; not the handshake's HTTP, no I/O,
//! and no judgement of a message. Extensions are never negotiated where messages are judged, so
//! a reserved bit is an error.
//!
//! Invariant (I3): a text message comes out whole, with exactly the bytes that carried it, and
//! nothing of it is to be forwarded before it was judged; bytes that are not a well-formed frame
//! end the stream, and no later byte of it comes out.

mod decoder;
mod frame;
mod handshake;
mod place;
mod scrub;

pub use decoder::{Decoder, Event, Part};
pub use frame::{FrameError, MAX_CONTROL, Opcode, Side, encode, encode_close};
pub use handshake::accept_for;
pub use place::Place;
pub use scrub::Scrubbed;
