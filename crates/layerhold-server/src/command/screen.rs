//! Lines as people read them: findings and a summary on standard output, a bar on a terminal's standard error.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use crate::control::Line;
use crate::control::line::Touched;

/// Cells of the bar.
const BAR_CELLS: u64 = 24;

pub(super) struct Screen {
    terminal: bool,
    drawn: bool,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen { terminal: io::stderr().is_terminal(), drawn: false }
    }

    /// Says a line.
    pub(super) fn say(&mut self, line: &Line) -> io::Result<()> {
        if let Line::Progress { .. } = line {
            if self.terminal {
                let mut err = io::stderr().lock();
                // A terminal that is gone stops nothing: standard output says when nobody reads.
                let _ = write!(err, "\r\x1b[2K{}", bar(line)).and_then(|()| err.flush());
                self.drawn = true;
            }
            return Ok(());
        }
        self.end();
        let text = text(line);
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Takes the bar away.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[2K").and_then(|()| err.flush());
        }
    }
}

fn bar(line: &Line) -> String {
    let Line::Progress { stage, rows, rows_total, bytes, bytes_total, findings } = line else { return String::new() };
    // A MiB weighs as much as a few thousand rows.
    let weigh = |rows: u64, bytes: u64| rows.saturating_add(bytes / 256);
    let (done, total) = (weigh(*rows, *bytes), weigh(*rows_total, *bytes_total).max(1));
    let share = (done.saturating_mul(100) / total).min(100);
    let full = share * BAR_CELLS / 100;
    let cells: String = (0..BAR_CELLS).map(|cell| if cell < full { '#' } else { '.' }).collect();
    let mut text = format!("{stage}: {} rows", grouped(*rows));
    // Without totals there is nothing to draw a bar of.
    if *rows_total > 0 {
        text = format!("[{cells}] {share:3}% {text}");
    }
    match (*bytes, *bytes_total) {
        (0, 0) => {}
        (bytes, 0) => text.push_str(&format!(", {}", mebibytes(bytes))),
        (bytes, total) => text.push_str(&format!(", {} of {}", mebibytes(bytes), mebibytes(total))),
    }
    if *findings > 0 {
        text.push_str(&format!(", {findings} found"));
    }
    text
}

fn text(line: &Line) -> String {
    match line {
        Line::Progress { .. } => String::new(),
        Line::Refused { damages, expected, recovered, readable, unfinished, choices } => {
            let mut text = String::from("the store does not open\n");
            damages.iter().for_each(|damage| text.push_str(&format!("{:9}{damage}\n", "")));
            let expected = expected.map_or("nothing says up to which".to_owned(), |expected| expected.to_string());
            text.push_str(&format!("{:9}acknowledged up to sequence: {expected}\n", ""));
            text.push_str(&format!("{:9}can be brought back up to sequence: {recovered}\n", ""));
            if let Some(unfinished) = unfinished {
                text.push_str(&format!("{:9}{unfinished} was begun and cut off: make it again\n", ""));
            }
            let choices = if choices.is_empty() { "none; put files back".to_owned() } else { choices.join(", ") };
            text.push_str(&format!("{:9}choices: {choices}\n", ""));
            if *readable {
                text.push_str("what can be read of it:\n");
            }
            text
        }
        Line::Recovered { choice, sequence, recovered, aside } => format!(
            "{choice}: everything up to sequence {recovered} is there; change {sequence} says so, the old files are in {aside}\n"
        ),
        Line::Failed { cause } => format!("could not be done: {cause}\n"),
        Line::Finding { name, severity, facts, repositories, more, outcome, remark } => {
            let facts: Vec<_> = facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let mut text = format!("{severity:8} {name} {}\n", facts.join(" "));
            if !repositories.is_empty() {
                text.push_str(&format!("{:9}in {}\n", "", concerned(repositories, *more)));
            }
            if !remark.is_empty() {
                text.push_str(&format!("{:9}{outcome}: {remark}\n", ""));
            }
            text
        }
        Line::Done { sound, clean, stopped, rows, files, bytes, findings, mended, left } => {
            let verdict = match (stopped, sound, clean) {
                (true, ..) => "stopped before the end",
                (_, true, true) => "sound",
                (_, true, false) => "sound, with leftovers that take room only",
                (_, false, _) => "not sound",
            };
            let mut text = format!("{verdict}: {} rows", grouped(*rows));
            if *files > 0 {
                text.push_str(&format!(", {} files", grouped(*files)));
            }
            if *bytes > 0 {
                text.push_str(&format!(", {}", mebibytes(*bytes)));
            }
            text.push_str(" read\n");
            text.push_str(&counts(findings));
            if *mended > 0 {
                text.push_str(&format!("{mended} mended or to be mended, {left} left\n"));
            }
            text
        }
    }
}

fn counts(findings: &BTreeMap<String, u64>) -> String {
    findings.iter().map(|(name, count)| format!("{:>8} {name}\n", grouped(*count))).collect()
}

fn concerned(repositories: &[Touched], more: bool) -> String {
    let one = |touched: &Touched| {
        let name = touched.name.as_ref().unwrap_or(&touched.id);
        if touched.tags.is_empty() { name.clone() } else { format!("{name} (tags {})", touched.tags.join(", ")) }
    };
    let mut names: Vec<_> = repositories.iter().map(one).collect();
    if more {
        names.push("others".to_owned());
    }
    names.join(", ")
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn mebibytes(bytes: u64) -> String {
    if bytes < 10 << 20 { format!("{} bytes", grouped(bytes)) } else { format!("{} MiB", grouped(bytes >> 20)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_and_its_end_are_short_and_say_everything() {
        let finding = Line::Finding {
            name: "file-missing".into(),
            severity: "lost".into(),
            facts: [("digest".into(), "sha256:00".into())].into(),
            repositories: vec![Touched {
                registry: None,
                name: Some("team/app".into()),
                id: "1/7".into(),
                manifests: vec![],
                tags: vec!["v1".into(), "v2".into()],
            }],
            more: true,
            outcome: "left".into(),
            remark: "push it again".into(),
        };
        let expected = "lost     file-missing digest=sha256:00\n         in team/app (tags v1, v2), others\n         left: push it again\n";
        assert_eq!(text(&finding), expected);
        let done = Line::Done {
            sound: false,
            clean: false,
            stopped: false,
            rows: 1_234_567,
            files: 2,
            bytes: 11 << 20,
            findings: [("file-missing".into(), 1)].into(),
            mended: 0,
            left: 1,
        };
        assert_eq!(text(&done), "not sound: 1,234,567 rows, 2 files, 11 MiB read\n       1 file-missing\n");
        let progress = Line::Progress {
            stage: "tags".into(),
            rows: 500,
            rows_total: 1_000,
            bytes: 0,
            bytes_total: 0,
            findings: 2,
        };
        assert_eq!(bar(&progress), "[############............]  50% tags: 500 rows, 2 found");
    }
}
