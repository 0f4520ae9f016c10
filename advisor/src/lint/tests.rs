//! Each line of a file with the problems that are named in it.

use advisor_facts::sysctl_files::{self, SysctlFile};
use proptest::prelude::*;

use super::*;

fn files(text: &str) -> SysctlFiles {
    SysctlFiles {
        files: vec![SysctlFile {
            path: "x.conf".into(),
            lines: sysctl_files::parse(text.as_bytes()),
            ..SysctlFile::default()
        }],
        systemd: true,
        ..SysctlFiles::default()
    }
}

/// The codes by line, for a host of which the kernel and the RAM may be known.
fn codes_for(text: &str, kernel: &str, ram: u64) -> Vec<(usize, &'static str)> {
    let problems = lint(&files(text), &Facts::without_host(kernel, ram, 4096));
    problems
        .iter()
        .map(|problem| (problem.line, problem.code))
        .collect()
}

fn codes(text: &str) -> Vec<(usize, &'static str)> {
    codes_for(text, "", 0)
}

#[test]
fn lines_of_files_that_circulate_are_judged_by_what_the_kernel_makes_of_them() {
    for (text, expected) in [
        // A comment behind a number hides it from nobody.
        (
            "net.ipv4.tcp_mem = 4096 87380 67108864   # 64 MB",
            &["LB410"][..],
        ),
        ("net.ipv4.tcp_mem = 4096 87380 67108864", &["LB410"]),
        ("net.ipv4.tcp_retries2 = 3    # quick failover", &["LB416"]),
        ("net.ipv4.tcp_syncookies = 0  # speed", &["LB513"]),
        (
            "net.ipv4.tcp_abort_on_overflow = 1  # fail fast",
            &["LB512"],
        ),
        ("net.ipv4.tcp_keepalive_intvl =15        # seconds", &[]),
        ("net.ipv4.ip_conntrack_max = 65536", &["LB601"]),
        ("net.nf_conntrack_max = 6553500", &[]),
        ("net.ipv4.tcp_rmem = 371967 495956 4194304", &["LB418"]),
        ("net.ipv4.tcp_wmem = 371967 495956", &["LB418"]),
        ("net.ipv4.tcp_rmem = 4096 87380", &[]),
        ("net.ipv4.tcp_rmem = 4096 8388608 4194304", &["LB419"]),
        ("net.core.rmem_default = 16777216", &["LB419"]),
        (
            "net.core.rmem_default = 262144\nnet.core.rmem_max = 16777216",
            &[],
        ),
        ("net.ipv4.tcp_mem = '786432 1048576 26777216'", &["LB606"]),
        ("net.ipv4.tcp_mem = 786432 1048576 26777216", &["LB410"]),
        (
            "net.ipv4.tcp_mem = 94500000 915000000 927000000",
            &["LB410"],
        ),
        ("net.ipv4.tcp_mem = 8388608 8388608 8388608", &["LB411"]),
        ("net.ipv4.tcp_mem=100000000 100000000 100000000", &["LB411"]),
        ("net.ipv4.tcp_mem =  362619      483495   725238", &[]),
        ("net.ipv4.tcp_sack = yes", &["LB606"]),
        (
            "net.ipv4.tcp_tw_reuse = 1\nnet.ipv4.tcp_timestamps = 0",
            &["LB312"],
        ),
        ("net.ipv4.tcp_low_latency = 1", &[]),
        // The first sets nothing, so the second is not overruled by it.
        (
            "net.ipv4.tcp_retries2 = 300\nnet.ipv4.tcp_retries2 = 15",
            &["LB606"],
        ),
        (
            "net.ipv4.tcp_retries2 = 15\nnet.ipv4.tcp_retries2 = 300",
            &["LB606"],
        ),
        (
            "net.ipv4.tcp_fin_timeout = 60\nnet.ipv4.tcp_fin_timeout = 0x3c # same",
            &[],
        ),
        ("net.ipv4.tcp_mem 1 2 3", &["LB605"]),
    ] {
        let found: Vec<_> = codes(text).into_iter().map(|(_, code)| code).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn a_file_of_another_kind_is_said_to_be_one_and_not_line_by_line() {
    let of = |text: &str| lint(&files(text), &Facts::without_host("", 0, 4096));
    let yaml = "apiVersion: v1\nkind: Pod\nspec:\n  sysctls:\n  - name: net.core.somaxconn\n";
    let problems = of(yaml);
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].line, problems[0].code), (1, "LB605"));
    assert!(
        problems[0].message.contains("5 of its 5 lines"),
        "{}",
        problems[0].message
    );
    // Two lines of a profile of tuned among settings are told each.
    let tuned = "[main]\n[sysctl]\nnet.core.somaxconn = 4096\n";
    assert_eq!(of(tuned).len(), 2);
}

