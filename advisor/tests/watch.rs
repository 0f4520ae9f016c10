//! `advisor watch` and `advisor metrics` as people and machines use them. What only root
//! sees is looked at where the test runs as root.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the tests run the program and make what it watches"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use advisor_facts::happened::Kind;
use advisor_report::record::{self, Line};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// The program with the network namespace of its own that root can have: others' resets
/// are not to be seen there.
fn advisor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_advisor"));
    command
        .args(args)
        .env_remove("COLUMNS")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    advisor(args).output().unwrap()
}

/// How it ended, and the first line of each error.
fn told(output: &Output) -> (Option<i32>, String) {
    (
        output.status.code(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

/// Starts a watch that writes JSON, and waits until it watches.
fn watch(args: &[&str]) -> (Child, impl Iterator<Item = serde_json::Value> + use<>) {
    let args = [&["watch", "--format", "json"], args].concat();
    let mut child = advisor(&args).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
    let first: serde_json::Value = lines.next().expect("it says that it watches");
    assert_eq!(first["line"], "start");
    (child, lines)
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
}

/// Closes so many connections with unread data.
fn close_unread(count: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"unread").unwrap();
        let mut byte = [0];
        server.peek(&mut byte).unwrap();
        drop(server);
        let _ = client.read(&mut byte);
    }
}

/// Closes connections with unread data, and with more written than the peer takes.
fn close_unread_and_unsent(count: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"unread").unwrap();
        server.peek(&mut [0]).unwrap();
        server.set_nonblocking(true).unwrap();
        while server.write(&[0; 8 << 10]).is_ok() {}
        drop(server);
        // Were they closed at once, much would happen in one second.
        thread::sleep(Duration::from_millis(120));
    }
}

#[test]
fn what_a_reset_threw_away_is_told() {
    if !geteuid().is_root() {
        // Without root there are no events; that it is said is another test's.
        let output = run(&["watch", "--for", "1s", "--format", "json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("events of the kernel"), "{text}");
        return;
    }
    let (mut child, lines) = watch(&["--for", "300s"]);
    close_unread_and_unsent(20);
    thread::sleep(Duration::from_secs(2));
    interrupt(&child);
    let own = std::process::id();
    let mut bytes = 0;
    for line in lines {
        if let Ok(Line::Event(one)) = serde_json::from_value(line)
            && one.process.is_some_and(|process| process.pid == own)
        {
            bytes += one.unacknowledged_bytes;
        }
    }
    child.wait().unwrap();
    // A socket that ends just as events are taken may be missed; its peer's buffer has
    // room for less than what was written.
    assert!(bytes > 100_000, "{bytes}");
}

#[test]
fn wrong_usage_is_exit_2_and_what_cannot_be_had_is_exit_3() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, status, words) in [
        (&["watch", "--for", "0s"][..], 2, "from 1s to 366d"),
        (&["watch", "--redact"], 2, "--record <DIR>"),
        (&["watch", "--listen", "9477"], 2, "invalid socket address"),
        (&["watch", "--record-size", "5"], 2, "64MiB"),
        (
            &["watch", "--for", "1s", "--listen", &taken],
            3,
            "cannot listen there",
        ),
        (
            &["watch", "--for", "1s", "--record", "/proc/x"],
            3,
            "/proc/x",
        ),
        (&["recommend", "--record", "/nowhere"], 2, "cannot read it"),
        (&["recommend", "--record", "."], 2, "no facts-N.json"),
        (
            &["recommend", "--record", ".", "--over", "1s"],
            2,
            "cannot be used with",
        ),
        (
            &["metrics", "--alert-rules", "--facts", "x"],
            2,
            "cannot be used with",
        ),
        (&["metrics", "--facts", "."], 2, "is about one host"),
    ] {
        let (code, errors) = told(&run(args));
        assert_eq!(code, Some(status), "{args:?}: {errors}");
        assert!(errors.contains(words), "{args:?}: {errors}");
        if status == 3 {
            assert!(errors.contains("\nhint: "), "{args:?}: {errors}");
        }
    }
}

