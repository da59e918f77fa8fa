//! As much of HTTP/1.1 as it takes to speak with a local proxy: one request per connection, answers of either length.
//!
//! Touches only the stream that it is given. What must stay true: an answer that breaks off is an error and never a
//! short answer, and a watch hands on each line as soon as it is there.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};

/// The head of an answer, and its body still to be read.
pub(crate) struct Answer<R: Read> {
    /// 200, 404, …
    pub(crate) code: u16,
    /// Reads as the body, without its framing.
    pub(crate) body: Body<R>,
}

/// A body, with its framing taken off.
pub(crate) struct Body<R: Read> {
    inner: BufReader<R>,
    framing: Framing,
}

enum Framing {
    /// So many bytes are left.
    Counted(u64),
    /// So many bytes are left of this chunk; more chunks may follow.
    Chunked(u64),
    /// It ends with the connection.
    UntilClosed,
    /// It has ended.
    Over,
}

/// Writes a request and reads the head of its answer. `body` is a content type and bytes.
pub(crate) fn ask<S: Read + Write>(
    mut stream: S,
    method: &str,
    path: &str,
    body: Option<(&str, &[u8])>,
) -> io::Result<Answer<S>> {
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n").into_bytes();
    match body {
        Some((kind, bytes)) => {
            write!(request, "Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
            request.extend_from_slice(bytes);
        }
        None => request.extend_from_slice(b"\r\n"),
    }
    stream.write_all(&request)?;
    stream.flush()?;
    let mut inner = BufReader::new(stream);
    let status = head_line(&mut inner)?;
    let code = status
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| broken(&format!("{status:?} is no status line")))?;
    let mut framing = Framing::UntilClosed;
    loop {
        let line = head_line(&mut inner)?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Framing::Chunked(0);
        } else if name.eq_ignore_ascii_case("content-length") && !matches!(framing, Framing::Chunked(_)) {
            let length = value.parse().map_err(|_| broken(&format!("a length of {value:?}")))?;
            framing = Framing::Counted(length);
        }
    }
    Ok(Answer { code, body: Body { inner, framing } })
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = match self.framing {
            Framing::Over | Framing::Counted(0) => return Ok(0),
            Framing::UntilClosed => return self.inner.read(buffer),
            Framing::Chunked(0) => {
                let line = head_line(&mut self.inner)?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(digits, 16)
                    .map_err(|_| broken(&format!("a chunk of size {digits:?}")))?;
                if size == 0 {
                    self.framing = Framing::Over;
                    return Ok(0);
                }
                size
            }
            Framing::Counted(left) | Framing::Chunked(left) => left,
        };
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = self.inner.read(buffer.get_mut(..room).unwrap_or_default())?;
        if got == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let left = left - got as u64;
        self.framing = match self.framing {
            Framing::Chunked(_) => {
                if left == 0 && !head_line(&mut self.inner)?.is_empty() {
                    return Err(broken("a chunk that is longer than it said"));
                }
                Framing::Chunked(left)
            }
            _ => Framing::Counted(left),
        };
        Ok(got)
    }
}

fn head_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the answer is no HTTP that we read: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what it was made of and remembers what it was asked.
    struct Fake {
        answer: io::Cursor<Vec<u8>>,
        asked: Vec<u8>,
    }

    impl Read for Fake {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.answer.read(buffer)
        }
    }

    impl Write for Fake {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answered(text: &str) -> io::Result<(u16, String)> {
        let fake = Fake { answer: io::Cursor::new(text.as_bytes().to_vec()), asked: Vec::new() };
        let mut answer = ask(fake, "GET", "/x", None)?;
        let mut body = String::new();
        answer.body.read_to_string(&mut body)?;
        Ok((answer.code, body))
    }

    #[test]
    fn each_kind_of_length_is_understood() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyrest",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1;x=y\r\ny\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nbody",
        ] {
            assert_eq!(answered(text).unwrap(), (200, "body".to_owned()), "{text}");
        }
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbod",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbod",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert!(answered(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_body_is_sent_with_its_kind_and_length() {
        let mut fake = Fake {
            answer: io::Cursor::new(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".to_vec()),
            asked: Vec::new(),
        };
        assert_eq!(ask(&mut Both(&mut fake), "PATCH", "/p", Some(("a/b", b"{}"))).unwrap().code, 204);
        assert_eq!(
            String::from_utf8(fake.asked).unwrap(),
            "PATCH /p HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\n{}"
        );
    }

    struct Both<'a>(&'a mut Fake);

    impl Read for &mut Both<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for &mut Both<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
