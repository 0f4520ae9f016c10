//! Archives of sosreport, dumps of settings and directories of captures, good and bad.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the tests run the program and make files for it"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use advisor_facts::named_files::{ENTRIES_LIMIT, NamedFiles};
use advisor_facts::{file, sosreport};
use tar::{Builder, EntryType, Header};

mod recorded;

/// What `sos report` made of a host, less of it and with other names.
const SHOP: &[u8] = include_bytes!("sosreport/shop1.tar.xz");

fn run_with(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_advisor"))
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"))
        .env_remove("COLUMNS")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it reads.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn run(args: &[&str]) -> Output {
    run_with(args, b"")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What was printed, and how it ended; a directory is called DIR.
fn shown(output: &Output, directory: &Path) -> String {
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    let status = output.status.code().unwrap();
    format!("{out}--- stderr\n{errors}--- exit status {status}\n")
        .replace(directory.to_str().unwrap(), "DIR")
}

/// The tar archive in the fixture.
fn unpacked() -> Vec<u8> {
    let mut tar = Vec::new();
    lzma_rust2::XzReader::new(SHOP, false)
        .read_to_end(&mut tar)
        .unwrap();
    tar
}

#[test]
fn a_sosreport_is_answered_packed_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let packed = run(&["recommend", "--sosreport", "sosreport/shop1.tar.xz"]);
    assert_eq!(packed.status.code(), Some(1));
    insta::assert_snapshot!("sosreport", text(&packed.stdout));
    tar::Archive::new(&*unpacked())
        .unpack(directory.path())
        .unwrap();
    let tree = directory.path().join("sosreport-shop1-2026-11-30-abcdefg");
    let gzip = directory.path().join("shop1.tar.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&unpacked()).unwrap();
    fs::write(&gzip, encoder.finish().unwrap()).unwrap();
    let plain = directory.path().join("shop1.tar");
    fs::write(&plain, unpacked()).unwrap();
    for path in [tree, gzip, plain] {
        let output = run(&["recommend", "--sosreport", path.to_str().unwrap()]);
        assert_eq!(
            text(&output.stdout),
            text(&packed.stdout),
            "{}",
            path.display()
        );
    }
}

#[test]
fn what_an_archive_has_becomes_facts() {
    let facts = sosreport::parse(SHOP, Path::new("shop1.tar.xz")).unwrap();
    assert_eq!(facts.kernel, "6.18.44");
    assert_eq!(facts.hostname.as_deref(), Some("shop1"));
    assert_eq!(
        facts.taken_at.unwrap().to_string(),
        "2026-11-30 09:27:25 UTC"
    );
    assert_eq!((facts.cpus, facts.page_bytes), (2, 4096));
    assert!(facts.settings.tcp_mem.is_some());
    let [shop] = &facts.now.elsewhere[..] else {
        panic!("{:?}", facts.now.elsewhere);
    };
    assert_eq!(shop.name.as_deref(), Some("shop"));
    let sockets = shop.sockets.as_ref().unwrap();
    let held = sockets.all.iter().find(|socket| socket.inode != 0).unwrap();
    let names: Vec<String> = facts
        .processes
        .of(held.inode)
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["worker.py (22575, python3)"]);
    assert!(facts.now.counters.get("TcpExt.TCPAbortOnClose").is_some());
    assert!(shop.counters.get("Tcp.ActiveOpens").is_some());
    assert_eq!(facts.kernel_log.as_ref().unwrap().out_of_memory.len(), 3);
}

/// An archive of one file, which has a name that the library would refuse.
fn archive_of(name: &[u8], kind: EntryType, target: &str, size: u64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(512 + 1024, 0);
    bytes
}

fn refused(bytes: &[u8]) -> String {
    let error = sosreport::parse(bytes, Path::new("x.tar")).unwrap_err();
    assert!(!error.hint().is_empty());
    error.to_string()
}

#[test]
fn wherever_an_archive_is_cut_off_that_is_said() {
    for length in [7, 40, 300, 2000, 6000, SHOP.len() - 3000] {
        let error = refused(&SHOP[..length]);
        assert!(
            error.starts_with("x.tar: it is cut off") || error.starts_with("x.tar: it is damaged"),
            "{length}: {error}"
        );
    }
    let tar = unpacked();
    for length in (600..tar.len() - 2048).step_by(9_973) {
        // Between two files an archive may end.
        if length % 512 != 0
            && let Err(error) = sosreport::parse(&tar[..length], Path::new("x.tar"))
        {
            let error = error.to_string();
            assert!(error.starts_with("x.tar: "), "{length}: {error}");
        }
    }
    let mut damaged = SHOP.to_vec();
    damaged[5000] ^= 0xff;
    assert!(refused(&damaged).starts_with("x.tar: it is damaged"));
}

#[test]
fn what_is_no_sosreport_is_named() {
    for (bytes, words) in [
        (&b""[..], "it is no archive"),
        (b"hello", "it is no archive"),
        (b"PK\x03\x04rest", "it is packed by zip"),
        (b"BZh91AY", "it is packed by bzip2"),
        (b"\x1f\x8bno gzip", "it is "),
    ] {
        let error = refused(bytes);
        assert!(error.starts_with(&format!("x.tar: {words}")), "{error}");
    }
    let other = archive_of(b"must-gather/version", EntryType::Regular, "", 0);
    assert_eq!(
        refused(&other),
        "x.tar: it is no sosreport: it has neither version.txt nor sos_commands/ (it begins with \
         must-gather/version)"
    );
}

#[test]
fn hostile_archives_are_refused() {
    let sysctl = b"s/sos_commands/kernel/sysctl_-a";
    for (bytes, words) in [
        (
            archive_of(b"../../etc/cron.d/x", EntryType::Regular, "", 0),
            "the name \"../../etc/cron.d/x\" in it leads out of it",
        ),
        (
            archive_of(b"/etc/passwd", EntryType::Regular, "", 0),
            "the name \"/etc/passwd\" in it leads out of it",
        ),
        (
            archive_of(sysctl, EntryType::Symlink, "/etc/passwd", 0),
            "\"sos_commands/kernel/sysctl_-a\" in it is a link to \"/etc/passwd\", and links are not \
             followed",
        ),
        (
            archive_of(sysctl, EntryType::Link, "/etc/passwd", 0),
            "\"sos_commands/kernel/sysctl_-a\" in it is a link to \"/etc/passwd\", and links are not \
             followed",
        ),
        (
            archive_of(sysctl, EntryType::Regular, "", 1 << 40),
            "\"sos_commands/kernel/sysctl_-a\" in it is larger than 256 MiB",
        ),
        (
            archive_of(b"././@LongLink", EntryType::GNULongName, "", 1 << 40),
            "a name of 1099511627776 bytes in it",
        ),
    ] {
        assert_eq!(refused(&bytes), format!("x.tar: {words}"));
    }
    let mut two = archive_of(b"a/version.txt", EntryType::Regular, "", 0);
    two.truncate(512);
    two.extend(archive_of(b"b/version.txt", EntryType::Regular, "", 0));
    assert_eq!(
        refused(&two),
        "x.tar: there are two hosts in it, \"a\" and \"b\""
    );
}

#[test]
fn a_name_that_a_terminal_would_obey_is_shown_inert() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.tar");
    fs::write(
        &path,
        archive_of(b"../\x1b[31mred", EntryType::Regular, "", 0),
    )
    .unwrap();
    let output = run(&["recommend", "--sosreport", path.to_str().unwrap()]);
    insta::assert_snapshot!("sosreport-hostile-name", shown(&output, directory.path()));
    assert!(!output.stderr.contains(&0x1b));
}

