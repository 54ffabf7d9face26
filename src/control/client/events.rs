//! The stream of events, one typed event at a time.

use super::call::{Ask, Driver};
use super::{Answer, Client};
use crate::control::frame;
use crate::control::wire::Event;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a line may be: an entry with its preview, escaped, is the longest.
const LINE: usize = 4 << 20;
/// How long the gateway may be silent: it says something every 15 seconds.
const SILENCE: Duration = Duration::from_secs(50);

/// An open stream of events. Dropping it closes it.
pub struct Events {
    client: Client,
    body: Incoming,
    driver: Option<Driver>,
    heard: Instant,
    lines: Lines,
    ready: VecDeque<Event>,
}

impl Events {
    pub(super) async fn open(client: &Client, ask: Ask) -> Answer<Self> {
        let sent = timeout(client.answer, client.send(ask)).await;
        let (response, driver) = sent.map_err(|_| client.late())??;
        Ok(Self {
            client: client.clone(),
            body: response.into_body(),
            driver: Some(driver),
            heard: Instant::now(),
            lines: Lines::default(),
            ready: VecDeque::new(),
        })
    }

    /// The next event; `None` where the gateway ended the stream. Cancel safe: an event that was
    /// not returned is returned next time. After an error or `None` the stream is at its end.
    pub async fn next(&mut self) -> Option<Answer<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let driver = self.driver.as_mut()?;
            let frame = timeout_at(self.heard + SILENCE, driver.drive(self.body.frame())).await;
            let read = match frame {
                Err(_) => Err(format!("it was silent for {} s", SILENCE.as_secs())),
                Ok(None) => {
                    self.driver = None;
                    return None;
                }
                Ok(Some(Err(error))) => Err(error.to_string()),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => self.lines.read(&bytes, &mut self.ready),
                    Err(_) => Ok(()),
                },
            };
            self.heard = Instant::now();
            if let Err(why) = read {
                self.driver = None;
                return Some(Err(self.client.broken(why)));
            }
        }
    }
}

/// Lines of a stream, put together to events (WHATWG HTML, "server-sent events": one `event` and
/// one `data` line, as our server writes them; comments and other fields are passed over).
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    tag: String,
    data: String,
}

impl Lines {
    fn read(&mut self, mut bytes: &[u8], ready: &mut VecDeque<Event>) -> Result<(), String> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..end])?;
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.take(std::str::from_utf8(&line).map_err(|error| error.to_string())?, ready)?;
        }
        self.keep(bytes)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.line.len() + bytes.len() > LINE {
            return Err(format!("a line of its events is longer than {} MiB", LINE >> 20));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take(&mut self, line: &str, ready: &mut VecDeque<Event>) -> Result<(), String> {
        if let Some(tag) = line.strip_prefix("event: ") {
            tag.clone_into(&mut self.tag);
        } else if let Some(data) = line.strip_prefix("data: ") {
            data.clone_into(&mut self.data);
        } else if line.is_empty() && !self.tag.is_empty() {
            let (tag, data) = (std::mem::take(&mut self.tag), std::mem::take(&mut self.data));
            let event = frame::read(&tag, &data);
            ready.extend(event.map_err(|error| format!("its event `{tag}`: {error}"))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text = b": heart\n\nevent: missed\ndata: {\"missed\":1}\n\nevent: newer\ndata: 1\n\n\
                     id: 7\nevent: missed\ndata: {\"missed\":2}\n\n";
        for cut in 1..text.len() {
            let (mut lines, mut ready) = (Lines::default(), VecDeque::new());
            for part in text.chunks(cut) {
                lines.read(part, &mut ready).unwrap();
            }
            assert_eq!(ready, [Event::Missed { missed: 1 }, Event::Missed { missed: 2 }]);
        }
    }

    #[test]
    fn a_line_without_an_end_is_an_error_before_it_fills_the_memory() {
        let (mut lines, mut ready) = (Lines::default(), VecDeque::new());
        let part = vec![b'x'; 1 << 20];
        for _ in 0..4 {
            lines.read(&part, &mut ready).unwrap();
        }
        assert!(lines.read(&part, &mut ready).unwrap_err().contains("longer than 4 MiB"));
    }
}
