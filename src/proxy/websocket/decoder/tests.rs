//! Streams of frames, one law a test.

use super::super::frame::{encode, encode_close};
use super::*;

const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

/// A client's frame with any first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = encode(Opcode::Binary, payload, MASK).to_vec();
    bytes[0] = first;
    bytes
}

fn all(decoder: &mut Decoder) -> Result<Vec<Event>, FrameError> {
    let mut events = Vec::new();
    while let Some(event) = decoder.next()? {
        events.push(event);
    }
    Ok(events)
}

fn decode(bytes: &[u8]) -> Result<Vec<Event>, FrameError> {
    let mut decoder = Decoder::new(Side::Client, 64);
    decoder.push(bytes);
    all(&mut decoder)
}

fn text(text: &str, wire: &[u8]) -> Event {
    Event::Text { text: text.to_owned(), wire: Bytes::copy_from_slice(wire) }
}

#[test]
fn a_text_message_comes_out_with_the_bytes_that_carried_it() {
    let wire = frame(0x81, "grüße".as_bytes());
    assert_eq!(decode(&wire), Ok(vec![text("grüße", &wire)]));
}

#[test]
fn bytes_that_come_one_by_one_say_the_same() {
    let parts = [frame(0x01, b"{\"a\":"), frame(0x80, b"1}"), frame(0x81, b""), frame(0x89, b"x")];
    let stream = parts.concat();
    let mut decoder = Decoder::new(Side::Client, 64);
    let mut events = Vec::new();
    for byte in &stream {
        decoder.push(&[*byte]);
        events.extend(all(&mut decoder).unwrap());
    }
    assert_eq!(events, decode(&stream).unwrap());
    assert_eq!(events.len(), 3);
    assert!(decoder.is_at_rest());
}

#[test]
fn control_frames_pass_between_fragments_and_the_message_stays_whole() {
    let (first, ping, last) = (frame(0x01, b"one "), frame(0x89, b"?"), frame(0x80, b"two"));
    let events = decode(&[&first[..], &ping, &last].concat()).unwrap();
    let wire = [&first[..], &last].concat();
    let beat = Event::Beat { wire: Bytes::from(ping) };
    assert_eq!(events, [beat, text("one two", &wire)]);
}

#[test]
fn nothing_of_a_text_message_comes_out_before_its_end() {
    let mut decoder = Decoder::new(Side::Client, 64);
    decoder.push(&frame(0x01, b"one"));
    decoder.push(&frame(0x80, b"two")[..7]);
    assert_eq!(decoder.next(), Ok(None));
    assert!(!decoder.is_at_rest());
}

#[test]
fn a_character_split_between_fragments_is_whole_again() {
    let bytes = "ü".as_bytes();
    let stream = [frame(0x01, &bytes[..1]), frame(0x80, &bytes[1..])].concat();
    assert_eq!(decode(&stream).unwrap(), [text("ü", &stream)]);
    assert_eq!(decode(&frame(0x81, &bytes[..1])), Err(FrameError::Utf8));
}

#[test]
fn fragments_out_of_order_are_refused() {
    for stream in [
        frame(0x80, b""),
        [frame(0x01, b""), frame(0x81, b"")].concat(),
        [frame(0x01, b""), frame(0x82, b"")].concat(),
        [frame(0x02, b""), frame(0x81, b"")].concat(),
        [frame(0x81, b""), frame(0x80, b"")].concat(),
    ] {
        let mut decoder = Decoder::new(Side::Client, 64);
        decoder.push(&stream);
        let error = std::iter::repeat_with(|| decoder.next()).find_map(Result::err);
        assert_eq!(error, Some(FrameError::Order));
    }
}

#[test]
fn a_message_over_the_limit_is_refused_at_its_header() {
    assert_eq!(decode(&frame(0x81, &[b'a'; 65])[..6]), Err(FrameError::TooLong));
    assert!(decode(&frame(0x81, &[b'a'; 64])).is_ok());
    let stream = [frame(0x01, &[b'a'; 64]), frame(0x80, b"b")].concat();
    assert_eq!(decode(&stream), Err(FrameError::TooLong));
    let huge = b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask";
    assert_eq!(decode(huge), Err(FrameError::TooLong));
}

