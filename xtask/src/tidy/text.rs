//! Requirements for every text file: no trailing white space, one line break at the end, no machine-specific path.

use super::File;

/// Directories of the machine on which a line was written.
///
/// Assembled here so that this file passes its own check.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("..", "/shared"),
];

/// Returns whether a file contains verbatim text by others.
fn is_foreign(path: &str) -> bool {
    path.starts_with("LICENSE") || path == "Cargo.lock"
}

/// Runs all checks of one file.
pub(super) fn check(file: &File) -> Vec<String> {
    if is_foreign(&file.path) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (i, line) in file.text.split('\n').enumerate() {
        let place = format!("{}:{}", file.path, i + 1);
        if line.ends_with([' ', '\t', '\r']) {
            complaints.push(format!("{place}: white space at the end of the line"));
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| has_path(line, path)) {
            complaints.push(format!("{place}: `{path}` is a path of one machine"));
        }
    }
    if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
        complaints.push(format!("{}: does not end with one line break", file.path));
    }
    // npm writes the origin of each package, and not everybody uses the registry with which the file was made.
    if file.path.ends_with("package-lock.json") && file.text.contains("\"resolved\"") {
        complaints.push(format!("{}: records a host (`\"resolved\"`)", file.path));
    }
    complaints
}

/// Returns whether a path appears in a line, not as the end of another word, as in a URL.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(start, _)| !line[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || "-_~".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    #[test]
    fn complaints_name_the_line() {
        for (text, complaints) in [
            ("fine\n", &[][..]),
            ("", &[]),
            ("one\ntwo \n", &["a.md:2: white space at the end of the line"]),
            ("tab\t\n", &["a.md:1: white space at the end of the line"]),
            (
                "dos\r\n\n",
                &["a.md:1: white space at the end of the line", "a.md: does not end with one line break"],
            ),
            ("no end", &["a.md: does not end with one line break"]),
        ] {
            assert_eq!(check(&file("a.md", text)), complaints, "{text:?}");
        }
    }

    #[test]
    fn paths_of_a_machine_are_found_and_urls_are_not() {
        for (path, found) in [
            (concat!("see /wo", "rk/main"), true),
            (concat!("`/ro", "ot/.cargo`"), true),
            (concat!("../", "shared/notes"), true),
            (concat!("https://example.com/wo", "rk/"), false),
            (concat!("net/wo", "rk/"), false),
        ] {
            assert_eq!(check(&file("a.md", &format!("{path}\n"))).len(), usize::from(found), "{path}");
        }
    }

    #[test]
    fn a_lock_file_names_no_host() {
        let text = "{ \"resolved\": \"https://registry.example/ws.tgz\" }\n";
        assert_eq!(check(&file("interop/package-lock.json", text)).len(), 1);
    }
}
