//! Names that look like an allowed one and are another.
//!
//! Owns the comparison: by look (letters of other scripts, `rn` for `m`, `0` for `o`), by typing
//! (a letter missing, doubled, swapped), by place (`github.com.evil.io`), by ending
//! (`github.co`), by company (`github-login.com`). Compares registrable domains: a name under the
//! same one is of the same owner and never noted. Errs to a note: it blocks nothing.

use crate::addr::{Host, Shown};
use crate::catalog::{public_suffix, registrable};

/// Labels shorter than this are too close to one another by chance.
const SHORT: usize = 5;
/// Labels of this length and more may differ by two letters.
const LONG: usize = 10;
/// What is put beside a name to make people believe it (`github-login.com`).
const COMPANY: &[&str] = &[
    "account",
    "accounts",
    "api",
    "app",
    "assets",
    "auth",
    "cdn",
    "cloud",
    "download",
    "downloads",
    "files",
    "get",
    "help",
    "login",
    "mail",
    "mirror",
    "my",
    "official",
    "packages",
    "pay",
    "proxy",
    "raw",
    "registry",
    "secure",
    "security",
    "service",
    "signin",
    "sso",
    "static",
    "storage",
    "support",
    "team",
    "update",
    "updates",
    "upload",
    "verify",
    "web",
    "www",
];

/// Why `host` may be taken for one of `allowed`; the first reason found, by the closest name.
pub(super) fn note(host: &Host, allowed: &[Host]) -> Option<String> {
    let own = Parts::of(host)?;
    let others: Vec<Parts<'_>> = allowed
        .iter()
        .flat_map(|host| Parts::of(host).into_iter().chain(Parts::lender(host)))
        .collect();
    if others.iter().any(|other| other.registrable == own.registrable) {
        return None;
    }
    let unicode = idna::domain_to_unicode(own.registrable).0;
    let look = skeleton(&unicode);
    others.iter().find_map(|other| {
        let why = own.resembles(&look, other)?;
        let host = Shown::host(host).limit(48);
        Some(format!("{host} is not {}: {why}", Shown::new(other.registrable)))
    })
}

/// A name in the parts that are compared.
struct Parts<'a> {
    name: &'a str,
    registrable: &'a str,
    /// The label that its owner chose: `github` of `github.com`.
    label: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn of(host: &'a Host) -> Option<Self> {
        let (registrable, suffix) = (registrable(host)?, public_suffix(host)?);
        let label = registrable.strip_suffix(suffix)?.strip_suffix('.')?;
        Some(Self { name: host.name()?.as_str(), registrable, label, suffix })
    }

    /// The company that lends the name, where one does: `githubusercontent.com` of
    /// `raw.githubusercontent.com`.
    fn lender(host: &'a Host) -> Option<Self> {
        let name = host.name()?.as_str();
        let lends = psl::suffix(name.as_bytes())?.typ() == Some(psl::Type::Private);
        let registrable = public_suffix(host).filter(|_| lends)?;
        let (label, suffix) = registrable.split_once('.')?;
        Some(Self { name: registrable, registrable, label, suffix })
    }

    fn resembles(&self, look: &str, other: &Parts<'_>) -> Option<&'static str> {
        if look == skeleton(other.registrable) {
            return Some("its letters only look the same");
        }
        if self.holds(other.registrable) {
            return Some("the name only stands within a longer one");
        }
        if other.label.len() < SHORT {
            return None;
        }
        if self.label == other.label && self.suffix != other.suffix {
            return Some("it is the same name under another ending");
        }
        let typed = distance(self.label.as_bytes(), other.label.as_bytes());
        let near = if other.label.len() >= LONG { 2 } else { 1 };
        if (1..=near).contains(&typed) {
            return Some("it differs by a letter or two");
        }
        self.in_company(other.label).then_some("the name has words beside it")
    }

    /// `github.com.evil.io`, `github.com-login.evil.io`, `github-com.evil.io`.
    fn holds(&self, other: &str) -> bool {
        let joined = other.replace('.', "-");
        within(self.name, other) || within(self.name, &joined)
    }

    fn in_company(&self, label: &str) -> bool {
        let mut words = self.label.split('-');
        let mut rest = self.label.split('-').filter(|word| *word != label).peekable();
        words.any(|word| word == label)
            && rest.peek().is_some()
            && rest.all(|word| COMPANY.contains(&word))
    }
}

/// Whether `part` stands in `name` as whole words, and not at its end.
fn within(name: &str, part: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b'.' | b'-'));
    name.match_indices(part).any(|(at, _)| {
        let (before, after) = (&name.as_bytes()[..at], &name.as_bytes()[at + part.len()..]);
        edge(before.last()) && edge(after.first()) && !after.is_empty()
    })
}

/// The name as the eye takes it: one letter for all that look like it.
fn skeleton(name: &str) -> String {
    let plain: String = name.chars().filter_map(plain).collect();
    plain.replace("rn", "m").replace("vv", "w").replace("cl", "d")
}

