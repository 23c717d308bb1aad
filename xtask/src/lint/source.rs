//! What the checks need to know of manifests and Rust source, read from their text.

/// The folders under `members` of a workspace manifest.
pub(super) fn members(manifest: &str) -> Vec<String> {
    let list = manifest
        .lines()
        .skip_while(|line| !line.starts_with("members"))
        .flat_map(|line| line.split_inclusive(']'))
        .scan(false, |ended, part| {
            let before = *ended;
            *ended |= part.ends_with(']');
            (!before).then_some(part)
        })
        .collect::<String>();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// True where a manifest says `workspace = true` under `[lints]`.
pub(super) fn inherits_lints(manifest: &str) -> bool {
    let plain = |line: &str| line.split('#').next().unwrap_or_default().replace(char::is_whitespace, "");
    let mut section = String::new();
    for line in manifest.lines().map(plain) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[lints]" && line == "workspace=true" {
            return true;
        }
    }
    false
}

/// The lines, counted from 1, where the keyword `unsafe` stands in code.
///
/// `#[unsafe(…)]` attributes do not count: they name a symbol or a section and access nothing.
pub(super) fn unsafe_lines(source: &str) -> Vec<usize> {
    let code = without_text(source);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut lines = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let found = line.match_indices("unsafe").any(|(at, keyword)| {
            let (before, after) = (&line[..at], &line[at + keyword.len()..]);
            let alone = !before.ends_with(is_word) && !after.starts_with(is_word);
            alone && !before.trim_end().ends_with("#[")
        });
        if found {
            lines.push(number + 1);
        }
    }
    lines
}

/// `source` with comments and literals blanked out, lines kept.
fn without_text(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let length = text_length(rest, code.chars().last());
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            let (text, after) = rest.split_at(length);
            code.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    code
}

/// The length in bytes of the comment or literal that `rest` starts with; 0 where it starts with code.
fn text_length(rest: &str, previous: Option<char>) -> usize {
    let after_word = previous.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return string_length(rest);
    }
    if !after_word && let Some(quote) = raw_string_start(rest) {
        return quote;
    }
    if rest.starts_with('\'') {
        return char_length(rest);
    }
    0
}

fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a raw string, as `r#"…"#`, `br"…"` or `cr"…"`.
fn raw_string_start(rest: &str) -> Option<usize> {
    let body =
        rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr")).or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inner = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
    Some(rest.len() - inner.len() + length)
}

/// The length of a character literal; 0 for a lifetime.
fn char_length(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        // `'\''` and `'\\'`: the character after the backslash never ends the literal.
        Some((_, '\\')) => chars.skip(1).find(|&(_, c)| c == '\'').map_or(0, |(at, _)| at + 1),
        Some(_) => chars.next().filter(|&(_, c)| c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_on_one_line_and_on_several() {
        let one = "[workspace]\nmembers = [\"a\", \"b\"]\ndefault-members = [\"c\"]\n";
        assert_eq!(members(one), ["a", "b"]);
        let several = "[workspace]\nmembers = [\n  \"a\",\n  \"b\",\n]\nexclude = [\"c\"]\n";
        assert_eq!(members(several), ["a", "b"]);
        assert!(members("[package]\nname = \"a\"\n").is_empty());
    }

    #[test]
    fn only_the_lints_section_counts() {
        assert!(inherits_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true # all\n"));
        assert!(!inherits_lints("[lints.rust]\nunsafe_code = \"deny\"\n"));
        assert!(!inherits_lints("[lints]\n# workspace = true\n"));
        assert!(!inherits_lints("[dependencies]\nworkspace = true\n[lints]\n"));
    }

    #[test]
    fn unsafe_blocks_functions_and_impls_are_found() {
        assert_eq!(unsafe_lines("fn a() {\n    unsafe { b() }\n}\nunsafe impl C for D {}\n"), [2, 4]);
        assert_eq!(unsafe_lines("let x = f(unsafe{ y });"), [1]);
        assert_eq!(unsafe_lines("let c = '\"'; unsafe { y() } // \""), [1]);
        assert_eq!(unsafe_lines("fn a<'a>(x: &'a str) { unsafe { y() } }"), [1]);
        assert_eq!(unsafe_lines("let c = '\\''; unsafe { y() }"), [1]);
    }

    #[test]
    fn comments_literals_attributes_and_longer_words_are_not_unsafe_code() {
        for source in [
            "// unsafe\n/// unsafe\n",
            "/* unsafe /* nested */ unsafe */",
            "let a = \"unsafe \\\" unsafe\";",
            "let a = r#\"unsafe \" unsafe\"#;",
            "let a = br\"unsafe\";",
            "#[unsafe(no_mangle)]\nstatic A: u8 = 0;",
            "#![deny(unsafe_op_in_unsafe_fn)]",
            "let unsafe_lines = not_unsafe;",
        ] {
            assert!(unsafe_lines(source).is_empty(), "{source}");
        }
    }
}
