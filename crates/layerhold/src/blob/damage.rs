//! What can be wrong with stored bytes.

use std::fmt;

use crate::format::codec::{Decoder, Encoder};
use crate::store::StorageError;

/// What was found wrong with the stored bytes of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Damage {
    /// There is nothing where they should be.
    Missing,
    /// There is more or less than was stored.
    Length {
        /// The length of what was stored, in bytes, footer included.
        expected: u64,
        /// The length of what is there.
        found: u64,
    },
    /// A group of bytes is not what was stored.
    Bytes {
        /// Where the group begins.
        offset: u64,
    },
    /// The bytes as a whole do not have the digest.
    Digest,
    /// The medium could not give them, again and again.
    Unreadable,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "missing"),
            Self::Length { expected, found } => write!(f, "wrong length expected={expected} found={found}"),
            Self::Bytes { offset } => write!(f, "wrong bytes offset={offset}"),
            Self::Digest => write!(f, "wrong digest"),
            Self::Unreadable => write!(f, "unreadable"),
        }
    }
}

impl Damage {
    pub(crate) fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Missing => encoder.u8(1),
            Self::Length { expected, found } => encoder.u8(2).u64(*expected).u64(*found),
            Self::Bytes { offset } => encoder.u8(3).u64(*offset),
            Self::Digest => encoder.u8(4),
            Self::Unreadable => encoder.u8(5),
        };
    }

    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(match decoder.u8()? {
            1 => Self::Missing,
            2 => Self::Length { expected: decoder.u64()?, found: decoder.u64()? },
            3 => Self::Bytes { offset: decoder.u64()? },
            4 => Self::Digest,
            5 => Self::Unreadable,
            _ => return Err(decoder.malformed()),
        })
    }
}
