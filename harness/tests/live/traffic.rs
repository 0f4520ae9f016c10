//! Numbered datagrams from one host of a lab to another.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use harness::lab::Lab;
use harness::suite::scenario::Scenario;
use nix::sys::socket::{setsockopt, sockopt};

use super::patience::HANG;

/// Bytes of a datagram.
pub const PAYLOAD: usize = 1000;

/// Room for all that a test sends, should the receiver not be scheduled.
const RECEIVE_BUFFER: usize = 64 << 20;

/// After so long without a datagram it is time to see why.
const PAUSE: Duration = Duration::from_millis(500);

/// Packets that the lab's devices dropped although no impairment asked for it:
/// a busy machine overflows a queue that the packets of all namespaces share.
pub fn dropped(lab: &Lab) -> u64 {
    let namespaces = lab.namespaces().iter();
    namespaces
        .map(|namespace| namespace.dropped_on_sending().unwrap())
        .sum()
}

/// A datagram that came through.
#[derive(Debug)]
pub struct Arrival {
    pub number: u32,
    /// When it was about to be sent, since the traffic was opened.
    pub sent: Duration,
    /// When it had been received.
    pub received: Duration,
}

impl Arrival {
    pub fn waited(&self) -> Duration {
        self.received.checked_sub(self.sent).unwrap()
    }
}

/// A pair of sockets, each in its host's namespace.
pub struct Traffic {
    sender: UdpSocket,
    receiver: UdpSocket,
    start: Instant,
}

impl Traffic {
    pub fn open(scenario: &Scenario, lab: &Lab, from: &str, to: &str) -> Self {
        let bind = |host: &str| {
            let address = SocketAddr::new(scenario.address_of(host), 0);
            let namespace = lab.namespace(host).unwrap();
            namespace.run(|| UdpSocket::bind(address)).unwrap().unwrap()
        };
        let (sender, receiver) = (bind(from), bind(to));
        setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        Self {
            sender,
            receiver,
            start: Instant::now(),
        }
    }

    /// Sends datagrams and waits until as many as expected have arrived, or
    /// the lab's devices have dropped some so that they never will.
    pub fn pour(&self, lab: &Lab, count: u32, expected: usize) -> Vec<Arrival> {
        let before = dropped(lab);
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let mut arrivals = Vec::new();
                loop {
                    arrivals.extend(self.receive(expected - arrivals.len(), Some(PAUSE)));
                    let hangs = self.start.elapsed() > HANG;
                    if arrivals.len() == expected || hangs || dropped(lab) > before {
                        return arrivals;
                    }
                }
            });
            self.send(count);
            receiver.join().unwrap()
        })
    }

    /// Sends numbered datagrams without looking at what arrives.
    pub fn send(&self, count: u32) {
        for number in 0..count {
            let mut bytes = [0; PAYLOAD];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap();
            bytes[4..12].copy_from_slice(&now.to_be_bytes());
            assert_eq!(self.sender.send(&bytes).unwrap(), PAYLOAD);
            // The kernel's own queue between two devices holds 1000 packets.
            if number % 20 == 19 {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    }

    /// What has arrived by now and wasn't taken yet.
    pub fn rest(&self) -> Vec<Arrival> {
        self.receive(usize::MAX, None)
    }

    /// Takes what arrives: as many as expected, or until nothing comes for
    /// `patience`; without patience, what is there.
    pub fn receive(&self, expected: usize, patience: Option<Duration>) -> Vec<Arrival> {
        self.receiver.set_nonblocking(patience.is_none()).unwrap();
        self.receiver.set_read_timeout(patience).unwrap();
        let mut arrivals = Vec::new();
        let mut bytes = [0; 2 * PAYLOAD];
        while arrivals.len() < expected {
            match self.receiver.recv(&mut bytes) {
                Ok(length) => assert_eq!(length, PAYLOAD),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("receiving: {error}"),
            }
            let received = self.start.elapsed();
            let sent = u64::from_be_bytes(bytes[4..12].try_into().unwrap());
            arrivals.push(Arrival {
                number: u32::from_be_bytes(bytes[..4].try_into().unwrap()),
                sent: Duration::from_nanos(sent),
                received,
            });
        }
        arrivals
    }
}

/// The numbers of arrivals, in order.
pub fn numbers(arrivals: &[Arrival]) -> Vec<u32> {
    let mut numbers: Vec<u32> = arrivals.iter().map(|arrival| arrival.number).collect();
    numbers.sort_unstable();
    numbers
}
