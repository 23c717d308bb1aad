//! What must hold of the documents: their width and length, and that their links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::process::{Failure, say};
use crate::{docs, workspace};

/// Columns of a line.
const COLUMNS: usize = 100;

/// Lines of a document that a newcomer reads from the first to the last.
const LINES: [(&str, usize); 2] = [("ARCHITECTURE.md", 250), ("README.md", 250)];

/// Checks every page of the book.
///
/// # Errors
/// A [`Failure`] with all mistakes, each with its place.
pub(super) fn check() -> Result<()> {
    say("check the width and the links of the documents");
    let root = workspace::root();
    let mut pages = BTreeMap::new();
    for name in docs::pages()? {
        let text = fs::read_to_string(root.join(&name)).with_context(|| name.display().to_string())?;
        pages.insert(name, Page::new(text));
    }
    let mistakes = mistakes(&pages, &|path| root.join(path).is_file());
    if mistakes.is_empty() {
        return Ok(());
    }
    Err(Failure::new(mistakes.join("\n"), "mend the documents; docs/development.md has the rules").into())
}

/// A document, with what others need of it.
struct Page {
    text: String,
    /// The names that its headings can be linked by.
    anchors: BTreeSet<String>,
    /// Targets of links, with the bytes where each stands.
    links: Vec<(String, Range<usize>)>,
    /// Bytes of lines that may be long: tables, and what a program printed.
    wide: Vec<Range<usize>>,
}

impl Page {
    fn new(text: String) -> Self {
        let mut page =
            Self { text: String::new(), anchors: BTreeSet::new(), links: Vec::new(), wide: Vec::new() };
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Table(_)) => page.wide.push(range),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(kind))) if &*kind == "text" => {
                    page.wide.push(range);
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((dest_url.to_string(), range));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(part) | Event::Code(part) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap_or_default()),
                _ => {}
            }
        }
        page.text = text;
        page
    }

    /// A heading's name, as GitHub and mdBook make it.
    fn add_anchor(&mut self, heading: &str) {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let name = kept.flat_map(char::to_lowercase).collect::<String>().replace(' ', "-");
        let numbered = (0..).map(|n| if n == 0 { name.clone() } else { format!("{name}-{n}") });
        for name in numbered {
            if self.anchors.insert(name) {
                break;
            }
        }
    }

    /// The number of the line that a byte is in.
    fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }
}

/// The mistakes of all pages; `is_file` says whether the repository has a file.
fn mistakes(pages: &BTreeMap<PathBuf, Page>, is_file: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, page) in pages {
        let place = name.display();
        let mut at = 0;
        for (line, text) in (1..).zip(page.text.split_inclusive('\n')) {
            let columns = text.trim_end().chars().count();
            let may_be_wide = page.wide.iter().any(|range| range.contains(&at));
            if columns > COLUMNS && !may_be_wide {
                found.push(format!("{place}:{line}: {columns} columns; at most {COLUMNS}"));
            }
            at += text.len();
        }
        let lines = page.text.lines().count();
        if let Some((_, most)) = LINES.iter().find(|(long, most)| name == Path::new(long) && lines > *most) {
            found.push(format!("{place}: {lines} lines; at most {most}"));
        }
        for (target, range) in &page.links {
            if let Some(wrong) = wrong(name, target, pages, is_file) {
                found.push(format!("{place}:{}: `{target}`: {wrong}", page.line(range.start)));
            }
        }
    }
    found.extend(missing_chapters(pages));
    found
}

/// Why a link of the page `from` leads nowhere.
fn wrong(
    from: &Path,
    target: &str,
    pages: &BTreeMap<PathBuf, Page>,
    is_file: &dyn Fn(&Path) -> bool,
) -> Option<String> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { from.to_path_buf() } else { linked(from, path) };
    if !is_file(&path) {
        return Some(format!("there is no file {}", path.display()));
    }
    if path == Path::new(docs::SUMMARY) {
        return Some("the table of contents is no page of the book".to_owned());
    }
    if !docs::PARTS.iter().any(|part| path.starts_with(part)) {
        return Some(format!("the book does not have {}; it has {}", path.display(), docs::PARTS.join(", ")));
    }
    let anchor = anchor?;
    match pages.get(&path) {
        None => Some(format!("{} is no page, so it has no headings", path.display())),
        Some(page) if !page.anchors.contains(anchor) => {
            Some(format!("{} has no heading #{anchor}", path.display()))
        }
        Some(_) => None,
    }
}

