//! One cell of a CSV file of ours: harmless in a spreadsheet, and the same again when it is read back.
//!
//! Decides nothing about rows; quoting and separators are the CSV writer's.

/// What a spreadsheet takes for the beginning of a formula, or passes over in front of one.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// The cell with an apostrophe in front where a spreadsheet would run it: Azure's words are not to be a formula.
pub fn harmless(cell: String) -> String {
    let bare = cell.trim_start_matches('\'');
    if bare.starts_with(FORMULA) { format!("'{cell}") } else { cell }
}

/// What [`harmless`] was given.
pub fn as_it_was(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.trim_start_matches('\'').starts_with(FORMULA) => rest,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_a_spreadsheet_would_run_is_made_harmless_and_read_back_as_it_was() {
        for cell in
            ["=cmd()", "+1", "-x", "@a", "\t=1", "＝1", "'=1", "''-", "'quoted'", "'", "", "plain = text", "O'Hara"]
        {
            let written = harmless(cell.to_owned());
            assert!(!written.starts_with(FORMULA), "{written}");
            assert_eq!(as_it_was(&written), cell);
        }
        assert_eq!(harmless("plain = text".into()), "plain = text");
    }
}
