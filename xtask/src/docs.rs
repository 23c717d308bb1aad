//! `cargo xtask docs`: all pages as one book, by mdBook.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::install::Tool;
use crate::process::{self, say};
use crate::workspace;

/// The release of mdBook on the package registry.
const RELEASE: &str = "0.5.4";

/// The table of contents, from the root of the workspace.
pub(crate) const SUMMARY: &str = "docs/SUMMARY.md";

/// The settings of the book, from the root of the workspace.
const SETTINGS: &str = "docs/book.toml";

/// What the book holds, from the root of the workspace: its chapters, and the files that they link to.
pub(crate) const PARTS: [&str; 6] =
    ["ARCHITECTURE.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "config", "docs"];

/// How to build the book.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Show the book in a browser afterwards
    #[arg(long)]
    open: bool,
}

/// Builds the book in `target/book/html`.
///
/// # Errors
/// A [`process::Failure`] when mdBook cannot be installed or refuses a page.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = workspace::target_dir()?.join("book");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let _lock = workspace::lock(&folder.join("lock"), "builds the book")?;
    let program = mdbook()?.provide(
        |_| {},
        "it needs a C compiler (`apt-get install gcc libc6-dev`) and the package registry",
    )?;
    let source = folder.join("source");
    stage(&source)?;
    let html = folder.join("html");
    let mut build = Command::new(program);
    build.arg("build").arg(&source).arg("--dest-dir").arg(&html);
    if options.open {
        build.arg("--open");
    }
    process::run("build the book", &mut build, "mend the page that mdBook names above")?;
    println!("the book is in {}", html.join("index.html").display());
    Ok(())
}

/// The Markdown pages of the repository, as paths from its root, sorted.
///
/// # Errors
/// When the folder of documents cannot be read.
pub(crate) fn pages() -> Result<Vec<PathBuf>> {
    let root = workspace::root();
    let mut pages = vec![root.join("ARCHITECTURE.md"), root.join("README.md")];
    pages.extend(workspace::files(&root.join("docs"), |_| true)?);
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    Ok(pages.iter().map(|page| page.strip_prefix(&root).unwrap_or(page).to_path_buf()).collect())
}

/// mdBook.
///
/// # Errors
/// When the target folder cannot be named.
pub(crate) fn mdbook() -> Result<Tool<'static>> {
    let root = workspace::target_dir()?.join(format!("mdbook-{RELEASE}"));
    Ok(Tool { name: "mdbook", release: RELEASE, features: "search", root })
}

/// Makes the folder that mdBook reads: the pages lie there as in the repository, so that their links lead to one another.
///
/// mdBook takes chapters from one folder only, and README.md and ARCHITECTURE.md lie beside that of the others.
fn stage(source: &Path) -> Result<()> {
    if source.exists() {
        fs::remove_dir_all(source).with_context(|| source.display().to_string())?;
    }
    let root = workspace::root();
    let mut count = 0;
    for part in PARTS.map(|part| root.join(part)) {
        let files = if part.is_dir() { workspace::files(&part, |_| true)? } else { vec![part] };
        for file in files {
            let name = file.strip_prefix(&root).unwrap_or(&file);
            if ![SETTINGS, SUMMARY].iter().any(|own| name == Path::new(own)) {
                let copy = source.join("src").join(name);
                put(&copy, &fs::read(&file).with_context(|| file.display().to_string())?)?;
                count += 1;
            }
        }
    }
    let read = |name| fs::read_to_string(root.join(name)).context(name);
    put(&source.join("src/SUMMARY.md"), moved_up(&read(SUMMARY)?).as_bytes())?;
    put(&source.join("book.toml"), read(SETTINGS)?.as_bytes())?;
    say(&format!("{count} files for the book in {}", source.display()));
    Ok(())
}

fn put(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(path, content).with_context(|| path.display().to_string())
}

/// The table of contents with its links as seen from the folder above its own.
fn moved_up(summary: &str) -> String {
    let mut text = String::with_capacity(summary.len());
    for line in summary.split_inclusive('\n') {
        match line.split_once("](").and_then(|(title, rest)| Some((title, rest.split_once(')')?))) {
            Some((title, (target, rest))) => {
                let target = normal(&Path::new("docs").join(target));
                text.push_str(&format!("{title}]({}){rest}", target.display()));
            }
            None => text.push_str(line),
        }
    }
    text
}

/// A path without `.` and `..`, as far as it does not lead out of where it begins.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(normal.components().next_back(), Some(Component::Normal(_))) => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_contents_leads_to_the_staged_pages() {
        let summary = "# Summary\n\n[a](../README.md)\n- [b (c)](guide/b.md)\n";
        assert_eq!(moved_up(summary), "# Summary\n\n[a](README.md)\n- [b (c)](docs/guide/b.md)\n");
    }

    #[test]
    fn paths_lose_their_dots_and_stay_outside_where_they_lead_out() {
        let normal = |path| normal(Path::new(path)).display().to_string();
        assert_eq!(normal("docs/guide/../../README.md"), "README.md");
        assert_eq!(normal("docs/./a.md"), "docs/a.md");
        assert_eq!(normal("docs/../../a.md"), "../a.md");
    }

    #[test]
    fn the_pages_of_all_folders_are_found() {
        let pages = pages().expect("the pages");
        for page in ["README.md", "ARCHITECTURE.md", "docs/kernels.md", "docs/guide/deploy.md"] {
            assert!(pages.contains(&PathBuf::from(page)), "{page} is not in {pages:?}");
        }
    }
}
