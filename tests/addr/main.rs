//! Hosts, addresses and paths: one parser each, and every trick known against them.

mod class;
mod host;
mod path;
mod shown;
