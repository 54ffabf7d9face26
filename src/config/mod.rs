//! The config file: what was typed, made into what it means.
