//! Reading a file that the operator names. A pipe or a device is none: it can't be read again when
//! it changes, and to open one may take for ever.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The text of the file at `path`, which has at most so many MiB.
pub fn read_file(path: &Path, most: u64) -> io::Result<String> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(
            "it is not a regular file, so it could not be read again when it changes",
        ));
    }
    let mut text = String::new();
    if file.take((most << 20) + 1).read_to_string(&mut text)? as u64 > most << 20 {
        return Err(io::Error::other(format!("the file is larger than {most} MiB")));
    }
    Ok(text)
}