#[test]
fn a_number_that_begins_with_zero_is_said_to_be_octal() {
    let problems = lint(
        &files("net.ipv4.tcp_fin_timeout = 030"),
        &Facts::without_host("", 0, 4096),
    );
    assert!(
        problems[0]
            .message
            .ends_with("The kernel reads 030 as an octal number: 24."),
        "{}",
        problems[0].message
    );
    assert_eq!(codes("net.core.somaxconn = 0x1000"), []);
}

#[test]
fn a_name_in_another_directory_is_found() {
    for (text, meant) in [
        (
            "net.ipv4.netdev_max_backlog = 5000",
            "net.core.netdev_max_backlog",
        ),
        ("net.ipv4.somaxconn = 4096", "net.core.somaxconn"),
        ("net.core.tcp_mem = 1 2 3", "net.ipv4.tcp_mem"),
        (
            "net.ipv4.nf_conntrack_max = 65536",
            "net.netfilter.nf_conntrack_max",
        ),
        ("net.ipv4.conf.eth0.100.rp_filter = 1", "written as a slash"),
    ] {
        let problems = lint(&files(text), &Facts::without_host("", 0, 4096));
        assert_eq!(problems.len(), 1, "{text}");
        assert!(
            problems[0].message.contains(meant),
            "{}",
            problems[0].message
        );
    }
    assert_eq!(codes("net/ipv4/conf/eth0.100/rp_filter = 1"), []);
    assert_eq!(codes("net.ipv4.conf.eth0/100.rp_filter = 1"), []);
}

#[test]
fn a_glob_is_judged_for_each_setting_that_it_decides_on() {
    let bytes = "net.ipv4.tcp_*mem = 4096 87380 67108864";
    assert_eq!(codes(bytes), [(1, "LB410")]);
    assert_eq!(codes("net/ipv4/???_mem = 4096 87380 67108864").len(), 2);
    for other in [
        "-net.ipv4.tcp_mem",
        "net.ipv4.tcp_mem = 362619 483495 725238",
    ] {
        assert_eq!(codes(&format!("{bytes}\n{other}\n")), []);
    }
    assert_eq!(codes("net.ipv4.conf.*.rp_filter = 2"), []);
    // Both buffers refuse it, and so many marks are none.
    let problems = lint(
        &files("net.ipv4.tcp_*mem = 0 0 0"),
        &Facts::without_host("6.12", 0, 4096),
    );
    let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["LB411", "LB606", "LB606"]);
    // The line is for others too, and no patch takes it out.
    assert!(problems.iter().all(|problem| problem.fix.is_none()));
    assert!(
        problems[0]
            .hint
            .starts_with("add -net.ipv4.tcp_mem, so that the glob leaves it alone"),
        "{}",
        problems[0].hint
    );
}

#[test]
fn a_setting_is_judged_for_the_kernel_that_it_is_for() {
    for (text, kernel, expected) in [
        ("net.ipv4.tcp_rto_min_us = 5000", "5.10", &["LB601"][..]),
        ("net.ipv4.tcp_rto_min_us = 5000", "6.12", &[]),
        ("net.core.mem_pcpu_rsv = 512", "6.1.0-57-cloud-amd64", &[]),
        ("net.ipv4.tcp_retries2 = 300", "4.19", &[]),
        ("net.core.somaxconn = 4096", "5.2", &[]),
        ("net.core.rmem_max = 4194304", "7.3", &[]),
    ] {
        let found: Vec<_> = codes_for(text, kernel, 0)
            .into_iter()
            .map(|(_, code)| code)
            .collect();
        assert_eq!(found, expected, "{text} on {kernel}");
    }
}

