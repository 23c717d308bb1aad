//! Draws the screen from the model. No I/O.

use std::collections::VecDeque;

use lyncwall_api::Status;
use lyncwall_common::reason::Action;
use lyncwall_policy::text::{counted, printable};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Clear, Paragraph, Row as Cells, Sparkline, Table, TableState, Wrap};

use super::keys;
use super::model::{Model, Pane, Value};

/// What the terminal can show. Colour never carries a meaning alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// The terminal has colours, and the user wants them.
    pub(super) colour: bool,
    /// The terminal shows more than ASCII.
    pub(super) unicode: bool,
}

impl Look {
    /// The look for this process's environment.
    pub(super) fn of_the_terminal() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let locale = locale.to_lowercase();
        Self {
            colour: set("NO_COLOR").is_none(),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    fn bars(self) -> bar::Set<'static> {
        if self.unicode { bar::NINE_LEVELS } else { ASCII }
    }

    /// The text in characters that the terminal can show, and that do not act on it.
    fn shown(self, text: &str) -> String {
        let text = printable(text).into_owned();
        if self.unicode || text.is_ascii() {
            return text;
        }
        text.chars().map(|letter| if letter.is_ascii() { letter } else { '?' }).collect()
    }

    /// Bold, and coloured if possible.
    fn loud(self, colour: Color) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colour { style.fg(colour) } else { style }
    }

    fn colour(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }
}

/// The bars of a sparkline for an ASCII terminal.
const ASCII: bar::Set<'static> = bar::Set {
    full: "@",
    seven_eighths: "#",
    three_quarters: "*",
    five_eighths: "+",
    half: "=",
    three_eighths: "-",
    one_quarter: ":",
    one_eighth: ".",
    empty: " ",
};

/// Draws the screen. On a small terminal the lower parts are left out first.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, look: Look) {
    let header = header(model, look);
    let heights = [header.len() as u16, 1, 1, 1, 1].map(Constraint::Length);
    let [head, passed, dropped, tabs, note, list, foot] =
        Layout::vertical(heights.into_iter().chain([Constraint::Min(1), Constraint::Length(1)]))
            .areas(frame.area());
    frame.render_widget(Paragraph::new(header), head);
    total(frame, passed, model, look, Action::Pass);
    total(frame, dropped, model, look, Action::Drop);
    frame.render_widget(Paragraph::new(names(model, look)), tabs);
    frame.render_widget(Paragraph::new(remark(model)), note);
    match &model.detail {
        _ if model.help => {
            let lines = keys::HELP.map(|(key, does)| (key.to_owned(), does.to_owned()));
            sheet(frame, list, look, "Keys", &lines);
        }
        Some(detail) => sheet(frame, list, look, &detail.title, &detail.lines),
        None => rows(frame, list, model, look),
    }
    frame.render_widget(Paragraph::new(footer(model, look)), foot);
}

/// The lines above the totals.
fn header(model: &Model, look: Look) -> Vec<Line<'static>> {
    let Some(status) = &model.status else { return vec![Line::raw("waiting for the agent")] };
    let modes = status.targets.iter().map(|target| (&*target.name, target.mode));
    let mut first = vec![
        Span::styled(format!("lyncwall {}", status.version), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!(
            "  generation {}  {}{}",
            status.generation,
            if model.gone.is_some() { "last seen " } else { "" },
            crate::commands::mode(status.mode, modes)
        )),
    ];
    if model.paused {
        first.push(Span::styled("  PAUSED", look.loud(Color::Yellow)));
    }
    let mut lines = vec![Line::from(first)];
    if let Some(why) = &model.gone {
        let text = format!("THE AGENT DOES NOT ANSWER, rules hold unless detached: {why}");
        lines.push(Line::styled(look.shown(&text), look.loud(Color::Red)));
    }
    if let Some(waiting) = &status.waiting {
        let text = format!("ON TRIAL: rolls back in {} s unless you run `lyncwall confirm`", waiting.seconds);
        lines.push(Line::styled(text, look.loud(Color::Yellow)));
    }
    let plain = [roles(status), interfaces(status), tables(status)];
    lines.extend(plain.map(|text| Line::raw(look.shown(&text))));
    lines
}

/// The live roles of each target.
fn roles(status: &Status) -> String {
    let target = |target: &lyncwall_api::Target| {
        let roles = if target.roles.is_empty() { "no role".to_owned() } else { target.roles.join(" ") };
        let set = if target.roles == target.file_roles { "" } else { " (switched)" };
        format!("{}: {roles}{set}", target.name)
    };
    format!("roles       {}", status.targets.iter().map(target).collect::<Vec<_>>().join("; "))
}

/// The interfaces with their attach modes.
fn interfaces(status: &Status) -> String {
    if status.interfaces.is_empty() {
        return "interfaces  NONE IS GUARDED".to_owned();
    }
    let all = status.interfaces.iter().map(|interface| format!("{} {}", interface.name, interface.mode));
    format!("interfaces  {}", all.collect::<Vec<_>>().join(", "))
}