/// The ASCII letter that a letter looks like (UTS 39, the part that IDNA lets through); `None`
/// for what is not seen at all.
fn plain(c: char) -> Option<char> {
    Some(match c {
        '0' => 'o',
        '1' | 'i' | '|' => 'l',
        '5' => 's',
        '\u{200c}' | '\u{200d}' | '\u{300}'..='\u{36f}' => return None,
        'à'..='å' | 'ā' | 'ă' | 'ą' | 'ǎ' | 'ȧ' | 'ạ' | 'ả' | 'α' | 'а' | 'ɑ' => 'a',
        'ƀ' | 'ḃ' | 'ḅ' | 'ь' | 'в' => 'b',
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' | 'ϲ' | 'с' => 'c',
        'ď' | 'đ' | 'ḋ' | 'ḍ' | 'ԁ' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' | 'ẹ' | 'ẻ' | 'ẽ' | 'е' | 'ё' | 'є' | 'ε' => {
            'e'
        }
        'ḟ' | 'ƒ' => 'f',
        'ĝ' | 'ğ' | 'ġ' | 'ģ' | 'ǧ' | 'ɡ' | 'ց' => 'g',
        'ĥ' | 'ħ' | 'ḣ' | 'ḥ' | 'һ' | 'н' | 'հ' => 'h',
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' | 'ị' | 'ỉ' | 'ι' | 'і' | 'ї' | 'ӏ' => {
            'l'
        }
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' | 'ḷ' => 'l',
        'ĵ' | 'ǰ' | 'ј' | 'ϳ' => 'j',
        'ķ' | 'ǩ' | 'ḳ' | 'κ' | 'к' => 'k',
        'ṁ' | 'ṃ' | 'м' => 'm',
        'ñ' | 'ń' | 'ņ' | 'ň' | 'ṅ' | 'ṇ' | 'η' | 'ո' | 'п' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' | 'ơ' | 'ọ' | 'ỏ' | 'ο' | 'о' | 'օ' | 'σ' => {
            'o'
        }
        'ṗ' | 'ρ' | 'р' => 'p',
        'ԛ' | 'զ' => 'q',
        'ŕ' | 'ŗ' | 'ř' | 'ṙ' | 'ṛ' | 'г' => 'r',
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' | 'ṡ' | 'ṣ' | 'ѕ' | 'ꜱ' => 's',
        'ţ' | 'ť' | 'ŧ' | 'ț' | 'ṫ' | 'ṭ' | 'τ' | 'т' => 't',
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' | 'ư' | 'ụ' | 'ủ' | 'υ' | 'ս' | 'ц' => {
            'u'
        }
        'ν' | 'ѵ' | 'ṽ' | 'ṿ' => 'v',
        'ŵ' | 'ẁ' | 'ẃ' | 'ẅ' | 'ω' | 'ԝ' | 'ѡ' => 'w',
        'χ' | 'х' | 'ẋ' => 'x',
        'ý' | 'ÿ' | 'ŷ' | 'ỳ' | 'ỵ' | 'γ' | 'у' | 'ү' => 'y',
        'ź' | 'ż' | 'ž' | 'ẓ' | 'ᴢ' => 'z',
        other => other,
    })
}

/// Letters to insert, drop, replace or swap with the next to make one of the other
/// (Damerau-Levenshtein, restricted). Anything over 2 is 3.
fn distance(a: &[u8], b: &[u8]) -> usize {
    const FAR: usize = 3;
    if a.len().abs_diff(b.len()) >= FAR {
        return FAR;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()].min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &[&str] = &[
        "api.github.com",
        "pypi.org",
        "registry.npmjs.org",
        "raw.githubusercontent.com",
        "files.pythonhosted.org",
        "acme.github.io",
        "10.0.0.1",
    ];

    fn noted(name: &str) -> Option<String> {
        let allowed: Vec<Host> =
            ALLOWED.iter().map(|name| Host::parse(name).expect(name)).collect();
        note(&Host::parse(name).expect(name), &allowed)
    }

    #[test]
    fn a_name_made_to_be_taken_for_another_is_noted() {
        for name in [
            "github.com.evil.io",
            "api.github.com.evil.io",
            "github-com.evil.io",
            "github.com-login.evil.io",
            "githud.com",
            "gihtub.com",
            "githubb.com",
            "gthub.com",
            "g1thub.com",
            "github.co",
            "github.com.cn",
            "github-login.com",
            "api-github.com",
            "раypi.org.pypi.org.evil.io",
            "руpi.org",
            "pypl.org",
            "gіthub.com",
            "ɡithub.com",
            "npmjs.com",
            "nprnjs.org",
            "githubusercontents.com",
            "githubusercontemt.com",
            "pythonhostd.org",
            "pythonh0sted.org",
            "acrne.github.io",
            "pypi.org.evil.io",
        ] {
            assert!(noted(name).is_some(), "{name}");
        }
    }

    #[test]
    fn an_owners_other_names_and_strangers_are_not() {
        for name in [
            "github.com",
            "uploads.github.com",
            "test.pypi.org",
            "gitlab.com",
            "example.com",
            "pypa.io",
            "other.github.io",
            "crates.io",
            "pythontutor.com",
            "hub.docker.com",
            "github-widgets.com",
            "pip.org",
            "com",
            "8.8.8.8",
        ] {
            assert_eq!(noted(name), None, "{name}");
        }
    }

    #[test]
    fn the_text_is_printable_ascii_and_names_both() {
        let text = noted("gіthub.com").expect("noted");
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
        assert!(text.contains("xn--") && text.contains("is not github.com"), "{text}");
    }

    #[test]
    fn a_swap_a_gap_and_a_wrong_letter_are_one_step_each() {
        let steps = |a: &str, b: &str| distance(a.as_bytes(), b.as_bytes());
        assert_eq!(steps("github", "github"), 0);
        assert_eq!(steps("gihtub", "github"), 1);
        assert_eq!(steps("gthub", "github"), 1);
        assert_eq!(steps("githud", "github"), 1);
        assert_eq!(steps("gitlab", "github"), 2);
        assert_eq!(steps("a", "github"), 3);
    }
}