#[test]
fn two_lines_of_one_file_are_told_from_two_files() {
    let problems = lint(
        &files("net.ipv4.tcp_fin_timeout = 30\na.b = 1\nnet.ipv4.tcp_fin_timeout = 60\n"),
        &Facts::without_host("", 0, 4096),
    );
    let overruled: Vec<_> = problems
        .iter()
        .filter(|problem| problem.code == "LB602")
        .collect();
    assert_eq!(overruled.len(), 1);
    assert_eq!(overruled[0].line, 1);
    assert_eq!(
        overruled[0].message,
        "net.ipv4.tcp_fin_timeout = 30 has no effect: another line wins. Line 3 of the same file \
         sets it to 60, and the last line counts."
    );
    assert_eq!(
        overruled[0].hint,
        "take one of the two out: this one, or line 3"
    );
}

#[test]
fn a_patch_changes_what_needs_no_judgement() {
    let text = "# sizes\r\nnet.ipv4.tcp_sack = yes\r\nnet.ipv4.tcp_mem = 1 1 1\r\na.b = 1\r\n\
                net.ipv4.tcp_tw_recycle = 1\r\nnet.core.rmem_default = 16777216\r\nno line";
    let read = read::Text {
        path: Path::new("./etc/x.conf"),
        bytes: text.as_bytes(),
    };
    let mut problems = lint(&files(text), &Facts::without_host("", 0, 4096));
    for problem in &mut problems {
        problem.path = "./etc/x.conf".into();
    }
    assert_eq!(
        patch([read].into_iter(), &problems),
        "--- a/etc/x.conf\n+++ b/etc/x.conf\n@@ -1,7 +1,5 @@\n # sizes\r\n\
         -net.ipv4.tcp_sack = yes\r\n-net.ipv4.tcp_mem = 1 1 1\r\n+net.ipv4.tcp_sack = 1\r\n \
         a.b = 1\r\n-net.ipv4.tcp_tw_recycle = 1\r\n-net.core.rmem_default = 16777216\r\n\
         +net.core.rmem_default = 212992\r\n no line\n\\ No newline at end of file\n"
    );
}

/// Everything that is written to a setting, from numbers to junk.
fn any_text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec![
            "net.ipv4.",
            "net.core.",
            "tcp_mem",
            "tcp_rmem",
            "tcp_max_orphans",
            "tcp_tw_recycle",
            "ip_local_port_range",
            "ip_local_reserved_ports",
            "rmem_default",
            "somaxconn",
            "tcp_retries2",
            "tcp_congestion_control",
            "*",
            "-",
            " = ",
            "=",
            " ",
            "\n",
            "\n",
            "#",
            "0",
            "1",
            "0x",
            "65000 1024",
            "4096 87380 67108864",
            "99999999999999999999",
            "-1",
            "yes",
            "\"",
            ",",
            "é",
            "\u{0}",
            "\u{1b}",
            "# lastbyte: ignore LB410",
        ]),
        0..60,
    )
    .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_a_file_holds_is_judged_by_its_lines(
        text in any_text(),
        kernel in prop::sample::select(vec!["", "3.10", "5.10", "6.12", "7.3", "9.9"]),
        ram in prop::sample::select(vec![0, 1 << 20, 16 << 30, u64::MAX]),
    ) {
        let problems = lint(&files(&text), &Facts::without_host(kernel, ram, 4096));
        for problem in &problems {
            prop_assert!((1..=text.split('\n').count()).contains(&problem.line));
        }
        let _ = ignore::parse(Path::new("x.conf"), text.as_bytes());
        let read = read::Text { path: Path::new("x.conf"), bytes: text.as_bytes() };
        // It changes what it was made for, and no line beside.
        let patched = patch([read].into_iter(), &problems);
        prop_assert_eq!(
            patched.is_empty(),
            problems.iter().all(|problem| problem.fix.is_none())
                || std::str::from_utf8(text.as_bytes()).is_err()
        );
    }
}
