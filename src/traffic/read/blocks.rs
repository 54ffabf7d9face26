//! From files to blocks of lines: opening, unpacking, telling HAR from lines.
//!
//! A block holds whole lines of one file, so that blocks can be taken apart anywhere and in any
//! order. Only one line or one HAR entry more than a block is in memory.

use super::{Har, Item, ReadError, Source, line};
use crate::addr::Shown;
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes of lines make a block.
const BLOCK: usize = 256 << 10;
/// A longer line is broken.
const MAX_LINE: usize = 8 << 20;
/// How many HAR entries make a block.
const ENTRIES: usize = 256;
/// Within how many bytes a HAR shows that it is one.
const HEAD: usize = 4096;

/// Whole lines, or entries, of one file.
#[derive(Debug)]
pub struct Block {
    /// The file.
    pub source: Arc<Source>,
    /// The number of its first line or entry, counted from 1.
    first: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Lines(Vec<u8>),
    Entries(Vec<Item<'static>>),
}

/// How much was read, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes, as they lie in the files.
    pub read: AtomicU64,
}

/// The lines of a block, each with its number. Empty lines are left out.
#[derive(Debug)]
pub struct Items<'b> {
    block: &'b Block,
    at: usize,
    number: u64,
}

/// Reads the sources one after the other, and calls `each` with every block until it breaks.
pub fn read(
    sources: &[Source],
    progress: &Progress,
    each: &mut dyn FnMut(Block) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    for source in sources {
        let path = source.path.clone().unwrap_or_else(|| "(stdin)".into());
        let unreadable = |why| ReadError::Unreadable { path, why };
        let shared = Arc::new(source.clone());
        let inner: Box<dyn Read> = match &source.path {
            Some(path) => Box::new(File::open(path).map_err(unreadable)?),
            None => Box::new(io::stdin().lock()),
        };
        let counted = BufReader::with_capacity(BLOCK, Counted { inner, progress });
        let flow = match unpacked(counted) {
            Ok(text) => Reading { source: shared, each: &mut *each }.text(text),
            Err(error) => {
                Reading { source: shared, each: &mut *each }.broken(1, &error.to_string())
            }
        };
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

impl Block {
    /// What each line says.
    pub fn items(&self) -> Items<'_> {
        Items { block: self, at: 0, number: self.first }
    }

    /// Whether a number of [`items`](Self::items) is that of an entry, not of a line.
    pub fn is_har(&self) -> bool {
        matches!(self.content, Content::Entries(_))
    }
}

impl<'b> Iterator for Items<'b> {
    type Item = (u64, Item<'b>);

    fn next(&mut self) -> Option<Self::Item> {
        let lines = match &self.block.content {
            Content::Lines(lines) => lines,
            Content::Entries(entries) => {
                let item = entries.get(self.at)?.clone();
                self.at += 1;
                return Some((self.block.first + self.at as u64 - 1, item));
            }
        };
        loop {
            let rest = lines.get(self.at..).filter(|rest| !rest.is_empty())?;
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let number = self.number;
            self.at += end + 1;
            self.number += 1;
            let text = &rest[..end];
            if !text.trim_ascii_start().is_empty() {
                return Some((number, line::parse(text)));
            }
        }
    }
}

/// Counts what passes.
struct Counted<'p> {
    inner: Box<dyn Read>,
    progress: &'p Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.progress.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The text, whether it was packed or not: told by its first bytes.
fn unpacked<'r>(mut from: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut magic = Vec::with_capacity(4);
    (&mut from).take(4).read_to_end(&mut magic)?;
    let packed: Option<[u8; 4]> = magic.as_slice().try_into().ok();
    let rest = BufReader::with_capacity(BLOCK, io::Cursor::new(magic).chain(from));
    match packed {
        Some([0x1f, 0x8b, ..]) => Ok(Box::new(MultiGzDecoder::new(rest))),
        Some([0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]) => {
            Ok(Box::new(Frames::new(rest)))
        }
        Some(_) | None => Ok(Box::new(rest)),
    }
}

/// Zstandard frames, one after the other, which is what appending to a file makes (RFC 8878 §3).
struct Frames<R> {
    rest: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Frames<R> {
    fn new(rest: R) -> Self {
        Self { rest, decoder: FrameDecoder::new() }
    }

    /// Begins the next frame. False where there is none; a frame that says so is skipped.
    fn begin(&mut self) -> io::Result<bool> {
        use ReadFrameHeaderError::SkipFrame;
        while !self.rest.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.rest) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(SkipFrame { length, .. })) => {
                    io::copy(&mut (&mut self.rest).take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 && !into.is_empty() {
            if self.decoder.is_finished() && !self.begin()? {
                return Ok(0);
            }
            let some = BlockDecodingStrategy::UptoBytes(into.len());
            self.decoder.decode_blocks(&mut self.rest, some).map_err(io::Error::other)?;
        }
        self.decoder.read(into)
    }
}

/// Fails, once.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// `{"log": {`, with whatever blanks.
fn is_har(head: &[u8]) -> bool {
    let mut rest = head;
    for token in [b"{".as_slice(), b"\"log\"", b":", b"{"] {
        match rest.trim_ascii_start().strip_prefix(token) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

/// One file while it is read.
struct Reading<'e> {
    source: Arc<Source>,
    each: &'e mut dyn FnMut(Block) -> ControlFlow<()>,
}

impl Reading<'_> {
    fn text(self, mut from: Box<dyn Read + '_>) -> ControlFlow<()> {
        let mut head = Vec::new();
        let read = (&mut from).take(HEAD as u64).read_to_end(&mut head);
        if head.starts_with("\u{feff}".as_bytes()) {
            head.drain(..3);
        }
        let har = is_har(&head);
        let text = io::Cursor::new(head).chain(Failed(read.err())).chain(from);
        if har { self.har(text) } else { self.lines(text) }
    }

    fn send(&mut self, first: u64, content: Content) -> ControlFlow<()> {
        (self.each)(Block { source: self.source.clone(), first, content })
    }

    fn broken(&mut self, number: u64, why: &str) -> ControlFlow<()> {
        let why = Shown::new(why).limit(200).to_string();
        self.send(number, Content::Entries(vec![Item::Broken(why)]))
    }

    fn har(mut self, text: impl Read) -> ControlFlow<()> {
        let (mut first, mut entries, mut flow) = (1, Vec::new(), ControlFlow::Continue(()));
        let read = Har::read(BufReader::with_capacity(BLOCK, text), &mut |item| {
            entries.push(item);
            if entries.len() >= ENTRIES {
                let full = std::mem::take(&mut entries);
                let count = full.len() as u64;
                flow = self.send(first, Content::Entries(full));
                first += count;
            }
            flow.is_continue()
        });
        flow?;
        if let Err(why) = read {
            entries.push(Item::Broken(why));
        }
        if entries.is_empty() { flow } else { self.send(first, Content::Entries(entries)) }
    }

    fn lines(mut self, mut text: impl Read) -> ControlFlow<()> {
        let (mut number, mut rest) = (1, Vec::new());
        loop {
            let mut lines = std::mem::take(&mut rest);
            let before = lines.len();
            let read = (&mut text).take(BLOCK as u64).read_to_end(&mut lines);
            let more = read.is_ok() && lines.len() > before;
            // What ends with the file ends a line; what broke off does not.
            let whole = match more || read.is_err() {
                true => memchr::memrchr(b'\n', &lines).map_or(0, |at| at + 1),
                false => lines.len(),
            };
            rest.extend_from_slice(&lines[whole..]);
            lines.truncate(whole);
            let count = memchr::memchr_iter(b'\n', &lines).count() as u64;
            if whole > 0 {
                self.send(number, Content::Lines(lines))?;
            }
            number += count;
            match read {
                Err(error) => return self.broken(number, &error.to_string()),
                Ok(_) if !more => return ControlFlow::Continue(()),
                Ok(_) => {}
            }
            if rest.len() > MAX_LINE {
                self.broken(number, "the line is longer than 8 MiB")?;
                number += 1;
                rest = past_line(&mut text);
            }
        }
    }
}

/// What was read behind the end of a line that is too long. An error shows at the next read.
fn past_line(text: &mut impl Read) -> Vec<u8> {
    let mut some = vec![0; BLOCK];
    loop {
        let count = match text.read(&mut some) {
            Ok(0) | Err(_) => return Vec::new(),
            Ok(count) => count,
        };
        if let Some(end) = memchr::memchr(b'\n', &some[..count]) {
            return some[end + 1..count].to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    use std::path::Path;

    const LINE: &str = r#"{"host":"a.test","port":443,"method":"GET","path":"/x"}"#;

    fn all(dir: &Path, bytes: &[u8]) -> Vec<(u64, bool)> {
        let path = dir.join("recording");
        std::fs::write(&path, bytes).unwrap();
        let sources = super::super::sources(&[path], None).unwrap();
        let mut found = Vec::new();
        read(&sources, &Progress::default(), &mut |block| {
            for (number, item) in block.items() {
                found.push((number, matches!(item, Item::Record(_))));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn every_line_comes_once_with_its_number_however_it_is_packed() {
        let dir = tempfile::tempdir().unwrap();
        let count = 20_000;
        let text = format!("{LINE}\n").repeat(count);
        let want: Vec<_> = (1..=count as u64).map(|number| (number, true)).collect();
        assert_eq!(all(dir.path(), text.as_bytes()), want);
        assert_eq!(all(dir.path(), text.trim_end().as_bytes()), want);
        let (one, two) = text.split_at(text.len() / 2);
        assert_eq!(all(dir.path(), &[gzip(one), gzip(two)].concat()), want);
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let zstd = |text: &str| ruzstd::encoding::compress_to_vec(text.as_bytes(), level);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        assert_eq!(all(dir.path(), &[zstd(one), skipped, zstd(two)].concat()), want);
    }

    #[test]
    fn a_file_that_breaks_off_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut packed = gzip(&format!("{LINE}\n").repeat(3));
        packed.truncate(packed.len() - 4);
        assert_eq!(all(dir.path(), &packed), [(1, true), (2, true), (3, true), (4, false)]);
        let har =
            br#"{"log":{"entries":[{"request":{"method":"GET","url":"https://a.test/"}},{"re"#;
        assert_eq!(all(dir.path(), har), [(1, true), (2, false)]);
    }

    #[test]
    fn an_endless_line_is_broken_and_the_next_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(MAX_LINE + 3 * BLOCK);
        let text = format!("{LINE}\r\n\n{long}\n{LINE}");
        assert_eq!(all(dir.path(), text.as_bytes()), [(1, true), (3, false), (4, true)]);
    }

    #[test]
    fn har_is_told_by_its_content() {
        assert!(is_har(b"{\n  \"log\" : {\"version\":"));
        assert!(!is_har(br#"{"log":"x"}"#));
        assert!(!is_har(LINE.as_bytes()));
    }
}
