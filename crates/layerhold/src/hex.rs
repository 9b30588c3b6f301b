//! Lower-case hexadecimal text. Upper case is refused: one value has one spelling.

/// The text of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0x0f));
    }
    text
}

/// The bytes that `text` stands for, or the position of the first byte that is no digit; an odd last digit is one of those.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<u8>, usize> {
    let (pairs, odd) = text.as_chunks::<2>();
    let bytes: Result<Vec<u8>, usize> = pairs.iter().enumerate().map(|(at, pair)| byte(*pair, at)).collect();
    if odd.is_empty() { bytes } else { bytes.and(Err(text.len() - 1)) }
}

/// Like [`decode`], for text of `2 * N` bytes; what is missing or too much counts as no digit.
pub(crate) fn decode_array<const N: usize>(text: &[u8]) -> Result<[u8; N], usize> {
    let mut bytes = [0; N];
    let (pairs, _) = text.as_chunks::<2>();
    for (at, (decoded, pair)) in bytes.iter_mut().zip(pairs).enumerate() {
        *decoded = byte(*pair, at)?;
    }
    if text.len() == 2 * N { Ok(bytes) } else { Err(text.len().min(2 * N)) }
}

fn byte([high, low]: [u8; 2], at: usize) -> Result<u8, usize> {
    let high = value(high).ok_or(at * 2)?;
    let low = value(low).ok_or(at * 2 + 1)?;
    Ok(high << 4 | low)
}

/// The digit of `nibble`, which is below 16.
fn digit(nibble: u8) -> char {
    char::from(if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) })
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_spelling() {
        let all: Vec<u8> = (0..=255).collect();
        let text = encode(&all);
        assert!(text.starts_with("000102") && text.ends_with("fdfeff"));
        assert_eq!(decode(text.as_bytes()).unwrap(), all);
        assert_eq!(decode_array(b"00ff").unwrap(), [0, 255]);
        for (wrong, at) in [("0g", 1), ("00A0", 2), ("000", 2), ("0a0B", 3), (" 00", 0)] {
            assert_eq!(decode(wrong.as_bytes()), Err(at), "{wrong}");
        }
        for (wrong, at) in [("", 0), ("00", 2), ("0000ff", 4), ("00FF", 2)] {
            assert_eq!(decode_array::<2>(wrong.as_bytes()), Err(at), "{wrong}");
        }
    }
}
