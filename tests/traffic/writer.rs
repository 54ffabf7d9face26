//! Every record stands in the file once, in order, whole; and where it can't, nothing passes.

use portcullis::addr::{Host, Port};
use portcullis::policy::{Client, Code, Scheme};
use portcullis::record::{By, Event, Id, Judged, Outcome, PolicyId, Record, Sink, Timings};
use portcullis::traffic::{self, RecordFailure, Settings, Slot, TrafficError, Writing};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

const SOON: Duration = Duration::from_secs(10);
/// Set in the environment of a child that this file runs: the state directory.
const STATE: &str = "PORTCULLIS_TEST_STATE";

fn record(sandbox: &Arc<str>, number: u64) -> Record {
    let now = SystemTime::now();
    Record {
        time: now,
        id: Id::new(now),
        sandbox: sandbox.clone(),
        client: Client::Unseen,
        scheme: Scheme::Https,
        http: None,
        host: Some(Host::parse("origin.test").unwrap()),
        port: Some(Port::HTTPS),
        method: Some(http::Method::GET),
        target: Some("/x".parse().unwrap()),
        verdict: Judged::Allow,
        code: Code::Allowed,
        rule: None,
        outcome: Outcome::Passed,
        by: By::Policy,
        request: None,
        approval: None,
        credential: None,
        sent: true,
        address: None,
        status: Some(200),
        upload: number,
        download: 0,
        ms: Timings::default(),
        policy: PolicyId::default(),
        facts: None,
        call: None,
        websocket: false,
    }
}

fn refusal(sandbox: &Arc<str>, path: &str) -> Record {
    Record {
        verdict: Judged::Unknown,
        code: Code::HostUnknown,
        outcome: Outcome::Refused,
        sent: false,
        target: Some(path.parse().unwrap()),
        ..record(sandbox, 0)
    }
}

