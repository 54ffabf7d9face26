//! Which process it is: real children with real sockets. `bash` opens them, because it shares
//! and keeps descriptors as it is told.

use crate::common::{Origin, Setup};
use crate::operation_kit::entry;
use portcullis::identity::{Peers, Socket};
use portcullis::policy::Process;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// A child that connected to us, killed at the end of the test.
struct Client {
    child: Child,
    accepted: TcpStream,
    socket: Socket,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    /// Runs `script` in `shell`, `$PORT` being ours, and accepts its connection.
    fn start(peers: &Peers, shell: &Path, script: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let mut command = Command::new(shell);
        command
            .args(["-c", script])
            .env("PORT", listener.local_addr().expect("bound").port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let child = spawn(&mut command);
        let (accepted, peer) = listener.accept().expect("loopback");
        let local = accepted.local_addr().expect("connected");
        let socket = peers.tcp_peer(local, peer).expect("answered").expect("found");
        Self { child, accepted, socket }
    }

    /// Sends a line and waits for what the child says to it.
    fn say(&mut self, line: &str) -> String {
        writeln!(self.accepted, "{line}").expect("connected");
        let mut said = String::new();
        let stdout = self.child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut said).expect("the child talks");
        said.trim_end().to_owned()
    }

    fn process(&self, peers: &Peers) -> Option<Arc<Process>> {
        peers.process(self.socket)
    }
}

/// A test beside this one may have forked while a copied shell was open for writing.
fn spawn(command: &mut Command) -> Child {
    loop {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::yield_now();
            }
            spawned => return spawned.expect("a shell"),
        }
    }
}

fn which(name: &str) -> PathBuf {
    installed(name).expect(name)
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").expect("PATH");
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file());
    found?.canonicalize().ok()
}

