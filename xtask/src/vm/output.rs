//! What a guest says on its line for the tests.

use std::time::{Duration, Instant};

use super::steps::MARKER;
use crate::sum::Sum;

/// The end of one step.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The step's name.
    pub(crate) name: String,
    /// The exit status of its program.
    pub(crate) status: i32,
    /// How long it took, by this machine's clock.
    pub(crate) took: Duration,
    /// What it printed.
    pub(crate) lines: Vec<String>,
}

/// What a line means.
#[derive(Debug)]
pub(crate) enum Event {
    /// A step has begun.
    Began,
    /// A step has ended.
    Ended(Ended),
    /// The last line: the guest has run all steps.
    Done,
}

/// Takes the output apart.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    current: Option<(String, Instant)>,
    lines: Vec<String>,
}

impl Stream {
    /// Takes the next line.
    pub(crate) fn push(&mut self, line: &str) -> Option<Event> {
        // The guest's terminal ends lines with both characters.
        let line = line.trim_end_matches('\r');
        let Some(words) = line.strip_prefix(MARKER) else {
            self.lines.push(line.to_owned());
            return None;
        };
        let mut words = words.split_whitespace();
        match (words.next()?, words.next(), words.next()) {
            ("begin", Some(name), None) => {
                self.current = Some((name.to_owned(), Instant::now()));
                self.lines.clear();
                Some(Event::Began)
            }
            ("end", Some(_), Some(status)) => {
                let (name, start) = self.current.take()?;
                let status = status.parse().unwrap_or(-1);
                let lines = std::mem::take(&mut self.lines);
                Some(Event::Ended(Ended { name, status, took: start.elapsed(), lines }))
            }
            ("done", Some(_), None) => Some(Event::Done),
            _ => None,
        }
    }

    /// The step that runs now.
    pub(crate) fn running(&self) -> Option<&str> {
        self.current.as_ref().map(|(name, _)| name.as_str())
    }

    /// What it has printed so far.
    pub(crate) fn so_far(&self) -> &[String] {
        &self.lines
    }
}

impl Ended {
    /// The counts of its tests; all 0 for a program that is none.
    pub(crate) fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for line in &self.lines {
            sum.add(line);
        }
        sum
    }

    /// The names of the tests that failed.
    pub(crate) fn failed(&self) -> Vec<&str> {
        let names =
            self.lines.iter().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        names.collect()
    }

    /// What the tests that failed printed, or the end of everything where the program itself failed; at most `limit`
    /// lines.
    pub(crate) fn excerpt(&self, limit: usize) -> &[String] {
        match self.lines.iter().position(|line| line == "failures:") {
            Some(start) => &self.lines[start..self.lines.len().min(start + limit)],
            None => &self.lines[self.lines.len().saturating_sub(limit)..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 15] = [
        "insmod: something",
        "lyncwall-vm: begin verdicts\r",
        "running 2 tests\r",
        "test a ... ok\r",
        "test b ... FAILED\r",
        "\r",
        "failures:\r",
        "---- b stdout ----\r",
        "why\r",
        "failures:\r",
        "    b\r",
        "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s\r",
        "\r",
        "lyncwall-vm: end verdicts 101\r",
        "lyncwall-vm: done 1\r",
    ];

    fn ended() -> Ended {
        let mut stream = Stream::default();
        let mut events: Vec<Event> = LINES.iter().filter_map(|line| stream.push(line)).collect();
        assert!(matches!(events.pop(), Some(Event::Done)));
        let Some(Event::Ended(ended)) = events.pop() else { panic!("{events:?}") };
        ended
    }

    #[test]
    fn a_step_has_its_status_and_only_its_own_lines() {
        let ended = ended();
        assert_eq!((ended.name.as_str(), ended.status), ("verdicts", 101));
        assert_eq!(ended.lines[0], "running 2 tests");
        let sum = ended.sum();
        assert_eq!((sum.passed, sum.failed), (1, 1));
        assert_eq!(ended.failed(), ["b"]);
    }

    #[test]
    fn failures_are_shown_from_their_heading_and_crashes_from_the_end() {
        let mut ended = ended();
        assert_eq!(ended.excerpt(3), ["failures:", "---- b stdout ----", "why"]);
        ended.lines = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(ended.excerpt(2), ["b", "c"]);
    }

    #[test]
    fn what_a_lost_guest_was_doing_is_known() {
        let mut stream = Stream::default();
        for line in &LINES[..4] {
            stream.push(line);
        }
        assert_eq!(stream.running(), Some("verdicts"));
        assert_eq!(stream.so_far().len(), 2);
    }
}
