//! What is part of this program and stored packed, because it is read hardly ever: texts, and the programs that go into
//! images.
//!
//! It is read as a file. What a process touches of its own memory stays there for as long as it runs, and that would be
//! megabytes in a scheduler that has once built an image.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use miniz_oxide::inflate::decompress_to_vec;

/// Names and contents of the files that `build.rs` packed: `<name>\0<content>\0` of each, deflated.
pub fn files(packed: &'static [u8]) -> Vec<(String, String)> {
    let text = String::from_utf8(unpack(packed)).expect("they are text");
    let mut parts = text.split('\0').map(str::to_owned);
    let mut files = Vec::new();
    while let (Some(name), Some(content)) = (parts.next(), parts.next()) {
        files.push((name, content));
    }
    files
}

/// What `build.rs` packed.
pub fn unpack(packed: &'static [u8]) -> Vec<u8> {
    let read = read(packed).and_then(|bytes| decompress_to_vec(&bytes).ok());
    read.unwrap_or_else(|| decompress_to_vec(packed).expect("build.rs packed it"))
}

/// The same bytes from this program's file; `None` when they did not get into memory from there.
fn read(constant: &'static [u8]) -> Option<Vec<u8>> {
    let program = File::open("/proc/self/exe").ok()?;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let offset = place(&maps, constant.as_ptr().addr() as u64, program.metadata().ok()?.ino())?;
    let mut bytes = vec![0; constant.len()];
    program.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// Where in the file with this inode number the byte at this address is, by a process's list of mappings (proc(5)).
fn place(maps: &str, address: u64, inode: u64) -> Option<u64> {
    maps.lines().find_map(|line| {
        // <begin>-<end> <permissions> <offset> <device> <inode> <path>, all numbers but the inode's in hex
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (begin, end) = words.first()?.split_once('-')?;
        let (begin, end) = (number(begin)?, number(end)?);
        let is_there = (begin..end).contains(&address) && words.get(4)?.parse() == Ok(inode);
        is_there.then(|| Some(number(words.get(2)?)? + (address - begin)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    static CONSTANT: &[u8] = b"what the file of this test has as well";

    #[test]
    fn the_programs_file_has_its_constants() {
        assert_eq!(read(CONSTANT).as_deref(), Some(CONSTANT));
    }

    #[test]
    fn an_address_has_a_place_only_in_the_file_that_it_comes_from() {
        let maps = "55d0a000-55d0b000 r--p 00000000 fe:00 7 /opt/al\n\
                    55d0b000-55d0f000 r-xp 00002000 fe:00 7 /opt/al (deleted)\n\
                    55d10000-55d11000 rw-p 00000000 00:00 0\n";
        assert_eq!(place(maps, 0x55d0_a010, 7), Some(0x10));
        assert_eq!(place(maps, 0x55d0_c001, 7), Some(0x3001));
        assert_eq!(place(maps, 0x55d0_c001, 8), None, "another file");
        assert_eq!(place(maps, 0x55d1_0000, 7), None, "no file");
        assert_eq!(place(maps, 0x55d0_f000, 7), None, "behind the end");
    }
}
