//! The printed result.

use std::fmt;

use crate::rows::{Better, Row};

/// A row and its two figures.
pub(crate) struct Measured {
    pub(crate) row: &'static Row,
    pub(crate) distribution: f64,
    pub(crate) layerhold: f64,
}

impl Measured {
    fn ratio(&self) -> f64 {
        self.layerhold / self.distribution
    }

    fn reaches(&self, ratio: f64) -> bool {
        match self.row.better {
            Better::Higher => self.ratio() >= ratio,
            Better::Lower => self.ratio() <= ratio,
        }
    }
}

/// All rows so far.
#[derive(Default)]
pub(crate) struct Table(Vec<Measured>);

impl Table {
    pub(crate) fn add(&mut self, measured: Measured) {
        self.0.push(measured);
    }

    /// Whether every row reaches what must hold today.
    pub(crate) fn floors_hold(&self) -> bool {
        self.0.iter().all(|measured| measured.reaches(measured.row.floor))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | distribution 2.8 | layerhold | ratio | must be | goal | |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---|")?;
        for measured in &self.0 {
            let Measured { row, distribution, layerhold } = measured;
            let verdict = if measured.reaches(row.goal) {
                "goal reached"
            } else if measured.reaches(row.floor) {
                "holds"
            } else {
                "too slow"
            };
            let sign = if row.better == Better::Higher { "≥" } else { "≤" };
            let digits = if row.unit == "ms" { 3 } else { 0 };
            writeln!(
                f,
                "| {}, {} | {distribution:.digits$} | {layerhold:.digits$} | {:.2} | {sign} {} | {sign} {} | {verdict} |",
                row.name,
                row.unit,
                measured.ratio(),
                row.floor,
                row.goal,
            )?;
        }
        Ok(())
    }
}

/// The middle value; of an even number, the lower of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