fn files(state: &Path, sandbox: &str) -> Vec<PathBuf> {
    let Ok(dir) = fs::read_dir(state.join("traffic").join(sandbox)) else { return Vec::new() };
    let mut files: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Every line of a sandbox, each of which must be whole.
fn lines(state: &Path, sandbox: &str) -> Vec<Value> {
    let text: String =
        files(state, sandbox).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    // A line without its end is being written.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(state: &Path, sandbox: &str) -> Vec<u64> {
    lines(state, sandbox).iter().map(|line| line["upload"].as_u64().unwrap()).collect()
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < SOON, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn records_are_written_in_the_order_of_their_end_by_many_threads_at_once() {
    let state = tempfile::tempdir().unwrap();
    let (recorder, writer) =
        traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
    let threads: Vec<_> = (0..4u64)
        .map(|thread| {
            let recorder = recorder.clone();
            std::thread::spawn(move || {
                let name: Arc<str> = format!("agent{}", thread % 2).into();
                let sandbox = recorder.for_sandbox(&name);
                for i in 0..2000 {
                    sandbox.reserve().unwrap().close(record(&name, thread * 10_000 + i));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    writer.stop(SOON).unwrap();
    for sandbox in 0..2u64 {
        let all = numbers(state.path(), &format!("agent{sandbox}"));
        for thread in [sandbox, sandbox + 2] {
            let own: Vec<u64> = all.iter().copied().filter(|n| n / 10_000 == thread).collect();
            assert_eq!(own, (thread * 10_000..thread * 10_000 + 2000).collect::<Vec<_>>());
        }
        assert_eq!(all.len(), 4000);
    }
    assert_eq!((recorder.queued(), recorder.lost()), (0, 0));
    assert_eq!(recorder.writing(), Writing::Stopped);
    let name: Arc<str> = "agent0".into();
    assert_eq!(recorder.for_sandbox(&name).reserve().unwrap_err(), RecordFailure::Stopped);
}

#[test]
fn a_record_stands_in_the_file_soon_after_its_end_without_another_coming() {
    let state = tempfile::tempdir().unwrap();
    let (recorder, writer) =
        traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    for i in 1..4 {
        sandbox.reserve().unwrap().close(record(&name, i));
        eventually("written", || files(state.path(), "agent").len() == 1);
        eventually("written", || lines(state.path(), "agent").len() as u64 == i);
    }
    writer.stop(SOON).unwrap();
}

#[test]
fn a_full_file_is_followed_by_the_next_and_nothing_is_lost_between() {
    let state = tempfile::tempdir().unwrap();
    let settings = Settings { rotate: 4096, ..Settings::in_state_dir(state.path()) };
    let (recorder, writer) = traffic::start(settings, Vec::new()).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    for i in 0..60 {
        sandbox.reserve().unwrap().close(record(&name, i));
        if i % 6 == 5 {
            eventually("written", || recorder.queued() == 0);
        }
    }
    writer.stop(SOON).unwrap();
    assert!(files(state.path(), "agent").len() >= 3);
    assert!(files(state.path(), "agent").iter().all(|f| fs::metadata(f).unwrap().len() <= 4096));
    assert_eq!(numbers(state.path(), "agent"), (0..60).collect::<Vec<_>>());
}

#[test]
fn where_records_cannot_be_written_nothing_passes_until_they_can() {
    let state = tempfile::tempdir().unwrap();
    let (recorder, writer) =
        traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    sandbox.reserve().unwrap().close(record(&name, 1));
    eventually("written", || recorder.queued() == 0);

    let early = sandbox.reserve().unwrap();
    let late = sandbox.reserve().unwrap();
    let traffic = state.path().join("traffic");
    fs::rename(&traffic, state.path().join("moved")).unwrap();
    fs::remove_dir_all(state.path().join("moved")).unwrap();
    fs::write(&traffic, "a file where the directory was").unwrap();
    early.close(record(&name, 2));
    eventually("failing", || recorder.writing() == Writing::Failing);
    assert_eq!(sandbox.reserve().unwrap_err(), RecordFailure::Failing);
    late.close(record(&name, 3));
    assert_eq!(recorder.queued(), 2, "what could not be written keeps its place");

    fs::remove_file(&traffic).unwrap();
    eventually("recovered", || recorder.writing() == Writing::Fine);
    sandbox.reserve().unwrap().close(record(&name, 4));
    writer.stop(SOON).unwrap();
    assert_eq!(numbers(state.path(), "agent"), [2, 3, 4]);
}

#[test]
fn stopping_while_nothing_can_be_written_says_how_much_is_lost() {
    let state = tempfile::tempdir().unwrap();
    let (recorder, writer) =
        traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    let slots: Vec<Slot> = (0..3).map(|_| sandbox.reserve().unwrap()).collect();
    fs::remove_dir_all(state.path().join("traffic")).unwrap();
    fs::write(state.path().join("traffic"), "").unwrap();
    slots.into_iter().for_each(|slot| slot.close(record(&name, 0)));
    let lost = writer.stop(Duration::from_millis(100));
    assert!(matches!(lost, Err(TrafficError::Unwritten(3))), "{lost:?}");
}

#[test]
fn a_flood_in_one_sandbox_leaves_room_for_the_others() {
    let state = tempfile::tempdir().unwrap();
    let settings = Settings { queue: 64, ..Settings::in_state_dir(state.path()) };
    let (recorder, writer) = traffic::start(settings, Vec::new()).unwrap();
    let names: Vec<Arc<str>> = ["flood", "quiet", "third"].map(Into::into).into();
    let [flood, quiet, third] = [0, 1, 2].map(|i| recorder.for_sandbox(&names[i]));
    let take = |sandbox: &traffic::SandboxRecorder| -> Vec<Slot> {
        std::iter::from_fn(|| sandbox.reserve().ok()).take(1000).collect()
    };
    let first = take(&flood);
    assert_eq!(first.len(), 32, "alone it gets half");
    assert_eq!(flood.reserve().unwrap_err(), RecordFailure::Full);
    assert_eq!(recorder.for_sandbox(&names[0]).reserve().unwrap_err(), RecordFailure::Full);
    let second = take(&quiet);
    let rest = take(&third);
    assert_eq!((second.len(), rest.len()), (16, 8));
    for (slots, name) in [first, second, rest].into_iter().zip(&names) {
        slots.into_iter().for_each(|slot| slot.close(record(name, 0)));
    }
    eventually("room again", || flood.reserve().map(Slot::release).is_ok());
    writer.stop(SOON).unwrap();
    assert_eq!(lines(state.path(), "flood").len(), 32);
}

#[test]
fn a_slot_that_is_dropped_gives_its_place_back_and_is_counted() {
    let state = tempfile::tempdir().unwrap();
    let (recorder, writer) =
        traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
    let sandbox = recorder.for_sandbox(&"agent".into());
    let slot = sandbox.reserve().unwrap();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(slot)));
    assert_eq!((recorder.queued(), recorder.lost()), (0, 1));
    sandbox.reserve().unwrap().release();
    assert_eq!((recorder.queued(), recorder.lost()), (0, 1));
    writer.stop(SOON).unwrap();
}

#[test]
fn past_a_hundred_identical_refusals_a_second_one_line_counts_the_rest() {
    let state = tempfile::tempdir().unwrap();
    let (recorder, writer) =
        traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    for _ in 0..5000 {
        sandbox.reserve().unwrap().close(refusal(&name, "/same"));
    }
    for i in 0..300 {
        sandbox.reserve().unwrap().close(refusal(&name, &format!("/other/{i}")));
        sandbox.reserve().unwrap().close(record(&name, 0));
    }
    for i in 0..3000 {
        let limited = Record {
            by: By::Limit,
            request: None,
            approval: None,
            credential: None,
            code: Code::TooManyRequests,
            ..refusal(&name, &format!("/limited/{i}"))
        };
        sandbox.reserve().unwrap().close(limited);
    }
    writer.stop(SOON).unwrap();
    let lines = lines(state.path(), "agent");
    let stands_for = |line: &Value| line["repeat"].as_u64().unwrap_or(1);
    let of = |is: &dyn Fn(&Value) -> bool| {
        let some: Vec<&Value> = lines.iter().filter(|line| is(line)).collect();
        (some.len(), some.iter().map(|line| stands_for(line)).sum::<u64>())
    };
    let (same, all_same) = of(&|line| line["path"] == "/same");
    assert_eq!(all_same, 5000);
    assert!((101..=404).contains(&same), "{same} lines");
    assert_eq!(of(&|line| line["path"].as_str().unwrap().starts_with("/other")), (300, 300));
    assert_eq!(of(&|line| line["verdict"] == "allow"), (300, 300), "what passed is never counted");
    let (limited, all_limited) = of(&|line| line["code"] == "too_many_requests");
    assert_eq!(all_limited, 3000);
    assert!((101..=404).contains(&limited), "{limited} lines");
    assert_eq!(recorder.queued(), 0);
}

#[test]
fn a_counted_line_comes_without_another_record() {
    let state = tempfile::tempdir().unwrap();
    let (recorder, writer) =
        traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    for _ in 0..150 {
        sandbox.reserve().unwrap().close(refusal(&name, "/same"));
    }
    let total = || -> u64 {
        let lines = lines(state.path(), "agent");
        lines.iter().map(|line| line["repeat"].as_u64().unwrap_or(1)).sum()
    };
    eventually("counted", || total() == 150);
    writer.stop(SOON).unwrap();
    assert_eq!(total(), 150);
}

#[test]
fn events_stand_in_the_file_of_their_sandbox_or_of_the_gateway() {
    let state = tempfile::tempdir().unwrap();
    let (recorder, writer) =
        traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
    recorder.event(Event::GatewayStart { version: "0.1.0".into() }).unwrap();
    let listener =
        Event::Listener { sandbox: "agent".into(), address: "unix:/x".into(), error: None };
    recorder.event(listener).unwrap();
    writer.stop(SOON).unwrap();
    assert_eq!(lines(state.path(), "_gateway")[0]["event"], "gateway.start");
    assert_eq!(lines(state.path(), "agent")[0]["event"], "listener");
    assert_eq!(recorder.event(Event::GatewayStop), Err(RecordFailure::Stopped));
}

#[test]
fn every_sink_sees_every_record_also_those_that_are_only_counted() {
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u64>>>);
    impl Sink for Seen {
        fn record(&mut self, record: &Record) {
            self.0.lock().unwrap().push(record.upload);
        }
    }
    let state = tempfile::tempdir().unwrap();
    let seen = Seen::default();
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(seen.clone())];
    let (recorder, writer) = traffic::start(Settings::in_state_dir(state.path()), sinks).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    for upload in 0..500 {
        sandbox.reserve().unwrap().close(Record { upload, ..refusal(&name, "/same") });
    }
    writer.stop(SOON).unwrap();
    assert_eq!(*seen.0.lock().unwrap(), (0..500).collect::<Vec<_>>());
}

#[test]
fn a_sink_that_panics_shuts_the_gate() {
    struct Broken;
    impl Sink for Broken {
        fn record(&mut self, _: &Record) {
            panic!("a sink of this test");
        }
    }
    let state = tempfile::tempdir().unwrap();
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Broken)];
    let (recorder, writer) = traffic::start(Settings::in_state_dir(state.path()), sinks).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    sandbox.reserve().unwrap().close(record(&name, 1));
    eventually("stopped", || recorder.writing() == Writing::Stopped);
    assert_eq!(sandbox.reserve().unwrap_err(), RecordFailure::Stopped);
    assert!(writer.stop(Duration::from_millis(10)).is_err());
}

#[test]
fn a_damaged_journal_is_set_aside_and_an_unusable_directory_refuses_the_start() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("open.json"), "{\"open\":[{\"v\":").unwrap();
    let (_, writer) = traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
    writer.stop(SOON).unwrap();
    assert!(state.path().join("open.json.bad").exists());
    let blocked = state.path().join("blocked");
    fs::write(&blocked, "").unwrap();
    let refused = traffic::start(Settings::in_state_dir(&blocked), Vec::new());
    assert!(matches!(refused, Err(TrafficError::Directory { .. })));
}

