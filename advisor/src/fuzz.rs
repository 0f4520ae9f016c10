//! Whatever bytes the decoders are given, they answer or say what is wrong: they
//! never panic, and neither do the rules on what was read.
//!
//! Each target changes what kernels and this program really wrote, at random.
//! A run is short; `FUZZ_SECONDS=600 cargo test -p advisor --lib fuzz` is long.
//! What fails is named by a seed, with which `arbtest` repeats it.

use std::fmt::Write as _;
use std::fs::DirEntry;
use std::path::Path;
use std::sync::LazyLock;

use advisor_facts::condition::Condition;
use advisor_facts::kernel_log::KernelLog;
use advisor_facts::sock_diag::{Family, TcpSocket, decode_recorded};
use advisor_facts::tcp_info::TcpInfo;
use advisor_facts::{Facts, Root, file, proc_tcp, sosreport, sysctl_dump};
use arbtest::arbitrary::{Result, Unstructured};
use arbtest::{ArbTest, arbtest};

use crate::plan;
use crate::sockets::{By, Question};

/// What kernels answered, each in `advisor/kernels` and one more.
static DUMPS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kernels = root.join("kernels").read_dir().unwrap();
    let of_kernel = |entry: DirEntry| entry.path().join("sock_diag-x86-64.hex");
    kernels
        .map(|entry| of_kernel(entry.unwrap()))
        .chain([root.join("tests/fixtures/sock_diag-6.18-x86-64.hex")])
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect()
});

/// Runs a target for a second, or as long as was asked for.
fn fuzz<P: FnMut(&mut Unstructured<'_>) -> Result<()>>(target: P) {
    let seconds = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse::<u64>().ok())
        .unwrap_or(1);
    let target: ArbTest<P> = arbtest(target);
    target.budget_ms(seconds * 1000).run();
}

/// Changes bytes, takes some out, puts some in, or cuts the end off.
fn changed(mut bytes: Vec<u8>, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    for _ in 0..input.int_in_range(0..=8)? {
        let at = input.choose_index(bytes.len().max(1))?;
        match input.int_in_range(0..=5)? {
            0..=2 if at < bytes.len() => bytes[at] = input.arbitrary()?,
            3 => bytes.truncate(at),
            4 => {
                let end = (at + input.int_in_range(0..=16)?).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            _ => {
                let inserted: Vec<u8> = input.arbitrary()?;
                bytes.splice(at..at, inserted);
            }
        }
    }
    Ok(bytes)
}

/// What is made of a socket has no bounds that a kernel's answer could break.
fn look_at(socket: &TcpSocket) {
    let condition = Condition::of(socket);
    assert!(!condition.reason(socket).is_empty());
    let text = serde_json::to_string(socket).expect("a socket can be written");
    let read: TcpSocket = serde_json::from_str(&text).expect("and read");
    assert_eq!(&read, socket);
}

/// A real archive of sosreport, unpacked from xz: xz would refuse what is changed in it.
static SOSREPORT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let packed = include_bytes!("../tests/sosreport/shop1.tar.xz");
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut lzma_rust2::XzReader::new(&packed[..], false), &mut tar)
        .unwrap();
    tar
});

#[test]
fn a_sosreport() {
    let path = Path::new("shop1.tar");
    fuzz(|input| {
        let archive = changed(SOSREPORT.clone(), input)?;
        match sosreport::parse(&archive, path) {
            Ok(facts) => {
                plan::advise(&facts, &[]);
            }
            Err(error) => assert!(error.to_string().starts_with("shop1.tar: "), "{error}"),
        }
        Ok(())
    });
}

#[test]
fn a_dump_of_settings() {
    let path = Path::new("host.sysctl");
    let dump = b"kernel.osrelease = 6.12.48\nnet.ipv4.tcp_mem = 1\t2\t3\nnet.core.somaxconn = 9\n";
    fuzz(|input| {
        match sysctl_dump::parse(&changed(dump.to_vec(), input)?, path) {
            Ok(facts) => {
                plan::advise(&facts, &[]);
            }
            Err(error) => assert!(error.to_string().starts_with("host.sysctl:"), "{error}"),
        }
        Ok(())
    });
}

#[test]
fn netlink() {
    fuzz(|input| {
        let dump = input.choose(&DUMPS)?;
        let mut text = String::new();
        for line in dump.lines().filter(|line| !line.starts_with('#')) {
            let message = line
                .as_bytes()
                .as_chunks()
                .0
                .iter()
                .map(|[high, low]| {
                    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0);
                    u8::try_from(digit(*high) << 4 | digit(*low)).unwrap_or(0)
                })
                .collect();
            for byte in changed(message, input)? {
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
        let _ = decode_recorded(text.as_bytes(), &mut |socket| look_at(&socket));
        let text = changed(text.into_bytes(), input)?;
        let _ = decode_recorded(&*text, &mut |socket| look_at(&socket));
        Ok(())
    });
}

#[test]
fn tcp_info() {
    fuzz(|input| {
        let bytes: Vec<u8> = input.arbitrary()?;
        let info = TcpInfo::decode(&bytes);
        let mut set = TcpInfo::default();
        for (name, value) in info.fields() {
            assert!(set.set(name, value));
        }
        assert_eq!(set, info);
        let longer = [bytes.as_slice(), &[0; 8]].concat();
        let longer = TcpInfo::decode(&longer);
        assert!(longer.fields().count() >= info.fields().count());
        Ok(())
    });
}

#[test]
fn facts() {
    let texts: Vec<_> = [
        "dead-peer-holds-memory",
        "close-wait-left",
        "orphan-limit-near",
    ]
    .into_iter()
    .map(|name| {
        let host = crate::recorded::directory(name);
        let facts = Facts::read(&Root::Recorded(host.path().to_owned())).expect("a host");
        let mut text = Vec::new();
        file::write(&mut text, &facts).expect("it can be written");
        text
    })
    .collect();
    fuzz(|input| {
        let mut text = input.choose(&texts)?.clone();
        // Mostly digits, so that the rest stays what it was.
        for _ in 0..input.int_in_range(0..=16)? {
            let at = input.choose_index(text.len())?;
            if let Some(digit) = text[at..].iter().position(u8::is_ascii_digit) {
                text[at + digit] = input.int_in_range(b'0'..=b'9')?;
            }
        }
        if input.ratio(1, 4)? {
            text = changed(text, input)?;
        }
        match file::read_from(&*text, Path::new("host.json")) {
            Ok(facts) => {
                let _ = plan::advise(&facts, &[]);
                for by in [By::Memory, By::Process, By::Peer, By::State] {
                    let _ = Question { by, top: 3 }.ask_facts(&facts);
                }
            }
            Err(error) => assert!(error.to_string().starts_with("host.json:"), "{error}"),
        }
        Ok(())
    });
}

#[test]
fn text() {
    const LINES: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n\
        1: 0100007F:1F90 0200000A:D431 01 00000005:00000007 01:00000014 00000003  1000        0 23 2\n";
    const LOG: &str = "<6>[   12.500000][  T123] TCP: too many orphaned sockets\n";
    fuzz(|input| {
        let lines = changed(LINES.into(), input)?;
        for family in [Family::Inet, Family::Inet6] {
            let _ = proc_tcp::each(&*lines, Path::new("tcp"), family, &mut |socket| {
                look_at(&socket);
            });
        }
        let log = changed(LOG.into(), input)?;
        let _ = KernelLog::parse(&String::from_utf8_lossy(&log));
        Ok(())
    });
}
