//! Tables that fit the terminal. Cells are safe text already; where a table is too wide, the widest
//! columns give way, then whole columns do, then those that a reader came for. What is cut or left out
//! says so.

use crate::addr::Host;
use std::io::IsTerminal;

/// Columns are this far apart.
const GAP: usize = 2;
/// No column is cut below this.
const NARROW: usize = 8;

/// A table with a head.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// The columns that a reader came for: they give way last.
    kept: &'static [&'static str],
    /// The columns that are left out where the others would not fit, in this order.
    spare: Vec<&'static str>,
    /// The columns of hosts, or of URLs.
    hosts: &'static [&'static str],
    /// The columns of paths.
    paths: &'static [&'static str],
}

impl Table {
    pub(super) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
            kept: &[],
            spare: Vec::new(),
            hosts: &[],
            paths: &[],
        }
    }

    /// The columns that a reader came for: they give way last.
    pub(super) fn keeping(self, kept: &'static [&'static str]) -> Self {
        Self { kept, ..self }
    }

    /// The columns that are left out where the others would not fit, in this order.
    pub(super) fn sparing(self, spare: &[&'static str]) -> Self {
        Self { spare: spare.to_vec(), ..self }
    }

    /// Columns that say the same in every row, which are left out before the others.
    pub(super) fn sparing_what_is_same(mut self, columns: &[&'static str]) -> Self {
        let same = |column: &&&'static str| {
            let at = self.head.iter().position(|head| head == *column);
            at.is_some_and(|at| self.rows.windows(2).all(|two| two[0][at] == two[1][at]))
        };
        let spared: Vec<&'static str> = columns.iter().filter(same).copied().collect();
        self.spare.splice(..0, spared);
        self
    }

    /// The columns of hosts, or of URLs: of a host the registered domain is cut last.
    pub(super) fn naming(self, hosts: &'static [&'static str]) -> Self {
        Self { hosts, ..self }
    }

    /// The columns of paths: of a path the last part is cut last.
    pub(super) fn ending(self, paths: &'static [&'static str]) -> Self {
        Self { paths, ..self }
    }

    /// One more row, with a cell for every column.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.head.len());
        self.rows.push(cells.into());
    }

    /// The table for stdout: cut where that is a terminal, and whole in a pipe.
    pub(super) fn text(&self) -> String {
        let out = std::io::stdout();
        let wide = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten();
        self.within(wide.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0))
    }

    fn within(&self, columns: Option<usize>) -> String {
        let (shown, widths, left_out) = self.fitted(columns.unwrap_or(usize::MAX));
        let mut out = String::new();
        line(shown.iter().map(|at| (self.head[*at], Cut::End)), &widths, &mut out);
        let cut = |at: usize| match self.head[at] {
            head if self.hosts.contains(&head) => Cut::Host,
            head if self.paths.contains(&head) => Cut::Start,
            _ => Cut::End,
        };
        for row in &self.rows {
            line(shown.iter().map(|at| (row[*at].as_str(), cut(*at))), &widths, &mut out);
        }
        if !left_out.is_empty() && !self.rows.is_empty() {
            out += &format!("(no room for {})\n", left_out.join(", "));
        }
        out
    }

    /// The places of the columns that fit, their widths, and which were left out for that.
    fn fitted(&self, columns: usize) -> (Vec<usize>, Vec<usize>, &[&'static str]) {
        let width = |at: usize| {
            self.rows
                .iter()
                .map(|row| row[at].len())
                .chain([self.head[at].len()])
                .max()
                .unwrap_or(0)
        };
        let mut spared = 0;
        loop {
            let left_out = &self.spare[..spared];
            let is_shown = |at: &usize| !left_out.contains(&self.head[*at]);
            let shown: Vec<usize> = (0..self.head.len()).filter(is_shown).collect();
            let mut widths: Vec<usize> = shown.iter().map(|at| width(*at)).collect();
            let gives = |place: usize| !self.kept.contains(&self.head[shown[place]]);
            if fit(&mut widths, columns, gives) || spared == self.spare.len() {
                fit(&mut widths, columns, |_| true);
                return (shown, widths, left_out);
            }
            spared += 1;
        }
    }
}

/// Narrows the widest of the columns that may give way until all fit, or none can; whether they fit.
fn fit(widths: &mut [usize], columns: usize, gives: impl Fn(usize) -> bool) -> bool {
    loop {
        let total: usize = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        if total <= columns {
            return true;
        }
        let giving = widths.iter_mut().enumerate().filter(|(at, _)| gives(*at));
        match giving.map(|(_, width)| width).max() {
            Some(widest) if *widest > NARROW => *widest -= 1,
            _ => return false,
        }
    }
}

