//! Approval: requests that no rule covers and nobody forbade, put before the operator.
//!
//! Owns what the operator is shown beside such a request (`risk`).

pub mod risk;
