//! Whatever bytes the decoders are given, they answer or say what is wrong: they
//! never panic, and neither do the rules on what was read.
//!
//! Each target changes what kernels and this program really wrote, at random.
//! A run is short; `FUZZ_SECONDS=600 cargo test -p advisor --lib fuzz` is long, and
//! `ci/campaign` counts executions. What fails is named by a seed, with which `arbtest`
//! repeats it.

use std::fmt::Write as _;
use std::fs::DirEntry;
use std::path::Path;
use std::sync::LazyLock;

use advisor_facts::condition::Condition;
use advisor_facts::events::TRACEPOINTS;
use advisor_facts::events::tracepoint::Layout;
use advisor_facts::kernel_log::KernelLog;
use advisor_facts::sock_diag::{Family, TcpSocket, decode_recorded};
use advisor_facts::tcp_info::TcpInfo;
use advisor_facts::{Facts, Root, file, proc_tcp, sosreport, sysctl_dump};
use advisor_report::{proof, report};

use crate::fuzzing::{changed, fuzz, with_other_numbers, with_other_words};
use crate::plan;
use crate::render::text;
use crate::rules::NamedReport;
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

/// Two hexadecimal digits a byte.
fn bytes_of(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0);
    let pairs = digits.as_bytes().as_chunks().0.iter();
    pairs
        .map(|[high, low]| u8::try_from(digit(*high) << 4 | digit(*low)).unwrap_or(0))
        .collect()
}

/// What is made of a socket has no bounds that a kernel's answer could break.
fn look_at(socket: &TcpSocket) {
    let condition = Condition::of(socket);
    assert!(!condition.reason(socket).is_empty());
    let text = serde_json::to_string(socket).expect("a socket can be written");
    let read: TcpSocket = serde_json::from_str(&text).expect("and read");
    assert_eq!(&read, socket);
}

/// An answer obeys nobody: whatever was read, a terminal does nothing but show it.
fn write(facts: &Facts, advice: &plan::Advice) {
    let mut answer = Vec::new();
    text::write(&mut answer, advice, facts, 80, true).expect("memory has room");
    let mut answer = String::from_utf8(answer).expect("an answer is text");
    // The styles of the answer itself.
    for style in ["0", "1", "2", "31", "32", "33", "34", "36"] {
        answer = answer.replace(&format!("\u{1b}[{style}m"), "");
    }
    let obeyed = |c: char| c.is_control() && c != '\n';
    assert!(!answer.contains(obeyed), "{answer:?}");
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
    fuzz("a_sosreport", |input| {
        let archive = changed(SOSREPORT.clone(), input)?;
        match sosreport::parse(&archive, path) {
            Ok(facts) => {
                write(&facts, &plan::advise(&facts, &[]));
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
    fuzz("a_dump_of_settings", |input| {
        match sysctl_dump::parse(&changed(dump.to_vec(), input)?, path) {
            Ok(facts) => {
                write(&facts, &plan::advise(&facts, &[]));
            }
            Err(error) => assert!(error.to_string().starts_with("host.sysctl:"), "{error}"),
        }
        Ok(())
    });
}

#[test]
fn netlink() {
    fuzz("netlink", |input| {
        let dump = input.choose(&DUMPS)?;
        let mut text = String::new();
        for line in dump.lines().filter(|line| !line.starts_with('#')) {
            for byte in changed(bytes_of(line), input)? {
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
    fuzz("tcp_info", |input| {
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
    fuzz("facts", |input| {
        let text = with_other_numbers(input.choose(&texts)?.clone(), input)?;
        match file::read_from(&*text, Path::new("host.json")) {
            Ok(facts) => {
                write(&facts, &plan::advise(&facts, &[]));
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
    fuzz("text", |input| {
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

/// A host of which a report and a proof say something.
fn host() -> Facts {
    let host = crate::recorded::directory("orphan-limit-near");
    Facts::read(&Root::Recorded(host.path().to_owned())).expect("a host")
}

#[test]
fn a_report() {
    let facts = host();
    let text = include_str!("../tests/reports/report.json");
    let path = Path::new("report.json");
    fuzz("a_report", |input| {
        let text = with_other_words(text, input)?.into_bytes();
        let text = with_other_numbers(text, input)?;
        match report::parse(&String::from_utf8_lossy(&text), path) {
            Ok(report) => {
                let path = path.to_owned();
                let advice = plan::advise(&facts, &[NamedReport { path, report }]);
                write(&facts, &advice);
            }
            Err(error) => assert!(error.to_string().starts_with("report.json:"), "{error}"),
        }
        Ok(())
    });
}

#[test]
fn a_proof() {
    let facts = host();
    let advice = plan::advise(&facts, &[]);
    let text = include_str!("../tests/proofs/orphan-limit-near.json");
    fuzz("a_proof", |input| {
        let text = with_other_words(text, input)?.into_bytes();
        let text = with_other_numbers(text, input)?;
        match proof::parse(&String::from_utf8_lossy(&text), Path::new("proof.json")) {
            Ok(proof) => {
                let mut advice = advice.clone();
                // It may be of another host.
                if advice.prove(&proof).is_ok() {
                    write(&facts, &advice);
                }
            }
            Err(error) => assert!(error.to_string().starts_with("proof.json:"), "{error}"),
        }
        Ok(())
    });
}

/// Formats and records of tracepoints, of five kernels.
#[test]
fn tracepoints() {
    let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("facts/tests/events");
    let mut recorded = Vec::new();
    for kernel in events.read_dir().unwrap() {
        let kernel = kernel.unwrap().path();
        let records = std::fs::read_to_string(kernel.join("records.hex")).unwrap();
        for line in records.lines().filter(|line| !line.starts_with('#')) {
            let (name, digits) = line.split_once(' ').unwrap();
            let format = std::fs::read_to_string(kernel.join(format!("{name}.format"))).unwrap();
            let tracepoint = TRACEPOINTS.iter().find(|one| one.name == name).unwrap();
            recorded.push((*tracepoint, format, bytes_of(digits)));
        }
    }
    fuzz("tracepoints", |input| {
        let (tracepoint, format, record) = input.choose(&recorded)?;
        let record = changed(record.clone(), input)?;
        let format = match input.int_in_range(0..=2)? {
            0 => format.clone(),
            1 => with_other_words(format, input)?,
            _ => String::from_utf8_lossy(&changed(format.clone().into_bytes(), input)?).into(),
        };
        if let Some(layout) = Layout::new(*tracepoint, &format) {
            let _ = (layout.decode(&record), layout.is_of_process(&record));
        }
        Ok(())
    });
}
