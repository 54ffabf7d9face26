//! Writes and rotates the traffic files; nothing passes that can't be recorded (I5).
