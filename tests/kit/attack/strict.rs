//! An origin that takes nothing but well-formed HTTP/1.1: RFC 9112 to the letter, one spelling.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

/// What came, in order.
pub type Listening = Arc<Mutex<Vec<Heard>>>;

/// One thing that an origin heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A whole request.
    Whole(Request),
    /// A request whose connection ended before it did.
    Cut(String),
    /// Bytes that are not a request, and why.
    Garbage(String, &'static str),
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Request {
    /// The one value of a field. A field that comes twice is a failed test.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = values.next().map(|(_, v)| v.as_str());
        assert!(values.next().is_none(), "{name} came twice: {:?}", self.fields);
        first
    }
}

enum Why {
    End,
    Bad(&'static str),
}

/// Answers each well-formed request with 200 and `ok`; stops at anything else.
pub fn serve<S: Read + Write>(stream: &mut S, heard: &Listening) {
    loop {
        let mut bytes = Vec::new();
        let request = match request(stream, &mut bytes) {
            Ok(request) => request,
            Err(_) if bytes.is_empty() => return,
            Err(Why::End) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return heard.lock().unwrap().push(Heard::Cut(text));
            }
            Err(Why::Bad(why)) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return heard.lock().unwrap().push(Heard::Garbage(text, why));
            }
        };
        let head = request.method == "HEAD";
        heard.lock().unwrap().push(Heard::Whole(request));
        let body = if head { "" } else { "ok" };
        let sent = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}");
        if sent.and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

fn request<S: Read>(stream: &mut S, bytes: &mut Vec<u8>) -> Result<Request, Why> {
    let line = line(stream, bytes)?;
    let mut parts = line.split(' ');
    let (method, path, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(path), Some("HTTP/1.1"), None) = (method, path, version, parts.next())
    else {
        return Err(Why::Bad("the request line"));
    };
    if method.is_empty() || !method.bytes().all(is_token) || path.is_empty() {
        return Err(Why::Bad("the request line"));
    }
    let mut request =
        Request { method: method.to_owned(), path: path.to_owned(), ..Request::default() };
    request.fields = fields(stream, bytes)?;
    let all = |name: &str| {
        let of = request.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        of.map(|(_, v)| v.clone()).collect::<Vec<_>>()
    };
    if all("host").len() != 1 {
        return Err(Why::Bad("not one Host"));
    }
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => {}
        ([length], []) => {
            if !length.bytes().all(|b| b.is_ascii_digit()) {
                return Err(Why::Bad("Content-Length"));
            }
            let length = length.parse().map_err(|_| Why::Bad("Content-Length"))?;
            request.body = take(stream, bytes, length)?;
        }
        ([], [coding]) if coding == "chunked" => {
            (request.body, request.trailers) = chunks(stream, bytes)?;
        }
        _ => return Err(Why::Bad("framing")),
    }
    Ok(request)
}

type Fields = Vec<(String, String)>;

fn chunks<S: Read>(stream: &mut S, bytes: &mut Vec<u8>) -> Result<(Vec<u8>, Fields), Why> {
    let mut body = Vec::new();
    loop {
        let size = line(stream, bytes)?;
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Why::Bad("a chunk's size"));
        }
        let size = usize::from_str_radix(&size, 16).map_err(|_| Why::Bad("a chunk's size"))?;
        if size == 0 {
            return Ok((body, fields(stream, bytes)?));
        }
        body.extend(take(stream, bytes, size)?);
        if !line(stream, bytes)?.is_empty() {
            return Err(Why::Bad("a chunk's end"));
        }
    }
}

fn fields<S: Read>(stream: &mut S, bytes: &mut Vec<u8>) -> Result<Fields, Why> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream, bytes)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(Why::Bad("a field without a colon"));
        };
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Why::Bad("a field's name"));
        }
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// One line without its CRLF; every character is one byte.
fn line<S: Read>(stream: &mut S, bytes: &mut Vec<u8>) -> Result<String, Why> {
    let start = bytes.len();
    loop {
        let byte = take(stream, bytes, 1)?[0];
        match byte {
            b'\n' if bytes[start..].ends_with(b"\r\n") => break,
            b'\n' => return Err(Why::Bad("a bare LF")),
            0 => return Err(Why::Bad("a NUL")),
            _ if bytes[start..].len() > 1 && bytes[bytes.len() - 2] == b'\r' => {
                return Err(Why::Bad("a bare CR"));
            }
            _ => {}
        }
    }
    Ok(bytes[start..bytes.len() - 2].iter().map(|b| char::from(*b)).collect())
}

fn take<S: Read>(stream: &mut S, bytes: &mut Vec<u8>, count: usize) -> Result<Vec<u8>, Why> {
    let mut taken = vec![0; count];
    let mut n = 0;
    while n < count {
        match stream.read(&mut taken[n..]) {
            Ok(0) | Err(_) => {
                bytes.extend(&taken[..n]);
                return Err(Why::End);
            }
            Ok(some) => n += some,
        }
    }
    bytes.extend(&taken);
    Ok(taken)
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
