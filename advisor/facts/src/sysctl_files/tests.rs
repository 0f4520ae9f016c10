//! Lines, orders and who wins; and that no bytes make the reader fall.
#![expect(clippy::disallowed_methods, reason = "the tests make files to read")]

use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

/// A host with these files.
fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, SysctlFiles) {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }
    let mut unseen = Vec::new();
    let files = SysctlFiles::read_tree(directory.path(), &mut unseen);
    assert_eq!(unseen, []);
    (directory, files)
}

/// Which value each program leaves a key with, and by which line.
fn winners(files: &SysctlFiles, key: &str) -> [Option<String>; 2] {
    [Loader::SystemdSysctl, Loader::Procps].map(|loader| {
        files
            .winner(loader, key)
            .map(|winner| format!("{} {winner}", winner.value))
    })
}

const KEY: &str = "net.ipv4.tcp_fin_timeout";

#[test]
fn files_apply_by_name_and_hide_their_like() {
    // As tried with systemd-sysctl 252 and procps 4.0.2: 52 and 55.
    let (_kept, files) = host(&[
        ("etc/sysctl.d/50-a.conf", "net.ipv4.tcp_fin_timeout=51\n"),
        ("run/sysctl.d/60-b.conf", "net.ipv4.tcp_fin_timeout=52\n"),
        ("run/sysctl.d/50-a.conf", "net.ipv4.tcp_fin_timeout=53\n"),
        ("etc/sysctl.d/70-off.conf", "-> /dev/null"),
        ("run/sysctl.d/70-off.conf", "net.ipv4.tcp_fin_timeout=54\n"),
        ("usr/lib/sysctl.d/80-c", "net.ipv4.tcp_fin_timeout=56\n"),
        (
            "etc/sysctl.conf",
            "# a comment\nnet.ipv4.tcp_fin_timeout=55\n",
        ),
    ]);
    let paths: Vec<_> = files
        .files
        .iter()
        .map(|file| file.path.to_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "/etc/sysctl.d/50-a.conf",
            "/run/sysctl.d/60-b.conf",
            "/etc/sysctl.d/70-off.conf",
            "/etc/sysctl.conf"
        ]
    );
    assert_eq!(
        winners(&files, KEY),
        [
            Some("52 /run/sysctl.d/60-b.conf:1".to_owned()),
            Some("55 /etc/sysctl.conf:2".to_owned())
        ]
    );
}

#[test]
fn a_link_stays_in_the_recorded_host() {
    let (_kept, mut files) = host(&[
        ("etc/sysctl.conf", "net.ipv4.tcp_fin_timeout=55\n"),
        ("etc/sysctl.d/99-sysctl.conf", "-> ../sysctl.conf"),
        ("etc/sysctl.d/98-absolute.conf", "-> /etc/sysctl.conf"),
        ("etc/sysctl.d/97-dangling.conf", "-> /etc/nowhere"),
    ]);
    assert_eq!(
        winners(&files, KEY)[0].as_deref(),
        Some("55 /etc/sysctl.conf:1")
    );
    assert_eq!(files.files.len(), 3);
    // What stands in it is said once.
    assert_eq!(files.assignments().count(), 1);
    files.replace("/etc/sysctl.conf:1", None);
    assert_eq!(winners(&files, KEY), [None, None]);
}

#[test]
fn a_glob_gives_way_to_a_name() {
    // As tried: systemd-sysctl takes the assignment before `-key` back, procps
    // does not.
    let (_kept, files) = host(&[(
        "etc/sysctl.d/z.conf",
        "net/ipv4/tcp_keepalive_time = 700\nnet.ipv4.tcp_keepalive_* = 77\n\
         -net.ipv4.tcp_keepalive_time\n-net.ipv4.tcp_keepalive_probes = 5\n",
    )]);
    let time = "net.ipv4.tcp_keepalive_time";
    assert_eq!(
        winners(&files, time),
        [None, Some("700 /etc/sysctl.d/z.conf:1".to_owned())]
    );
    for (key, winner) in [
        ("net.ipv4.tcp_keepalive_intvl", "77 /etc/sysctl.d/z.conf:2"),
        ("net.ipv4.tcp_keepalive_probes", "5 /etc/sysctl.d/z.conf:4"),
    ] {
        assert_eq!(
            winners(&files, key),
            [Some(winner.to_owned()), Some(winner.to_owned())]
        );
    }
    assert_eq!(
        winners(&files, "net.ipv4.conf.tcp_keepalive_x"),
        [None, None]
    );
}

