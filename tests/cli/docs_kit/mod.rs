//! The pages, taken apart: fenced blocks with their place, and the commands in them.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and may panic")]

use std::path::{Path, PathBuf};

/// The package's directory.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page.
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A fenced block: its language and the words behind it, its lines, the line it begins on.
pub(crate) struct Block {
    pub(crate) info: String,
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A command of a `console` block and the output that is shown for it.
pub(crate) struct Shown {
    pub(crate) command: String,
    pub(crate) output: Vec<String>,
    pub(crate) line: usize,
}

impl Page {
    /// The page at `path`, from the package's directory.
    pub(crate) fn open(path: &str) -> Self {
        let path = root().join(path);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        Self { path, text }
    }

    /// README, CHANGELOG and all of `docs/`.
    pub(crate) fn all() -> Vec<Self> {
        let mut paths = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
        for directory in ["docs", "docs/adr"] {
            for entry in std::fs::read_dir(root().join(directory)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name.ends_with(".md") {
                    paths.push(format!("{directory}/{name}"));
                }
            }
        }
        paths.sort();
        paths.iter().map(|path| Self::open(path)).collect()
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    /// Its fenced blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in self.text.lines().enumerate() {
            let fence = line.strip_prefix("```");
            match (&mut open, fence) {
                (None, Some(info)) => {
                    let info = info.trim().to_owned();
                    open = Some(Block { info, text: String::new(), line: number + 2 });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fence is not closed", self.name());
        blocks
    }

    /// Its blocks of one language.
    pub(crate) fn blocks_of(&self, language: &str) -> Vec<Block> {
        let of = |block: &Block| block.info.split_whitespace().next() == Some(language);
        self.blocks().into_iter().filter(of).collect()
    }
}

impl Block {
    /// The file that the block says it is: its first line is `# NAME.yaml`.
    pub(crate) fn file_name(&self) -> Option<&str> {
        let name = self.text.lines().next()?.strip_prefix("# ")?;
        (name.ends_with(".yaml") && !name.contains(' ')).then_some(name)
    }

    /// The commands of a `console` block.
    pub(crate) fn commands(&self) -> Vec<Shown> {
        let mut commands: Vec<Shown> = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push(Shown {
                    command: command.to_owned(),
                    output: Vec::new(),
                    line: self.line + number,
                }),
                (None, Some(last)) => last.output.push(line.to_owned()),
                (None, None) => panic!("line {}: output before a command", self.line + number),
            }
        }
        commands
    }
}

/// Whether `output` is what is shown: a line `…` stands for any lines, `…` in a line for any text.
pub(crate) fn agrees(shown: &[String], output: &[&str]) -> bool {
    match shown.split_first() {
        None => output.is_empty(),
        Some((first, rest)) if first == "…" => {
            (0..=output.len()).any(|skipped| agrees(rest, &output[skipped..]))
        }
        Some((first, rest)) => output
            .split_first()
            .is_some_and(|(line, others)| line_agrees(first, line) && agrees(rest, others)),
    }
}

fn line_agrees(shown: &str, line: &str) -> bool {
    let (shown, line) = (shown.trim_end(), line.trim_end());
    let mut parts = shown.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
