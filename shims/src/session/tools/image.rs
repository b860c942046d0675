//! Images as results of `read`: recognised by their first bytes, never decoded (agent-session.md §7.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::truncate::size;
use crate::session::message::{Content, Image};

/// Largest image file, in bytes; providers refuse more.
pub(super) const BYTES_LIMIT: u64 = 4_718_592;
/// Longest side in pixels.
const SIDE_LIMIT: u32 = 8000;

/// The media type of a file that starts with these bytes; `None` when it is not an image.
pub(super) fn mime(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some("image/png"),
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// The result for a whole image file; `path` is for messages.
pub(super) fn content(path: &str, mime: &'static str, bytes: &[u8]) -> Result<Vec<Content>, String> {
    if let Some((width, height)) = dimensions(mime, bytes).filter(|(width, height)| *width.max(height) > SIDE_LIMIT) {
        return Err(format!(
            "{path} is an image of {width}x{height} pixels, the limit is {SIDE_LIMIT} per side. Shrink it first with a \
             tool such as ImageMagick"
        ));
    }
    Ok(vec![
        Content::Text(format!("Read image file [{mime}]")),
        Content::Image(Image { mime, base64: STANDARD.encode(bytes) }),
    ])
}

/// The text for an image file that is too large.
pub(super) fn too_large(path: &str, bytes: u64) -> String {
    format!(
        "{path} is an image of {}, the limit is {}. Shrink it first with a tool such as ImageMagick",
        size(bytes),
        size(BYTES_LIMIT)
    )
}

/// Width and height in pixels from the header; `None` when it does not tell.
fn dimensions(mime: &str, bytes: &[u8]) -> Option<(u32, u32)> {
    match mime {
        "image/png" => Some((u32_be(bytes, 16)?, u32_be(bytes, 20)?)),
        "image/gif" => Some((u16_le(bytes, 6)?, u16_le(bytes, 8)?)),
        "image/jpeg" => jpeg(bytes),
        _ => webp(bytes),
    }
}

/// Walks the segments up to the frame header.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        if *bytes.get(at)? != 0xFF {
            return None;
        }
        match *bytes.get(at + 1)? {
            0xFF => at += 1,
            0x01 | 0xD0..=0xD8 => at += 2,
            // Frame headers; the other three codes of this range are tables.
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                return Some((u16_be(bytes, at + 7)?, u16_be(bytes, at + 5)?));
            }
            _ => at += 2 + u16_be(bytes, at + 2)? as usize,
        }
    }
}

fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    match bytes.get(12..16)? {
        b"VP8X" => Some((u24_le(bytes, 24)? + 1, u24_le(bytes, 27)? + 1)),
        b"VP8 " => Some((u16_le(bytes, 26)? & 0x3FFF, u16_le(bytes, 28)? & 0x3FFF)),
        b"VP8L" => {
            let bits = u16_le(bytes, 21)? | u16_le(bytes, 23)? << 16;
            Some(((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1))
        }
        _ => None,
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_be(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_be_bytes)
}

fn u16_be(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u16::from_be_bytes).map(u32::from)
}

fn u16_le(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u16::from_le_bytes).map(u32::from)
}

fn u24_le(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(|[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(bytes: &[u8], expected_mime: &str, expected: Option<(u32, u32)>) {
        let mime = mime(bytes).unwrap();
        assert_eq!((mime, dimensions(mime, bytes)), (expected_mime, expected));
        // Cut off anywhere, a header tells the same or nothing.
        for end in 12..bytes.len() {
            let cut = dimensions(mime, &bytes[..end]);
            assert!(cut.is_none() || cut == expected);
        }
    }

    #[test]
    fn headers_tell_the_size() {
        case(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x1F\x40\0\0\0\x02", "image/png", Some((8000, 2)));
        case(b"GIF89a\x40\x1f\x02\x00\0\0", "image/gif", Some((8000, 2)));
        case(
            b"\xFF\xD8\xFF\xE0\0\x04ab\xFF\xFF\xC4\0\x03c\xFF\xC2\0\x0b\x08\0\x02\x1f\x40\x01",
            "image/jpeg",
            Some((8000, 2)),
        );
        case(b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x3f\x1f\0\x01\0\0", "image/webp", Some((8000, 2)));
        case(b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x40\x1f\x02\0", "image/webp", Some((8000, 2)));
        case(b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x3f\x5f\0\0", "image/webp", Some((8000, 2)));
        case(b"\xFF\xD8\xFF", "image/jpeg", None);
    }

    #[test]
    fn other_files_are_no_images() {
        for bytes in [&b"GIF88a"[..], b"RIFF1234WAVE", b"\x89PNG", b"", b"\xFF\xD8"] {
            assert_eq!(mime(bytes), None);
        }
    }
}
