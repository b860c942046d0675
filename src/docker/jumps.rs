//! Makes x86-64 code pack better. Calls and jumps hold the distance to where they lead, so that every call of one function
//! is different; as addresses they are the same. Nothing is lost, whatever the bytes are: programs for other machines
//! only gain nothing.

/// Which of the two forms is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As packed.
    Addresses,
    /// As the machine wants it.
    Distances,
}

/// Bytes of a distance.
const WIDTH: usize = 4;

/// Brings code from the other form into this one.
pub fn bring_into(code: &mut [u8], form: Form) {
    let length = code.len() as i64;
    let mut at = 0;
    while at + 2 + WIDTH <= code.len() {
        let opcode = match (code[at], code[at + 1]) {
            (0xE8 | 0xE9, _) => 1,
            (0x0F, 0x80..=0x8F) => 2,
            _ => {
                at += 1;
                continue;
            }
        };
        let start = at + opcode;
        let end = start + WIDTH;
        let bytes: [u8; WIDTH] = code[start..end].try_into().expect("it has this width");
        let value = i64::from(i32::from_le_bytes(bytes));
        let place = end as i64;
        // A distance that leads into the code becomes an address, and those that look like addresses take its place.
        let value = match form {
            Form::Addresses if (-place..length - place).contains(&value) => value + place,
            Form::Addresses if (length - place..length).contains(&value) => value - length,
            Form::Distances if (0..length).contains(&value) => value - place,
            Form::Distances if (-place..0).contains(&value) => value + length,
            _ => value,
        };
        let value = i32::try_from(value).expect("code is shorter than 2 GiB");
        code[start..end].copy_from_slice(&value.to_le_bytes());
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calls_of_one_function_become_alike() {
        let mut code = vec![0x90; 40];
        code[0] = 0xE8;
        code[1..5].copy_from_slice(&25i32.to_le_bytes());
        code[10] = 0xE8;
        code[11..15].copy_from_slice(&15i32.to_le_bytes());
        let before = code.clone();
        bring_into(&mut code, Form::Addresses);
        assert_eq!(code[1..5], code[11..15]);
        bring_into(&mut code, Form::Distances);
        assert_eq!(code, before);
    }

    proptest! {
        #[test]
        fn every_text_of_bytes_comes_back(
            code in proptest::collection::vec(prop_oneof![Just(0xE8u8), Just(0x0F), Just(0x84), Just(0), Just(0xFF), any::<u8>()], 0..200),
        ) {
            let mut changed = code.clone();
            bring_into(&mut changed, Form::Addresses);
            bring_into(&mut changed, Form::Distances);
            prop_assert_eq!(changed, code);
        }
    }
}