/// How full the tables are.
fn tables(status: &Status) -> String {
    let (flows, blocked) = (&status.flows, &status.blocked);
    let fill = 100.0 * f64::from(flows.v4.max(flows.v6)) / f64::from(flows.size.max(1));
    format!(
        "flows       {} IPv4, {} IPv6, {fill:.0}% full; block-list {}, {} dropped",
        flows.v4,
        flows.v6,
        counted(blocked.v4 + blocked.v6, "prefix", "prefixes"),
        blocked.dropped
    )
}

/// A total with its sparkline.
fn total(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look, action: Action) {
    let (name, colour, history): (_, _, &VecDeque<u64>) = match action {
        Action::Pass => ("passed", Color::Green, &model.passed),
        Action::Drop => ("dropped", Color::Red, &model.dropped),
    };
    let rate = Value::Rate(model.total_rate(action)).text();
    let [text, bars] = Layout::horizontal([Constraint::Length(36), Constraint::Min(0)]).areas(area);
    let words = format!("{name:<8}{:>14}{rate:>10}/s ", model.total(action));
    frame.render_widget(Paragraph::new(Line::styled(words, look.loud(colour))), text);
    let data: Vec<u64> =
        history.iter().copied().skip(history.len().saturating_sub(usize::from(bars.width))).collect();
    frame
        .render_widget(Sparkline::default().data(data).bar_set(look.bars()).style(look.colour(colour)), bars);
}

/// The names of the lists; brackets mark the current one.
fn names(model: &Model, _look: Look) -> Line<'static> {
    let name = |(number, pane): (usize, &Pane)| {
        let name = format!("{} {}", number + 1, pane.name());
        if *pane == model.pane {
            Span::styled(format!("[{name}]"), Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED))
        } else {
            Span::raw(format!(" {name} "))
        }
    };
    Line::from(Pane::ALL.iter().enumerate().map(name).collect::<Vec<_>>())
}

/// The note about the current list.
fn remark(model: &Model) -> Line<'static> {
    let mut text = model.pane.note().to_owned();
    let would = model.would_have_dropped();
    match model.pane {
        Pane::Ports | Pane::Sources | Pane::Drops if model.untold > 0 => {
            text += &format!("; {} more not sampled", model.untold);
        }
        Pane::Reasons if would > 0 => {
            text = format!("would-drop: {would} passed in audit mode; enforcing drops them");
        }
        _ => {}
    }
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

/// The rows of the current list.
fn rows(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let (columns, rows, (sorted, reverse)) = (model.columns(), model.rows(), model.sorted());
    if rows.is_empty() {
        let text = if model.filter.is_empty() { "nothing yet" } else { "no row contains the filter" };
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let header = columns.iter().enumerate().map(|(place, column)| {
        let mark = match (place == sorted, reverse) {
            (false, _) => "",
            (true, false) => "*",
            (true, true) => "^",
        };
        let text = Text::raw(format!("{}{mark}", column.name));
        let right = rows[0].values[place].is_number();
        Cell::new(if right { text.right_aligned() } else { text })
    });
    let header = Cells::new(header).style(Style::new().add_modifier(Modifier::BOLD));
    let selected = model.selected(&rows);
    // Builds only the visible rows.
    let height = usize::from(area.height.saturating_sub(1)).max(1);
    let first = selected.unwrap_or_default().saturating_sub(height - 1);
    let seen = rows.iter().skip(first).take(height).map(|row| {
        Cells::new(row.values.iter().map(|value| {
            let text = Text::raw(look.shown(&value.text()));
            let style = match value {
                Value::Text(text) if text == "drop" => look.colour(Color::Red),
                Value::Text(text) if text == "would-drop" => look.colour(Color::Yellow),
                _ => Style::new(),
            };
            Cell::new(if value.is_number() { text.right_aligned() } else { text }).style(style)
        }))
    });
    let table = Table::new(seen, columns.iter().map(|column| column.width))
        .header(header)
        .highlight_symbol("> ")
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(selected.map(|place| place - first));
    frame.render_stateful_widget(table, area, &mut state);
}

/// Names and values, instead of the list.
fn sheet(frame: &mut Frame<'_>, area: Rect, look: Look, title: &str, lines: &[(String, String)]) {
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let title = Line::styled(look.shown(title), Style::new().add_modifier(Modifier::BOLD));
    let lines = lines.iter().map(|(name, value)| Line::raw(look.shown(&format!("  {name:width$}  {value}"))));
    let text: Vec<Line<'_>> = std::iter::once(title).chain(lines).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), area);
}

/// The keys, or the filter while the user types it.
fn footer(model: &Model, look: Look) -> Line<'static> {
    let style = Style::new().add_modifier(Modifier::DIM);
    if model.typing {
        return Line::raw(look.shown(&format!("filter: {}_  (Enter ends, Esc clears)", model.filter)));
    }
    if model.detail.is_some() || model.help {
        return Line::styled("Enter or Esc closes  q quit", style);
    }
    let filter =
        if model.filter.is_empty() { String::new() } else { format!("  [filter: {}]", model.filter) };
    let keys = "s sort  r reverse  / filter  Space pause  Enter explain  ? keys  q quit";
    let keys = if filter.is_empty() { keys } else { "s sort  r reverse  / filter  Esc all  q quit" };
    Line::styled(look.shown(&format!("{keys}{filter}")), style)
}

#[cfg(test)]
mod tests;
