//! The kernel's `struct tcp_info`, decoded by length.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are kept: up to the end of the last field that is known.
const KNOWN_LEN: usize = 248;

/// What the kernel knows of a connection (`struct tcp_info` of linux/tcp.h).
/// The struct has grown with the versions: a field that the running kernel does
/// not give is `None`, and what a later kernel adds is left out.
///
/// It is kept as it came, and a field is decoded where it is asked for: of
/// 50,000 sockets hardly any is asked for all.
#[derive(Clone)]
pub struct TcpInfo {
    length: u8,
    bytes: [u8; KNOWN_LEN],
}

impl TcpInfo {
    /// Takes what the kernel gave, of whatever length.
    pub fn decode(bytes: &[u8]) -> Self {
        let length = bytes.len().min(KNOWN_LEN);
        let mut info = Self::default();
        info.bytes[..length].copy_from_slice(&bytes[..length]);
        info.length = u8::try_from(length).unwrap_or(u8::MAX);
        info
    }

    /// The bytes of a field, where the kernel gave all of them.
    fn field<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes
            .get(offset..usize::from(self.length))?
            .first_chunk()
            .copied()
    }

    /// The fields that the kernel gave, by the kernel's names without `tcpi_`.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FIELDS
            .iter()
            .filter_map(|field| Some((field.name, (field.get)(self)?)))
    }

    /// The kernel's names of all fields that are known, without `tcpi_`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().map(|field| field.name)
    }

    /// Sets a field by the kernel's name without `tcpi_`. It is as if the kernel
    /// gave the fields up to this one. False where there is no such field, or
    /// the value is too large for it.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let Some(field) = FIELDS.iter().find(|field| field.name == name) else {
            return false;
        };
        let end = field.offset + field.size;
        if field.size < 8 && value >> (8 * field.size) != 0 {
            return false;
        }
        let to = &mut self.bytes[field.offset..end];
        if cfg!(target_endian = "little") {
            to.copy_from_slice(&value.to_le_bytes()[..field.size]);
        } else {
            to.copy_from_slice(&value.to_be_bytes()[8 - field.size..]);
        }
        self.length = self.length.max(u8::try_from(end).unwrap_or(u8::MAX));
        true
    }
}

impl Default for TcpInfo {
    fn default() -> Self {
        Self {
            length: 0,
            bytes: [0; KNOWN_LEN],
        }
    }
}

/// Two are the same where their fields are.
impl PartialEq for TcpInfo {
    fn eq(&self, other: &Self) -> bool {
        self.fields().eq(other.fields())
    }
}

impl Eq for TcpInfo {}

impl fmt::Debug for TcpInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.fields()).finish()
    }
}

impl Serialize for TcpInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.fields() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for TcpInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = TcpInfo;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the fields of tcp_info")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TcpInfo, A::Error> {
                let mut info = TcpInfo::default();
                while let Some((name, value)) = map.next_entry::<String, u64>()? {
                    if !info.set(&name, value) {
                        return Err(A::Error::custom(format!(
                            "tcp_info has no field {name:?} of value {value}"
                        )));
                    }
                }
                Ok(info)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A field of the kernel's struct.
struct Field {
    name: &'static str,
    offset: usize,
    size: usize,
    get: fn(&TcpInfo) -> Option<u64>,
}

/// Declares the fields: each with its type, its offset in the kernel's struct
/// and the kernel's name without `tcpi_`.
macro_rules! tcp_info {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal at $offset:literal;)*) => {
        impl TcpInfo {
            $($(#[$doc])* pub fn $field(&self) -> Option<$type> {
                self.field($offset).map(<$type>::from_ne_bytes)
            })*
        }

        /// Every field that is known, in the order of the struct.
        const FIELDS: &[Field] = &[$(Field {
            name: $name,
            offset: $offset,
            size: size_of::<$type>(),
            get: |info| info.$field().map(u64::from),
        },)*];
    };
}

