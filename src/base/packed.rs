//! Texts that are part of this program and stored packed, because they are read hardly ever.

use miniz_oxide::inflate::decompress_to_vec;

/// Names and contents of the files that `build.rs` packed: `<name>\0<content>\0` of each, deflated.
pub fn files(packed: &[u8]) -> Vec<(String, String)> {
    let bytes = decompress_to_vec(packed).expect("build.rs packed them");
    let text = String::from_utf8(bytes).expect("they are text");
    let mut parts = text.split('\0').map(str::to_owned);
    let mut files = Vec::new();
    while let (Some(name), Some(content)) = (parts.next(), parts.next()) {
        files.push((name, content));
    }
    files
}
