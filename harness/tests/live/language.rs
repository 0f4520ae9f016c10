//! What a suite can say of links, middleboxes, packets, families and system calls happens
//! as it says.

use std::ffi::OsString;

use super::machine;
use super::program::{harness, suite};

fn passes(body: &str) {
    let text = format!(
        "scenarios:\n  - name: one\n    explains: What is said happens.\n    source: ours\n    \
         runs: 1\n{body}"
    );
    let suite = suite(&text);
    let arguments: Vec<OsString> = vec!["run".into(), "--full".into(), suite.path().into()];
    let ended = harness(arguments).expect(0);
    assert!(
        !ended.stdout.contains("nothing is expected of it"),
        "{}",
        ended.stdout
    );
}

#[test]
fn an_axis_stands_within_a_text_and_an_endpoint() {
    let _machine = machine::shared();
    passes(
        r#"
    matrix: { path: ["a", "much-longer"], host: [server, localhost], port: [7000, 7001], n: { x: { text: "$path-$port" } } }
    actors:
      p: { on: server, steps: [{ listen: "any:$port" }, accept, read-to-end] }
      u: { on: server, steps: [{ connect: "$host:$port" }, getpeername, { write: "$path $n.text $$path $5" }, { shutdown: SHUT_WR }] }
    cases:
      - when: { path: a }
        expect: { p.read-to-end.bytes: { always: 17 }, u.getpeername.value: { always: "~ :$port" } }
      - expect: { p.read-to-end.bytes: { always: 37 } }
"#,
    );
}

#[test]
fn a_command_knows_the_hosts_and_its_clients_wait_for_its_line() {
    let _machine = machine::shared();
    passes(
        r#"
    actors:
      names:
        on: client
        command: [sh, -c, "python3 -c 'import socket; print(socket.gethostbyname(\"server\"))'; echo {server} {server6} {router} {client4}; cat own"]
        files: { own: "of {server}" }
        env: { AT: "{server}" }
      late:
        on: server
        command: [python3, -u, -c, "import socket, time\ntime.sleep(0.3)\ns = socket.create_server(('0.0.0.0', 8080))\nprint('ready')\ntime.sleep(60)"]
        ready: { line: ready }
      u: { on: client, steps: [{ connect: "server:8080" }] }
    lab: [{ await: names.exit }, { await: u.connect }]
    expect:
      names.output: { always: "10.0.2.2; 10.0.2.2 fd00:2::2 10.0.1.1 10.0.1.2; of 10.0.2.2" }
      u.connect.error: { always: none }
"#,
    );
}

#[test]
fn a_socket_and_an_address_have_a_family_of_their_own() {
    let _machine = machine::shared();
    passes(
        r#"
    matrix: { family: [ipv4, ipv4-mapped] }
    family: $family
    actors:
      p:
        on: server
        steps:
          - socket: { family: ipv6, as: six }
          - bind: { to: "any6:7000", on: six }
          - listen: { on: six }
          - getsockopt: { option: SO_DOMAIN, on: six }
          - socket: { family: ipv4, as: four }
          - bind: { to: "any4:7000", on: four, as: conflict }
      u:
        on: client
        steps:
          - connect: "server6:7000"
          - getpeername
          - connect: { to: "server4:7000", as: other }
          - getpeername: { as: peer }
          - connect: { to: "localhost6:1", as: own }
    expect:
      p.getsockopt.value: { always: 10 }
      p.conflict.error: { always: EADDRINUSE }
      u.getpeername.value: { always: "server6:7000" }
      u.peer.value: { always: "server:7000" }
      u.own.error: { always: ECONNREFUSED }
"#,
    );
}

#[test]
fn a_host_and_the_router_can_be_without_ipv6() {
    let _machine = machine::shared();
    passes(
        r#"
    sysctls: { router: { net.ipv6.conf.all.disable_ipv6: 1 }, client: { net.ipv6.conf.all.disable_ipv6: 1 } }
    link: { delay: 1ms }
    actors:
      srv: { on: server, steps: [{ listen: 7000 }, accept] }
      cli: { on: client, steps: [{ connect: "server:7000" }] }
    lab: [{ await: cli.connect }, { link-down: client }, { link-up: client }]
    expect: { cli.connect.error: { always: none }, lab.link-up.error: { always: none } }
"#,
    );
}

#[test]
fn times_of_single_executions_are_seen() {
    let _machine = machine::shared();
    passes(
        r#"
    actors:
      p: { on: server, steps: [{ listen: 7000 }, accept, { sleep: 250ms }, { write: 10 }, { await: u.repeat }] }
      u: { on: client, steps: [{ connect: "server:7000" }, { await: p.accept }, { repeat: { times: 4, steps: [{ poll: { timeout: 100ms } }] } }] }
    expect:
      u.poll.value: { always: POLLIN }
      u.poll.ms: { always: ">= {u.poll.ms.1} + {u.poll.ms.2}" }
      u.poll.ms.1: { always: ">= 100" }
      u.poll.ms.last: { always: "< {u.poll.ms.1}" }
      u.repeat.ms.4: { always: "< {u.repeat.ms.max}" }
"#,
    );
}