#[test]
fn lines_are_read_as_the_programs_read_them() {
    let content = |text: &str| parse(text.as_bytes()).into_iter().map(|line| line.content);
    let one = |text: &str| content(text).next().unwrap();
    let assignment = |key: &str, value: &str| Content::Assignment {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    assert_eq!(content("\n# c\n ; c\n\t\n").count(), 0);
    assert_eq!(
        one("  net.ipv4.tcp_mem =\t1  2\t3 "),
        assignment("net.ipv4.tcp_mem", "1 2 3")
    );
    assert_eq!(
        one("a.b = 42 # no comment"),
        assignment("a.b", "42 # no comment")
    );
    assert_eq!(one("a.b ="), assignment("a.b", ""));
    assert_eq!(
        one("net/ipv4/conf/eth0.1/x=1"),
        assignment("net.ipv4.conf.eth0/1.x", "1")
    );
    assert_eq!(
        one("net.ipv4.conf.eth0/1.x=1"),
        assignment("net.ipv4.conf.eth0/1.x", "1")
    );
    assert_eq!(one("-a.b = 1"), assignment("a.b", "1"));
    assert_eq!(
        one("-a.b"),
        Content::Exclusion {
            key: "a.b".to_owned()
        }
    );
    for (text, message) in [
        ("a.b 1", "no `key = value`, so it sets nothing: \"a.b 1\""),
        ("a b = 1", "\"a b\" is not the name of a sysctl"),
        ("../x = 1", "\"..\" is not the name of a sysctl"),
        ("= 1", "\"\" is not the name of a sysctl"),
    ] {
        let Content::Malformed { message: said } = one(text) else {
            panic!("{text}");
        };
        if text.starts_with("..") {
            assert!(said.ends_with("is not the name of a sysctl"), "{said}");
        } else {
            assert_eq!(said, message);
        }
    }
}

#[test]
fn binary_junk_is_named_and_ends_the_file() {
    for (bytes, message) in [
        (&b"a.b=1\nx\0y\na.c=1\n"[..], "column 2: the byte 0x00"),
        (&b"a.b=1\n\xff\xfe\na.c=1\n"[..], "column 1: the byte 0xff"),
    ] {
        let lines = parse(bytes);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].number, 2);
        let Content::Malformed { message: said } = &lines[1].content else {
            panic!("{lines:?}");
        };
        assert!(said.starts_with(message), "{said}");
    }
}

#[test]
fn what_is_too_large_or_no_file_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("etc/sysctl.d");
    fs::create_dir_all(conf.join("directory.conf")).unwrap();
    let size = usize::try_from(FILE_LIMIT_BYTES).unwrap();
    fs::write(conf.join("large.conf"), vec![b'\n'; size + 1]).unwrap();
    fs::write(conf.join("largest.conf"), vec![b'\n'; size]).unwrap();
    let mut unseen = Vec::new();
    let files = SysctlFiles::read_tree(directory.path(), &mut unseen);
    assert_eq!(files.files.len(), 2);
    assert_eq!(unseen.len(), 1);
    assert_eq!(unseen[0].what, "/etc/sysctl.d/large.conf");
    assert!(unseen[0].why.starts_with("larger than"), "{unseen:?}");
}

#[test]
fn one_more_file_wins_with_both() {
    let (_kept, mut files) = host(&[
        (
            "etc/sysctl.d/zzz.conf",
            "net.ipv4.tcp_fin_timeout=1\n-net.ipv4.tcp_fin_timeout\n",
        ),
        ("etc/sysctl.conf", "net.ipv4.tcp_fin_timeout=2\n"),
    ]);
    files.set(KEY, "60");
    for winner in winners(&files, KEY) {
        assert!(winner.unwrap().starts_with("60 "));
    }
}

#[test]
fn this_host_has_files_or_none() {
    let mut unseen = Vec::new();
    let files = SysctlFiles::read(Path::new("/"), &mut unseen).unwrap();
    assert!(files.live.keys().all(|key| key.starts_with("net.")));
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for line in parse(&bytes) {
            prop_assert!(line.number >= 1);
        }
    }

    #[test]
    fn any_lines_of_likely_pieces_are_read_and_decided_on(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "net", ".", "/", "ipv4", "tcp_mem", "*", "?", "[", "]", "-", "=", " ", "\n", "#",
                ";", "1 2 3", "\t", "é", "\u{0}", "..", "\\", "\"",
            ]),
            0..60,
        ),
    ) {
        let text = pieces.concat();
        let files = SysctlFiles {
            files: vec![SysctlFile {
                path: "/etc/sysctl.d/x.conf".into(),
                lines: parse(text.as_bytes()),
                ..SysctlFile::default()
            }],
            ..SysctlFiles::default()
        };
        for assignment in files.assignments() {
            for loader in [Loader::SystemdSysctl, Loader::Procps] {
                // Whatever is set by its name alone is decided on by some line.
                let winner = files.winner(loader, assignment.key);
                let excluded = text.contains('-');
                let refused = assignment.sets_nothing(None);
                prop_assert!(
                    winner.is_some() || excluded || refused || is_glob(assignment.key)
                );
            }
            prop_assert_eq!(single_blanks(assignment.value), assignment.value);
            prop_assert_eq!(dotted(assignment.key), assignment.key);
        }
    }

    #[test]
    fn what_is_written_is_what_is_read(
        key in "net\\.ipv4\\.tcp_[a-z_]{1,12}",
        value in "[0-9]{1,12}( [0-9]{1,12}){0,2}",
        blanks in "[ \t]{0,3}",
    ) {
        let text = format!("{blanks}{key}{blanks}={blanks}{value}{blanks}\n");
        let lines = parse(text.as_bytes());
        prop_assert_eq!(
            &lines[0].content,
            &Content::Assignment { key, value }
        );
    }
}
