//! The application protocols that the gateway speaks inside TLS (RFC 7301).
//!
//! Owns the set of `h2` and `http/1.1`, and the order of preference: h2 first.

/// Which of `h2` and `http/1.1` are offered or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlpnSet {
    /// Neither: no ALPN is negotiated, and HTTP/1.1 is what is spoken.
    None,
    /// `http/1.1` alone.
    Http1,
    /// `h2` alone.
    Http2,
    /// `h2`, then `http/1.1`.
    Http2AndHttp1,
}

/// The protocol id of HTTP/2.
pub(super) const H2: &[u8] = b"h2";
/// The protocol id of HTTP/1.1.
pub(super) const HTTP1: &[u8] = b"http/1.1";

impl AlpnSet {
    /// Every set, each at the place of [`AlpnSet::index`].
    pub(super) const ALL: [Self; 4] = [Self::None, Self::Http1, Self::Http2, Self::Http2AndHttp1];

    /// The place in [`AlpnSet::ALL`]: bit 0 is `http/1.1`, bit 1 is `h2`.
    pub(super) const fn index(self) -> usize {
        match self {
            Self::None => 0,
            Self::Http1 => 1,
            Self::Http2 => 2,
            Self::Http2AndHttp1 => 3,
        }
    }

    /// The set with one more protocol id, where it is one of ours.
    pub(super) fn with(self, protocol: &[u8]) -> Self {
        match protocol {
            H2 => Self::ALL[self.index() | Self::Http2.index()],
            HTTP1 => Self::ALL[self.index() | Self::Http1.index()],
            _ => self,
        }
    }

    /// What is in both.
    pub fn intersection(self, other: Self) -> Self {
        Self::ALL[self.index() & other.index()]
    }

    /// Whether `h2` is in it.
    pub fn has_h2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2AndHttp1)
    }

    /// Whether `http/1.1` is in it.
    pub fn has_http1(self) -> bool {
        matches!(self, Self::Http1 | Self::Http2AndHttp1)
    }

    /// The protocol ids for rustls, most preferred first.
    pub(super) fn protocols(self) -> Vec<Vec<u8>> {
        let h2 = self.has_h2().then(|| H2.to_vec());
        let http1 = self.has_http1().then(|| HTTP1.to_vec());
        h2.into_iter().chain(http1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_stands_at_its_index_and_h2_is_preferred() {
        for (at, set) in AlpnSet::ALL.into_iter().enumerate() {
            assert_eq!(set.index(), at);
            assert_eq!(set.intersection(AlpnSet::Http2AndHttp1), set);
            assert_eq!(
                set.protocols().len(),
                usize::from(set.has_h2()) + usize::from(set.has_http1())
            );
        }
        assert_eq!(AlpnSet::Http2AndHttp1.protocols(), [H2.to_vec(), HTTP1.to_vec()]);
        assert_eq!(AlpnSet::None.with(b"h2").with(b"h3").with(b"http/1.1"), AlpnSet::Http2AndHttp1);
        assert_eq!(AlpnSet::Http1.intersection(AlpnSet::Http2), AlpnSet::None);
    }
}