#[test]
fn a_watch_tells_who_reset_connections_and_its_record_gives_the_plan() {
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("record");
    let record = record.to_str().unwrap();
    let (mut child, lines) = watch(&["--for", "300s", "--record", record]);
    close_unread(12);
    thread::sleep(Duration::from_secs(3));
    interrupt(&child);
    let lines: Vec<_> = lines.collect();
    assert_eq!(
        child.wait().unwrap().code(),
        Some(1),
        "there are recommendations"
    );
    assert_eq!(lines.last().unwrap()["line"], "advice");
    let mut counted = 0;
    let mut seen = 0;
    for line in &lines[..lines.len() - 1] {
        match serde_json::from_value(line.clone()).unwrap() {
            Line::Event(one)
                if one.kind == Kind::Counter
                    && one.reason.as_deref() == Some("TcpExt.TCPAbortOnClose") =>
            {
                counted += one.count;
            }
            Line::Event(one) if one.kind == Kind::ResetSent => {
                let process = one.process.unwrap();
                if process.pid == std::process::id() {
                    seen += one.count;
                }
            }
            _ => {}
        }
    }
    assert!(counted >= 12, "{counted}");
    let output = run(&["recommend", "--record", record]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("LB201"), "{text}");
    if geteuid().is_root() {
        assert!(seen >= 12, "each close is an event of this process: {seen}");
        let named = format!("({}", std::process::id());
        let subject = text
            .lines()
            .find(|line| line.contains("   on  ") && line.contains(&named));
        assert!(
            subject.is_some_and(|line| !line.contains("likely")),
            "{text}"
        );
    }
    // Another question to the same record.
    let output = run(&["sockets", "--record", record]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_record_is_whole_after_a_kill_at_any_instant() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record");
    for milliseconds in [0, 130, 410, 770] {
        let (mut child, _) = watch(&["--record", path.to_str().unwrap()]);
        let closer = thread::spawn(|| close_unread(50));
        thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        closer.join().unwrap();
        match record::read(&path) {
            Ok(_) => {}
            // Killed before its first look was written.
            Err(error) => assert!(error.to_string().contains("no facts-N.json"), "{error}"),
        }
    }
    // Nothing is left behind that the next watch does not take away.
    let (child, lines) = watch(&["--record", path.to_str().unwrap()]);
    interrupt(&child);
    assert!(lines.count() > 0);
    for entry in fs::read_dir(&path).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with("events-") || name.starts_with("facts-"),
            "{name}"
        );
    }
    record::read(&path).unwrap();
}

/// A directory that a process can mount a file system on, which ends with it.
fn with_a_disk_of(size: &'static str, directory: &Path, command: &mut Command) {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use std::os::unix::process::CommandExt as _;
    let directory = directory.to_owned();
    let none = None::<&str>;
    let own = CloneFlags::CLONE_NEWNS;
    let flags = if geteuid().is_root() {
        own
    } else {
        own | CloneFlags::CLONE_NEWUSER
    };
    let work = move || {
        unshare(flags)?;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
        let tmpfs = Some("tmpfs");
        mount(tmpfs, &directory, tmpfs, MsFlags::empty(), Some(size))?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls on values that are there already.
    unsafe {
        command.pre_exec(work);
    }
}

#[test]
fn a_full_disk_is_told_once_and_the_watch_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let record = disk.join("record");
    let mut command = advisor(&["watch", "--lines", "--for", "300s", "--record"]);
    command
        .arg(&record)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // The first line has room there, and no facts have.
    with_a_disk_of("size=8k", &disk, &mut command);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = Vec::new();
    while !text
        .iter()
        .any(|line: &String| line.contains("the record stops"))
    {
        text.push(
            lines
                .next()
                .expect("it says that the disk is full")
                .unwrap(),
        );
    }
    close_unread(6);
    thread::sleep(Duration::from_secs(2));
    interrupt(&child);
    text.extend(lines.map(Result::unwrap));
    let output = child.wait_with_output().unwrap();
    let (code, errors) = told(&output);
    let text = text.join("\n");
    assert_eq!(code, Some(3), "{text}\n{errors}");
    let full = "No space left on device";
    let stops: Vec<&str> = text.lines().filter(|line| line.contains(full)).collect();
    assert_eq!(stops.len(), 1, "{text}");
    assert!(stops[0].contains("the watch goes on"), "{text}");
    // It goes on: what happened after that is told, and so is the plan.
    let after = text.split(full).nth(1).unwrap();
    assert!(after.contains("TcpExt.TCPAbortOnClose"), "{text}");
    assert!(
        after.contains("end of the watch") && after.contains("LB201"),
        "{text}"
    );
    assert!(
        errors.contains(full) && errors.contains("\nhint: "),
        "{errors}"
    );
    assert!(
        errors.contains("lines are missing in the record"),
        "{errors}"
    );
}

