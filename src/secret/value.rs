//! One secret value.

use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The shortest value, in bytes. A shorter one could not be told from ordinary text in an answer.
pub const MIN_BYTES: usize = 8;

/// The longest value, in bytes.
pub const MAX_BYTES: usize = 16 * 1024;

/// A secret value: one line of text, wiped from memory when it is dropped.
///
/// It has no `Display` and no `Serialize`, and its `Debug` says `***`. [`Secret::expose`] is the one
/// way to the text: each call is a place where a value leaves, and is to be read as one.
pub struct Secret(Zeroizing<Box<str>>);

/// Why bytes are no secret value. Says nothing of what stands in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing but, at most, an end of line.
    #[error("the value is empty")]
    Empty,
    /// Fewer than [`MIN_BYTES`].
    #[error("the value has fewer than {MIN_BYTES} bytes: it could not be found again in an answer")]
    TooShort,
    /// More than [`MAX_BYTES`].
    #[error("the value has more than {MAX_BYTES} bytes")]
    TooLong,
    /// A control byte, an end of line inside included: no header could carry it.
    #[error("the value holds a control byte; it must be one line of text")]
    Control,
    /// Not UTF-8.
    #[error("the value is not UTF-8 text")]
    NotText,
}

impl Secret {
    /// Reads a value from what a source gave. One end of line behind it is not part of it. `bytes`
    /// is wiped, whatever comes of it.
    pub fn read(bytes: Vec<u8>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes);
        let text = match bytes.as_slice() {
            [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => line,
            whole => whole,
        };
        match text.len() {
            0 => return Err(SecretError::Empty),
            n if n > MAX_BYTES => return Err(SecretError::TooLong),
            _ => {}
        }
        if text.iter().any(u8::is_ascii_control) {
            return Err(SecretError::Control);
        }
        if text.len() < MIN_BYTES {
            return Err(SecretError::TooShort);
        }
        let text = std::str::from_utf8(text).map_err(|_| SecretError::NotText)?;
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The value, and what stands behind each `:` in it where that could be found again: of
    /// `user:password` the password alone is a secret too.
    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        let text = self.expose();
        let behind = text.match_indices(':').map(|(at, _)| &text[at + 1..]);
        std::iter::once(text).chain(behind.filter(|part| part.len() >= MIN_BYTES))
    }

    /// Whether both are the same value.
    pub fn same(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }

    /// The value as `template` has it, where `{}` stands for it (`Bearer {}`). Wiped like the value.
    pub fn formatted(&self, template: &str) -> Zeroizing<String> {
        let room = template.len() + template.matches("{}").count() * self.expose().len();
        // Room for all of it, so that no copy is left behind by growing.
        let mut out = Zeroizing::new(String::with_capacity(room));
        for (at, part) in template.split("{}").enumerate() {
            if at > 0 {
                out.push_str(self.expose());
            }
            out.push_str(part);
        }
        out
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Zeroize for Secret {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Secret, SecretError> {
        Secret::read(text.as_bytes().to_vec())
    }

    #[test]
    fn one_end_of_line_is_not_part_of_the_value() {
        for text in ["hunter22", "hunter22\n", "hunter22\r\n"] {
            assert_eq!(read(text).unwrap().expose(), "hunter22");
        }
        assert_eq!(read(" hunter22 \n").unwrap().expose(), " hunter22 ");
    }

    #[test]
    fn a_control_byte_is_an_error_and_so_is_what_can_not_be_found_again() {
        for (text, error) in [
            ("", SecretError::Empty),
            ("\n", SecretError::Empty),
            ("hunter2", SecretError::TooShort),
            ("hunter22\n\n", SecretError::Control),
            ("hunter22\r", SecretError::Control),
            ("hun\0ter22", SecretError::Control),
            ("hunter\t22", SecretError::Control),
            ("hunter22\x7f", SecretError::Control),
            ("a: b\r\nx: y12", SecretError::Control),
        ] {
            assert_eq!(read(text).unwrap_err(), error, "{text:?}");
        }
        assert_eq!(Secret::read(vec![0xff; 20]).unwrap_err(), SecretError::NotText);
        assert_eq!(read(&"a".repeat(MAX_BYTES + 1)).unwrap_err(), SecretError::TooLong);
        assert!(read(&"a".repeat(MAX_BYTES)).is_ok());
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = read("hunter22").unwrap();
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    ***,\n)");
    }

    #[test]
    fn what_stands_behind_a_colon_is_a_secret_too() {
        let of = |text| read(text).unwrap().parts().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of("hunter22"), ["hunter22"]);
        assert_eq!(of("ana:hunter22"), ["ana:hunter22", "hunter22"]);
        assert_eq!(of("AKIDEXAMPLE:abcdefgh:ijk"), ["AKIDEXAMPLE:abcdefgh:ijk", "abcdefgh:ijk"]);
        assert_eq!(of("administrator:x"), ["administrator:x"]);
    }

    #[test]
    fn a_template_takes_the_value_wherever_it_says() {
        let secret = read("hunter22").unwrap();
        assert_eq!(*secret.formatted("Bearer {}"), "Bearer hunter22");
        assert_eq!(*secret.formatted("{}"), "hunter22");
        assert_eq!(*secret.formatted("{}:{}"), "hunter22:hunter22");
    }
}
