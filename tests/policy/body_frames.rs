//! Laws of the WebSocket frame codec, over generated streams.

use portcullis::proxy::websocket::{
    Decoder, Event, FrameError, MAX_CONTROL, Opcode, Part, Side, encode, encode_close,
};
use proptest::prelude::*;

const LIMIT: usize = 4096;

fn run(side: Side, chunks: &[&[u8]]) -> (Vec<Event>, Option<FrameError>) {
    let mut decoder = Decoder::new(side, LIMIT);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

/// The same events with the parts of each binary message joined: how a stream was cut into reads
/// shows nowhere else.
fn joined(events: Vec<Event>) -> Vec<(String, Vec<u8>)> {
    let mut out: Vec<(String, Vec<u8>)> = Vec::new();
    for event in events {
        match event {
            Event::Text { text, wire } => out.push((format!("text {text}"), wire.to_vec())),
            Event::Beat { wire } => out.push(("beat".to_owned(), wire.to_vec())),
            Event::Close { code, wire } => out.push((format!("close {code:?}"), wire.to_vec())),
            Event::Binary { wire, part: Part::Whole | Part::First } => {
                out.push(("binary".to_owned(), wire.to_vec()));
            }
            Event::Binary { wire, part: Part::Middle | Part::Last } => {
                // A control frame may stand between: the message goes on where it began.
                let last = out.iter_mut().rev().find(|(kind, _)| kind == "binary");
                last.expect("a binary message began").1.extend_from_slice(&wire);
            }
        }
    }
    out
}

#[derive(Clone, Debug)]
enum Sent {
    Text(Vec<String>),
    Binary(Vec<Vec<u8>>),
    Ping(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = |size| prop::collection::vec(any::<u8>(), 0..=size);
    prop_oneof![
        prop::collection::vec(".{0,40}", 1..4).prop_map(Sent::Text),
        prop::collection::vec(bytes(300), 1..4).prop_map(Sent::Binary),
        bytes(MAX_CONTROL).prop_map(Sent::Ping),
    ]
}

/// The frames of a message: each fragment as a frame of its own.
fn frames(sent: &Sent, mask: Option<[u8; 4]>) -> Vec<u8> {
    let (opcode, parts): (_, Vec<Vec<u8>>) = match sent {
        Sent::Text(parts) => (Opcode::Text, parts.iter().map(|p| p.clone().into_bytes()).collect()),
        Sent::Binary(parts) => (Opcode::Binary, parts.clone()),
        Sent::Ping(payload) => (Opcode::Ping, vec![payload.clone()]),
    };
    let count = parts.len();
    let mut bytes = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        let opcode = if index == 0 { opcode } else { Opcode::Continuation };
        let mut frame = encode(opcode, &part, mask).to_vec();
        if index + 1 < count {
            frame[0] &= 0x7f;
        }
        bytes.extend(frame);
    }
    bytes
}

proptest! {
    #[test]
    fn any_bytes_are_taken_without_a_panic_and_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        cut in 0usize..400,
    ) {
        for side in [Side::Client, Side::Server] {
            let (left, right) = bytes.split_at(cut.min(bytes.len()));
            let whole = run(side, &[&bytes]);
            let cut = run(side, &[left, right]);
            prop_assert_eq!(whole.1, cut.1);
            prop_assert_eq!(joined(whole.0), joined(cut.0));
        }
    }

    #[test]
    fn what_was_sent_comes_out_and_its_bytes_are_those_that_came(
        messages in prop::collection::vec(sent(), 0..6),
        mask in any::<[u8; 4]>(),
        sizes in prop::collection::vec(1usize..50, 1..20),
        client in any::<bool>(),
    ) {
        let (side, mask) = if client { (Side::Client, Some(mask)) } else { (Side::Server, None) };
        let mut stream: Vec<u8> = messages.iter().flat_map(|sent| frames(sent, mask)).collect();
        stream.extend_from_slice(&encode_close(1008, "no", mask));
        let mut chunks = Vec::new();
        let mut rest = &stream[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        let (events, error) = run(side, &chunks);
        prop_assert_eq!(error, None);
        let out = joined(events);
        prop_assert_eq!(out.len(), messages.len() + 1);
        let wire: Vec<u8> = out.iter().flat_map(|(_, wire)| wire.clone()).collect();
        prop_assert_eq!(wire, stream);
        for (sent, (kind, _)) in messages.iter().zip(&out) {
            let expected = match sent {
                Sent::Text(parts) => format!("text {}", parts.concat()),
                Sent::Binary(_) => "binary".to_owned(),
                Sent::Ping(_) => "beat".to_owned(),
            };
            prop_assert_eq!(kind, &expected);
        }
    }

    #[test]
    fn a_text_message_over_the_limit_is_refused_before_it_is_here(extra in 1usize..200_000) {
        let frame = encode(Opcode::Text, &vec![b'a'; LIMIT + extra], Some([0; 4]));
        let (events, error) = run(Side::Client, &[&frame[..16]]);
        prop_assert!(events.is_empty());
        prop_assert_eq!(error, Some(FrameError::TooLong));
    }
}