/// Runs one test of this file in a process of its own, with `STATE` set, under `shell`.
fn child(test: &str, state: &Path, shell: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell} exec \"$@\""), "sh"]);
    command.arg(std::env::current_exe().unwrap()).args([
        "--exact",
        &format!("writer::{test}"),
        "--nocapture",
    ]);
    command.env(STATE, state).stdout(Stdio::piped());
    command
}

#[test]
fn killed_it_loses_at_most_the_last_moment_and_open_tunnels_are_recorded_at_the_next_start() {
    if let Some(state) = std::env::var_os(STATE) {
        return write_until_killed(Path::new(&state));
    }
    let state = tempfile::tempdir().unwrap();
    let name =
        "killed_it_loses_at_most_the_last_moment_and_open_tunnels_are_recorded_at_the_next_start";
    let mut child = child(name, state.path(), "").spawn().unwrap();
    let open = || fs::read_to_string(state.path().join("open.json")).unwrap_or_default();
    let mut closed: Vec<(u64, Instant)> = Vec::new();
    let mut journalled = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(number) = line.strip_prefix("closed ") else { continue };
        closed.push((number.parse().unwrap(), Instant::now()));
        journalled |= open().contains("777");
        if journalled && closed.len() > 300 {
            break;
        }
    }
    child.kill().unwrap();
    let killed = Instant::now();
    child.wait().unwrap();
    let written = numbers(state.path(), "agent");
    let (last, _) = *closed
        .iter()
        .rfind(|(_, at)| killed - *at > Duration::from_millis(200))
        .expect("it ran for longer");
    assert!(written.len() as u64 > last, "{last} was closed long before the end");
    assert_eq!(written, (0..written.len() as u64).collect::<Vec<_>>());

    for _ in 0..2 {
        let (_, writer) = traffic::start(Settings::in_state_dir(state.path()), Vec::new()).unwrap();
        writer.stop(SOON).unwrap();
        let lines = lines(state.path(), "agent");
        let interrupted: Vec<&Value> =
            lines.iter().filter(|line| line["code"] == "interrupted").collect();
        assert_eq!(interrupted.len(), 1, "once, however often it starts");
        assert_eq!(interrupted[0]["upload"], 777);
        assert_eq!(interrupted[0]["outcome"], "failed");
        assert_eq!(interrupted[0]["verdict"], "allow");
        assert_eq!(lines.iter().filter(|line| line["upload"] == 888).count(), 0);
    }
}

