//! Masks values in a stream, wherever its chunks break.
//!
//! Invariants: what comes out is what [`Needles::mask`] makes of the whole, but for the length of its
//! masks, however it was cut; how much is held back says nothing of the values; an event leaves when
//! it came, because it ends with a control byte, and no value has one; each byte is looked at a few
//! times at most, however small the pieces are in which it comes.

use super::needles::{MASK, Needles};
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// Masks the values in one stream.
#[derive(Debug)]
pub struct Scrubber {
    needles: Arc<Needles>,
    held: BytesMut,
    /// How many bytes at the start of `held` were part of a value whose mask has left.
    covered: usize,
    /// A mask is as long as what it covers.
    counts: bool,
    /// How many bytes were looked at, each as often as it was.
    #[cfg(test)]
    looked: usize,
}

impl Scrubber {
    /// A scrubber of what `needles` finds.
    pub fn new(needles: Arc<Needles>) -> Self {
        Self {
            needles,
            held: BytesMut::new(),
            covered: 0,
            counts: false,
            #[cfg(test)]
            looked: 0,
        }
    }

    /// The same for a stream that counts its bytes somewhere: each mask is as long as what it
    /// covers.
    #[must_use]
    pub fn counting(self) -> Self {
        Self { counts: true, ..self }
    }

    /// Looks for others from now on: values have come since, or changed.
    pub fn renew(&mut self, needles: &Arc<Needles>) {
        if !Arc::ptr_eq(&self.needles, needles) {
            self.needles = needles.clone();
        }
    }

