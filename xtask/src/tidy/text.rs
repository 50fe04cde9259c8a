//! Requirements for every text file: no trailing white space, and one line break at the end.
//!
//! It is ours because these few lines spare every contributor one more tool.

use super::File;

/// Returns whether a file contains verbatim text by others, or what a fuzzer has found.
fn is_foreign(path: &str) -> bool {
    path.starts_with("LICENSE") || path == "Cargo.lock" || path.starts_with("fuzz/seeds/")
}

/// Runs all checks of one file.
pub(super) fn check(file: &File) -> Vec<String> {
    if is_foreign(&file.path) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (i, line) in file.text.split('\n').enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            complaints.push(format!("{}:{}: white space at the end of the line", file.path, i + 1));
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
    fn a_corpus_is_what_it_is() {
        assert!(check(&file("fuzz/seeds/request_head/whole", "GET / \r\n\r\n")).is_empty());
        assert_eq!(check(&file("fuzz/targets/src/lib.rs", "GET / ")).len(), 2);
    }

    #[test]
    fn a_lock_file_names_no_host() {
        let text = "{ \"resolved\": \"https://registry.example/ws.tgz\" }\n";
        assert_eq!(check(&file("interop/package-lock.json", text)).len(), 1);
    }
}
