//! Tables whose columns are as wide as they must be. Pure.

use crate::base::text::{ellipsis, single_line};

/// Blanks between two columns.
const GAP: usize = 2;
/// Most characters of a cell.
const LONGEST_CELL: usize = 80;

/// Lines of cells, the first one with the titles; every cell in one line, left-aligned.
pub fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let cell = |text: &String| ellipsis(&single_line(text), LONGEST_CELL).into_owned();
    let lines: Vec<[String; N]> = lines.iter().map(|cells| cells.each_ref().map(cell)).collect();
    let widths: Vec<usize> =
        (0..N).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0) + GAP).collect();
    let line = |cells: &[String; N]| {
        let padded: String = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.trim_end())
    };
    lines.iter().map(line).collect()
}