#[test]
fn links_change_and_drop_what_they_are_told_to() {
    let _machine = machine::shared();
    passes(
        r#"
    links: { server: { drop: [{ flags: DATA, skip: 1, first: 1 }, { larger_than: 1000 }] } }
    actors:
      srv:
        on: server
        steps: [{ listen: 7000 }, accept, { read: 5 }, { read: { bytes: 5, as: again } }, { read: { bytes: 2000, as: large, within: 1s } }, { read: { bytes: 2000, as: late } }]
      cli:
        on: client
        steps:
          - connect: "server:7000"
          - write: hello
          - await: srv.read
          - write: { bytes: again, as: second }
          - await: srv.again
          - write: { bytes: 2000, as: third }
    lab:
      - await: { step: srv.large, within: 60s }
      - link: { host: server, becomes: { delay: 1ms } }
    expect:
      srv.again.bytes: { always: 5 }
      srv.large.error: { always: late }
      srv.late.bytes: { always: 2000 }
      lab.await.error: { always: none }
      client.packets.to.server.retransmissions: { always: ">= 2" }
"#,
    );
}

#[test]
fn a_router_forgets_and_answers_what_it_does_not_know_as_it_is_told() {
    let _machine = machine::shared();
    passes(
        r#"
    matrix: { unknown: [forward, reset, drop], family: [ipv4, ipv6] }
    family: $family
    router: { nat: masquerade, idle_limit: 1s, on_unknown: $unknown }
    actors:
      srv:
        on: server
        steps: [{ listen: 7000 }, accept, getpeername, { read: 5 }, { write: reply }, { read: { bytes: 5, within: 4s, as: second, may-fail: true } }]
      cli:
        on: client
        steps: [{ connect: "server:7000" }, { write: hello }, { read: 5 }, { sleep: 2500ms }, { write: { bytes: again, as: later } }, { read: { bytes: 1, within: 1s, as: answer } }]
    expect:
      srv.getpeername.value: { never: "~ client" }
      srv.read.bytes: { always: 5 }
      cli.read.bytes: { always: 5 }
      srv.second.bytes: { always: 0 }
    cases:
      - when: { unknown: drop }
        expect: { cli.answer.error: { always: late }, client.packets.received.RST: { always: 0 } }
      - when: { unknown: reset }
        expect:
          cli.answer.error: { always: ECONNRESET }
          server.packets.sent.RST: { always: 0 }
      - expect:
          cli.answer.error: { always: ECONNRESET }
          server.packets.to.client.RST: { always: ">= 1" }
"#,
    );
}

#[test]
fn packets_that_nobody_sent_are_taken_for_those_of_the_peer() {
    let _machine = machine::shared();
    passes(
        r#"
    matrix:
      family: [ipv4, ipv6]
      from: [router, peer]
      link: { none: { is: {} }, lossy: { is: { loss: 100% } } }
      packet: { reset: { flags: RST }, fin: { flags: [FIN, ACK] }, stray: { flags: ACK, ack: -100000 }, icmp: { icmp: host-unreachable } }
    family: $family
    actors:
      srv: { on: server, steps: [{ listen: 7000 }, accept, { await: cli.read }] }
      cli: { on: client, steps: [{ connect: "server:7000" }, { await: lab.inject }, { read: { bytes: 1, within: 500ms } }] }
    lab:
      - await: cli.connect
      - await: srv.accept
      - link: { host: client, becomes: $link.is }
      - inject: { to: client, peer: server, from: $from, flags: $packet.flags, ack: $packet.ack, icmp: $packet.icmp }
    expect:
      lab.inject.error: { always: none }
    cases:
      # What the peer sends takes the way of all packets.
      - when: { link: lossy, from: peer }
        expect: { cli.read.error: { always: late }, client.packets.received.FIN: { always: 0 }, client.packets.received.RST: { always: 0 } }
      - when: { packet: reset }
        expect: { cli.read.error: { always: ECONNRESET }, client.packets.from.server.RST: { always: 1 } }
      - when: { packet: fin }
        expect: { cli.read.error: { always: none }, cli.read.bytes: { always: 0 } }
      - when: { packet: stray }
        expect: { cli.read.error: { always: late }, client.sockets.ESTABLISHED: { always: 1 } }
      - expect:
          cli.read.error: { always: late }
          client.Icmp.InErrors: { always: 0 }
          client.sockets.ESTABLISHED: { always: 1 }
"#,
    );
}

#[test]
fn what_a_device_refuses_the_sender_knows_of_with_every_carrier() {
    let _machine = machine::shared();
    passes(
        r#"
    matrix: { link: { none: {}, relay: { is: { delay: 1ms } } } }
    link: $link.is
    actors:
      srv: { on: server, steps: [{ listen: 7000 }, accept, { read: 5 }] }
      cli:
        on: client
        steps: [{ connect: "server:7000" }, { await: lab.link-down }, { write: hello }, { tcp-info: unacked }]
    lab:
      - await: cli.connect
      - await: srv.accept
      - link-down: { host: client, only: from, at: device }
      - await: cli.tcp-info
      - sample: refused
      - link-up: client
    expect:
      srv.read.bytes: { always: 5 }
      cli.tcp-info.value: { always: 0 }
      refused.client.sockets.ESTABLISHED.send_queue_bytes: { always: 5 }
      client.packets.to.server.retransmissions: { always: 0 }
"#,
    );
}
