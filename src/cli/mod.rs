//! Commands, printing, exit codes.
