//! The one place that spawns: drain, deadline, kill.