/// Where a relative link of a page leads, from the root of the repository.
fn linked(from: &Path, path: &str) -> PathBuf {
    docs::normal(&from.parent().unwrap_or(Path::new("")).join(path))
}

/// mdBook leaves a page out that the table of contents does not name, without a word.
fn missing_chapters(pages: &BTreeMap<PathBuf, Page>) -> Vec<String> {
    let summary = Path::new(docs::SUMMARY);
    let Some(contents) = pages.get(summary) else { return vec![format!("there is no {}", docs::SUMMARY)] };
    let chapters: BTreeSet<PathBuf> =
        contents.links.iter().map(|(target, _)| linked(summary, target)).collect();
    let missing = pages.keys().filter(|name| *name != summary && !chapters.contains(*name));
    missing.map(|name| format!("{} does not list {}", docs::SUMMARY, name.display())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mistakes of pages with a table of contents that lists them all.
    fn mistakes_of(pages: &[(&str, &str)]) -> Vec<String> {
        let contents: String = pages.iter().map(|(name, _)| format!("- [x](../{name})\n")).collect();
        let all = pages.iter().copied().chain([(docs::SUMMARY, &*contents)]);
        let all: BTreeMap<_, _> =
            all.map(|(name, text)| (PathBuf::from(name), Page::new(text.to_owned()))).collect();
        let others = ["config/a.toml", "agent/src/main.rs"].map(Path::new);
        mistakes(&all, &|path| all.contains_key(path) || others.contains(&path))
    }

    #[test]
    fn a_long_line_is_a_mistake_outside_tables_and_printed_output() {
        let long = "x".repeat(101);
        let fits = "é".repeat(100);
        let text = format!(
            "{fits}\n{long}\n\n| a |\n|---|\n| {long} |\n\n```text\n{long}\n```\n\n```sh\n{long}\n```\n"
        );
        let found = mistakes_of(&[("README.md", &text)]);
        assert_eq!(found, [2, 13].map(|line| format!("README.md:{line}: 101 columns; at most 100")));
    }

    #[test]
    fn what_newcomers_read_is_short() {
        let text = "a\n\n".repeat(126);
        assert_eq!(mistakes_of(&[("README.md", &text)]), ["README.md: 252 lines; at most 250"]);
        assert_eq!(mistakes_of(&[("docs/a.md", &text)]), [""; 0]);
    }

    #[test]
    fn links_lead_to_files_of_the_book_and_to_headings() {
        let good =
            "# A `b`: c, d\n\n[1](#a-b-c-d) [2](../README.md) [3](../config/a.toml) [4](https://a.b/c#d)\n";
        assert_eq!(mistakes_of(&[("README.md", "# A\n"), ("docs/a.md", good)]), [""; 0]);
        let bad = "[1](b.md)\n[2](#e)\n[3](../README.md#e)\n[4](../config/a.toml#e)\n[5](../agent/src/main.rs)\n\
                   [6](SUMMARY.md)\n";
        let found = mistakes_of(&[("README.md", "# A\n"), ("docs/a.md", bad)]);
        let expected = [
            "`b.md`: there is no file docs/b.md",
            "`#e`: docs/a.md has no heading #e",
            "`../README.md#e`: README.md has no heading #e",
            "`../config/a.toml#e`: config/a.toml is no page, so it has no headings",
            "`../agent/src/main.rs`: the book does not have agent/src/main.rs; it has ARCHITECTURE.md, \
             LICENSE-APACHE, LICENSE-MIT, README.md, config, docs",
            "`SUMMARY.md`: the table of contents is no page of the book",
        ];
        let expected = (1..).zip(expected).map(|(line, wrong)| format!("docs/a.md:{line}: {wrong}"));
        assert_eq!(found, expected.collect::<Vec<_>>());
    }

    #[test]
    fn headings_with_one_name_are_numbered() {
        let text = "# A\n\n## A\n\n[1](#a) [2](#a-1) [3](#a-2)\n";
        assert_eq!(
            mistakes_of(&[("README.md", text)]),
            ["README.md:5: `#a-2`: README.md has no heading #a-2"]
        );
    }

    #[test]
    fn a_page_that_the_table_of_contents_leaves_out_is_a_mistake() {
        let pages = [("docs/SUMMARY.md", "- [a](a.md)\n"), ("docs/a.md", ""), ("docs/guide/b.md", "")];
        let pages = pages.map(|(name, text)| (PathBuf::from(name), Page::new(text.to_owned())));
        assert_eq!(mistakes(&pages.into(), &|_| true), ["docs/SUMMARY.md does not list docs/guide/b.md"]);
    }
}