#[test]
fn no_room_for_the_first_line_is_an_error_and_no_watch() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = advisor(&["watch", "--for", "300s", "--record"]);
    command.arg(directory.path().join("record"));
    // Room for the directory, and for no file in it.
    with_a_disk_of("nr_inodes=2", directory.path(), &mut command);
    let output = command.output().unwrap();
    let (code, errors) = told(&output);
    let full = errors.contains("No space left on device");
    assert!(code == Some(3) && full, "{errors}");
    assert!(
        errors.contains("\nhint: ") && output.stdout.is_empty(),
        "{errors}"
    );
}

#[test]
fn a_record_of_another_version_or_cut_off_is_told_by_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record");
    let record = path.to_str().unwrap();
    let (mut child, lines) = watch(&["--for", "300s", "--record", record]);
    interrupt(&child);
    assert!(lines.count() > 0);
    child.wait().unwrap();
    let lines = path.join("events-000001.jsonl");
    let whole = fs::read_to_string(&lines).unwrap();
    // Cut off in the middle of a line: the rest is read, and what is missing is said.
    fs::write(&lines, &whole[..whole.len() - 5]).unwrap();
    let output = run(&["recommend", "--record", record]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1 | 4)), "{text}");
    assert!(
        text.contains("the last line of events-000001.jsonl"),
        "{text}"
    );
    for command in ["recommend", "sockets", "capture", "metrics"] {
        fs::write(&lines, whole.replace("\"schema\":1", "\"schema\":7")).unwrap();
        let (code, errors) = told(&run(&[command, "--record", record]));
        assert_eq!(code, Some(2), "{command}: {errors}");
        assert!(
            errors.contains(".jsonl:1:1: schema 7: this program reads"),
            "{errors}"
        );
        assert!(errors.contains("\nhint: "), "{errors}");
    }
    fs::write(&lines, &whole).unwrap();
    let facts = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let facts = facts.filter(|path| path.extension().is_some_and(|one| one == "json"));
    let facts = facts.max().unwrap();
    let text = fs::read(&facts).unwrap();
    fs::write(&facts, &text[..text.len() / 2]).unwrap();
    let (code, errors) = told(&run(&["recommend", "--record", record]));
    assert_eq!(code, Some(2), "{errors}");
    assert!(
        errors.contains(".json:") && errors.contains("\nhint: "),
        "{errors}"
    );
}

#[test]
fn lines_are_for_the_journal_and_end_with_the_plan() {
    let output = run(&["watch", "--for", "1s"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (lines, plan) = text.split_once("\n\n").unwrap();
    for line in lines.lines() {
        let (time, _) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == 24, "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
    assert!(
        lines.lines().next().unwrap().contains(" watching "),
        "{lines}"
    );
    assert!(lines.ends_with("end of the watch"), "{lines}");
    assert!(plan.contains("Watched from "), "{plan}");
}

#[test]
fn a_reader_that_goes_away_ends_a_watch() {
    let (mut child, lines) = watch(&["--for", "300s"]);
    drop(lines);
    let end = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "it goes on for nobody");
        close_unread(6);
        thread::sleep(Duration::from_millis(200));
    }
    assert!(matches!(child.wait().unwrap().code(), Some(0 | 1)));
}

#[test]
fn metrics_are_served_and_only_where_told_to() {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let address = format!("127.0.0.1:{port}");
    let (mut child, lines) = watch(&["--listen", &address, "--for", "300s"]);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.contains("\nlastbyte_tcp_time_wait_records{"),
        "{answer}"
    );
    interrupt(&child);
    assert!(lines.count() > 0);
    child.wait().unwrap();
    let once = run(&["metrics"]);
    assert_eq!(once.status.code(), Some(0));
    let once = String::from_utf8(once.stdout).unwrap();
    for (name, text) in [("served", &answer), ("printed", &once)] {
        assert!(
            text.contains("# TYPE lastbyte_findings gauge"),
            "{name}: {text}"
        );
    }
}

#[test]
fn the_unit_needs_what_it_says() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("lastbyte-watch.service");
    let unit = fs::read_to_string(unit).unwrap();
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let mut words = command.split(' ').skip(1);
    let help = run(&[words.next().unwrap(), "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for option in words.filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "{option}");
    }
}
