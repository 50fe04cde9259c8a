//! The generated blocks of pages: their place, their content, and the comparison of both with the figures.
//!
//! A block lies between two comments in a page. As long as there are no figures of a part, the text between its
//! comments is written by hand.

use std::{collections::BTreeMap, path::Path};

use clap::ValueEnum;

use super::{data::Data, plot, quiet::QUIET, report::Part};

/// The pages with blocks.
pub(crate) const PAGES: [&str; 2] = ["docs/benchmarks.md", "README.md"];

/// The directory of the figures and of the plots.
pub(crate) const DATA: &str = "docs/benchmarks";

/// Returns the content of all blocks whose figures are there, by name.
pub(crate) fn blocks(parts: &[(Part, Data)], plots: &[(String, String)]) -> BTreeMap<String, String> {
    let mut blocks = BTreeMap::new();
    for (part, data) in parts {
        // The circumstances are those of all tables of a part.
        let mut head = format!("{}.\n\n", data.about.line());
        for (name, table) in part.tables(data) {
            blocks.insert(name.to_owned(), std::mem::take(&mut head) + &table);
        }
    }
    for plot in plot::NAMES {
        if plots.iter().any(|(file, _)| *file == plot::file(plot, plot::Scheme::Light)) {
            blocks.insert(format!("plot/{plot}"), plot::picture(plot, "benchmarks"));
            blocks.insert(format!("readme/{plot}"), plot::picture(plot, DATA));
        }
    }
    blocks
}

/// Puts the content of blocks into a page.
///
/// # Errors
///
/// If a block does not end, or has an unknown name.
pub(crate) fn fill(page: &str, blocks: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->").ok_or("a block has no name")?;
        if !names().any(|known| known == name) {
            return Err(format!("no figures belong to the block `{name}`"));
        }
        let (inside, after) =
            after.split_once(END).ok_or_else(|| format!("the block `{name}` has no end"))?;
        out = out + before + BEGIN + name + " -->";
        match blocks.get(name) {
            Some(content) => out = out + "\n\n" + content.trim_end() + "\n\n",
            None => out += inside,
        }
        out += END;
        rest = after;
    }
    Ok(out + rest)
}

/// Returns complaints about pages and plots that differ from the figures, and about figures that do not belong into the
/// repository. Takes the files of the repository: their paths and texts.
pub(crate) fn check<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let files: BTreeMap<_, _> = files.collect();
    let mut complaints = Vec::new();
    let mut parts = Vec::new();
    for &part in Part::value_variants() {
        let path = format!("{DATA}/{}.json", part.name());
        let Some(text) = files.get(&*path) else { continue };
        match Data::from_json(text) {
            Ok(data) => {
                if data.about.trial {
                    complaints.push(format!("{path}: is a trial"));
                }
                if data.about.idle_before < QUIET {
                    complaints.push(format!("{path}: was measured on a busy machine"));
                }
                parts.push((part, data));
            }
            Err(reason) => complaints.push(format!("{path}: {reason}")),
        }
    }
    let plots = plot::all(&parts);
    for (name, text) in &plots {
        let path = format!("{DATA}/{name}");
        if files.get(&*path) != Some(&&**text) {
            complaints.push(format!("{path}: does not show the figures; {REPAIR}"));
        }
    }
    for path in files.keys().filter(|path| in_data(path)) {
        let is_known = plots.iter().any(|(name, _)| path.ends_with(&format!("/{name}")))
            || Part::value_variants().iter().any(|part| path.ends_with(&format!("/{}.json", part.name())));
        if !is_known {
            complaints.push(format!("{path}: shows no figures that are there"));
        }
    }
    let blocks = blocks(&parts, &plots);
    for page in PAGES {
        let text = files.get(page).copied().unwrap_or_default();
        match fill(text, &blocks) {
            Ok(filled) if filled == text => {}
            Ok(_) => complaints.push(format!("{page}: differs from the figures in {DATA}; {REPAIR}")),
            Err(reason) => complaints.push(format!("{page}: {reason}")),
        }
    }
    let all = PAGES.map(|page| files.get(page).copied().unwrap_or_default()).concat();
    for name in names().filter(|name| !name.starts_with("readme/")) {
        if !all.contains(&format!("{BEGIN}{name} -->")) {
            complaints.push(format!("{}: has no block `{name}`", PAGES[0]));
        }
    }
    complaints
}

fn in_data(path: &str) -> bool {
    Path::new(path).parent() == Some(Path::new(DATA))
}

/// Returns the names of all blocks.
fn names() -> impl Iterator<Item = String> {
    let tables = Part::value_variants().iter().flat_map(|part| part.blocks()).map(|name| (*name).to_owned());
    let plots = plot::NAMES.iter().flat_map(|name| [format!("plot/{name}"), format!("readme/{name}")]);
    tables.chain(plots)
}

const BEGIN: &str = "<!-- figures: ";
const END: &str = "<!-- end of figures -->";
const REPAIR: &str = "run `cargo xtask bench report --from-data`";

#[cfg(test)]
mod tests {
    use super::{
        super::{cells::Cell, data::tests::empty, table::ECHO},
        *,
    };

