//! Masks the values of query keys that look like secrets.
//!
//! Owns the one list of such keys. A key counts by its words, so that `api_key`, `X-Amz-Signature`
//! and `pageToken` are masked, `max_tokens` and `keyword` are not. When in doubt, masked.

use std::borrow::Cow;

/// Words that make a key secret-looking wherever they stand at a word's end (`authtoken`).
const ENDINGS: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "signature",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "authkey",
    "sharedkey",
    "credential",
    "credentials",
    "sessionid",
    "sessid",
    "authorization",
];

/// Words that do so only whole.
const WORDS: &[&str] = &["auth", "sig", "pwd", "pass", "jwt", "bearer", "otp", "hmac", "session"];

/// Writes `query` with the values of secret-looking keys as `***`. Separators (`&`, `;`), order,
/// spelling and every other value stay as they are.
pub fn query(query: &str) -> Cow<'_, str> {
    let mut out: Option<String> = None;
    let mut copied = 0;
    let mut start = 0;
    for pair in query.split(['&', ';']) {
        if let Some((key, value)) = pair.split_once('=')
            && !value.is_empty()
            && names_secret(key)
        {
            let out = out.get_or_insert_with(|| String::with_capacity(query.len()));
            out.push_str(&query[copied..=start + key.len()]);
            out.push_str("***");
            copied = start + pair.len();
        }
        start += pair.len() + 1;
    }
    match out {
        Some(mut out) => {
            out.push_str(&query[copied..]);
            Cow::Owned(out)
        }
        None => Cow::Borrowed(query),
    }
}

/// Whether the value of this key (of a query, a header field) is masked. Percent escapes in the key are seen through.
pub fn names_secret(key: &str) -> bool {
    let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy();
    let mut last = "";
    for word in words(&key) {
        if WORDS.iter().any(|w| word.eq_ignore_ascii_case(w))
            || ENDINGS.iter().any(|ending| ends_with(word, ending))
        {
            return true;
        }
        last = word;
    }
    last.eq_ignore_ascii_case("key")
}

fn ends_with(word: &str, ending: &str) -> bool {
    word.len()
        .checked_sub(ending.len())
        .is_some_and(|at| word.as_bytes()[at..].eq_ignore_ascii_case(ending.as_bytes()))
}

/// The words of a key: runs of letters and digits, also split where a capital follows a small
/// letter.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split(|c: char| !c.is_alphanumeric()).flat_map(camel).filter(|word| !word.is_empty())
}

fn camel(run: &str) -> impl Iterator<Item = &str> {
    let mut rest = run;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.as_bytes();
        let hump = bytes
            .windows(2)
            .position(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
        let (word, after) = rest.split_at(hump.map_or(rest.len(), |at| at + 1));
        rest = after;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_looking_keys_are_masked_and_nothing_else_changes() {
        let cases = [
            ("token=abc", "token=***"),
            ("a=1&access_token=abc&b=2", "a=1&access_token=***&b=2"),
            ("a=1;Password=x;b", "a=1;Password=***;b"),
            ("X-Amz-Signature=0f&X-Amz-Date=1", "X-Amz-Signature=***&X-Amz-Date=1"),
            ("X-Amz-Security-Token=a%3D%3D&y=1", "X-Amz-Security-Token=***&y=1"),
            (
                "apiKey=1&api-key=2&api_key=3&apikey=4&key=5",
                "apiKey=***&api-key=***&api_key=***&apikey=***&key=***",
            ),
            ("sig=a=b&se=2026", "sig=***&se=2026"),
            ("client_secret=s&authToken=t", "client_secret=***&authToken=***"),
            ("%74oken=abc&t%6Fken=d", "%74oken=***&t%6Fken=***"),
            ("user[password]=x&auth=y", "user[password]=***&auth=***"),
            ("token=&token&=x", "token=&token&=x"),
            ("token=a&token=b", "token=***&token=***"),
            ("PHPSESSID=1&sharedKey=2", "PHPSESSID=***&sharedKey=***"),
        ];
        for (raw, masked) in cases {
            assert_eq!(query(raw), masked, "{raw}");
        }
    }

    #[test]
    fn ordinary_queries_are_left_alone_without_a_copy() {
        for raw in [
            "",
            "state=open",
            "max_tokens=100",
            "keyword=x&monkey=y",
            "sort=design",
            "passed=1&author=z",
            "key_id=7",
            "q=token",
            "a&b&c=",
            "&&=&",
        ] {
            assert!(matches!(query(raw), Cow::Borrowed(same) if same == raw), "{raw}");
        }
    }
}
