//! SOCKS5 (RFC 1928), CONNECT alone, without authentication: names and addresses.
//!
//! The request is read by its lengths, so a NUL in a name is a byte of the name and is refused by
//! the one parser of names. Replies: 2 refused by rule, 4 and 5 from upstream, 7 and 8 for what is
//! not served.

use super::gate::Connection;
use super::io::Prefixed;
use super::refuse::Refusal;
use super::serve;
use super::tunnel;
use crate::addr::{Authority, Host, Port};
use crate::policy::Code;
use bytes::Buf;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const VERSION: u8 = 5;
/// None of the client's methods will do (RFC 1928 §3).
const NO_METHOD: [u8; 2] = [VERSION, 0xff];

/// A request that can't be served: the reply code, and why.
struct Refused(u8, Refusal);

fn malformed(detail: &str) -> Refused {
    Refused(1, Refusal::unjudged(Code::BadSocks, detail))
}

fn left() -> Refused {
    Refused(1, serve::gone())
}

/// Serves one SOCKS5 connection.
pub(crate) async fn serve(connection: Arc<Connection>, mut io: Prefixed) {
    connection.head_due();
    let live = connection.watch.live().clone();
    let mut greeted = false;
    let asked = super::unless::unless_cut(&live, request(&mut io, &mut greeted)).await;
    let target = match asked {
        Ok(Ok(target)) => target,
        Ok(Err(Refused(code, refusal))) => {
            drop(reply(&mut io, code).await);
            serve::record(&connection, &refusal, None);
            return;
        }
        Err(_) => {
            let refusal = Refusal::unjudged(Code::HeaderTimeout, "the SOCKS request did not come");
            serve::record(&connection, &refusal, None);
            // Before it is greeted a client waits for a method, and after it for a reply.
            let said = if greeted { reply(&mut io, 1).await } else { io.write(&NO_METHOD).await };
            return drop(said);
        }
    };
    match tunnel::plan(&connection, target).await {
        Ok(next) => {
            if reply(&mut io, 0).await.is_ok() {
                tunnel::run(connection, next, io).await;
            } else {
                tunnel::left(&connection, next);
            }
        }
        Err((refusal, open)) => {
            drop(reply(&mut io, reply_to(&refusal)).await);
            if let Some(open) = open {
                open.refuse(&refusal, None);
            }
        }
    }
}

async fn need(io: &mut Prefixed, n: usize) -> Result<(), Refused> {
    while io.prefix.len() < n {
        match io.fill().await {
            Ok(0) => return Err(malformed("the SOCKS request ended before its end")),
            Err(_) => return Err(left()),
            Ok(_) => {}
        }
    }
    Ok(())
}

async fn reply(io: &mut Prefixed, code: u8) -> std::io::Result<()> {
    io.write(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

async fn request(io: &mut Prefixed, greeted: &mut bool) -> Result<Authority, Refused> {
    need(io, 2).await?;
    let methods = usize::from(io.prefix[1]);
    need(io, 2 + methods).await?;
    let open = io.prefix[2..2 + methods].contains(&0);
    io.prefix.advance(2 + methods);
    if !open {
        drop(io.write(&NO_METHOD).await);
        return Err(malformed("the SOCKS client does not offer `no authentication`"));
    }
    io.write(&[VERSION, 0]).await.map_err(|_| left())?;
    *greeted = true;
    need(io, 5).await?;
    let (version, command, kind) = (io.prefix[0], io.prefix[1], io.prefix[3]);
    if version != VERSION {
        return Err(malformed("not a SOCKS5 request"));
    }
    if command != 1 {
        let detail = "only CONNECT is served: BIND and UDP are not";
        return Err(Refused(7, Refusal::unjudged(Code::BadSocks, detail)));
    }
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => 1 + usize::from(io.prefix[4]),
        _ => return Err(Refused(8, Refusal::unjudged(Code::BadSocks, "unknown address type"))),
    };
    need(io, 4 + length + 2).await?;
    let address = io.prefix[4..4 + length].to_vec();
    let port = u16::from_be_bytes([io.prefix[4 + length], io.prefix[5 + length]]);
    io.prefix.advance(4 + length + 2);
    let host = host(kind, &address)?;
    let port = Port::new(port).ok_or_else(|| malformed("port 0 is not a port"))?;
    Ok(Authority { host, port })
}

fn host(kind: u8, address: &[u8]) -> Result<Host, Refused> {
    if let Ok(v4) = <[u8; 4]>::try_from(address)
        && kind == 1
    {
        return Ok(Host::Ip(IpAddr::V4(Ipv4Addr::from(v4))));
    }
    if let Ok(v6) = <[u8; 16]>::try_from(address)
        && kind == 4
    {
        return Ok(Host::Ip(IpAddr::V6(Ipv6Addr::from(v6)).to_canonical()));
    }
    let name = std::str::from_utf8(address.get(1..).unwrap_or_default())
        .map_err(|_| Refused(1, Refusal::unjudged(Code::BadHost, "the host name is not text")))?;
    Host::parse(name).map_err(|e| Refused(1, Refusal::unjudged(Code::BadHost, e.to_string())))
}

/// A denial's SOCKS reply code (RFC 1928 §6): 2 by rule, 4 and 5 from upstream.
fn reply_to(refusal: &Refusal) -> u8 {
    if !super::carry::is_upstream(refusal.code) {
        return 2;
    }
    match refusal.code {
        Code::NameNotFound | Code::DnsFailed | Code::ConnectTimeout => 4,
        _ => 5,
    }
}
