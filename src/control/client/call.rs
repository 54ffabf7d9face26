//! One call: a connection, a request, an answer of bounded length, within its deadline.

use super::{Answer, CONNECT, Client, ClientError};
use crate::control::wire::Problem;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long an answer may be: a full queue with its previews is the longest.
const LONGEST: usize = 256 << 20;
/// What may stand in a segment of a path: RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What keeps a connection going; the connection ends with it.
pub(super) struct Driver(Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>);

/// A request before it is sent.
pub(super) struct Ask {
    method: Method,
    path: String,
    query: String,
    body: Option<Vec<u8>>,
}

impl Ask {
    pub(super) fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), query: String::new(), body: None }
    }

    pub(super) fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// One more segment of the path.
    pub(super) fn then(mut self, segment: &str) -> Self {
        self.path.push('/');
        self.path.extend(utf8_percent_encode(segment, SEGMENT));
        self
    }

    /// A key of the query, where it has a value.
    pub(super) fn with(mut self, key: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            // A serializer that is kept would make the call's future stay on its thread.
            let mut query = form_urlencoded::Serializer::new(std::mem::take(&mut self.query));
            self.query = query.append_pair(key, value).finish();
        }
        self
    }

    pub(super) fn body<T: Serialize>(self, body: &T) -> Self {
        let body = serde_json::to_vec(body).expect("a type of the wire is JSON");
        Self { body: Some(body), ..self }
    }

    fn request(self) -> Result<Request<Full<Bytes>>, http::Error> {
        let Self { path, query, .. } = &self;
        let target = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let mut request = Request::builder()
            .method(self.method)
            .uri(target)
            .header(header::HOST, "portcullis")
            .header(header::ACCEPT, "application/json, text/event-stream");
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(self.body.unwrap_or_default().into()))
    }
}

/// A word of the wire as it stands in a query: `pending`, `sampled`.
pub(super) fn word<T: Serialize>(word: T) -> String {
    match serde_json::to_value(word) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("an enum of words: {other:?}"),
    }
}

impl Client {
    /// Sends `ask` and reads the whole answer.
    pub(super) async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Answer<T> {
        let whole = async {
            let (response, driver) = self.send(ask).await?;
            let body = self.whole(response.into_body(), driver).await?;
            serde_json::from_slice(&body).map_err(|error| self.broken(error))
        };
        timeout(self.answer, whole).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// Sends `ask`; the answer's head is there and is no error.
    pub(super) async fn send(&self, ask: Ask) -> Answer<(Response<Incoming>, Driver)> {
        let request = ask.request().map_err(|error| self.broken(error))?;
        let stream = self.connect().await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(error))?;
        let mut driver = Driver(Some(Box::pin(connection)));
        let sent = driver.drive(sender.send_request(request)).await;
        let response = sent.map_err(|error| self.cut(error))?;
        if response.status().is_success() {
            return Ok((response, driver));
        }
        let status = response.status();
        let body = self.whole(response.into_body(), driver).await?;
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => ClientError::Refused(problem),
            Err(_) => self.broken(format!("status {status} without a problem")),
        })
    }

    async fn connect(&self) -> Answer<UnixStream> {
        #[expect(clippy::disallowed_methods, reason = "the gateway's own socket, by its path")]
        let connected = timeout(CONNECT, UnixStream::connect(&self.socket)).await;
        let socket = || self.socket.clone();
        match connected {
            Err(_) => Err(ClientError::Late { socket: socket(), waited: CONNECT }),
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NoGateway { socket: socket() }
                }
                _ => ClientError::Unreachable { socket: socket(), source },
            }),
        }
    }

    async fn whole(&self, body: Incoming, mut driver: Driver) -> Answer<Bytes> {
        let collected = driver.drive(Limited::new(body, LONGEST).collect()).await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| self.broken(error))
    }

    /// A gateway closes the connection of another uid without a word.
    fn cut(&self, error: hyper::Error) -> ClientError {
        let said_nothing =
            error.is_incomplete_message() || error.is_closed() || error.is_canceled();
        if said_nothing {
            self.broken("it closed the connection without an answer, as it does for a uid that is not its own")
        } else {
            self.broken(error)
        }
    }

    pub(super) fn late(&self) -> ClientError {
        ClientError::Late { socket: self.socket.clone(), waited: self.answer }
    }

    pub(super) fn broken(&self, why: impl ToString) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), why: why.to_string() }
    }
}

impl Driver {
    /// Polls `work` and, as long as it lives, the connection that it stands on.
    pub(super) async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(connection) = &mut self.0 {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = connection => self.0 = None,
            }
        }
        work.await
    }
}
