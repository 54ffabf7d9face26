//! Every command that the pages show does what they show: README and docs against the binary.
//!
//! A ```` ```console ```` block is run; one marked `online` or `offline` is only for reading. A
//! gateway that a page starts keeps running to the end of the page. Ports and the home directory
//! are this test's own.

use crate::docs_kit::{self, Page, Shown, agrees};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Programs that commands may use; where one is missing the command is skipped.
const TOOLS: [&str; 4] = ["curl", "jq", "head", "sort"];

/// A shell with a home of its own, that runs through one page.
struct Shell {
    home: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    gateway: Option<Child>,
    /// What the page says, and what it is here.
    substitutions: Vec<(String, String)>,
}

impl Shell {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let bin = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let (proxy, metrics) = (free(), free());
        let here = home.path().display().to_string();
        let mut variables = BTreeMap::new();
        variables.insert("PATH".into(), path);
        variables.insert("HOME".into(), here.clone());
        variables.insert("NO_COLOR".into(), "1".into());
        variables.insert("PORTCULLIS_LISTEN".into(), proxy.to_string());
        let substitutions = vec![
            ("cargo run --release -- ".into(), "portcullis ".into()),
            ("target/release/portcullis".into(), "portcullis".into()),
            ("127.0.0.1:3128".into(), proxy.to_string()),
            ("127.0.0.1:9464".into(), metrics.to_string()),
            ("/home/ana".into(), here),
        ];
        Self { home, variables, gateway: None, substitutions }
    }

    fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (said, is) in &self.substitutions {
            text = text.replace(said, is);
        }
        text
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env_clear().envs(&self.variables);
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    /// Starts a gateway; its banner is what the page shows.
    fn start(&mut self, command: &str) -> String {
        assert!(self.gateway.is_none(), "a page starts one gateway");
        let mut child = self
            .command(&format!("exec {command}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        // The banner is one write.
        let mut banner = vec![0; 64 << 10];
        let length = child.stdout.as_mut().unwrap().read(&mut banner).unwrap();
        self.gateway = Some(child);
        String::from_utf8(banner[..length].to_vec()).unwrap()
    }

    /// Runs a command to its end; what it does to the environment holds for the next.
    fn run(&mut self, command: &str) -> (bool, String) {
        let script = format!("{command}\nstatus=$?\nenv -0 > .environment\nexit $status");
        let ran = self.command(&script).output().unwrap();
        let after = std::fs::read(self.home.path().join(".environment")).unwrap();
        self.variables = String::from_utf8(after)
            .unwrap()
            .split_terminator('\0')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let text = [ran.stdout, ran.stderr].concat();
        (ran.status.success(), String::from_utf8(text).unwrap())
    }

    /// Runs what is shown, and compares. Records are written a moment late: while a gateway runs,
    /// a command is tried again until it agrees.
    fn check(&mut self, shown: &Shown, place: &str) {
        let command = self.here(&shown.command);
        let wanted: Vec<String> = shown.output.iter().map(|line| self.here(line)).collect();
        if command.starts_with("portcullis gateway") {
            let banner = self.start(&command);
            let lines: Vec<&str> = banner.lines().collect();
            assert!(agrees(&wanted, &lines), "{place}: {command}\n{banner}");
            return;
        }
        let until = Instant::now() + if self.gateway.is_some() { PATIENCE } else { Duration::ZERO };
        loop {
            let (passed, output) = self.run(&command);
            let lines: Vec<&str> = output.lines().collect();
            if passed && (wanted.is_empty() || agrees(&wanted, &lines)) {
                return;
            }
            assert!(Instant::now() < until, "{place}: {command}\n{output}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            drop(gateway.kill());
            drop(gateway.wait());
        }
    }
}

/// A port that nobody listens on.
fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    drop(socket);
    // A socket that is given the very port that it asks connects to itself: that is nobody, too.
    let itself = |asked: TcpStream| asked.local_addr().unwrap() == at;
    assert!(TcpStream::connect(at).map_or(true, itself));
    at
}

/// Whether a command is for this test: portcullis itself, or a client of it.
fn runs(shown: &Shown) -> bool {
    let command = &shown.command;
    if command.starts_with("cargo ") {
        return command.starts_with("cargo run --release -- ") && !shown.output.is_empty();
    }
    let first = command.split_whitespace().next().unwrap();
    first.ends_with("portcullis") || ["eval", "export"].contains(&first) || TOOLS.contains(&first)
}

fn missing(command: &str) -> Option<&'static str> {
    let used = |tool: &&&str| command.split_whitespace().any(|word| word == **tool);
    let there = |tool: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|d| d.join(tool).is_file())
    };
    TOOLS.iter().filter(used).copied().find(|tool| !there(tool))
}

