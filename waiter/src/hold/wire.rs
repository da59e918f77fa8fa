//! The words that sidecar and operator exchange: HTTP/1.1, one request and one answer per connection.
//!
//! Pure: text in, text out. What must stay true: what is accepted is bounded and complete, only the word `lost` of a 409 is
//! taken for a loss, and nothing that the operator says makes a second line of a log.
//!
//! ```text
//! POST /v1/renew HTTP/1.1          200 held <ttl in ms>   and then the PEM of the CAs to trust from now on
//! Authorization: Bearer <token>    200 held forever       the same: nothing of the pod's has a ttl
//! Konductor-Silence: <ms>|forever  409 lost <reason>
//!                                  425 early <reason>
//! <pod uid> <run>
//! ```
//!
//! `Konductor-Silence` is how much silence the sidecar counts on; the operator bears no less until it is told otherwise.

/// Where renewals go.
pub const PATH: &str = "/v1/renew";
/// The header that says how much silence is counted on.
pub const SILENCE: &str = "Konductor-Silence";
/// Longer answers are refused.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_REASON_CHARACTERS: usize = 300;

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The hold stands, and may be lost after that much silence.
    Held {
        /// Above 0.
        ttl_milliseconds: u64,
    },
    /// The hold stands, and silence does not end it.
    Forever,
    /// The hold is not there, or the grant was withdrawn.
    Lost(String),
    /// The operator does not know of the grant yet.
    Early(String),
    /// None, or none that counts: a sentence says why.
    None(String),
}

/// What has been received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// More is to come.
    Part,
    /// All of it: status and body.
    Whole(u16, String),
    /// Nothing that can be understood.
    Garbled(&'static str),
}

/// The text of the request. `authority` is host and port as they were given; `bears` is how much silence is counted on, in
/// milliseconds.
pub fn request(authority: &str, token: &str, pod_uid: &str, run: u64, bears: Option<i64>) -> String {
    let body = format!("{pod_uid} {run}\n");
    let host = authority.strip_suffix(":443").unwrap_or(authority);
    let silence = bears.map_or("forever".to_owned(), |milliseconds| milliseconds.to_string());
    format!(
        "POST {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: text/plain\r\n\
         {SILENCE}: {silence}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Reads an answer as far as it is there. `ended`: the other side has said that there is no more.
pub fn receive(bytes: &[u8], ended: bool) -> Received {
    if bytes.len() > MAX_ANSWER_BYTES {
        return Received::Garbled("its answer is too long");
    }
    let part = if ended { Received::Garbled("its answer ends too early") } else { Received::Part };
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    if end.unwrap_or(bytes.len()) > MAX_HEAD_BYTES {
        return Received::Garbled("the head of its answer is too long");
    }
    let Some(end) = end else { return part };
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let Ok(head) = std::str::from_utf8(head) else {
        return Received::Garbled("the head of its answer is no text");
    };
    let mut lines = head.split("\r\n");
    let Some(status) = lines.next().and_then(status) else {
        return Received::Garbled("its answer is not one of HTTP/1.1");
    };
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Received::Garbled("its answer comes in an encoding that is not understood");
        }
        if name.eq_ignore_ascii_case("content-length") {
            let Ok(value) = value.trim().parse::<usize>() else {
                return Received::Garbled("its answer has no proper length");
            };
            length = Some(value);
        }
    }
    let body = match length {
        Some(length) => match body.get(..length) {
            Some(body) => body,
            None if length > MAX_ANSWER_BYTES => return Received::Garbled("its answer is too long"),
            None => return part,
        },
        // The end of the connection, which TLS protects, is the end of the body.
        None if ended => body,
        None => return Received::Part,
    };
    match std::str::from_utf8(body) {
        Ok(body) => Received::Whole(status, body.to_owned()),
        Err(_) => Received::Garbled("its answer is no text"),
    }
}

/// What an answer means, and the certificates that come with a good one.
pub fn answer(status: u16, body: &str) -> (Answer, Option<&str>) {
    let (first, rest) = body.split_once('\n').unwrap_or((body, ""));
    let first = first.trim_end();
    match (status, first.split_once(' ').unwrap_or((first, ""))) {
        (200, ("held", "forever")) => (Answer::Forever, Some(rest)),
        (200, ("held", ttl)) => match crate::grant::number(ttl) {
            Some(ttl_milliseconds) if ttl_milliseconds > 0 => (Answer::Held { ttl_milliseconds }, Some(rest)),
            _ => (Answer::None(format!("the operator names no ttl: {}", one_line(first))), None),
        },
        (409, ("lost", reason)) => (Answer::Lost(one_line(reason)), None),
        (425, ("early", reason)) => (Answer::Early(one_line(reason)), None),
        _ => (Answer::None(format!("the operator answers {status}: {}", one_line(first))), None),
    }
}

