//! Where the messages of a gRPC body end: what was held back leaves with the end of its message,
//! because the client may have to answer it before there is another.

/// The length before each message: a flag and four bytes, big-endian (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// Follows the messages of one body.
#[derive(Debug, Default)]
pub(super) struct Messages {
    prefix: [u8; PREFIX],
    have: usize,
    left: usize,
}

impl Messages {
    /// Reads on in `data`: where in it the last message ends that comes to its end there.
    pub(super) fn ended(&mut self, data: &[u8]) -> Option<usize> {
        let (mut at, mut last) = (0, None);
        while at < data.len() {
            if self.left > 0 {
                let taken = self.left.min(data.len() - at);
                at += taken;
                self.left -= taken;
            } else {
                self.prefix[self.have] = data[at];
                at += 1;
                self.have += 1;
                if self.have < PREFIX {
                    continue;
                }
                let [_, length @ ..] = self.prefix;
                self.have = 0;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            }
            if self.left == 0 {
                last = Some(at);
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_its_length_says_however_it_is_cut() {
        let wire = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x02de";
        assert_eq!(Messages::default().ended(wire), Some(wire.len()));
        assert_eq!(Messages::default().ended(&wire[..7]), None);
        assert_eq!(Messages::default().ended(&wire[..10]), Some(8));
        let mut messages = Messages::default();
        let ends: Vec<usize> =
            (0..wire.len()).filter(|at| messages.ended(&wire[*at..=*at]).is_some()).collect();
        assert_eq!(ends, [7, 12, 19]);
    }
}
