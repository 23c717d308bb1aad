//! Maps keys to actions.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The action of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Show the list with this number, from 0.
    Pane(usize),
    /// The next list.
    NextPane,
    /// The previous list.
    PreviousPane,
    /// Move the selection down by this number of rows.
    Move(isize),
    /// Sort by the next column.
    Sort,
    /// Reverse the order.
    Reverse,
    /// Begin to type a filter.
    Filter,
    /// A letter of the filter.
    Type(char),
    /// Delete the last letter of the filter.
    Erase,
    /// Open the selected row, close an open one, or end typing.
    Enter,
    /// Close an open row, or clear the filter.
    Escape,
    /// Pause the screen, or resume it.
    Pause,
    /// Show or hide the keys.
    Help,
    /// End.
    Quit,
    /// Suspend the process until `fg`.
    Suspend,
    /// Redraw the whole screen.
    Redraw,
}

/// The keys, as the help of the screen lists them.
pub(super) const HELP: [(&str, &str); 10] = [
    ("Tab, 1-5", "choose the list"),
    ("Up, Down, PgUp, PgDn", "select a row (j and k, too)"),
    ("Enter", "explain the selected row, or close it"),
    ("s, r", "sort by the next column; reverse the order"),
    ("/", "type a filter: rows that contain it; Enter ends, Esc clears"),
    ("Space", "pause or resume"),
    ("Ctrl-L", "redraw the screen"),
    ("Ctrl-Z", "suspend until `fg`"),
    ("?", "show these keys"),
    ("q, Ctrl-C", "quit"),
];

/// The number of rows of a page, roughly.
const PAGE: isize = 10;

/// The action of a key; `typing` is true while the user types a filter.
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
