//! The advisor and a network namespace that nothing but a descriptor keeps.

use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use advisor::sockets::{By, Question, Row};
use advisor_facts::{Facts, Looking, Root};
use harness::lab::namespace::Namespace;

#[test]
fn a_namespace_that_only_a_descriptor_keeps_is_looked_into() {
    let (namespace, listener) = std::thread::spawn(|| {
        let namespace = Namespace::enter_new("hidden").unwrap();
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        (namespace, TcpListener::bind("127.0.0.1:0").unwrap())
    })
    .join()
    .unwrap();
    let descriptor = namespace.as_fd().try_clone_to_owned().unwrap();
    let inode = std::fs::File::from(descriptor).metadata().unwrap().ino();
    let inode = u32::try_from(inode).unwrap();
    let address = listener.local_addr().unwrap();

    let facts = Facts::read(&Root::Live).unwrap();
    let seen = facts
        .now
        .elsewhere
        .iter()
        .find(|other| other.inode == inode)
        .unwrap();
    assert_eq!(seen.kept_by, Some(std::process::id()));
    assert_eq!((&seen.name, seen.pid), (&None, None));
    let [socket] = &seen.sockets.as_ref().unwrap().all[..] else {
        panic!("{:?}", seen.sockets);
    };
    assert_eq!(socket.local, address);
    let holder = facts.processes.of(socket.inode).next().unwrap();
    assert_eq!(holder.pid, std::process::id());

    // Of the tests beside it there are as many sockets as there are.
    let question = Question {
        by: By::Memory,
        top: 10_000,
    };
    let survey = question.ask(&Root::Live, Looking::default()).unwrap();
    let row = survey.rows.iter().find_map(|row| match row {
        Row::Socket(row) if row.namespace == Some(inode) => Some(row),
        _ => None,
    });
    let row = row.expect("its socket is among those of the host");
    assert_eq!(row.socket.local, address);
    assert_eq!(row.processes[0].pid, std::process::id());
}
