//! An answer on its way to the client: read along for what it cost, and without any credential.
//!
//! Bytes leave when they come; only what may be the beginning of a credential waits for the
//! next ones.

use super::account::{Account, Took};
use crate::inference::Meter;
use crate::policy::{Code, ErrorKind};
use crate::record::Record;
use crate::secret::{Scrubber, Watchlist};
use crate::vault::Held;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What reads along with one answer.
#[derive(Debug)]
pub(crate) struct Tee {
    meter: Option<Meter>,
    scrubber: Option<(Watchlist, Scrubber)>,
    /// What went up is looked for as long as the answer comes.
    #[expect(dead_code, reason = "held for its drop")]
    held: Option<Arc<Held>>,
    account: Account,
    started: Instant,
    /// From the start to the first token.
    first: Option<Duration>,
}

impl Tee {
    /// A tee on an answer that must not show what is `known`; without a meter nothing is counted but that it
    /// failed.
    pub(super) fn new(
        meter: Option<Meter>,
        (known, held): (Option<Watchlist>, Option<Arc<Held>>),
        (account, started): (Account, Instant),
    ) -> Self {
        let scrubber = known.map(|known| {
            let scrubber = Scrubber::new(known.needles());
            (known, scrubber)
        });
        Self { meter, scrubber, held, account, started, first: None }
    }

    /// What leaves now that `data` came, the last of the answer if `last`.
    pub(crate) fn read(&mut self, data: Bytes, last: bool) -> Bytes {
        if let Some(meter) = &mut self.meter {
            meter.feed(&data);
            if self.first.is_none() && meter.began() {
                self.first = Some(self.started.elapsed());
            }
        }
        let Some((known, scrubber)) = &mut self.scrubber else { return data };
        scrubber.renew(&known.needles());
        let out = scrubber.push(data);
        if !last {
            return out;
        }
        let rest = scrubber.finish();
        if rest.is_empty() {
            return out;
        }
        let mut whole = BytesMut::with_capacity(out.len() + rest.len());
        whole.extend_from_slice(&out);
        whole.extend_from_slice(&rest);
        whole.freeze()
    }

    /// What was held back, at the end of the answer.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.scrubber.as_mut().map(|(_, scrubber)| scrubber.finish()).unwrap_or_default()
    }

    /// Whether what leaves may be shorter or longer than what came.
    pub(crate) fn scrubs(&self) -> bool {
        self.scrubber.is_some()
    }

    /// Whether something is held back.
    pub(crate) fn holds(&self) -> bool {
        self.scrubber.as_ref().is_some_and(|(_, scrubber)| scrubber.held() > 0)
    }

    /// Notes what the answer cost, and why it broke off if it did.
    pub(crate) fn note(self, record: &mut Record, broke: Option<Code>) {
        let Self { meter, account, started, first, .. } = self;
        let Some(meter) = meter else { return account.failed() };
        let tokens = meter.tokens();
        if let Some(call) = &mut record.call {
            call.tokens = account.records(tokens).then_some(tokens);
            call.ttft = first;
        }
        match broke {
            Some(code) => account.broke(tokens, meter.response_id(), by_the_provider(code)),
            None => {
                let took = Took { first, total: started.elapsed() };
                account.answered(tokens, meter.response_id(), took);
            }
        }
    }
}

/// What is said of a provider whose answer broke off for this reason.
fn by_the_provider(code: Code) -> Option<&'static str> {
    match code.error()? {
        ErrorKind::UpstreamTls
        | ErrorKind::UpstreamUnreachable
        | ErrorKind::UpstreamTimeout
        | ErrorKind::UpstreamProtocol => Some("the answer broke off"),
        _ => None,
    }
}
