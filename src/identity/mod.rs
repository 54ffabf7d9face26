//! Which uid and which process stands at the other end of an accepted connection.
