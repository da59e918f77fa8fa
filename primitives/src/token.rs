//! Fencing tokens: a number that rises with every grant of a primitive.
//!
//! `max(last + 1, resourceVersion << 16)`, where the resourceVersion is that of the object version which the granting
//! write replaces. Revisions of etcd only rise, so a primitive that is deleted and made again starts above every token
//! of its predecessor. Fencing itself is the resource's part: it refuses a token lower than the highest it has seen
//! (sequencers in Burrows, "The Chubby lock service for loosely-coupled distributed systems", OSDI 2006).

/// Why there is no next token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// The API server gave a resourceVersion that is no number.
    Opaque(String),
    /// The last token was made at a later revision than the one now: etcd was restored from a backup.
    FromTheFuture {
        /// Last token.
        last: u64,
        /// Revision now.
        revision: u64,
    },
}

/// The token of the grant that is written over the object version `resource_version`.
pub fn next(last: Option<&str>, resource_version: &str) -> Result<u64, TokenError> {
    let opaque = || TokenError::Opaque(resource_version.to_owned());
    let revision: u64 = resource_version.parse().map_err(|_| opaque())?;
    let floor = revision.checked_mul(1 << 16).ok_or_else(opaque)?;
    let last = match last {
        None => 0,
        Some(text) => text.parse().map_err(|_| TokenError::Opaque(text.to_owned()))?,
    };
    if last >> 16 > revision {
        return Err(TokenError::FromTheFuture { last, revision });
    }
    Ok(floor.max(last + 1))
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Opaque(text) => write!(formatter, "no token can be made of {text:?}, which is no number"),
            Self::FromTheFuture { last, revision } => write!(
                formatter,
                "the last token {last} was made at a later revision of the API server's store than {revision}: the \
                 store was restored from a backup, and a new token could be lower than one already given out; delete \
                 the object and create it again once nothing uses the old tokens"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_within_one_write_across_writes_and_across_recreation() {
        assert_eq!(next(None, "7"), Ok(7 << 16));
        assert_eq!(next(Some(&(7_u64 << 16).to_string()), "7"), Ok((7 << 16) + 1));
        assert_eq!(next(Some(&((7_u64 << 16) + 1).to_string()), "9"), Ok(9 << 16));
    }

    #[test]
    fn a_store_that_went_back_in_time_gives_none() {
        let refused = next(Some(&(9_u64 << 16).to_string()), "8").unwrap_err();
        assert!(refused.to_string().contains("restored from a backup"));
    }

    #[test]
    fn what_is_no_number_gives_none() {
        assert!(matches!(next(None, "abc"), Err(TokenError::Opaque(_))));
        assert!(matches!(next(None, ""), Err(TokenError::Opaque(_))));
        assert!(matches!(next(Some("x"), "1"), Err(TokenError::Opaque(_))));
        assert!(matches!(next(None, &u64::MAX.to_string()), Err(TokenError::Opaque(_))));
    }
}
