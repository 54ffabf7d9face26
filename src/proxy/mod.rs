//! One connection, one request, end to end.
