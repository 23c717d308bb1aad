//! Words for people: counts, and texts that others chose.

use std::borrow::Cow;

/// A count with its noun, as `1 packet` or `2 packets`.
///
/// ```
/// use lyncwall_policy::text::counted;
/// assert_eq!(counted(1u64, "prefix", "prefixes"), "1 prefix");
/// assert_eq!(counted(0u64, "prefix", "prefixes"), "0 prefixes");
/// ```
pub fn counted(count: impl TryInto<u64>, one: &str, several: &str) -> String {
    // Only a count beyond 64 bits does not convert.
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {}", if count == 1 { one } else { several })
}

/// A text in which each character that could act on a terminal, or hide others, is written out, as `\u{1b}`
/// or `\n`. Others choose process names, interface names and the content of files.
///
/// ```
/// use lyncwall_policy::text::printable;
/// assert_eq!(printable("eth0"), "eth0");
/// assert_eq!(printable("a\u{1b}]0;b\u{7}\n"), r"a\u{1b}]0;b\u{7}\n");
/// ```
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if acts(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// True for a control character, and for one that changes the direction of a line, ends it, or has no width.
#[must_use]
pub fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_that_acts_on_a_terminal_is_left_and_letters_of_all_scripts_stay() {
        let hostile = "x\u{1b}[2J\u{7}\r\n\t\u{7f}\u{9b}31m\u{202e}\u{2066}\u{2028}\u{feff}";
        let shown = printable(hostile);
        assert!(shown.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{shown}");
        assert_eq!(shown, r"x\u{1b}[2J\u{7}\r\n\t\u{7f}\u{9b}31m\u{202e}\u{2066}\u{2028}\u{feff}");
        for text in ["", "größe", "接口 0", r"C:\dir", "‹›…"] {
            assert_eq!(printable(text), text);
        }
    }
}
