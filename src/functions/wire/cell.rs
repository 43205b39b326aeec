//! One cell of a CSV file of ours: harmless in a spreadsheet, and the same again when it is read back.
//!
//! Decides nothing about rows; quoting and separators are the CSV writer's.

use std::borrow::Cow;

/// What a spreadsheet takes for the beginning of a formula, or passes over in front of one.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// Where a spreadsheet of another language begins a new cell, whatever is quoted: a file of commas is split there too.
const ELSEWHERE: [char; 2] = [';', '\t'];

/// The cell with an apostrophe in front of whatever a spreadsheet would run: Azure's words are not to be a formula.
pub fn harmless(cell: String) -> String {
    if !cell.split_inclusive(ELSEWHERE).any(is_run) {
        return cell;
    }
    let part = |part: &str| if is_run(part) { format!("'{part}") } else { part.to_owned() };
    cell.split_inclusive(ELSEWHERE).map(part).collect()
}

fn is_run(part: &str) -> bool {
    part.trim_start_matches('\'').starts_with(FORMULA)
}

/// What [`harmless`] was given.
pub fn as_it_was(cell: &str) -> Cow<'_, str> {
    if !cell.contains('\'') {
        return Cow::Borrowed(cell);
    }
    let part = |part: &'_ str| part.strip_prefix('\'').filter(|rest| is_run(rest)).unwrap_or(part).to_owned();
    cell.split_inclusive(ELSEWHERE).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_a_spreadsheet_would_run_is_made_harmless_and_read_back_as_it_was() {
        for cell in [
            "=cmd()",
            "+1",
            "-x",
            "@a",
            "\t=1",
            "＝1",
            "'=1",
            "''-",
            "'quoted'",
            "'",
            "",
            "plain = text",
            "O'Hara",
            "a;=cmd()",
            "a;'=b;c",
            ";;-",
            "a\t+1",
            "a; b",
            ";",
            "it's; 'so'",
            "a;'b",
        ] {
            let written = harmless(cell.to_owned());
            let mut cells = written.split(ELSEWHERE);
            assert!(cells.all(|cell| !cell.starts_with(FORMULA)), "{written}");
            assert_eq!(as_it_was(&written), cell);
        }
        assert_eq!(harmless("plain = text".into()), "plain = text");
    }
}