    /// What may leave now that `chunk` came.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let keep = self.needles.pending(self.held.len(), &chunk);
        if keep > 0 && self.held.is_empty() {
            return self.pass(chunk, keep);
        }
        self.held.extend_from_slice(&chunk);
        if keep == 0 {
            // Not looked at until some of it may leave, so that small pieces cost no look each.
            return Bytes::new();
        }
        let window = self.held.split().freeze();
        self.pass(window, keep)
    }

    /// What is left at the end of the stream. The scrubber is then as new.
    pub fn finish(&mut self) -> Bytes {
        let window = self.held.split().freeze();
        let end = window.len();
        self.pass(window, end)
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// `window` without its values, up to `keep`; the rest is held back.
    fn pass(&mut self, window: Bytes, keep: usize) -> Bytes {
        let covered = std::mem::take(&mut self.covered);
        let found = self.needles.ranges(&window, covered);
        #[cfg(test)]
        {
            self.looked += window.len();
        }
        self.held.extend_from_slice(&window[keep..]);
        self.covered = covered.saturating_sub(keep);
        if found.is_empty() {
            return window.slice(..keep);
        }
        let mut out = BytesMut::with_capacity(keep);
        let mut copied = 0;
        for range in found {
            if range.start >= keep {
                break;
            }
            out.extend_from_slice(&window[copied..range.start]);
            // The mask of what was covered before has left.
            let anew = range.start > 0 || covered == 0;
            if self.counts {
                let hidden = range.end - if anew { range.start } else { covered };
                out.put_bytes(b'*', hidden);
            } else if anew {
                out.extend_from_slice(MASK.as_bytes());
            }
            self.covered = range.end.saturating_sub(keep);
            copied = range.end;
        }
        if copied < keep {
            out.extend_from_slice(&window[copied..keep]);
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use proptest::prelude::*;

    fn needles(values: &[String]) -> Arc<Needles> {
        let secrets: Vec<Secret> =
            values.iter().filter_map(|v| Secret::read(v.clone().into_bytes()).ok()).collect();
        Arc::new(Needles::new(&secrets))
    }

    fn scrubbed(needles: &Arc<Needles>, chunks: &[&[u8]]) -> Vec<u8> {
        let mut scrubber = Scrubber::new(needles.clone());
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(&scrubber.push(Bytes::copy_from_slice(chunk)));
        }
        out.extend_from_slice(&scrubber.finish());
        assert_eq!(scrubber.held(), 0);
        out
    }

    #[test]
    fn a_value_is_found_across_every_border() {
        let needles = needles(&["hunter22!".into()]);
        let text = b"a hunter22! b h%75nter22%21 c aHVudGVyMjIh d";
        for at in 0..text.len() {
            let (a, b) = text.split_at(at);
            assert_eq!(scrubbed(&needles, &[a, b]), b"a *** b *** c *** d", "{at}");
        }
        let singles: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(scrubbed(&needles, &singles), b"a *** b *** c *** d");
    }

    #[test]
    fn an_event_leaves_at_once() {
        let needles = needles(&["hunter22".into()]);
        let mut scrubber = Scrubber::new(needles);
        let event = Bytes::from_static(b"data: {\"x\":1}\n\n");
        let out = scrubber.push(event.clone());
        assert_eq!(out, event);
        assert_eq!(out.as_ptr(), event.as_ptr(), "not copied");
        assert_eq!(scrubber.held(), 0);
    }

    #[test]
    fn what_overlaps_a_mask_that_left_is_not_let_out() {
        let needles = needles(&["abcdefgh".into(), "efghijkl".into()]);
        // What may leave ends before the two, at each place within them, and behind them.
        for (fill, counts) in (1000..1040).flat_map(|n| [(n, false), (n, true)]) {
            let mut scrubber = Scrubber { counts, ..Scrubber::new(needles.clone()) };
            let long = format!("{}abcdefgh", "-".repeat(1020));
            let mut out = scrubber.push(Bytes::from(long)).to_vec();
            for piece in ["ijkl".to_owned(), "+".repeat(fill), "+".repeat(40)] {
                out.extend_from_slice(&scrubber.push(Bytes::from(piece)));
            }
            out.extend_from_slice(&scrubber.finish());
            let mask = if counts { "************" } else { "***" };
            let expected = format!("{}{mask}{}", "-".repeat(1020), "+".repeat(fill + 40));
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{fill}");
        }
    }

    #[test]
    fn small_pieces_cost_no_more_looks_than_large_ones() {
        for value in ["hunter22-hunter22-9".to_owned(), "eyJ9".repeat(875)] {
            let needles = needles(&[value]);
            let many = 300_000;
            for size in [1, 7, 4096] {
                let mut scrubber = Scrubber::new(needles.clone());
                for _ in 0..many / size {
                    scrubber.push(Bytes::from(vec![b'x'; size]));
                }
                scrubber.finish();
                assert!(scrubber.looked <= 10 * many, "{} in {size}", scrubber.looked);
            }
        }
    }

    /// What a simple reading says: from each position of the whole text each spelling, byte for
    /// byte, each byte as it stands or as an escape of it.
    fn naive(values: &[String], text: &[u8]) -> Vec<u8> {
        let forms: Vec<Vec<u8>> = values
            .iter()
            .flat_map(|value| super::super::forms::of(value))
            .map(|f| f.to_vec())
            .collect();
        let mut found = Vec::new();
        for start in 0..text.len() {
            for form in &forms {
                let mut ends = std::collections::BTreeSet::from([start]);
                for want in form {
                    let mut after = std::collections::BTreeSet::new();
                    for at in ends.into_iter().filter(|at| *at < text.len()) {
                        if text[at] == *want {
                            after.insert(at + 1);
                        }
                        if let Some((byte, width)) = super::super::escape::read(&text[at..])
                            && byte == *want
                        {
                            after.insert(at + width);
                        }
                    }
                    ends = after;
                }
                found.extend(ends.into_iter().map(|end| (start, end)));
            }
        }
        found.sort_unstable();
        let (mut out, mut end, mut copied) = (Vec::new(), 0, 0);
        for (a, b) in found {
            if a >= end {
                out.extend_from_slice(&text[copied.max(end).min(a)..a]);
                out.extend_from_slice(b"***");
            }
            end = end.max(b);
            copied = end;
        }
        out.extend_from_slice(&text[copied..]);
        out
    }

    /// Text that is full of values, halves of values and escapes.
    fn text(values: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
        let piece = (0..values.len(), 0..14_u8, 0..20_usize).prop_map(move |(which, how, cut)| {
            use base64::Engine;
            let value = values[which].as_bytes();
            let cut = cut.min(value.len());
            match how {
                0 => value.to_vec(),
                1 => value[..cut].to_vec(),
                2 => value[cut..].to_vec(),
                3 => value.iter().flat_map(|b| format!("%{b:02x}").into_bytes()).collect(),
                4 => {
                    let mut out = value[..cut].to_vec();
                    out.extend(value[cut..].iter().flat_map(|b| format!("%{b:02X}").into_bytes()));
                    out
                }
                5 => {
                    let whole = [&b"user:pass:"[..cut.min(10)], value].concat();
                    base64::engine::general_purpose::STANDARD.encode(whole).into_bytes()
                }
                6 => b"%2"[..cut % 3].to_vec(),
                7 => b"\\u002"[..cut % 6].to_vec(),
                8 => {
                    let mut out = value[..cut].to_vec();
                    out.extend(
                        value[cut..].iter().flat_map(|b| format!("\\u{b:04x}").into_bytes()),
                    );
                    out
                }
                9 => value
                    .iter()
                    .zip((cut..).map(|n| n % 4))
                    .flat_map(|(b, how)| match how {
                        0 if b.is_ascii_punctuation() => vec![b'\\', *b],
                        1 => format!("&#{b:03};").into_bytes(),
                        2 => format!("&#x{b:X};").into_bytes(),
                        _ => vec![*b],
                    })
                    .collect(),
                10 => b"\\\\\\"[..cut % 4].to_vec(),
                11 => b"&#x0"[..cut % 5].to_vec(),
                12 => b"\n".to_vec(),
                _ => b"x".repeat(cut * 9),
            }
        });
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn however_a_stream_is_cut_it_comes_out_as_a_naive_reader_would_mask_it(
            (values, text, cuts) in proptest::collection::vec("[abc%/+=2\\\\&x]{8,11}", 1..4)
                .prop_flat_map(|values| {
                    let cuts = proptest::collection::vec(1..16_usize, 1..20);
                    (Just(values.clone()), text(values), cuts)
                })
        ) {
            let needles = needles(&values);
            let mut chunks: Vec<&[u8]> = Vec::new();
            let mut rest = &text[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            let wanted = naive(&values, &text);
            prop_assert_eq!(&*needles.mask(&text), &wanted[..], "whole");
            let out = scrubbed(&needles, &chunks);
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&wanted));
            let mut counting = Scrubber::new(needles.clone()).counting();
            let mut out = Vec::new();
            for chunk in &chunks {
                out.extend_from_slice(&counting.push(Bytes::copy_from_slice(chunk)));
            }
            out.extend_from_slice(&counting.finish());
            let mut stars = text.clone();
            for range in needles.ranges(&text, 0) {
                stars[range].fill(b'*');
            }
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&stars));
        }
    }
}
