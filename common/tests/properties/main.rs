//! Properties of the parser and of the verdict, over frames that are built by hand and over bytes that are not
//! frames at all.

mod flows;
mod frames;
mod parse;
mod verdict;
mod world;