    /// Returns a repository whose page and plots show its figures.
    fn repository() -> BTreeMap<String, String> {
        let mut data = empty();
        let cell = Cell { size: 16, conns: 64, depth: 1 }.to_string();
        for (server, cpu_us) in [("longwire", 2.0), ("yawc", 3.0)] {
            data.add((ECHO, &cell, server), 0, [("cpu_us", cpu_us), ("rate", 1.0)]);
        }
        let echo = (format!("{DATA}/echo.json"), data.to_json().unwrap());
        let parts = [(Part::Echo, data)];
        let plots = plot::all(&parts);
        let blocks = blocks(&parts, &plots);
        let place = |name: String| format!("Prose.\n\n{BEGIN}{name} -->\n{END}\n");
        let page: String = names().filter(|name| !name.starts_with("readme/")).map(place).collect();
        let page = fill(&page, &blocks).unwrap();
        let readme = fill(&place("readme/small".to_owned()), &blocks).unwrap();
        let plots = plots.into_iter().map(|(name, text)| (format!("{DATA}/{name}"), text));
        plots.chain([echo, (PAGES[0].to_owned(), page), (PAGES[1].to_owned(), readme)]).collect()
    }

    fn complaints(files: &BTreeMap<String, String>) -> Vec<String> {
        check(files.iter().map(|(path, text)| (&**path, &**text)))
    }

    #[test]
    fn a_page_that_shows_its_figures_passes() {
        let files = repository();
        assert!(complaints(&files).is_empty(), "{:?}", complaints(&files));
        let page = &files[PAGES[0]];
        assert!(page.contains("2026-11-28, longwire at") && page.contains("| 2.00 | 3.00 |"), "{page}");
        assert!(page.contains("srcset=\"benchmarks/small-dark.svg\""), "{page}");
        assert!(files[PAGES[1]].contains("srcset=\"docs/benchmarks/small-dark.svg\""));
    }

    const FIGURES: &str = "docs/benchmarks/echo.json";

    fn replace(files: &mut BTreeMap<String, String>, path: &str, from: &str, to: &str) {
        let file = files.get_mut(path).unwrap();
        assert!(file.contains(from), "{path} has no {from}");
        *file = file.replace(from, to);
    }

    #[test]
    fn whatever_drifts_is_named() {
        type Change = fn(&mut BTreeMap<String, String>);
        let cases: [(&str, Change, &str); 9] = [
            (
                "a table changed by hand",
                |files| replace(files, PAGES[0], "3.00", "9.00"),
                "docs/benchmarks.md: differs from the figures",
            ),
            (
                "a picture removed from the README",
                |files| replace(files, PAGES[1], "small-dark", "large-dark"),
                "README.md: differs from the figures",
            ),
            (
                "other figures",
                |files| replace(files, FIGURES, "\"cpu_us\":3.0", "\"cpu_us\":4.0"),
                "docs/benchmarks/small-light.svg: does not show the figures",
            ),
            (
                "a plot that is missing",
                |files| drop(files.remove("docs/benchmarks/small-dark.svg")),
                "docs/benchmarks/small-dark.svg: does not show the figures",
            ),
            (
                "figures that are missing",
                |files| drop(files.remove("docs/benchmarks/echo.json")),
                "docs/benchmarks/small-dark.svg: shows no figures that are there",
            ),
            (
                "a trial",
                |files| replace(files, FIGURES, "\"trial\": false", "\"trial\": true"),
                "docs/benchmarks/echo.json: is a trial",
            ),
            (
                "a busy machine",
                |files| replace(files, FIGURES, "before\": 0.99", "before\": 0.5"),
                "docs/benchmarks/echo.json: was measured on a busy machine",
            ),
            (
                "a block that is missing",
                |files| replace(files, PAGES[0], " axum -->", " echo -->"),
                "docs/benchmarks.md: has no block `axum`",
            ),
            (
                "a block without figures",
                |files| replace(files, PAGES[1], "readme/small", "other"),
                "README.md: no figures belong to the block `other`",
            ),
        ];
        for (case, change, expected) in cases {
            let mut files = repository();
            change(&mut files);
            let complaints = complaints(&files);
            assert!(complaints.iter().any(|text| text.starts_with(expected)), "{case}: {complaints:?}");
        }
    }

    #[test]
    fn what_is_written_by_hand_stays_until_there_are_figures() {
        let page = "Before.\n<!-- figures: axum -->\nBy hand.\n<!-- end of figures -->\nAfter.\n";
        assert_eq!(fill(page, &BTreeMap::new()).unwrap(), page);
        let blocks = [("axum".to_owned(), "| 1 |\n".to_owned())].into();
        let filled = fill(page, &blocks).unwrap();
        assert_eq!(filled, "Before.\n<!-- figures: axum -->\n\n| 1 |\n\n<!-- end of figures -->\nAfter.\n");
        assert_eq!(fill(&filled, &blocks).unwrap(), filled);
        assert!(fill("<!-- figures: axum -->\n", &blocks).is_err());
    }
}
