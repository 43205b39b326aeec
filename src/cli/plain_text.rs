//! Text of others, made harmless before it reaches a terminal, and tables of it.
//!
//! Messages come from Azure and from whoever posts to the service, so they may hold escape sequences that move the cursor
//! or recolour a screen, or characters that reverse the order of reading.

/// `text` on one line, with everything that a terminal would act on written as an escape.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => plain.push(' '),
            _ if is_hostile(character) => plain.extend(character.escape_unicode()),
            _ => plain.push(character),
        }
    }
    plain
}

/// [`plain`], with the line ends and tabs of `text` kept: for whole documents.
pub fn plain_lines(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => plain.push(character),
            _ if is_hostile(character) => plain.extend(character.escape_unicode()),
            _ => plain.push(character),
        }
    }
    plain
}

/// Control characters, and the format characters that change the order or the look of what follows.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// `text` cut to `limit` characters, with a mark where something was cut.
pub fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((cut, _)) => format!("{}…", text[..cut].trim_end()),
        None => text.to_owned(),
    }
}

/// Columns under their heads, made harmless; nothing but the heads where there are no rows.
pub fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| std::array::from_fn(|at| plain(&row[at]))).collect();
    let mut widths = heads.map(|head| head.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(heads.map(str::to_owned)).chain(rows) {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_written_out() {
        for (text, expected) in [
            ("ledger-prod", "ledger-prod"),
            ("Größe 大", "Größe 大"),
            ("a\nb\tc", "a b c"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("x\u{7}\u{8}\0", "x\\u{7}\\u{8}\\u{0}"),
            ("abc\u{202e}fed", "abc\\u{202e}fed"),
        ] {
            assert_eq!(plain(text), expected);
        }
        assert_eq!(plain_lines("a,b\r\n\u{1b}c\n"), "a,b\r\n\\u{1b}c\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".into(), "long\u{1b}".into()], ["bcd".into(), "x".into()]];
        assert_eq!(table(["ID", "NAME"], &rows), "ID   NAME\na    long\\u{1b}\nbcd  x\n");
        assert_eq!(table(["ID"], &[]), "ID\n");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äöü…");
    }
}