/// The number of a status line.
fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    let number = rest.get(..3)?;
    let ends = rest.len() == 3 || rest.as_bytes()[3] == b' ';
    (ends && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| number.parse().ok()).flatten()
}

fn one_line(text: &str) -> String {
    text.chars()
        .take(MAX_REASON_CHARACTERS)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_the_operator_expects() {
        assert_eq!(
            request("konductor-sessions.konductor-system.svc:443", "abc.def", "uid-1", 7, Some(60_000)),
            "POST /v1/renew HTTP/1.1\r\nHost: konductor-sessions.konductor-system.svc\r\n\
             Authorization: Bearer abc.def\r\nContent-Type: text/plain\r\n\
             Konductor-Silence: 60000\r\nContent-Length: 8\r\nConnection: close\r\n\r\nuid-1 7\n"
        );
        let other = request("host:8443", "t", "u", 1, None);
        assert!(other.contains("\r\nHost: host:8443\r\n"), "{other}");
        assert!(other.contains("\r\nKonductor-Silence: forever\r\n"), "{other}");
    }

    #[test]
    fn an_answer_is_whole_exactly_when_its_length_is_there() {
        let text =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nContent-LENGTH: 12\r\n\r\nheld 15000\nPmore";
        let whole = text.len() - 4;
        for length in 0..=text.len() {
            let received = receive(&text[..length], false);
            if length < whole {
                assert_eq!(received, Received::Part, "{length}");
                assert!(matches!(receive(&text[..length], true), Received::Garbled(_)), "{length}");
            } else {
                assert_eq!(received, Received::Whole(200, "held 15000\nP".to_owned()));
            }
        }
    }

    #[test]
    fn without_a_length_the_end_of_the_connection_is_the_end() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\n\r\nno";
        assert_eq!(receive(text, false), Received::Part);
        assert_eq!(receive(text, true), Received::Whole(503, "no".to_owned()));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MAX_HEAD_BYTES));
        let large = vec![b'x'; MAX_ANSWER_BYTES + 1];
        for (bytes, reason) in [
            (&b"SSH-2.0-OpenSSH\r\n\r\n"[..], "HTTP/1.1"),
            (b"HTTP/2 200\r\n\r\n", "HTTP/1.1"),
            (b"HTTP/1.1 2000\r\n\r\n", "HTTP/1.1"),
            (b"HTTP/1.1 20\r\n\r\n", "HTTP/1.1"),
            (b"HTTP/1.1 +20 OK\r\n\r\n", "HTTP/1.1"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "length"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "too long"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "encoding"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff", "no text"),
            (b"HTTP/1.1 200 OK\r\nx: \xff\r\n\r\n", "no text"),
            (long.as_bytes(), "head"),
            (&large, "too long"),
        ] {
            let Received::Garbled(why) = receive(bytes, false) else {
                panic!("{:?}", String::from_utf8_lossy(bytes))
            };
            assert!(why.contains(reason), "{why}");
        }
    }

    #[test]
    fn answers_mean_what_the_contract_says() {
        let pem = "-----BEGIN CERTIFICATE-----\n";
        assert_eq!(
            answer(200, &format!("held 15000\n{pem}")),
            (Answer::Held { ttl_milliseconds: 15_000 }, Some(pem))
        );
        assert_eq!(answer(200, "held forever\r\n"), (Answer::Forever, Some("")));
        assert_eq!(answer(200, "held forever"), (Answer::Forever, Some("")));
        assert_eq!(
            answer(409, "lost withdrawn\u{1b}[2J\nmore"),
            (Answer::Lost("withdrawn [2J".to_owned()), None)
        );
        assert_eq!(answer(425, "early not yet"), (Answer::Early("not yet".to_owned()), None));
        for (status, body) in [
            (200, ""),
            (200, "held"),
            (200, "held 0"),
            (200, "held -1"),
            (200, "held +1"),
            (200, "held 1 2"),
            (200, "lost x"),
            (409, "Conflict"),
            (409, "held 15000"),
            (425, ""),
            (401, "lost x"),
            (403, "held 15000"),
            (404, ""),
            (429, "early x"),
            (500, "held forever"),
            (204, "held forever"),
        ] {
            assert!(matches!(answer(status, body), (Answer::None(_), None)), "{status} {body:?}");
        }
    }
}
