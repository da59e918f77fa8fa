//! Names to addresses, the part without a network: the files of the pod, and the messages of DNS.
//!
//! Pure. The C library's resolver is not used: in a static program it may want libraries that an image from scratch does not
//! have, it weighs a tenth of the binary, and it cannot be interrupted. What must stay true: whatever a message holds, it is
//! read without a step outside of it and without end. An address that was made up by somebody does no harm beyond a try in
//! vain: the certificate says who is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const PORT: u16 = 53;
const MAX_NAME_BYTES: usize = 253;

/// What a pod's `/etc/resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) servers: Vec<SocketAddr>,
    search: Vec<String>,
    dots: usize,
}

/// The type of record that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    V4 = 1,
    V6 = 28,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Addresses; none: the name has none of the kind.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoName,
    /// The server could not say.
    Failed,
    /// It is no answer to the question.
    NotOurs,
}

impl Configuration {
    pub(crate) fn parse(text: &str) -> Self {
        let mut found = Self { servers: Vec::new(), search: Vec::new(), dots: 1 };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => found.servers.extend(words.next().and_then(server)),
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    for option in words {
                        if let Some(dots) = option.strip_prefix("ndots:").and_then(|n| n.parse().ok()) {
                            found.dots = dots;
                        }
                    }
                }
                _ => {}
            }
        }
        if found.servers.is_empty() {
            found.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        found
    }

    /// The names to ask for, in order.
    pub(crate) fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(host) = host.strip_suffix('.') {
            return vec![host.to_owned()];
        }
        let mut names: Vec<_> =
            self.search.iter().map(|domain| format!("{host}.{}", domain.trim_end_matches('.'))).collect();
        let place = if host.matches('.').count() >= self.dots { 0 } else { names.len() };
        names.insert(place, host.to_owned());
        names
    }
}

/// An address, and as an extension (BSD has it) `[address]:port`.
fn server(word: &str) -> Option<SocketAddr> {
    word.parse().ok().or_else(|| word.parse::<IpAddr>().ok().map(|address| (address, PORT).into()))
}

/// The addresses that a hosts file has for the name.
pub(crate) fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
        })
        .collect()
}

/// A question; None if the name is none.
pub(crate) fn question(id: [u8; 2], name: &str, kind: Kind) -> Option<Vec<u8>> {
    if name.len() > MAX_NAME_BYTES {
        return None;
    }
    // Flags: recursion desired. Counts: one question and nothing else.
    let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    // The root, the type, the class IN.
    message.extend_from_slice(&[0, 0, kind as u8, 0, 1]);
    Some(message)
}

/// What a message says to that question.
pub(crate) fn reply(message: &[u8], question: &[u8], kind: Kind) -> Reply {
    let (Some(&[id_0, id_1, flags_0, flags_1, _, questions, answers_0, answers_1, ..]), Some(asked)) =
        (message.get(..12), question.get(12..))
    else {
        return Reply::NotOurs;
    };
    let echoed = message.get(12..question.len());
    let ours = [id_0, id_1] == question[..2]
        && flags_0 & 0x80 != 0
        && questions == 1
        && echoed.is_some_and(|echoed| echoed.eq_ignore_ascii_case(asked));
    if !ours {
        return Reply::NotOurs;
    }
    let (is_cut, code) = (flags_0 & 2 != 0, flags_1 & 15);
    let mut addresses = Vec::new();
    let mut rest = &message[question.len()..];
    for _ in 0..u16::from_be_bytes([answers_0, answers_1]) {
        let Some((address, after)) = record(rest, kind) else { break };
        addresses.extend(address);
        rest = after;
    }
    match code {
        0 if is_cut && addresses.is_empty() => Reply::Failed,
        0 => Reply::Addresses(addresses),
        3 => Reply::NoName,
        _ => Reply::Failed,
    }
}

