//! The approval pane: what waits for an answer, on a terminal.
//!
//! Owns the picture and the keys. `Model` is all it knows, `update` what a message does to it and
//! what is to be done because of that, `view` the picture: all three are pure, and time comes in as
//! a message. `run` is the loop around them, `link` the gateway at the other end, `terminal` what
//! is owed to the user's terminal. Invariants: nothing is approved but by the operator's key on
//! what has stood on the screen; everything foreign is shown through `addr::Shown`; closing the
//! pane answers nothing.

mod ansi;
mod clock;
mod cursor;
mod frames;
mod keys;
mod line;
mod link;
mod model;
mod page;
mod prompt;
mod queue;
mod run;
mod strip;
mod terminal;
mod theme;
mod traffic;
mod update;
mod view;

pub use clock::Now;
pub use keys::{Action, Binding, KEYS, Key, Place, markdown};
pub use model::{
    Done, Effect, Focus, Link, Model, Msg, Read, Reading, Refusal, Remark, Screen, Setting,
};
pub use queue::Number;
pub use run::{Ended, Options, run};
pub use theme::{Theme, Tone};
pub use update::update;
pub use view::view;