/// Where a cell that is too long is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// What comes last.
    End,
    /// What comes first: a path's directories.
    Start,
    /// What is neither the registered domain nor the end of the path.
    Host,
}

fn line<'a>(cells: impl Iterator<Item = (&'a str, Cut)>, widths: &[usize], out: &mut String) {
    let start = out.len();
    for ((cell, cut), width) in cells.zip(widths) {
        // Cells are ASCII: a byte is a column.
        let room = width.saturating_sub(3);
        let cell = match cut {
            _ if cell.len() <= *width => cell.to_owned(),
            Cut::End => format!("{}...", cell.get(..room).unwrap_or_default()),
            Cut::Start => last_part(cell, *width),
            Cut::Host => with_host(cell, *width),
        };
        out.push_str(&cell);
        // By hand: a width in a format string is at most 65,535.
        out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.len()) + GAP));
    }
    out.truncate(start + out[start..].trim_end().len());
    out.push('\n');
}

/// A path cut to `width`: the name stays, and of its directories what fits.
fn last_part(path: &str, width: usize) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.len() + 4 > width && name.len() <= width {
        return name.to_owned();
    }
    let from = path.len() - width.saturating_sub(3).min(path.len());
    format!("...{}", path.get(from..).unwrap_or_default())
}

/// A URL, or a host, cut to `width`: what is cut last is the domain that somebody registered, for a host may
/// begin like any other. Of what follows it both ends stay: paths of one host begin alike.
fn with_host(text: &str, width: usize) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let rest = &text[start..];
    let host = &rest[..rest.find([':', '/', '?']).unwrap_or(rest.len())];
    let after = &rest[host.len()..];
    let cut = |head: String, tail: &str| {
        let room = width.saturating_sub(head.len());
        let Some(kept) = room.checked_sub(3).filter(|_| tail.len() > room) else {
            return if tail.len() > room { head } else { format!("{head}{tail}") };
        };
        // The end says more than the beginning: of a short rest it alone stays.
        let first = if kept < 12 { kept.min(1) } else { kept / 4 };
        let last = tail.len() - (kept - first);
        let (first, last) = (tail.get(..first), tail.get(last..));
        format!("{head}{}...{}", first.unwrap_or_default(), last.unwrap_or_default())
    };
    if start + host.len() + 3 <= width {
        return cut(text[..start + host.len()].to_owned(), after);
    }
    let domain = match Host::parse(host) {
        Ok(Host::Name(name)) => name.registrable().map_or(host, |d| &host[host.len() - d.len()..]),
        _ => host,
    };
    let verb = text[..start].split_once(' ').map_or("", |(verb, _)| verb);
    let before = if verb.is_empty() { String::new() } else { format!("{verb} ") };
    if before.len() + 3 + domain.len() <= width {
        return cut(format!("{before}...{domain}"), after);
    }
    let tail = domain.len().saturating_sub(width.saturating_sub(3));
    format!("...{}", domain.get(tail..).unwrap_or(domain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_table_fits_and_says_what_it_cut() {
        let mut table = Table::new(&["REQUEST", "WHAT"]);
        table.row(["r1".into(), "GET https://a.test/a/rather/long/path".into()]);
        table.row(["r2".into(), "GET https://a.test/".into()]);
        let whole = "REQUEST  WHAT\nr1       GET https://a.test/a/rather/long/path\n\
                     r2       GET https://a.test/\n";
        assert_eq!(table.within(None), whole);
        assert_eq!(table.within(Some(100)), whole);
        let narrow = table.within(Some(30));
        assert!(narrow.lines().all(|line| line.len() <= 30), "{narrow}");
        assert!(narrow.contains("r1       GET https://a.test..."), "{narrow}");
        assert!(narrow.contains("r2       GET https://a.test/\n"), "{narrow}");
    }

    #[test]
    fn what_a_reader_came_for_gives_way_last_and_what_is_left_out_is_said() {
        let mut table = Table::new(&["REQUEST", "PROCESS", "ASKS", "AGE", "BY"])
            .keeping(&["ASKS"])
            .sparing(&["BY", "AGE"]);
        let process = "/usr/local/bin/claude".to_owned();
        table.row(["r1".into(), process, "GET https://a.test/".into(), "2 m".into(), "ana".into()]);
        let whole = table.within(None);
        assert!(!whole.contains("no room"), "{whole}");
        assert_eq!(table.within(Some(61)), whole, "it is as wide as that");
        let line = |columns| table.within(Some(columns)).lines().nth(1).unwrap().to_owned();
        assert_eq!(line(52), "r1       /usr/loca...  GET https://a.test/  2 m  ana");
        assert_eq!(line(47), "r1       /usr/loca...  GET https://a.test/  2 m");
        assert_eq!(line(42), "r1       /usr/loca...  GET https://a.test/");
        assert_eq!(line(36), "r1       /usr/...  GET https://a....");
        assert!(table.within(Some(47)).ends_with("(no room for BY)\n"));
        assert!(table.within(Some(36)).ends_with("(no room for BY, AGE)\n"));
    }

    #[test]
    fn of_a_host_the_registered_domain_is_cut_last() {
        let long = format!("accounts.google.com.{}.evil-site.net", "a".repeat(40));
        for (text, width, cut) in [
            (format!("GET http://{long}/login"), 40, "GET ...evil-site.net/login"),
            (format!("GET http://{long}/login"), 22, "GET ...evil-site.net"),
            (format!("GET http://{long}:8080/login"), 27, "GET ...evil-site.net:...gin"),
            (format!("GET http://{long}/login"), 17, "...evil-site.net"),
            (format!("GET http://{long}/login"), 12, "...-site.net"),
            (long.clone(), 20, "...evil-site.net"),
            ("GET https://a.test/one/two/three".into(), 24, "GET https://a.test/...ee"),
            ("tcp://[2001:db8::1]:22".into(), 12, "tcp://[2001"),
        ] {
            let made = with_host(&text, width);
            assert!(made.len() <= width.max(12), "{made}");
            if !text.contains('[') {
                assert_eq!(made, cut, "{width}");
            }
        }
        let mut table = Table::new(&["ASKS", "RISK"]).keeping(&["ASKS"]).naming(&["ASKS"]);
        table.row([format!("GET http://{long}/login"), "look_alike,new_host".into()]);
        assert!(table.within(Some(40)).contains("...evil-site.net"), "{}", table.within(Some(40)));
    }

    #[test]
    fn of_a_path_the_name_stays() {
        for (width, cut) in
            [(20, ".../local/bin/claude"), (11, "...n/claude"), (8, "claude"), (5, "...de")]
        {
            assert_eq!(last_part("/usr/local/bin/claude", width), cut, "{width}");
        }
    }

    #[test]
    fn a_column_that_says_the_same_everywhere_is_left_out_first() {
        let mut table = Table::new(&["STATE", "ASKS", "AGE"]).keeping(&["ASKS"]).sparing(&["AGE"]);
        table.row(["pending".into(), "one of them".into(), "1 m".into()]);
        table.row(["pending".into(), "and another".into(), "2 m".into()]);
        let narrow = table.sparing_what_is_same(&["STATE", "ASKS"]).within(Some(17));
        assert!(narrow.contains("and another  2 m\n(no room for STATE)\n"), "{narrow}");
    }

    fn cell() -> impl Strategy<Value = String> {
        prop_oneof![
            6 => "[ -~]{0,30}",
            // Wider than a width in a format string may be.
            1 => (65_000..80_000_usize).prop_map(|width| "w".repeat(width)),
        ]
    }

    fn columns() -> impl Strategy<Value = Option<usize>> {
        prop_oneof![
            Just(None),
            (0..200_usize).prop_map(Some),
            (60_000..250_000_usize).prop_map(Some),
            Just(Some(usize::MAX)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn however_wide_its_cells_a_table_fits_every_terminal(
            (rows, columns) in (proptest::collection::vec([cell(), cell(), cell()], 0..4), columns())
        ) {
            let head = ["REQUEST", "A HEAD OF ITS OWN", ""];
            let mut table = Table::new(&head);
            for row in rows.clone() {
                table.row(row);
            }
            let text = table.within(columns);
            let lines: Vec<&str> = text.lines().collect();
            prop_assert_eq!(lines.len(), rows.len() + 1);
            let widths = (0..3).map(|at| {
                rows.iter().map(|row| row[at].len()).chain([head[at].len()]).max().unwrap_or(0)
            });
            let narrow = widths.map(|width| width.min(NARROW)).sum::<usize>() + 2 * GAP;
            let most = columns.map_or(usize::MAX, |columns| columns.max(narrow));
            for (line, row) in lines[1..].iter().zip(&rows) {
                prop_assert!(line.len() <= most, "{} of {most}", line.len());
                let whole = row.iter().all(|cell| line.contains(cell.trim_end()));
                prop_assert!(whole || (columns.is_some() && line.contains("...")));
            }
        }
    }
}
