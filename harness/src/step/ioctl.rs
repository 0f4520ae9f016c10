//! `ioctl`

use super::prelude::*;

/// ioctl(2) that asks for the bytes in a queue; `value` is their number.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ioctl {
    on: Option<SocketName>,
    /// SIOCINQ: received and not yet read; SIOCOUTQ: written and not yet acknowledged;
    /// SIOCOUTQNSD: written and not yet sent.
    request: Request,
}

impl Definition for Ioctl {
    const SHORTHAND: Option<&'static str> = Some("request");
    const OBSERVES: &'static [Field] = READING;
}

impl RunByActor for Ioctl {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let request = match self.request {
            Request::In => libc::FIONREAD,
            Request::Out => libc::TIOCOUTQ,
            Request::OutNotSent => SIOCOUTQNSD,
        };
        actor.read_each(self.on.as_ref(), |socket| {
            Ok(call::ioctl(socket, request)?.to_string())
        })
    }
}

/// `SIOCOUTQNSD` (linux/sockios.h).
const SIOCOUTQNSD: libc::Ioctl = 0x894b;

/// What an ioctl asks for.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
enum Request {
    #[serde(rename = "SIOCINQ")]
    In,
    #[serde(rename = "SIOCOUTQ")]
    Out,
    #[serde(rename = "SIOCOUTQNSD")]
    OutNotSent,
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::tests::run;

    #[test]
    fn what_is_unread_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = format!(
            "connect: \"localhost:{}\"",
            listener.local_addr().unwrap().port()
        );
        let serve = std::thread::spawn(move || {
            let mut peer = listener.accept().unwrap().0;
            peer.write_all(b"hello").unwrap();
            peer
        });
        let outcomes = run(&[
            &connect,
            "poll",
            "ioctl: SIOCINQ",
            "recv: { bytes: 3, flags: MSG_PEEK, as: peek }",
            "recv: 9",
            "ioctl: { request: SIOCOUTQ, as: out }",
            "tcp-info: rcv_mss",
        ]);
        drop(serve.join().unwrap());
        assert_eq!(outcomes["ioctl"].value.as_deref(), Some("5"));
        assert_eq!(outcomes["peek"].bytes, Some(3));
        assert_eq!(outcomes["recv"].bytes, Some(5));
        assert_eq!(outcomes["out"].value.as_deref(), Some("0"));
        assert!(
            outcomes["tcp-info"]
                .value
                .as_ref()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                > 0
        );
    }
}