/// The address in the first record, if it is one of that kind; and what follows the record. Whose name it is does not
/// matter: where that is an alias, the server sends what it stands for along.
fn record(message: &[u8], kind: Kind) -> Option<(Option<IpAddr>, &[u8])> {
    let mut rest = message;
    // The name: labels until the root or a pointer.
    loop {
        let (&length, after) = rest.split_first()?;
        rest = match length {
            0 => {
                rest = after;
                break;
            }
            1..=63 => after.get(usize::from(length)..)?,
            192.. => {
                rest = after.get(1..)?;
                break;
            }
            _ => return None,
        };
    }
    let (head, data) = rest.split_at_checked(10)?;
    let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
    let (data, after) = data.split_at_checked(length)?;
    let address = if head[..4] == [0, kind as u8, 0, 1] {
        match kind {
            Kind::V4 => <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).into()),
            Kind::V6 => <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).into()),
        }
    } else {
        None
    };
    Some((address, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "search ml.svc.cluster.local svc.cluster.local cluster.local # a comment\n\
                       nameserver 10.96.0.10\nnameserver fd00::a\noptions ndots:5 timeout:2\n";

    #[test]
    fn a_pods_file_is_understood() {
        let found = Configuration::parse(POD);
        assert_eq!(found.servers, ["10.96.0.10:53".parse().unwrap(), "[fd00::a]:53".parse().unwrap()]);
        assert_eq!(
            found.candidates("sessions.system.svc"),
            [
                "sessions.system.svc.ml.svc.cluster.local",
                "sessions.system.svc.svc.cluster.local",
                "sessions.system.svc.cluster.local",
                "sessions.system.svc"
            ]
        );
        assert_eq!(found.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        assert_eq!(found.candidates("a.b."), ["a.b"]);
        let found = Configuration::parse("; nothing\nnameserver nonsense\noptions ndots:x\n");
        assert_eq!(found.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(found.candidates("a.b"), ["a.b"]);
        assert_eq!(
            Configuration::parse("nameserver 127.0.0.1:5353").servers,
            ["127.0.0.1:5353".parse().unwrap()]
        );
    }

    #[test]
    fn the_hosts_file_has_all_addresses_of_a_name() {
        let text =
            "127.0.0.1 localhost\n::1\tlocalhost ip6 # localhost2\n10.0.0.9 Sessions\nnonsense localhost\n";
        assert_eq!(
            in_hosts(text, "localhost"),
            ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]
        );
        assert_eq!(in_hosts(text, "sessions"), ["10.0.0.9".parse::<IpAddr>().unwrap()]);
        assert!(in_hosts(text, "localhost2").is_empty());
    }

    #[test]
    fn a_question_is_what_rfc_1035_says() {
        let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x03svc\x00\x00\x1c\x00\x01";
        assert_eq!(question([0x12, 0x34], "a.svc", Kind::V6).unwrap(), expected);
        for name in ["", ".", "a..b", &"x".repeat(64), &"x.".repeat(130)] {
            assert_eq!(question([0, 0], name, Kind::V4), None, "{name}");
        }
    }

    /// An answer with an alias, a record of text and two addresses.
    fn answered(question: &[u8]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 4]);
        message.extend_from_slice(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x1e\x00\x04\x01b\xc0\x0e");
        message.extend_from_slice(b"\x01b\xc0\x0e\x00\x10\x00\x01\x00\x00\x00\x1e\x00\x04text");
        message.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x0a\x00\x00\x09");
        message.extend_from_slice(b"\x01x\x00\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x0a\x00\x00\x0a");
        message
    }

    #[test]
    fn an_answer_is_read_through_aliases() {
        let question = question([7, 9], "a.svc", Kind::V4).unwrap();
        let message = answered(&question);
        let addresses = ["10.0.0.9", "10.0.0.10"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(reply(&message, &question, Kind::V4), Reply::Addresses(addresses.to_vec()));
        let with = |at: usize, byte: u8| {
            let mut message = message.clone();
            message[at] = byte;
            reply(&message, &question, Kind::V4)
        };
        assert_eq!(with(0, 8), Reply::NotOurs, "another id");
        assert_eq!(with(2, 1), Reply::NotOurs, "a question");
        assert_eq!(with(13, b'b'), Reply::NotOurs, "another name");
        assert_eq!(with(13, b'A'), Reply::Addresses(addresses.to_vec()), "names have no case");
        assert_eq!(with(3, 0x82), Reply::Failed, "SERVFAIL");
        assert_eq!(with(3, 0x85), Reply::Failed, "REFUSED");
        let mut gone = question.clone();
        gone[2..4].copy_from_slice(&[0x81, 0x83]);
        assert_eq!(reply(&gone, &question, Kind::V4), Reply::NoName);
        gone[3] = 0x80;
        assert_eq!(reply(&gone, &question, Kind::V4), Reply::Addresses(Vec::new()));
        gone[2..4].copy_from_slice(&[0x83, 0x80]);
        assert_eq!(reply(&gone, &question, Kind::V4), Reply::Failed, "cut");
    }

    /// Every message that is cut or has one byte changed is read to an end.
    #[test]
    fn no_message_leads_astray() {
        let question = question([7, 9], "a.svc", Kind::V4).unwrap();
        let message = answered(&question);
        for length in 0..message.len() {
            reply(&message[..length], &question, Kind::V4);
        }
        for at in 0..message.len() {
            for byte in 0..=255 {
                let mut message = message.clone();
                message[at] = byte;
                reply(&message, &question, Kind::V4);
                reply(&message, &question, Kind::V6);
            }
        }
    }
}
