//! A command as typed, as the words that are run: quotes and backslashes as in a POSIX shell, and
//! nothing else of one. No word is expanded and no shell is started.

/// Why a command can't be split.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgvError {
    #[error("the command ends inside a quote\n  fix: close it")]
    Open,
    #[error("there is no command")]
    Empty,
}

/// Splits at white space.
pub(super) fn split(text: &str) -> Result<Vec<String>, ArgvError> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\'' => quoted(&mut rest, word.get_or_insert_default())?,
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(rest.next().ok_or(ArgvError::Open)?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if words.is_empty() { Err(ArgvError::Empty) } else { Ok(words) }
}

fn quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), ArgvError> {
    loop {
        match rest.next().ok_or(ArgvError::Open)? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

fn double_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), ArgvError> {
    loop {
        match rest.next().ok_or(ArgvError::Open)? {
            '"' => return Ok(()),
            '\\' => match rest.next().ok_or(ArgvError::Open)? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let words = |text| split(text).unwrap();
        assert_eq!(words("notify-send  Portcullis"), ["notify-send", "Portcullis"]);
        assert_eq!(words("a 'b c' \"d \\\" e\" f\\ g ''"), ["a", "b c", "d \" e", "f g", ""]);
        assert_eq!(words("a'b'\"c\"d"), ["abcd"]);
        assert_eq!(words("\"\\n\""), ["\\n"]);
        assert_eq!(words("a ; rm $HOME `b`"), ["a", ";", "rm", "$HOME", "`b`"]);
        for open in ["'", "a \"b", "a\\", "\"\\"] {
            assert_eq!(split(open), Err(ArgvError::Open), "{open}");
        }
        assert_eq!(split("  "), Err(ArgvError::Empty));
    }
}
