//! Whose connection it is, and which process opened it.

#[path = "../kit/common/mod.rs"]
mod common;
#[path = "../kit/operation/mod.rs"]
mod operation_kit;

mod peers;
mod process;