fn write_until_killed(state: &Path) {
    let (recorder, _writer) = traffic::start(Settings::in_state_dir(state), Vec::new()).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    let tunnel = sandbox.reserve().unwrap();
    tunnel.long(&record(&name, 777));
    let ended = sandbox.reserve().unwrap();
    ended.long(&record(&name, 888));
    ended.release();
    for i in 0.. {
        sandbox.reserve().unwrap().close(record(&name, i));
        println!("closed {i}");
        std::io::stdout().flush().unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_record_that_stands_in_both_file_and_journal_is_not_written_again() {
    let state = tempfile::tempdir().unwrap();
    let settings = Settings::in_state_dir(state.path());
    let (recorder, writer) = traffic::start(settings.clone(), Vec::new()).unwrap();
    let name: Arc<str> = "agent".into();
    let slot = recorder.for_sandbox(&name).reserve().unwrap();
    let draft = record(&name, 5);
    slot.long(&draft);
    eventually("journalled", || {
        fs::read_to_string(&settings.journal).is_ok_and(|text| text.contains("\"upload\":5"))
    });
    let journal = fs::read(&settings.journal).unwrap();
    slot.close(Record { upload: 6, ..draft });
    writer.stop(SOON).unwrap();
    assert!(!fs::read_to_string(&settings.journal).unwrap().contains("upload"));
    // As a crash between the two writes would leave it.
    fs::write(&settings.journal, journal).unwrap();
    let (_, writer) = traffic::start(settings, Vec::new()).unwrap();
    writer.stop(SOON).unwrap();
    assert_eq!(numbers(state.path(), "agent"), [6]);
}

#[test]
fn a_write_that_breaks_off_leaves_whole_lines_only() {
    if let Some(state) = std::env::var_os(STATE) {
        return write_sixty(Path::new(&state));
    }
    let state = tempfile::tempdir().unwrap();
    // No file may grow past a few KiB; the write that would is cut short, the next one fails.
    let limited = "trap '' XFSZ; ulimit -f 8;";
    let mut child = child("a_write_that_breaks_off_leaves_whole_lines_only", state.path(), limited);
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(files(state.path(), "agent").len() >= 3);
    assert_eq!(numbers(state.path(), "agent"), (0..60).collect::<Vec<_>>());
}

fn write_sixty(state: &Path) {
    let (recorder, writer) = traffic::start(Settings::in_state_dir(state), Vec::new()).unwrap();
    let name: Arc<str> = "agent".into();
    let sandbox = recorder.for_sandbox(&name);
    let slots: Vec<Slot> = (0..60).map(|_| sandbox.reserve().unwrap()).collect();
    for (number, slot) in (0..).zip(slots) {
        slot.close(record(&name, number));
    }
    writer.stop(SOON).unwrap();
}
