//! Polling URLs like ARM's: signed-looking, over 2 KB, with bytes that a careless client re-encodes.
//!
//! Made from the operation's number alone, so that each can be checked byte for byte without being kept.

use std::fmt::Write;

/// What the operation is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// `Azure-AsyncOperation`.
    Status,
    /// `Location`.
    Result,
}

impl Record {
    /// The name of its segment in the path.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Status => "operationStatuses",
            Self::Result => "operationResults",
        }
    }
}

/// Makes and recognises the URLs of one simulator.
#[derive(Debug)]
pub struct UrlSigner {
    certificate: String,
}

const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX: &[u8; 16] = b"0123456789ABCDEF";

impl Default for UrlSigner {
    fn default() -> Self {
        let mut certificate = String::from("MII");
        scramble(&mut certificate, 0, 2_200, BASE64URL);
        Self { certificate }
    }
}

impl UrlSigner {
    /// The name of operation `number`: a GUID, a literal `*`, 64 hex digits.
    pub fn name(number: u32) -> String {
        let mut name = String::with_capacity(101);
        write!(name, "{number:08x}-0000-4000-8000-0000000000aa*").expect("writing to a String cannot fail");
        scramble(&mut name, u64::from(number) + 1, 64, HEX);
        name
    }

    /// The number of the operation that a path segment names.
    pub fn number(name: &str) -> Option<u32> {
        u32::from_str_radix(name.get(..8)?, 16).ok()
    }

    /// Path and query of the URL of operation `number`.
    pub fn target(&self, record: Record, subscription: &str, number: u32) -> String {
        let mut target = String::with_capacity(self.certificate.len() + 800);
        let ticks = 638_800_000_000_000_000 + u64::from(number);
        write!(
            target,
            "/subscriptions/{subscription}/providers/Microsoft.Solutions/locations/WESTEUROPE/{}/{}?api-version=2019-07-01&t={ticks}&c={}&s=",
            record.segment(),
            Self::name(number),
            self.certificate,
        )
        .expect("writing to a String cannot fail");
        scramble(&mut target, u64::from(number) << 2 | 2, 342, BASE64URL);
        // An escape that means the same as the byte itself, and an apostrophe that some clients escape.
        target.push_str("%2D_-'*&h=");
        scramble(&mut target, u64::from(number) << 2 | 3, 43, BASE64URL);
        target
    }
}

/// Appends `length` letters that only `seed` decides (splitmix64).
fn scramble(text: &mut String, seed: u64, length: usize, letters: &[u8]) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (mut word, mut left) = (0_u64, 0);
    for _ in 0..length {
        if left == 0 {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^= word >> 31;
            left = 10;
        }
        text.push(letters[(word & 0xff) as usize % letters.len()] as char);
        word >>= 6;
        left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_of_realistic_length_and_differ_in_every_signed_part() {
        let signer = UrlSigner::default();
        let urls = [1, 2].map(|number| signer.target(Record::Status, "a1000000-0000-4000-8000-000000000001", number));
        assert!(urls.iter().all(|url| (2_500..4_096).contains(&url.len())));
        let parts = urls.each_ref().map(|url| url.split(['/', '&', '?']).collect::<Vec<_>>());
        let differing = parts[0].iter().zip(&parts[1]).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 4, "the name, t, s and h");
        assert_eq!(UrlSigner::number(&UrlSigner::name(7)), Some(7));
        assert_eq!(UrlSigner::name(7).len(), 101);
    }
}
