//! Resolve, guard, dial: nothing is dialled but a pinned target (I2).
