//! Rust source without its comments and literals, so that a word found in it is code.

/// Returns `source` with each character of comments, strings and character literals replaced by a space; line breaks
/// stay.
pub(super) fn without_comments_and_literals(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let after_word = at > 0 && is_word(chars[at - 1]);
        let len = comment_len(rest).or_else(|| string_len(rest, after_word)).or_else(|| char_len(rest));
        if let Some(len) = len {
            code.extend(rest[..len].iter().map(|&c| if c == '\n' { c } else { ' ' }));
            at += len;
        } else {
            code.push(rest[0]);
            at += 1;
        }
    }
    code
}

/// Returns whether `word` appears in `code`, not as part of a longer word.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Returns whether a character can be part of an identifier.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of the comment that `rest` begins with.
fn comment_len(rest: &[char]) -> Option<usize> {
    if rest.starts_with(&['/', '/']) {
        return Some(rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with(&['/', '*']) {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    Some(at)
}

/// Returns the length of the string literal, raw or not, that `rest` begins with.
fn string_len(rest: &[char], after_word: bool) -> Option<usize> {
    let mut at = 0;
    if !after_word {
        at += usize::from(matches!(rest.first(), Some('b' | 'c')));
        if rest.get(at) == Some(&'r') {
            let hashes = rest[at + 1..].iter().take_while(|&&c| c == '#').count();
            let open = at + 1 + hashes;
            if rest.get(open) == Some(&'"') {
                let close: Vec<_> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                let body = &rest[open + 1..];
                let len = body.windows(close.len()).position(|window| window == close);
                return Some(len.map_or(rest.len(), |len| open + 1 + len + close.len()));
            }
        }
    }
    if rest.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while let Some(&c) = rest.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    Some(rest.len())
}

/// Returns the length of the character literal that `rest` begins with; a lifetime is not one.
fn char_len(rest: &[char]) -> Option<usize> {
    match rest {
        ['\'', '\\', _, tail @ ..] => tail.iter().take(10).position(|&c| c == '\'').map(|len| 3 + len + 1),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_become_spaces() {
        for (source, expected) in [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            ("f(\"un\\\"safe\") b", "f(          ) b"),
            ("f(r#\"a\"b\"#) c", "f(        ) c"),
            ("f(br\"a\\\") c", "f(      ) c"),
            ("f(b\"a\") c", "f(    ) c"),
            ("matches!(c, '\"' | '\\'') d", "matches!(c,     |     ) d"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("\"two\nlines\"", "    \n      "),
            ("\"no end", "       "),
        ] {
            assert_eq!(without_comments_and_literals(source), expected, "{source}");
        }
    }

    #[test]
    fn a_word_is_not_part_of_another() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(has_word("let x = unsafe{", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
        assert!(!has_word("not_unsafe", "unsafe"));
    }
}