#[test]
fn an_archive_of_endless_files_is_given_up() {
    /// Headers of empty files, without end.
    struct Endless(Vec<u8>, usize);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let at = self.1 % self.0.len();
            let length = buffer.len().min(self.0.len() - at);
            buffer[..length].copy_from_slice(&self.0[at..at + length]);
            self.1 += length;
            Ok(length)
        }
    }
    let mut header = archive_of(b"s/file", EntryType::Regular, "", 0);
    header.truncate(512);
    let mut endless = Endless(header, 0);
    let (error, _) = NamedFiles::default()
        .unpack(&mut endless, &|_, _| false)
        .unwrap_err();
    assert!(
        error.starts_with(&format!("there are more than {ENTRIES_LIMIT} files")),
        "{error}"
    );
}

#[test]
fn a_directory_is_read_without_following_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("sos_commands/kernel");
    fs::create_dir_all(&kernel).unwrap();
    std::os::unix::fs::symlink("/proc/self/status", kernel.join("sysctl_-a")).unwrap();
    let output = run(&[
        "recommend",
        "--sosreport",
        directory.path().to_str().unwrap(),
    ]);
    insta::assert_snapshot!("sosreport-link", shown(&output, directory.path()));
    // A directory that is a link is not looked into, and a circle has no end.
    fs::remove_file(kernel.join("sysctl_-a")).unwrap();
    std::os::unix::fs::symlink("..", kernel.join("again")).unwrap();
    fs::write(kernel.join("sysctl_-a"), "net.core.somaxconn = 1\n").unwrap();
    let output = run(&[
        "recommend",
        "--sosreport",
        directory.path().to_str().unwrap(),
    ]);
    let answer = text(&output.stdout);
    assert!(answer.contains("somaxconn is 1"), "{answer}");
    assert!(answer.contains("make it with the plugin networking") || answer.contains("networking"));
}

