//! The part of a page that a benchmark writes: what is between two marks.

use std::path::Path;

use crate::Failure;

/// Replaces the part of this name.
pub(crate) fn replace(page: &Path, part: &str, text: &str) -> Result<(), Failure> {
    let (start, end) = (format!("<!-- {part}: measured -->\n"), format!("<!-- {part}: end -->"));
    let old = std::fs::read_to_string(page)?;
    let split = || {
        let (before, rest) = old.split_once(&start)?;
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    };
    let (before, after) = split().ok_or_else(|| format!("{} has no place for {part}", page.display()))?;
    Ok(std::fs::write(page, format!("{before}{start}\n{}\n\n{end}{after}", text.trim()))?)
}
