//! Long streams: events, WebSocket messages, and bulk.

use crate::clock::{Clock, Tally};
use crate::load::{Failure, ORIGIN, Way, get, over_http1};
use crate::origin::now;
use http::Uri;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What one read of bulk takes at most.
const READ: usize = 256 << 10;
const MIB: u64 = 1 << 20;

/// Reads bytes as fast as they come; an operation is a MiB.
pub(crate) async fn bulk(way: &Way, clock: &Clock, tally: &mut Tally) -> Result<(), Failure> {
    let mut stream = way.raw(ORIGIN, way.origin.bulk).await?;
    stream.write_u8(1).await?;
    let (mut buffer, mut rest) = (vec![0; READ], 0_u64);
    while clock.runs() {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err("the stream ended".into());
        }
        rest += read as u64;
        clock.add(tally, rest / MIB);
        rest %= MIB;
    }
    Ok(())
}

/// Takes events; each says when it was sent.
pub(crate) async fn events(way: &Way, clock: &Clock, tally: &mut Tally) -> Result<(), Failure> {
    let mut sender = over_http1(way.tls(ORIGIN, &way.http1).await?).await?;
    let request = get(&Uri::from_static("/events"), &way.authority());
    let mut body = sender.send_request(request).await?.into_body();
    let mut text = Vec::new();
    while clock.runs() {
        let Some(frame) = body.frame().await else { return Err("the stream ended".into()) };
        let Ok(data) = frame?.into_data() else { continue };
        // Under load events come together, and the last one in halves.
        text.extend_from_slice(&data);
        while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
            took(&text[..end], clock, tally);
            text.drain(..end + 2);
        }
    }
    Ok(())
}

/// Takes messages; each says when it was sent.
pub(crate) async fn messages(way: &Way, clock: &Clock, tally: &mut Tally) -> Result<(), Failure> {
    let mut stream = way.tls(ORIGIN, &way.http1).await?;
    let head = format!(
        "GET /socket HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        way.authority()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    if !answer.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&answer).into());
    }
    let mut frame = [0; 22];
    while clock.runs() {
        stream.read_exact(&mut frame).await?;
        took(&frame, clock, tally);
    }
    Ok(())
}

/// Counts an event by the time that stands at its end.
fn took(event: &[u8], clock: &Clock, tally: &mut Tally) {
    let digits = event.get(event.len().saturating_sub(20)..).unwrap_or_default();
    let sent = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok());
    match sent {
        Some(sent) => clock.note(tally, Duration::from_micros(now().saturating_sub(sent))),
        None => tally.fail(&"an event without its time"),
    }
}
