//! What there is to say of all rows together.

use super::{Launcher, Measured};
use crate::floor::Recipe;
use crate::plot::{Axis, Plot};
use crate::table::{NONE, Table, micros, ratio};

/// What the kernel charges for the same program.
fn floor_of<'a>(row: &Measured, rows: &'a [Measured]) -> &'a Measured {
    let floor = (Launcher::Kernel(Recipe::Template), row.program);
    rows.iter()
        .find(|row| (row.launcher, row.program) == floor)
        .expect("measured first")
}

pub(super) fn table(rows: &[Measured]) -> Table {
    let mut table = Table::new([
        "",
        "back to back",
        "P99",
        "× floor",
        "100 ms",
        "jobs/s",
        "P99, 4 clients",
    ]);
    for row in rows {
        table.row([
            row.name.clone(),
            micros(row.back_to_back.median()),
            micros(row.back_to_back.permille(990)),
            format!(
                "{:.2}",
                ratio(
                    row.back_to_back.median(),
                    floor_of(row, rows).back_to_back.median()
                )
            ),
            micros(row.rested.median()),
            format!("{:.0}", row.per_second),
            row.tail.map_or_else(|| NONE.to_owned(), micros),
        ]);
    }
    table
}

/// Ours against each other tool, by the medians back to back.
pub(super) fn comparison(rows: &[Measured]) -> String {
    let is_own = |row: &&Measured| row.launcher == Launcher::Stockade;
    let is_other = |row: &&Measured| row.launcher == Launcher::Other;
    let against = |own: &Measured| {
        let same = rows
            .iter()
            .filter(is_other)
            .filter(|other| other.program == own.program);
        let ratios = same.chain([floor_of(own, rows)]).map(|other| {
            let time = ratio(own.back_to_back.median(), other.back_to_back.median());
            format!(
                "{time:.2} and {:.2} of {}",
                own.per_second / other.per_second,
                other.name
            )
        });
        format!("{}: {}.", own.name, ratios.collect::<Vec<_>>().join(", "))
    };
    let lines: Vec<String> = rows.iter().filter(is_own).map(against).collect();
    format!(
        "The time of a launch and the jobs a second, as parts of another's with the same program: {}",
        lines.join(" ")
    )
}

/// Which share of the launches took at most so long.
pub(super) fn distribution(rows: &[Measured]) -> Plot {
    let mut plot = Plot::new(
        "Launches back to back: share that is done within a time",
        Axis {
            label: "ms",
            logarithmic: true,
        },
        Axis {
            label: "%",
            logarithmic: false,
        },
    );
    for row in rows {
        let shares = (0..=40).map(|step| step * 25);
        let point = |share: usize| {
            let time = row.back_to_back.permille(share).as_secs_f64() * 1e3;
            (time, f64::from(u32::try_from(share).unwrap_or(0)) / 10.0)
        };
        plot.line(row.name.replace('`', ""), shares.map(point).collect());
    }
    plot
}