/// Runs through a page; says how many commands were run.
fn follow(path: &str, shell: &mut Shell) -> usize {
    let page = Page::open(path);
    for block in page.blocks_of("yaml") {
        if let Some(name) = block.file_name() {
            std::fs::write(shell.home.path().join(name), shell.here(&block.text)).unwrap();
        }
    }
    let mut ran = 0;
    for block in page.blocks_of("console") {
        if block.info.ends_with("online") || block.info.ends_with("offline") {
            continue;
        }
        for shown in block.commands() {
            if !runs(&shown) {
                continue;
            }
            if let Some(tool) = missing(&shown.command) {
                eprintln!("skipped: {tool} is not installed");
                continue;
            }
            shell.check(&shown, &format!("{path}:{}", shown.line));
            ran += 1;
        }
    }
    ran
}

#[test]
fn the_readme_does_what_it_says() {
    assert!(follow("README.md", &mut Shell::new()) >= 4);
}

#[test]
fn the_operators_page_does_what_it_says() {
    assert!(follow("docs/operators.md", &mut Shell::new()) >= 4);
}

#[test]
fn the_policy_authors_page_does_what_it_says() {
    assert!(follow("docs/policy-authors.md", &mut Shell::new()) >= 6);
}

#[test]
fn the_control_api_page_does_what_it_says() {
    assert_eq!(follow("docs/control-api.md", &mut Shell::new()), 5);
}

#[test]
fn the_credentials_page_does_what_it_says() {
    assert_eq!(follow("docs/credentials.md", &mut Shell::new()), 3);
}

#[test]
fn the_openshell_page_does_what_it_says() {
    assert_eq!(follow("docs/from-openshell.md", &mut Shell::new()), 1);
}

#[test]
fn the_recipes_of_the_records_page_work_on_its_own_record() {
    let mut shell = Shell::new();
    let record = Page::open("docs/records.md").blocks_of("json").remove(0).text.replace('\n', "");
    let parsed: portcullis::record::Line = serde_json::from_str(&record).unwrap();
    assert!(matches!(parsed, portcullis::record::Line::Record(_)));
    let traffic = shell.home.path().join(".local/state/portcullis/traffic/default");
    std::fs::create_dir_all(&traffic).unwrap();
    std::fs::write(traffic.join("2026-11-23T014019.459-0000.jsonl"), record + "\n").unwrap();
    follow("docs/records.md", &mut shell);
}

#[test]
fn no_page_with_commands_is_left_out() {
    let followed = [
        "README.md",
        "docs/control-api.md",
        "docs/credentials.md",
        "docs/from-openshell.md",
        "docs/operators.md",
        "docs/policy-authors.md",
        "docs/records.md",
    ];
    for page in Page::all() {
        let run = |block: &docs_kit::Block| {
            !block.info.ends_with("online") && !block.info.ends_with("offline")
        };
        let blocks = page.blocks_of("console").into_iter().filter(run);
        let commands = blocks.flat_map(|block| block.commands()).any(|command| runs(&command));
        assert!(!commands || followed.contains(&&*page.name()), "{}", page.name());
    }
}

#[test]
fn an_ellipsis_stands_for_any_text_and_nothing_else_is_forgiven() {
    let shown = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    assert!(agrees(&shown(&["a", "…", "c"]), &["a", "b", "b", "c"]));
    assert!(agrees(&shown(&["a … c", "…"]), &["a b c"]));
    assert!(!agrees(&shown(&["a"]), &["a", "b"]));
    assert!(!agrees(&shown(&["a", "b"]), &["a"]));
    assert!(!agrees(&shown(&["id …x"]), &["id y"]));
}
