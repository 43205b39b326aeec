//! One entry of an action box: what was typed, what was meant, and what typing did to it.
//!
//! Knows letters, not operations.

/// Entries that are meant for every provider, so that there is nothing to compare them with.
const BROAD: [&str; 5] = ["*", "*/read", "*/write", "*/delete", "*/action"];
/// Longer than any operation of Azure.
const LONGEST: usize = 500;

/// What an entry was read as.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// The entry without its damage; several if it holds several.
    pub meant: Vec<String>,
    /// What is wrong with its letters, each once.
    pub damage: Vec<String>,
}

/// Whether an entry is meant for every provider.
pub fn is_broad(entry: &str) -> bool {
    BROAD.iter().any(|broad| entry.eq_ignore_ascii_case(broad))
}

/// The provider's namespace at the beginning of an entry, lower-case; `None` if there is none that can be asked for.
pub fn namespace(entry: &str) -> Option<String> {
    let first = match entry.split_once('/') {
        Some((first, _)) => first.to_owned(),
        // With dots all the way, its first two parts.
        None => entry.split('.').take(2).collect::<Vec<_>>().join("."),
    };
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_one = first.len() <= 100 && first.contains('.') && first.split('.').all(is_part);
    is_one.then(|| first.to_ascii_lowercase())
}

/// Reads an entry that has no space around it.
pub fn read(entry: &str) -> Reading {
    if entry.len() > LONGEST {
        let damage = vec![format!("it is longer than any action's name: {} bytes", entry.len())];
        return Reading { meant: Vec::new(), damage };
    }
    let mut damage = Vec::new();
    let pieces: Vec<&str> = entry
        .split(|letter: char| matches!(letter, ',' | '|' | '，' | '、' | '；') || letter.is_whitespace())
        .filter(|piece| !piece.is_empty())
        .collect();
    let is_action = |piece: &&str| piece.split_once('/').is_some_and(|(first, _)| first.contains('.'));
    let several = pieces.len() > 1 && pieces.iter().all(is_action);
    let pieces = if several { pieces } else { vec![entry] };
    let meant = pieces.into_iter().map(|piece| mend(piece, &mut damage)).filter(|piece| !piece.is_empty()).collect();
    if several {
        note(&mut damage, "several actions in one".to_owned());
    }
    Reading { meant, damage }
}

fn note(damage: &mut Vec<String>, what: String) {
    if !damage.contains(&what) {
        damage.push(what);
    }
}

/// The piece without what no action's name holds.
fn mend(piece: &str, damage: &mut Vec<String>) -> String {
    let mut mended = String::with_capacity(piece.len());
    for letter in piece.chars() {
        match fate(letter) {
            Fate::Keep => mended.push(letter),
            Fate::Drop(what) => note(damage, format!("it holds {what} ({})", code(letter))),
            Fate::Take(other) => {
                mended.push(other);
                note(damage, format!("it holds {} in the place of {other:?}", code(letter)));
            }
            Fate::Strange => {
                mended.push(letter);
                note(damage, format!("it holds {}, which no action's name does", code(letter)));
            }
        }
    }
    while mended.contains("//") {
        mended = mended.replace("//", "/");
        note(damage, "it has an empty part between two slashes".to_owned());
    }
    let stray = ['.', ',', '/', ':', '-', '_'];
    let bare = mended.trim_end_matches(stray);
    if let Some(last) = mended[bare.len()..].chars().next() {
        note(damage, format!("it ends with {last:?}"));
    }
    let bare_of_both = bare.trim_start_matches(stray);
    if bare_of_both.len() < bare.len() {
        note(damage, format!("it begins with {:?}", bare.chars().next().unwrap_or_default()));
    }
    bare_of_both.to_owned()
}

/// The character by name where it can be seen, else by number.
fn code(letter: char) -> String {
    match letter {
        ' ' => "a blank".to_owned(),
        '\n' | '\r' => "a line break".to_owned(),
        '\t' => "a tab".to_owned(),
        letter if letter.is_ascii_graphic() => format!("{letter:?}"),
        letter => format!("U+{:04X}", u32::from(letter)),
    }
}

/// What becomes of one character.
enum Fate {
    Keep,
    /// It was not meant; in words what it is.
    Drop(&'static str),
    /// It looks like this one.
    Take(char),
    /// Nobody knows what it stands for.
    Strange,
}

fn fate(letter: char) -> Fate {
    match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '/' | '*' | '-' | '_' => Fate::Keep,
        '"' | '\'' | '`' | '“' | '”' | '‘' | '’' | '«' | '»' | '„' | '‚' | '′' | '″' | '´' => {
            Fate::Drop("a quotation mark")
        }
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}'
        | '\u{feff}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}' => Fate::Drop("something invisible"),
        letter if letter.is_whitespace() => Fate::Drop("a space"),
        letter if letter.is_control() => Fate::Drop("a control character"),
        '\\' | '\u{2044}' | '\u{2215}' | '\u{29f8}' => Fate::Take('/'),
        '\u{2024}' | '\u{b7}' | '\u{3002}' => Fate::Take('.'),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Fate::Take('-'),
        '\u{2217}' | '\u{2731}' | '\u{d7}' => Fate::Take('*'),
        // Full-width forms stand as far from ASCII as this.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - 0xfee0).map_or(Fate::Strange, Fate::Take),
        letter => look_alike(letter).map_or(Fate::Strange, Fate::Take),
    }
}

/// The Latin letter that a Cyrillic or Greek one looks like.
fn look_alike(letter: char) -> Option<char> {
    const PAIRS: [(&str, &str); 2] =
        [("аеорсухіѕјАВЕКМНОРСТХІЅЈ", "aeopcyxisjABEKMHOPCTXISJ"), ("ονΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ovABEZHIKMNOPTYX")];
    PAIRS.iter().find_map(|(theirs, ours)| theirs.chars().zip(ours.chars()).find(|pair| pair.0 == letter)).map(|p| p.1)
}
