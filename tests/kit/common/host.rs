//! Other users of this host, and networks of one's own: what only root can make.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of the harness")]
#![allow(unsafe_code, reason = "system calls for one thread, which no library makes")]

use std::process::Command;

/// The uid of `nobody`.
pub const NOBODY: u32 = 65534;

/// Whether the test runs as root; if not, it says so and is counted as skipped.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: this needs root");
    }
    root
}

/// Runs `act` on a thread that is another user. Needs root.
pub fn as_uid<T: Send>(uid: u32, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let none = std::ptr::null::<libc::gid_t>();
            // SAFETY: the system calls read no memory; made directly, they change this thread
            // alone, which ends with `act`.
            let done = unsafe {
                libc::syscall(libc::SYS_setgroups, 0, none)
                    | libc::syscall(libc::SYS_setresgid, uid, uid, uid)
                    | libc::syscall(libc::SYS_setresuid, uid, uid, uid)
            };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
            act()
        });
        thread.join().unwrap()
    })
}

/// Moves the calling thread, and all that it starts from now on, into a network of its own, with
/// loopback up. `false` where that can't be done: the test is skipped.
pub fn network() -> bool {
    if !root() || !super::tool("ip") {
        return false;
    }
    // SAFETY: no memory is involved; a new network namespace holds for this thread alone.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if done != 0 {
        eprintln!("skipped: no network namespace: {}", std::io::Error::last_os_error());
        return false;
    }
    ip("link set lo up");
    true
}

/// Runs `ip` in the calling thread's network.
pub fn ip(args: &str) {
    let output = Command::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The calling thread's id, by which `ip link … netns` finds its network.
fn thread_id() -> i32 {
    // SAFETY: takes and touches nothing.
    unsafe { libc::gettid() }
}

/// Runs `act` in another network, a neighbour of the caller's by the link `near`, with these
/// addresses. The caller's side has 10.77.0.1.
pub fn neighbour<T: Send>(addresses: &[&str], act: impl FnOnce() -> T + Send) -> T {
    let here = thread_id();
    let (made, up) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            assert!(network());
            ip(&format!("link add far type veth peer name near netns {here}"));
            ip("link set far up");
            for address in addresses {
                ip(&format!("addr add {address} dev far"));
            }
            made.wait();
            up.wait();
            act()
        });
        made.wait();
        ip("addr add 10.77.0.1/16 dev near");
        ip("link set near up");
        up.wait();
        thread.join().unwrap()
    })
}
