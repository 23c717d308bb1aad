//! What each key does.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Show the list of this number, from 0.
    Pane(usize),
    /// The next list.
    NextPane,
    /// The list before.
    PreviousPane,
    /// Select the row so many further down.
    Move(isize),
    /// Sort by the next column.
    Sort,
    /// The other way about.
    Reverse,
    /// Begin to type a filter.
    Filter,
    /// A letter of the filter.
    Type(char),
    /// Take its last letter away.
    Erase,
    /// Open what is selected, close what is open, or end typing.
    Enter,
    /// Close what is open, or clear the filter.
    Escape,
    /// Stop the screen, or let it go on.
    Pause,
    /// Show the keys, or no longer.
    Help,
    /// End.
    Quit,
    /// Go behind the shell, until `fg`.
    Suspend,
    /// Draw all of it anew.
    Redraw,
}

/// The keys as the screen explains them.
pub(super) const HELP: [(&str, &str); 10] = [
    ("Tab, 1-5", "choose the list"),
    ("Up, Down, PgUp, PgDn", "select a row (j and k, too)"),
    ("Enter", "explain the selected row; close again"),
    ("s, r", "sort by the next column; the other way about"),
    ("/", "type a filter: rows that contain it; Enter ends, Esc clears"),
    ("Space", "pause, go on"),
    ("Ctrl-L", "draw the screen anew"),
    ("Ctrl-Z", "back to the shell, until `fg`"),
    ("?", "these keys"),
    ("q, Ctrl-C", "quit"),
];

/// A screen of rows, about.
const PAGE: isize = 10;

/// What a key asks for, while a filter is typed or not.
pub(super) fn action(key: KeyEvent, typing: bool) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('l') => Some(Action::Redraw),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Enter => Action::Enter,
        KeyCode::Esc => Action::Escape,
        KeyCode::Tab => Action::NextPane,
        KeyCode::BackTab => Action::PreviousPane,
        KeyCode::Up => Action::Move(-1),
        KeyCode::Down => Action::Move(1),
        KeyCode::PageUp => Action::Move(-PAGE),
        KeyCode::PageDown => Action::Move(PAGE),
        KeyCode::Home => Action::Move(isize::MIN),
        KeyCode::End => Action::Move(isize::MAX),
        KeyCode::Backspace if typing => Action::Erase,
        KeyCode::Char(letter) if typing => Action::Type(letter),
        KeyCode::Char(digit @ '1'..='5') => Action::Pane(digit as usize - '1' as usize),
        KeyCode::Char('k') => Action::Move(-1),
        KeyCode::Char('j') => Action::Move(1),
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('?' | 'h') => Action::Help,
        KeyCode::Char('q') => Action::Quit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::{Action, action};

    #[test]
    fn letters_are_keys_until_a_filter_is_typed() {
        let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!(action(plain(KeyCode::Char('q')), false), Some(Action::Quit));
        assert_eq!(action(plain(KeyCode::Char('q')), true), Some(Action::Type('q')));
        assert_eq!(action(plain(KeyCode::Char('5')), false), Some(Action::Pane(4)));
        assert_eq!(action(plain(KeyCode::Char('6')), false), None);
        for typing in [false, true] {
            assert_eq!(action(control('c'), typing), Some(Action::Quit));
            assert_eq!(action(control('z'), typing), Some(Action::Suspend));
            assert_eq!(action(plain(KeyCode::Esc), typing), Some(Action::Escape));
        }
    }
}
