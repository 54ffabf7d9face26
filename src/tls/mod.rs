//! The gateway's CA, leaves, the ClientHello reader, and verification of origins.