#[test]
fn a_dump_of_settings_is_judged_by_its_settings_alone() {
    let dump = b"kernel.hostname = web1\nkernel.osrelease = 6.12.48\n\
        sysctl: reading key \"net.ipv6.conf.all.stable_secret\"\n\
        net.core.somaxconn = 128\nnet.ipv4.tcp_mem = 1\t2\t3\nnet.ipv4.tcp_max_orphans = 65536\n";
    let output = run_with(&["recommend", "--sysctl-dump", "-"], dump);
    insta::assert_snapshot!("sysctl-dump", text(&output.stdout));
    assert_eq!(output.status.code(), Some(1));
    let quiet = b"kernel.osrelease = 6.12.48\nnet.core.somaxconn = 4096\n";
    let output = run_with(&["recommend", "--sysctl-dump", "-"], quiet);
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn what_is_no_dump_is_named_with_its_place() {
    for (input, error) in [
        (
            "",
            "<stdin>:1:1: the dump ends, and none of its lines is a setting of TCP",
        ),
        (
            "{\"schema\": 2}\n",
            "<stdin>:1:1: this is JSON, and no dump of settings",
        ),
        (
            "# tuned\nnet.core.somaxconn = 1\n",
            "<stdin>:1:1: a comment: this is a file of settings",
        ),
        (
            "net.inet.tcp.mssdflt: 512\n",
            "<stdin>:1:1: no `name = value` of `sysctl -a`: \"net.inet",
        ),
        (
            "net.core.somaxconn = 1\nnet.ipv4.tcp_mem = 1 x 3\n",
            "<stdin>:2:20: \"1 x 3\" is no value of net.ipv4.tcp_mem",
        ),
        (
            "net.core.somaxconn = 1\n\0\n",
            "<stdin>:2:1: this is no text",
        ),
    ] {
        let output = run_with(&["recommend", "--sysctl-dump", "-"], input.as_bytes());
        let errors = text(&output.stderr);
        assert!(
            errors.starts_with(&format!("error: {error}")),
            "{input:?}: {errors}"
        );
        assert!(errors.contains("\nhint: "), "{errors}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    }
}

/// A directory of captures of recorded hosts, each under its name.
fn captures(names: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        let host = recorded::directory(name);
        let root = advisor_facts::Root::Recorded(host.path().to_owned());
        let mut facts = advisor_facts::Facts::read(&root).unwrap();
        facts.hostname = Some((*name).to_owned());
        let mut json = Vec::new();
        file::write(&mut json, &facts).unwrap();
        fs::write(directory.path().join(format!("{name}.json")), json).unwrap();
    }
    directory
}

#[test]
fn many_captures_have_one_answer() {
    let names = ["quiet", "orphan-limit-near", "close-wait-left", "container"];
    let directory = captures(&names);
    let path = directory.path().to_str().unwrap();
    let output = run(&["recommend", "--facts", path]);
    insta::assert_snapshot!("fleet", shown(&output, directory.path()));
    assert_eq!(output.status.code(), Some(1));
    let brief = run(&["recommend", "--facts", path, "--brief"]);
    assert!(text(&output.stdout).starts_with(&text(&brief.stdout)));
    let markdown = run(&["recommend", "--facts", path, "--format", "markdown"]);
    insta::assert_snapshot!("fleet-markdown", text(&markdown.stdout));
    let json = run(&["recommend", "--facts", path, "--format", "json"]);
    let answer: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(answer["hosts"], 4);
    let quiet = captures(&["quiet"]);
    let output = run(&["recommend", "--facts", quiet.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn a_bad_capture_is_named_and_the_rest_is_answered() {
    let directory = captures(&["quiet", "orphan-limit-near"]);
    let here = |name: &str| directory.path().join(name);
    let whole = fs::read_to_string(here("quiet.json")).unwrap();
    fs::write(here("cut.json"), &whole[..whole.len() / 2]).unwrap();
    fs::write(here("other.json"), "{\"hosts\": []}").unwrap();
    fs::write(here("README.md"), "not a capture").unwrap();
    std::os::unix::fs::symlink("/proc/self/status", here("link.json")).unwrap();
    // A later version with another part, and a setting that has become something else.
    let later = whole
        .replacen("\"schema\": 2", "\"schema\": 99", 1)
        .replacen("\"facts\": {", "\"facts\": {\n\"novel\": {\"a\": 1},", 1)
        .replacen("\"somaxconn\": 4096", "\"somaxconn\": {\"least\": 1}", 1)
        .replace("\"hostname\": \"quiet\"", "\"hostname\": \"later\"");
    assert_ne!(later, whole);
    fs::write(here("later.json"), later).unwrap();
    // One that has only more than this version knows how to leave out.
    let older = whole
        .replacen("\"schema\": 2", "\"schema\": 1", 1)
        .replace("\"hostname\": \"quiet\"", "\"hostname\": \"older\"");
    fs::write(here("older.json"), older).unwrap();
    let output = run(&["recommend", "--facts", directory.path().to_str().unwrap()]);
    let answer = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2));
    assert!(answer.contains("3 captures could not be read"), "{answer}");
    assert!(answer.contains("LB101"), "{answer}");
    assert!(answer.contains("later (schema 99), older (schema 1)"), "{answer}");
    let errors = shown(&output, directory.path());
    let (_, errors) = errors.split_once("--- stderr\n").unwrap();
    insta::assert_snapshot!("fleet-errors", errors);
}

#[test]
fn a_directory_that_is_no_fleet_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let output = run(&["recommend", "--facts", path]);
    insta::assert_snapshot!("fleet-empty", shown(&output, directory.path()));
    fs::write(directory.path().join("x.json"), "[]").unwrap();
    let output = run(&["recommend", "--facts", path]);
    insta::assert_snapshot!("fleet-none", shown(&output, directory.path()));
    for option in [["--format", "sysctl"], ["--baseline", "x.json"]] {
        let output = run(&[&["recommend", "--facts", path][..], &option].concat());
        assert_eq!(output.status.code(), Some(2), "{option:?}");
        assert!(
            text(&output.stderr).contains("is about one host"),
            "{option:?}"
        );
    }
}

#[test]
fn a_name_longer_than_a_header_is_read() {
    let long = "d".repeat(120);
    let mut builder = Builder::new(Vec::new());
    for (name, content) in [
        (format!("s/{long}/x"), &b""[..]),
        ("s/version.txt".to_owned(), b"sosreport: 4.0\n"),
        (
            "s/sos_commands/kernel/sysctl_-a".to_owned(),
            b"net.core.somaxconn = 7\n",
        ),
    ] {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content).unwrap();
    }
    let archive = builder.into_inner().unwrap();
    let facts = sosreport::parse(&archive, Path::new("x.tar")).unwrap();
    assert_eq!(facts.settings.somaxconn, Some(7));
}