fn me() -> String {
    let path = std::env::current_exe().expect("our own").canonicalize().expect("our own");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_child_is_seen_with_its_executable_and_its_ancestors() {
    let peers = Peers::open().expect("sock_diag");
    let bash = which("bash");
    let client = Client::start(&peers, &bash, "exec 3<>/dev/tcp/127.0.0.1/$PORT; read -u 3 x");
    for round in ["first", "again"] {
        let process = client.process(&peers).expect(round);
        assert_eq!(process.pid, client.child.id());
        assert_eq!(Some(&*process.binary), bash.to_str());
        assert_eq!(process.ancestors.first().map(|a| a.to_string()), Some(me()));
    }
}

#[test]
fn curl_is_seen_as_curl() {
    let peers = Peers::open().expect("sock_diag");
    let Some(curl) = installed("curl") else { return };
    let script = format!("{} -s http://127.0.0.1:$PORT/; true", curl.display());
    let client = Client::start(&peers, &which("bash"), &script);
    let process = client.process(&peers).expect("seen");
    assert_eq!(Some(&*process.binary), curl.to_str());
    assert_eq!(process.ancestors.first().map(|a| a.to_string()).as_deref(), which("bash").to_str());
}

#[test]
fn our_own_socket_is_ours() {
    let peers = Peers::open().expect("sock_diag");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let _client = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
    let (accepted, peer) = listener.accept().expect("loopback");
    let local = accepted.local_addr().expect("connected");
    let socket = peers.tcp_peer(local, peer).expect("answered").expect("found");
    let process = peers.process(socket).expect("seen");
    assert_eq!((process.pid, &*process.binary), (std::process::id(), me().as_str()));
    assert_eq!(peers.process_of_pid(std::process::id()), Some(process));
}

#[test]
fn an_exec_is_seen_at_once_under_the_same_pid() {
    let peers = Peers::open().expect("sock_diag");
    let script = "exec 3<>/dev/tcp/127.0.0.1/$PORT; read -u 3 x; exec cat <&3";
    let mut client = Client::start(&peers, &which("bash"), script);
    let before = client.process(&peers).expect("seen");
    assert_eq!(Some(&*before.binary), which("bash").to_str());
    writeln!(client.accepted, "go").expect("connected");
    assert_eq!(client.say("hello"), "hello", "cat runs");
    let after = client.process(&peers).expect("seen");
    assert_eq!(after.pid, before.pid);
    assert_eq!(Some(&*after.binary), which("cat").to_str());
}

#[test]
fn of_parent_and_child_with_one_socket_the_parent_is_reported() {
    let peers = Peers::open().expect("sock_diag");
    // `cat` holds it as its standard input, the shell above it as descriptor 3, and a subshell
    // between them not at all.
    let script = "exec 3<>/dev/tcp/127.0.0.1/$PORT; ( exec 4<&3 3<&-; cat <&4; true ); true";
    let mut client = Client::start(&peers, &which("bash"), script);
    assert_eq!(client.say("hello"), "hello", "cat runs");
    for round in ["first", "again"] {
        let process = client.process(&peers).expect(round);
        assert_eq!(process.pid, client.child.id(), "{round}");
        assert_eq!(Some(&*process.binary), which("bash").to_str());
    }
}

#[test]
fn a_child_that_alone_kept_the_socket_is_reported_itself() {
    let peers = Peers::open().expect("sock_diag");
    let script = "exec 3<>/dev/tcp/127.0.0.1/$PORT; cat <&3 & exec 3<&-; wait";
    let mut client = Client::start(&peers, &which("bash"), script);
    assert_eq!(client.say("hello"), "hello", "cat runs");
    // The shell closes its own copy on its own time.
    let mut process = client.process(&peers).expect("seen");
    while process.pid == client.child.id() {
        process = client.process(&peers).expect("seen");
    }
    assert_eq!(Some(&*process.binary), which("cat").to_str());
    assert_eq!(process.ancestors.first().map(|a| a.to_string()).as_deref(), which("bash").to_str());
}

#[test]
fn an_executable_that_was_deleted_or_replaced_is_not_seen() {
    let peers = Peers::open().expect("sock_diag");
    let dir = tempfile::tempdir().expect("a directory");
    let shell = dir.path().canonicalize().expect("a directory").join("shell");
    std::fs::copy(which("bash"), &shell).expect("a copy");
    let client = Client::start(&peers, &shell, "exec 3<>/dev/tcp/127.0.0.1/$PORT; read -u 3 x");
    let process = client.process(&peers).expect("seen");
    assert_eq!(Some(&*process.binary), shell.to_str());

    std::fs::remove_file(&shell).expect("ours");
    assert_eq!(client.process(&peers), None, "deleted");
    std::fs::copy(which("bash"), &shell).expect("a copy");
    assert_eq!(client.process(&peers), None, "replaced by its twin");
    let named = format!("{} (deleted)", shell.display());
    std::fs::copy(which("bash"), named).expect("a copy");
    assert_eq!(client.process(&peers), None, "the odd name exists");
}

#[test]
fn an_ancestor_that_was_deleted_is_left_out() {
    let peers = Peers::open().expect("sock_diag");
    let dir = tempfile::tempdir().expect("a directory");
    let shell = dir.path().canonicalize().expect("a directory").join("shell");
    std::fs::copy(which("bash"), &shell).expect("a copy");
    let script = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/$PORT; read -u 3 x'; true";
    let client = Client::start(&peers, &shell, script);
    let first = |process: &Process| process.ancestors.first().map(|a| a.to_string());
    let before = client.process(&peers).expect("seen");
    assert_eq!(first(&before).as_deref(), shell.to_str());
    std::fs::remove_file(&shell).expect("ours");
    let after = client.process(&peers).expect("seen");
    assert_eq!(first(&after), Some(me()));
}

/// Needs root, for a mount namespace.
#[test]
fn an_executable_mounted_over_an_allowed_one_is_not_seen() {
    let unshare = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !unshare.is_ok_and(|status| status.success()) {
        return;
    }
    let peers = Peers::open().expect("sock_diag");
    let dir = tempfile::tempdir().expect("a directory");
    let allowed = dir.path().canonicalize().expect("a directory").join("allowed");
    std::fs::write(&allowed, "").expect("ours");
    let script = format!(
        "unshare -m bash -c 'mount --bind {} {allowed}; exec {allowed} -c \"exec 3<>/dev/tcp/127.0.0.1/$PORT; read -u 3 x\"'; true",
        which("bash").display(),
        allowed = allowed.display(),
    );
    let client = Client::start(&peers, &which("bash"), &script);
    assert_eq!(client.process(&peers), None);
}

#[test]
fn what_was_seen_a_moment_ago_is_told_apart_by_the_socket_it_holds() {
    let peers = Peers::open().expect("sock_diag");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let socket = |stream: &std::net::TcpStream| {
        let from = stream.local_addr().expect("connected");
        peers.tcp_peer(at, from).expect("sock_diag").expect("it is ours")
    };
    // As many as are remembered, with other descriptors between them.
    let mut others = Vec::new();
    let streams: Vec<_> = (0..100)
        .map(|_| {
            others.extend((0..3).map(|_| std::fs::File::open("/dev/null").expect("a file")));
            std::net::TcpStream::connect(at).expect("a listener")
        })
        .collect();
    let seen = |stream| peers.probable_process(socket(stream)).map(|process| process.pid);
    let own = Some(std::process::id());
    for stream in streams.iter().rev().chain(&streams) {
        assert_eq!(seen(stream), own);
    }
    assert!(streams.iter().filter(|s| peers.recent_process(socket(s)).is_some()).count() > 20);
    // Another process of the same uid is not taken for the one that was seen.
    let script = "exec 3<>/dev/tcp/127.0.0.1/$PORT; read -u 3 x";
    let child = Client::start(&peers, &which("bash"), script);
    assert_eq!(peers.recent_process(child.socket), None);
    let process = peers.probable_process(child.socket).expect("it runs");
    assert_ne!(Some(process.pid), own);
    assert_eq!(peers.probable_process(Socket { uid: 0, inode: u64::MAX }), None);
}

#[tokio::test]
async fn of_one_uid_one_searches_at_a_time_and_another_uid_does_not_wait() {
    let peers = Peers::open().expect("sock_diag");
    let of = |uid| Socket { uid, inode: 1 };
    let turn = peers.turn(of(7)).await;
    assert!(turn.is_some() && peers.turn(of(8)).await.is_some());
    assert!(peers.turn(of(7)).await.is_none(), "it does not come in time");
    drop(turn);
    assert!(peers.turn(of(7)).await.is_some());
}

#[test]
fn a_socket_that_nobody_holds_is_nobodys() {
    let peers = Peers::open().expect("sock_diag");
    assert_eq!(peers.process(Socket { uid: 0, inode: u64::MAX }), None);
    assert_eq!(peers.process(Socket { uid: u32::MAX, inode: 1 }), None);
    assert_eq!(peers.process_of_pid(u32::MAX), None);
    assert_eq!(peers.process_of_pid(0), None);
}

/// What a look-up costs with 300 processes of the same uid:
/// `cargo test --test identity cost -- --ignored --nocapture`.
#[test]
#[ignore = "measures; prints microseconds"]
fn the_cost_of_a_look_up() {
    let mut sleepers: Vec<Child> =
        (0..300).map(|_| Command::new("sleep").arg("600").spawn().expect("sleep")).collect();
    let warm = Peers::open().expect("sock_diag");
    let script = "exec 3<>/dev/tcp/127.0.0.1/$PORT; read -u 3 x";
    let old = Client::start(&warm, &which("bash"), script);
    let (local, peer) = (
        old.accepted.local_addr().expect("connected"),
        old.accepted.peer_addr().expect("connected"),
    );
    measure("tcp_peer", || assert!(warm.tcp_peer(local, peer).is_ok_and(|s| s.is_some())));
    measure("process, recent", || assert!(old.process(&warm).is_some()));
    let cold = |client: &Client| Peers::open().expect("sock_diag").process(client.socket);
    measure("process, newest pid", || assert!(cold(&old).is_some()));
    sleepers.extend((0..64).map(|_| Command::new("sleep").arg("600").spawn().expect("sleep")));
    measure("process, 64 younger processes, scan", || assert!(cold(&old).is_some()));
    let gone = Socket { inode: u64::MAX, ..old.socket };
    measure("process, held by nobody, scan of all", || assert!(warm.process(gone).is_none()));
    for mut sleeper in sleepers {
        let _ = sleeper.kill();
        let _ = sleeper.wait();
    }
}

fn measure(what: &str, mut work: impl FnMut()) {
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let start = std::time::Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{what}: p50 {:?}, p99 {:?}", times[100], times[198]);
}

/// What a copied shell is answered by a gateway at `port`, after it has run `before`.
fn answered(proxy: u16, origin: u16, before: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let shell = dir.path().join("shell");
    std::fs::copy(which("bash"), &shell).expect("a copy");
    let script = format!(
        "{before}; exec 3<>/dev/tcp/127.0.0.1/{proxy}; \
         printf 'GET http://origin.test:{origin}/ HTTP/1.1\\r\\nHost: origin.test:{origin}\\r\\n\\r\\n' >&3; \
         read -r -u 3 line; echo \"$line\""
    );
    let mut command = Command::new(&shell);
    command.args(["-c", &script]).env("SHELL_FILE", &shell).stdout(Stdio::piped());
    let said = spawn(&mut command).wait_with_output().expect("it ends").stdout;
    String::from_utf8(said).expect("UTF-8").split(' ').nth(1).expect("a status").to_owned()
}

#[test]
fn where_the_process_can_not_be_seen_binaries_match_only_if_the_sandbox_ignores_identity() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let policy = entry("a", "origin.test", port, "protocol: rest, access: full")
        + "    binaries: [{ path: /usr/bin/gh }]\n";
    for (identity, unseen) in
        [("required", ("403", "process_unknown")), ("ignore", ("200", "allowed"))]
    {
        let gateway =
            Setup::policy(&policy).sandbox(&format!("    identity: {identity}\n")).start();
        // A shell that has removed its own file can't be seen; one that is seen is not `gh`.
        let asked = |before| answered(gateway.proxy.port(), port, before);
        assert_eq!(asked("rm \"$SHELL_FILE\""), unseen.0, "{identity}");
        assert_eq!(asked("true"), "403", "{identity}");
        let records = gateway.records(2);
        assert_eq!(records[0]["code"], unseen.1, "{identity}");
        assert_eq!(records[1]["code"], "process_not_allowed", "{identity}");
    }
}