#[test]
fn empty_fragments_without_end_are_refused() {
    let mut decoder = Decoder::new(Side::Client, 64);
    decoder.push(&frame(0x01, b""));
    let mut taken = 0;
    while decoder.next().is_ok() {
        decoder.push(&frame(0x00, b""));
        taken += 1;
    }
    assert_eq!(taken, MAX_FRAGMENTS);
    assert_eq!(decoder.next(), Err(FrameError::TooLong));
}

#[test]
fn binary_messages_are_not_gathered() {
    let whole = frame(0x82, &[7; 300]);
    let mut decoder = Decoder::new(Side::Client, 64);
    decoder.push(&whole[..100]);
    let part = |range: std::ops::Range<usize>, part| {
        Ok(Some(Event::Binary { wire: Bytes::copy_from_slice(&whole[range]), part }))
    };
    assert_eq!(decoder.next(), part(0..100, Part::First));
    assert_eq!(decoder.next(), Ok(None));
    decoder.push(&whole[100..200]);
    assert_eq!(decoder.next(), part(100..200, Part::Middle));
    decoder.push(&whole[200..]);
    decoder.push(&whole);
    assert_eq!(decoder.next(), part(200..whole.len(), Part::Last));
    assert_eq!(decoder.next(), part(0..whole.len(), Part::Whole));
    assert!(decoder.is_at_rest());
}

#[test]
fn a_binary_message_in_fragments_lets_control_frames_between() {
    let stream = [frame(0x02, b"a"), frame(0x8a, b""), frame(0x00, b""), frame(0x80, b"b")];
    let parts: Vec<_> = decode(&stream.concat())
        .unwrap()
        .into_iter()
        .map(|event| match event {
            Event::Binary { part, .. } => Some(part),
            Event::Beat { .. } => None,
            Event::Text { .. } | Event::Close { .. } => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(parts, [Some(Part::First), None, Some(Part::Middle), Some(Part::Last)]);
}

#[test]
fn a_close_frame_is_the_last() {
    let close = encode_close(1000, "bye", MASK);
    assert_eq!(decode(&close), Ok(vec![Event::Close { code: Some(1000), wire: close.clone() }]));
    let mut decoder = Decoder::new(Side::Client, 64);
    decoder.push(&close);
    decoder.push(&frame(0x81, b"more"));
    assert!(decoder.next().unwrap().is_some());
    assert_eq!(decoder.next(), Err(FrameError::AfterClose));
    let empty = frame(0x88, b"");
    let wire = Bytes::from(empty.clone());
    assert_eq!(decode(&empty), Ok(vec![Event::Close { code: None, wire }]));
}

#[test]
fn close_frames_with_bad_codes_or_reasons_are_refused() {
    assert_eq!(decode(&frame(0x88, b"\x03")), Err(FrameError::CloseCode));
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
        assert_eq!(decode(&encode_close(code, "", MASK)), Err(FrameError::CloseCode), "{code}");
    }
    assert_eq!(decode(&frame(0x88, b"\x03\xe8\xff")), Err(FrameError::Utf8));
}

#[test]
fn an_error_stays_and_no_later_byte_comes_out() {
    let mut decoder = Decoder::new(Side::Client, 64);
    decoder.push(b"\xc1\x80");
    assert_eq!(decoder.next(), Err(FrameError::Reserved));
    decoder.push(&frame(0x81, b"fine"));
    assert_eq!(decoder.next(), Err(FrameError::Reserved));
    assert!(!decoder.is_at_rest());
}

#[test]
fn a_servers_frames_are_unmasked() {
    let mut decoder = Decoder::new(Side::Server, 64);
    let wire = encode(Opcode::Text, b"hi", None);
    decoder.push(&wire);
    assert_eq!(decoder.next(), Ok(Some(text("hi", &wire))));
    decoder.push(&frame(0x81, b"hi"));
    assert_eq!(decoder.next(), Err(FrameError::Mask));
}
