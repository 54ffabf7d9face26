//! The `portcullis` binary: everything is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: portcullis::cli::Allocator = portcullis::cli::Allocator;

fn main() -> ExitCode {
    portcullis::cli::main()
}
