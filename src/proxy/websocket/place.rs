//! Where a stream of frames stands: between two, or inside one.
//!
//! Owns counting, and no rule: it follows any frames, extended or not, whoever sends them.

/// The longest header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// Follows a direction byte for byte.
#[derive(Clone, Debug, Default)]
pub struct Place {
    header: [u8; MAX_HEADER],
    /// Bytes of the header that came.
    came: usize,
    /// Bytes of the payload that are still to come.
    left: u64,
    /// A close frame came, whole.
    pub closed: bool,
}

impl Place {
    /// Whether a frame has begun and not ended: another can't follow yet.
    pub fn is_inside(&self) -> bool {
        self.came > 0
    }

    /// Follows `bytes`.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.step(bytes)..];
        }
    }

    /// Follows `bytes` at most to the end of the present frame; gives how many that were.
    pub fn step(&mut self, bytes: &[u8]) -> usize {
        let mut n = 0;
        while self.came < self.size() {
            let Some(byte) = bytes.get(n) else { return n };
            self.header[self.came] = *byte;
            self.came += 1;
            n += 1;
            if self.came == self.size() {
                self.left = self.payload();
            }
        }
        let some = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - n);
        self.left -= some as u64;
        if self.left == 0 {
            self.closed |= self.header[0] & 0x0f == 8;
            self.came = 0;
        }
        n + some
    }

    /// The size of the header, as far as it is known.
    fn size(&self) -> usize {
        if self.came < 2 {
            return 2;
        }
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn payload(&self) -> u64 {
        let [_, second, a, b, c, d, e, f, g, h, ..] = self.header;
        match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Opcode, encode, encode_close};
    use super::*;

    #[test]
    fn it_is_between_frames_exactly_at_their_ends() {
        let mut all = Vec::new();
        let mut ends = Vec::new();
        for (size, mask) in
            [(0, None), (5, Some([1, 2, 3, 4])), (200, None), (70_000, Some([0; 4]))]
        {
            all.extend_from_slice(&encode(Opcode::Binary, &vec![1; size], mask));
            ends.push(all.len());
        }
        let mut place = Place::default();
        for (i, byte) in all.iter().enumerate() {
            place.pass(&[*byte]);
            assert_eq!(!place.is_inside(), ends.contains(&(i + 1)), "{i}");
        }
        let mut whole = Place::default();
        whole.pass(&all);
        assert!(!whole.is_inside() && !whole.closed);
        whole.pass(&encode_close(1000, "", None));
        assert!(!whole.is_inside() && whole.closed);
    }

    #[test]
    fn a_step_stops_at_the_end_of_the_frame() {
        let mut two = encode(Opcode::Text, b"hello", None).to_vec();
        let one = two.len();
        two.extend_from_slice(&encode(Opcode::Text, b"again", None));
        let mut place = Place::default();
        place.pass(&two[..3]);
        assert_eq!(place.step(&two[3..]), one - 3);
        assert!(!place.is_inside());
    }
}