tcp_info! {
    /// The state by number; [`crate::sock_diag::TcpSocket::state`] names it.
    state: u8 = "state" at 0;
    /// Congestion avoidance: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.
    ca_state: u8 = "ca_state" at 1;
    /// Retransmission timeouts in a row without an acknowledgment.
    retransmits: u8 = "retransmits" at 2;
    /// Window or keepalive probes that were not answered.
    probes: u8 = "probes" at 3;
    /// How many times the timer has been doubled.
    backoff: u8 = "backoff" at 4;
    /// Retransmission timeout, in microseconds.
    rto_us: u32 = "rto" at 8;
    /// Timeout of a delayed acknowledgment, in microseconds.
    ato_us: u32 = "ato" at 12;
    /// Size of a full segment sent, in bytes.
    snd_mss: u32 = "snd_mss" at 16;
    /// Size of a full segment received, in bytes.
    rcv_mss: u32 = "rcv_mss" at 20;
    /// Segments sent and not acknowledged; of a listener: its queue.
    unacked: u32 = "unacked" at 24;
    /// Segments selectively acknowledged; of a listener: its backlog.
    sacked: u32 = "sacked" at 28;
    /// Segments taken for lost.
    lost: u32 = "lost" at 32;
    /// Segments retransmitted and not acknowledged.
    retrans: u32 = "retrans" at 36;
    /// Time since data was sent last, in milliseconds.
    last_data_sent_ms: u32 = "last_data_sent" at 44;
    /// Time since data was received last, in milliseconds.
    last_data_recv_ms: u32 = "last_data_recv" at 52;
    /// Time since an acknowledgment was received last, in milliseconds.
    last_ack_recv_ms: u32 = "last_ack_recv" at 56;
    /// Path MTU, in bytes.
    pmtu: u32 = "pmtu" at 60;
    /// Limit of the window that is offered, in bytes.
    rcv_ssthresh: u32 = "rcv_ssthresh" at 64;
    /// Smoothed round-trip time, in microseconds.
    rtt_us: u32 = "rtt" at 68;
    /// Its mean deviation, in microseconds.
    rttvar_us: u32 = "rttvar" at 72;
    /// Slow-start threshold, in segments.
    snd_ssthresh: u32 = "snd_ssthresh" at 76;
    /// Congestion window, in segments.
    snd_cwnd: u32 = "snd_cwnd" at 80;
    /// Segment size that was advertised, in bytes.
    advmss: u32 = "advmss" at 84;
    /// Reordering that is allowed for, in segments.
    reordering: u32 = "reordering" at 88;
    /// Round-trip time as the receiver estimates it, in microseconds.
    rcv_rtt_us: u32 = "rcv_rtt" at 92;
    /// What the application reads in a round trip, in bytes.
    rcv_space: u32 = "rcv_space" at 96;
    /// Segments retransmitted over the life of the connection.
    total_retrans: u32 = "total_retrans" at 100;
    /// Pacing rate, in bytes a second.
    pacing_rate: u64 = "pacing_rate" at 104;
    /// Bytes that the peer has acknowledged (4.1 and later).
    bytes_acked: u64 = "bytes_acked" at 120;
    /// Bytes that were received (4.1 and later).
    bytes_received: u64 = "bytes_received" at 128;
    /// Segments sent (4.2 and later).
    segs_out: u32 = "segs_out" at 136;
    /// Segments received (4.2 and later).
    segs_in: u32 = "segs_in" at 140;
    /// Bytes written and not yet sent (4.6 and later).
    notsent_bytes: u32 = "notsent_bytes" at 144;
    /// Smallest round-trip time seen, in microseconds (4.6 and later).
    min_rtt_us: u32 = "min_rtt" at 148;
    /// Segments with data received (4.6 and later).
    data_segs_in: u32 = "data_segs_in" at 152;
    /// Segments with data sent (4.6 and later).
    data_segs_out: u32 = "data_segs_out" at 156;
    /// Delivery rate, in bytes a second (4.9 and later).
    delivery_rate: u64 = "delivery_rate" at 160;
    /// Time busy sending, in microseconds (4.10 and later).
    busy_time_us: u64 = "busy_time" at 168;
    /// Time limited by the peer's window, in microseconds (4.10 and later).
    rwnd_limited_us: u64 = "rwnd_limited" at 176;
    /// Time limited by the send buffer, in microseconds (4.10 and later).
    sndbuf_limited_us: u64 = "sndbuf_limited" at 184;
    /// Segments delivered (4.18 and later).
    delivered: u32 = "delivered" at 192;
    /// Segments delivered with a congestion mark (4.18 and later).
    delivered_ce: u32 = "delivered_ce" at 196;
    /// Bytes sent, retransmissions included (4.19 and later).
    bytes_sent: u64 = "bytes_sent" at 200;
    /// Bytes retransmitted (4.19 and later).
    bytes_retrans: u64 = "bytes_retrans" at 208;
    /// Duplicates that the peer reported by DSACK (4.19 and later).
    dsack_dups: u32 = "dsack_dups" at 216;
    /// Reordering events (4.19 and later).
    reord_seen: u32 = "reord_seen" at 220;
    /// Segments received out of order (5.4 and later).
    rcv_ooopack: u32 = "rcv_ooopack" at 224;
    /// The peer's window, in bytes (5.4 and later).
    snd_wnd: u32 = "snd_wnd" at 228;
    /// The window that is offered, in bytes (6.2 and later).
    rcv_wnd: u32 = "rcv_wnd" at 232;
    /// Changes of the path by rehashing after a timeout (6.2 and later).
    rehash: u32 = "rehash" at 236;
    /// Retransmission timeouts over the life of the connection (6.7 and later).
    total_rto: u16 = "total_rto" at 240;
    /// Recoveries from them (6.7 and later).
    total_rto_recoveries: u16 = "total_rto_recoveries" at 242;
    /// Time spent in them, in milliseconds (6.7 and later).
    total_rto_time_ms: u32 = "total_rto_time" at 244;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_there_only_if_all_its_bytes_are() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..bytes.len() {
            let info = TcpInfo::decode(&bytes[..length]);
            assert_eq!(info.state().is_some(), length >= 1);
            assert_eq!(info.rto_us().is_some(), length >= 12);
            assert_eq!(info.bytes_acked().is_some(), length >= 128);
            assert_eq!(info.snd_wnd().is_some(), length >= 232);
        }
    }

    #[test]
    fn a_longer_struct_is_read_as_far_as_it_is_known() {
        let longer = TcpInfo::decode(&[7; 600]);
        assert_eq!(longer, TcpInfo::decode(&[7; 248]));
        assert_eq!(longer.total_rto_time_ms(), Some(0x0707_0707));
    }

    #[test]
    fn fields_go_by_the_kernels_names() {
        let info = TcpInfo::decode(&[1; 12]);
        let names: Vec<_> = info.fields().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "state",
                "ca_state",
                "retransmits",
                "probes",
                "backoff",
                "rto"
            ]
        );
    }

    #[test]
    fn fields_lie_one_after_the_other_in_what_is_kept() {
        for pair in FIELDS.windows(2) {
            assert!(
                pair[0].offset + pair[0].size <= pair[1].offset,
                "{}",
                pair[1].name
            );
        }
        let last = FIELDS.last().unwrap();
        assert_eq!(last.offset + last.size, KNOWN_LEN);
    }

    #[test]
    fn what_is_written_down_is_read_as_it_was() {
        let bytes: Vec<u8> = (0..=247).collect();
        for length in [0, 12, 104, 232, 240, 248] {
            let info = TcpInfo::decode(&bytes[..length]);
            let text = serde_json::to_string(&info).unwrap();
            assert_eq!(serde_json::from_str::<TcpInfo>(&text).unwrap(), info);
        }
        for text in [
            r#"{"nonsense":1}"#,
            r#"{"backoff":256}"#,
            r#"{"rto":-1}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<TcpInfo>(text).is_err(), "{text}");
        }
    }
}
