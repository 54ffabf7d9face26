//! The house stands: a module imports only lower floors, and a tool no other tool
//! (`architecture.md`, "Floors"). Reads every `crate::…` path of `src`, tests inside it included,
//! because a test that reaches up ties the floors together all the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use syn::visit::{self, Visit};

const FLOORS: &[(&str, u8)] = &[
    ("addr", 0),
    ("catalog", 1),
    ("secret", 1),
    ("policy", 2),
    ("inference", 2),
    ("record", 3),
    ("tasks", 4),
    ("tls", TOOLS),
    ("upstream", TOOLS),
    ("identity", TOOLS),
    ("vault", TOOLS),
    ("approval", TOOLS),
    ("traffic", TOOLS),
    ("metrics", TOOLS),
    ("state", TOOLS),
    ("proxy", 6),
    ("control", 7),
    ("replay", 7),
    ("sandbox", 7),
    ("config", 7),
    ("tui", 8),
    ("cli", 9),
];
const TOOLS: u8 = 5;

/// The one door that the roof may look through: of floor 7 `tui` knows `control` alone.
const TUI_KNOWS: &str = "control";

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// Why `from` must not know `to`; `None` where it may.
fn objection(from: &str, to: &str) -> Option<&'static str> {
    let (Some(own), Some(other)) = (floor(from), floor(to)) else {
        return Some("it is on no floor");
    };
    if from == to {
        return None;
    }
    match (own, other) {
        (TOOLS, TOOLS) => Some("a tool knows no other tool"),
        (8, 7) if to != TUI_KNOWS => Some("of the doors the roof knows `control` alone"),
        _ if other > own => Some("it is on a higher floor"),
        _ => None,
    }
}

/// The modules that a file names by `crate::module`, in `use` lines, in paths, in macros.
#[derive(Default)]
struct Imports(BTreeSet<String>);

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if let syn::UseTree::Path(path) = &item.tree
            && path.ident == "crate"
        {
            self.heads(&path.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|first| first.ident == "crate")
            && let Some(module) = segments.next()
        {
            self.0.insert(module.ident.to_string());
        }
        visit::visit_path(self, path);
    }

    /// The inside of a macro is no syntax tree: its tokens are read as text.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let tokens: String = mac.tokens.to_string().split_whitespace().collect();
        for rest in tokens.split("crate::").skip(1) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            if floor(&rest[..end]).is_some() {
                self.0.insert(rest[..end].to_owned());
            }
        }
        visit::visit_macro(self, mac);
    }
}

impl Imports {
    fn heads(&mut self, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => self.insert(&path.ident),
            syn::UseTree::Name(name) => self.insert(&name.ident),
            syn::UseTree::Rename(rename) => self.insert(&rename.ident),
            syn::UseTree::Glob(_) => panic!("`use crate::*` hides what is imported"),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.heads(tree)),
        }
    }

    fn insert(&mut self, ident: &syn::Ident) {
        self.0.insert(ident.to_string());
    }
}

fn imports(source: &str) -> BTreeSet<String> {
    let mut imports = Imports::default();
    imports.visit_file(&syn::parse_file(source).expect("src compiles"));
    imports.0
}

fn visit_sources(dir: &Path, see: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            visit_sources(&path, see);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            see(&path, &fs::read_to_string(&path).expect("src is readable"));
        }
    }
}

#[test]
fn a_module_imports_only_lower_floors() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    visit_sources(&src, &mut |path, source| {
        let inside = path.strip_prefix(&src).expect("under src");
        let first = inside.components().next().expect("a file").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            return;
        }
        for import in imports(source) {
            if let Some(why) = objection(module, &import) {
                broken.push(format!("{} imports crate::{import}: {why}", inside.display()));
            }
        }
    });
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_module_of_the_library_has_a_floor() {
    let lib = include_str!("../src/lib.rs");
    for item in syn::parse_file(lib).expect("src compiles").items {
        if let syn::Item::Mod(module) = item {
            assert!(floor(&module.ident.to_string()).is_some(), "{} has no floor", module.ident);
        }
    }
}

#[test]
fn the_binary_is_thin() {
    let names = imports(include_str!("../src/main.rs"));
    assert!(names.is_empty(), "main.rs has modules of its own: {names:?}");
}

#[test]
fn a_broken_floor_is_seen_in_every_spelling() {
    let spellings = [
        "use crate::proxy::Listener;",
        "use crate::{addr::Host, proxy::{self, Listener}};",
        "use crate::proxy as p;",
        "fn f(x: crate::proxy::Listener) {}",
        "fn f() { let x = crate::proxy::listen(); }",
        "fn f() { assert_eq!(crate::proxy::listen(), 1); }",
        "mod inner { use crate::proxy::Listener; }",
        "#[cfg(test)] mod tests { use crate::proxy::Listener; }",
    ];
    for source in spellings {
        assert!(imports(source).contains("proxy"), "{source}");
    }
    assert!(objection("addr", "proxy").is_some());
    assert!(objection("tls", "upstream").is_some());
    assert!(objection("tui", "config").is_some());
    assert!(objection("tui", "control").is_none());
    assert!(objection("proxy", "tls").is_none());
    assert!(objection("policy", "policy").is_none());
    assert!(objection("addr", "nowhere").is_some());
}
