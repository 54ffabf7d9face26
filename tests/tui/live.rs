//! The real binary on a real terminal (tmux), against a control socket: the first picture, an
//! answer, a restart of the gateway, and the terminal handed back however the pane ends.

use crate::tui_kit::gateway::{Fake, Served};
use crate::tui_kit::samples;
use portcullis::control::wire::{Breadth, Scope, Verdict};
use portcullis::tui::{Options, Theme};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal of its own server, so that no other is touched.
struct Tmux {
    dir: tempfile::TempDir,
}

impl Tmux {
    /// `None` where tmux is not installed.
    fn open(columns: u16, rows: u16) -> Option<Self> {
        let there = Command::new("tmux").arg("-V").output().is_ok_and(|out| out.status.success());
        if !there {
            eprintln!("skipped: tmux is not installed");
            return None;
        }
        let tmux = Self { dir: tempfile::tempdir().unwrap() };
        let (x, y) = (columns.to_string(), rows.to_string());
        tmux.run(&["new-session", "-d", "-x", &x, "-y", &y, "env", "PS1=$ ", "sh"]);
        tmux.wait("$");
        Some(tmux)
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("run/control.sock")
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.dir.path().join("tmux")).args(["-f", "/dev/null"]).args(args);
        tmux.env_remove("TMUX").env("TERM", "screen-256color").output().unwrap()
    }

    fn term(&self, more: &str) {
        let binary = env!("CARGO_BIN_EXE_portcullis");
        let socket = self.socket();
        self.type_in(&format!("{binary} term --socket {} {more}", socket.display()));
        self.keys(&["Enter"]);
    }

    fn type_in(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
    }

    fn keys(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend(keys);
        self.run(&args);
    }

    fn screen(&self) -> String {
        String::from_utf8(self.run(&["capture-pane", "-p"]).stdout).unwrap()
    }

    /// Waits until the screen says it.
    fn wait(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    fn until(&self, what: &str, there: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if there(&screen) {
                return screen;
            }
            assert!(started.elapsed() < PATIENCE, "no {what:?}:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The pane's process.
    fn pid(&self) -> String {
        let shell = self.run(&["display", "-p", "#{pane_pid}"]).stdout;
        let shell = String::from_utf8(shell).unwrap();
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        let children = std::fs::read_to_string(children).unwrap();
        children.split_whitespace().next().expect("the pane runs").to_owned()
    }

    /// The shell has its terminal back: what is typed is echoed, and nothing of the pane is left.
    fn handed_back(&self) {
        self.until("a shell", |screen| !screen.contains("Sandboxes"));
        self.type_in("echo back-$((40+2))");
        self.keys(&["Enter"]);
        let screen = self.wait("back-42");
        assert!(screen.contains("echo back-$((40+2))"), "echo is off:\n{screen}");
        let flags = "#{alternate_on}#{mouse_any_flag}";
        let flags = self.run(&["display", "-p", flags]).stdout;
        assert_eq!(String::from_utf8(flags).unwrap().trim(), "00");
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

fn serve(socket: &Path) -> Served {
    Served::new(Fake::new(samples::requests()), socket)
}

/// A question is deaf for its first moment: the key is pressed until it is heard.
fn confirm(tmux: &Tmux, served: &Served, answers: usize) {
    let started = Instant::now();
    while served.fake.answers.lock().unwrap().len() < answers {
        assert!(started.elapsed() < PATIENCE, "not answered:\n{}", tmux.screen());
        if tmux.screen().contains("session · exact") {
            tmux.keys(&["Enter"]);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_request_is_approved_and_the_gateway_may_restart() {
    let Some(tmux) = Tmux::open(100, 30) else { return };
    let served = serve(&tmux.socket());
    tmux.term("");
    tmux.wait("api.github.com/repos/acme");
    tmux.until("a question", |screen| {
        if !screen.contains("approve r41?") {
            tmux.keys(&["a"]);
        }
        screen.contains("approve r41?")
    });
    confirm(&tmux, &served, 1);
    let (number, decision) = served.fake.answers.lock().unwrap()[0].clone();
    assert_eq!((&*number, &*decision.digest), ("r41", "sha256:41"));
    assert_eq!((decision.decision, decision.scope), (Verdict::Approve, Scope::Session));
    assert_eq!(decision.breadth, Breadth::Exact);
    tmux.wait("r41 approved");
    tmux.keys(&["u"]);
    tmux.wait("the answer to r41 was taken back");
    drop(served);
    tmux.wait("gateway gone; trying again");
    let served = Served::new(Fake::new(vec![samples::requests().remove(1)]), &tmux.socket());
    tmux.until("a list that was read again", |screen| {
        !screen.contains("gateway gone") && screen.contains("r42") && !screen.contains("r41 ")
    });
    tmux.keys(&["q"]);
    tmux.handed_back();
    assert!(served.fake.answers.lock().unwrap().is_empty(), "closing answers nothing");
}

#[test]
fn the_terminal_is_handed_back_after_a_signal() {
    for signal in ["TERM", "HUP", "INT"] {
        let Some(tmux) = Tmux::open(80, 24) else { return };
        let _served = serve(&tmux.socket());
        tmux.term("");
        tmux.wait("r41");
        let killed = Command::new("kill").args(["-s", signal, &tmux.pid()]).status().unwrap();
        assert!(killed.success());
        tmux.handed_back();
    }
}

#[test]
fn it_stops_and_goes_on_as_any_program_does() {
    let Some(tmux) = Tmux::open(80, 24) else { return };
    let _served = serve(&tmux.socket());
    tmux.term("");
    tmux.wait("r41");
    tmux.keys(&["C-z"]);
    tmux.handed_back();
    tmux.type_in("fg");
    tmux.keys(&["Enter"]);
    tmux.until("the pane again", |screen| screen.contains("[1 Pending 8]"));
    tmux.keys(&["5"]);
    tmux.wait("[5 Sandboxes]");
    let killed = Command::new("kill").args(["-s", "TSTP", &tmux.pid()]).status().unwrap();
    assert!(killed.success());
    tmux.handed_back();
    tmux.type_in("fg");
    tmux.keys(&["Enter"]);
    tmux.until("the pane again", |screen| screen.contains("[5 Sandboxes]"));
    tmux.keys(&["q"]);
    tmux.handed_back();
}

#[test]
fn a_panic_hands_the_terminal_back_and_is_told() {
    let Some(tmux) = Tmux::open(100, 24) else { return };
    let served = serve(&tmux.socket());
    let exe = std::env::current_exe().unwrap();
    let run = format!(
        "PANE={} {} --exact --ignored --nocapture live::a_pane_in_which_something_panics",
        served.socket.display(),
        exe.display()
    );
    tmux.type_in(&run);
    tmux.keys(&["Enter"]);
    tmux.wait("r41");
    let screen = tmux.wait("the pane has closed: something in it panicked");
    assert!(screen.contains("on purpose"), "{screen}");
    tmux.handed_back();
}

#[test]
#[ignore = "run on a terminal by a_panic_hands_the_terminal_back_and_is_told"]
fn a_pane_in_which_something_panics() {
    let Some(socket) = std::env::var_os("PANE") else { return };
    let client = portcullis::control::client::Client::new(socket);
    let options = Options { client, only: None, theme: Theme::Plain };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let panics = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(1));
        panic!("on purpose");
    });
    let error = runtime.block_on(portcullis::tui::run(options)).unwrap_err();
    println!("{error}");
    assert!(panics.join().is_err());
}

#[test]
fn another_size_is_drawn_at_once() {
    let Some(tmux) = Tmux::open(120, 40) else { return };
    let _served = serve(&tmux.socket());
    tmux.term("");
    tmux.wait("host and path");
    tmux.run(&["resize-window", "-x", "40", "-y", "12"]);
    tmux.until("the narrow list", |screen| {
        !screen.contains("host and path")
            && screen.contains("GET api.github.com/repos/acme/widget/i")
    });
}

#[test]
fn the_models_are_read_again_while_their_page_is_shown() {
    let Some(tmux) = Tmux::open(120, 60) else { return };
    let served = serve(&tmux.socket());
    tmux.term("");
    tmux.wait("r41");
    tmux.keys(&["5"]);
    let screen = tmux.wait("7957 of 10000 tokens left");
    assert!(screen.contains("paid by openai (available)"), "{screen}");
    assert!(screen.contains("inference no models"), "{screen}");
    let mute = |mute| served.fake.mute.store(mute, std::sync::atomic::Ordering::SeqCst);
    mute(true);
    let screen = tmux.wait("could not be read: ");
    assert!(screen.contains("the routes are being changed"), "{screen}");
    mute(false);
    tmux.until("models again", |screen| !screen.contains("could not be read"));
}

/// A terminal of 8 or 16 colours knows 30 to 37 and 90 to 97, and no `38;5;`.
#[test]
fn whatever_the_theme_and_the_terminal_only_the_classic_colours_are_written() {
    for (theme, term) in [("auto", "linux"), ("dark", "xterm"), ("light", "xterm-256color")] {
        let Some(tmux) = Tmux::open(100, 30) else { return };
        let _served = serve(&tmux.socket());
        let raw = tmux.dir.path().join("raw");
        tmux.run(&["pipe-pane", "-o", &format!("cat > {}", raw.display())]);
        tmux.type_in(&format!("export TERM={term}; unset NO_COLOR; "));
        tmux.term(&format!("--theme {theme}"));
        tmux.wait("r41");
        for key in ["5", "4", "1"] {
            tmux.keys(&[key]);
            tmux.wait(&format!("[{key} "));
        }
        let raw = std::fs::read(raw).unwrap();
        let raw = String::from_utf8_lossy(&raw);
        assert!(raw.contains("\u{1b}[0;1;36m") || raw.contains("\u{1b}[0;1;34m"), "{raw:?}");
        // SGR alone: the clock and the cursor's places have these numbers, too.
        let sgr = raw.split("\u{1b}[").filter_map(|sequence| sequence.split_once('m'));
        let beyond = sgr.map(|(numbers, _)| numbers).find(|numbers| {
            numbers.bytes().all(|b| b.is_ascii_digit() || b";:".contains(&b))
                && numbers.split([';', ':']).any(|number| ["38", "48"].contains(&number))
        });
        assert_eq!(beyond, None, "{theme} {term}: {raw:?}");
    }
}

#[test]
fn somebody_attends_for_as_long_as_the_pane_is_open() {
    let Some(tmux) = Tmux::open(80, 24) else { return };
    let served = serve(&tmux.socket());
    let attended = || served.fake.attended.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(attended(), 0);
    tmux.term("");
    tmux.wait("r41");
    assert_eq!(attended(), 1);
    tmux.keys(&["q"]);
    tmux.until("nobody", |_| attended() == 0);
}

#[test]
fn without_a_gateway_it_says_how_to_start_one_and_exits_with_3() {
    let Some(tmux) = Tmux::open(100, 24) else { return };
    tmux.term("; echo status-$?");
    let screen = tmux.wait("status-3");
    assert!(screen.contains("no gateway is running at"), "{screen}");
    assert!(screen.contains("portcullis gateway"), "{screen}");
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let out = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("term").output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let error = String::from_utf8(out.stderr).unwrap();
    assert!(error.contains("portcullis requests watch"), "{error}");
    assert!(out.stdout.is_empty());
}

#[test]
fn a_sandbox_that_is_not_there_is_an_error_that_names_those_that_are() {
    let Some(tmux) = Tmux::open(100, 24) else { return };
    let _served = serve(&tmux.socket());
    tmux.term("-s agnet; echo status-$?");
    let screen = tmux.wait("status-2");
    assert!(screen.contains("agent, ci"), "{screen}");
}
