//! `/etc/hosts` as a map (hosts(5)): the answers that need no resolver. The guard applies to them
//! as to any other.

use super::pinned::Addresses;
use crate::addr::{Host, Name};
use hashbrown::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// Every name of the file with all of its addresses, in the file's order.
pub(super) type Table = HashMap<Name, Addresses>;

/// Reads the file. A missing or unreadable one answers nothing; lines that make no sense (zone
/// ids, odd names) are skipped, as libc does.
pub(super) fn read(_: &Path, content: io::Result<Vec<u8>>) -> Table {
    let content = content.unwrap_or_default();
    let mut found: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    for line in content.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            continue;
        };
        for name in words.filter_map(|word| match Host::parse(word) {
            Ok(Host::Name(name)) => Some(name),
            Ok(Host::Ip(_)) | Err(_) => None,
        }) {
            found.entry(name).or_default().push(address);
        }
    }
    found.into_iter().map(|(name, addresses)| (name, Addresses::new(addresses))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical_and_keep_all_their_addresses_in_order() {
        let text = b"127.0.0.1 localhost\n::1\tlocalhost ip6-localhost # v6\n\
            10.0.5.3 DB.Corp. db  # alias\n10.0.5.3 db.corp\n10.0.5.4 db.corp\n\
            fe80::1%lo0 zoned\nnonsense line\n\xff\xfe bad\n1.2.3 short\n#9.9.9.9 off\n";
        let table = read(Path::new("hosts"), Ok(text.to_vec()));
        let find = |name: &str| match Host::parse(name).unwrap() {
            Host::Name(name) => table.get(&name).map(|found| found.as_slice().to_vec()),
            Host::Ip(_) => None,
        };
        let ips = |texts: &[&str]| Some(texts.iter().map(|t| t.parse().unwrap()).collect());
        assert_eq!(find("localhost"), ips(&["127.0.0.1", "::1"]));
        assert_eq!(find("db.corp"), ips(&["10.0.5.3", "10.0.5.4"]));
        assert_eq!(find("db"), ips(&["10.0.5.3"]));
        for name in ["zoned", "bad", "short", "off", "line"] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn an_unreadable_file_answers_nothing() {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(read(Path::new("hosts"), Err(error)).is_empty());
    }
}