/// A policy that tells no processes apart takes a second's memory for who connects; whoever is asked about
/// is looked up.
#[test]
fn who_is_asked_about_is_who_asks_now_and_not_who_was_there_before() {
    let (Some(python), Some(curl)) = (installed("python3"), installed("curl")) else {
        eprintln!("skipped: python3 or curl is not installed");
        return;
    };
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(
        "  known:\n    endpoints:\n      - { host: known.test, port: 443, access: full }",
    )
    .start();
    let script = "import os, socket, sys\n\
        host, port, url, curl = sys.argv[1:5]\n\
        s = socket.create_connection((host, int(port)))\n\
        s.sendall(('GET %s/before HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' % url).encode())\n\
        while s.recv(4096): pass\n\
        os.execv(curl, ['curl', '-s', '-x', '%s:%s' % (host, port), url + '/after'])\n";
    let script = script.replace("Host: x", &format!("Host: origin.test:{port}"));
    let ran = Command::new(&python)
        .args(["-c", &script, "127.0.0.1", &gateway.proxy.port().to_string()])
        .arg(format!("http://origin.test:{port}"))
        .arg(&curl)
        .env_remove("http_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(said.contains("approval_required"), "{said} {}", String::from_utf8_lossy(&ran.stderr));
    let records = gateway.records(2);
    let binary = |at: usize| PathBuf::from(records[at]["client"]["binary"].as_str().unwrap());
    assert_eq!(records[0]["path"], "/before");
    // Python may be another file than the one that was started (a shim).
    assert!(binary(0) != curl, "{records:#?}");
    assert_eq!(binary(1), curl);
}
