//! Reading the two small text files: the grant and the mark.
//!
//! Reads only. What must stay true: whatever lies there, at most 4 KiB of it are taken in.

use std::fs::File;
use std::io::{self, Read};

/// A grant has at most some 700 bytes, a mark 21.
const MAX_BYTES: usize = 4096;

/// The file's text. One read: both files are replaced as a whole, never appended to, and std's way of reading to the
/// end links a kilobyte more.
pub(crate) fn read(path: &str) -> io::Result<String> {
    let mut buffer = [0; MAX_BYTES];
    let length = File::open(path)?.read(&mut buffer)?;
    match std::str::from_utf8(&buffer[..length]) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}
