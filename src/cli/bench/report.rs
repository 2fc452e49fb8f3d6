//! The result for people: a table, the ratios to other tools, and how launches spread.

use super::histogram::buckets;
use super::{Measurement, Part, Results, Samples, Times};
use crate::cli::client_options::Format;
use crate::cli::error::CliError;
use crate::cli::print;
use crate::cli::render::{Cell, Colour, Style, Table, printable};
use crate::units::format_bytes;

const BAR: usize = 40;

pub(super) fn print(results: &Results, format: Format, style: Style) -> Result<(), CliError> {
    match format {
        Format::Json => print::json(results),
        Format::Table => print::text(&text(results, style)),
    }
}

fn text(results: &Results, style: Style) -> String {
    let host = &results.host;
    let mut text = format!(
        "{}, {} cores, {}, Linux {}, cgroup {}, load {:.2}\nworker: {}\n",
        printable(&host.cpu),
        host.cores,
        format_bytes(host.memory_bytes),
        printable(&host.kernel),
        host.cgroup,
        host.load,
        results.worker,
    );
    if !results.optimized {
        text += "This binary was built without optimisation: figures of a release build are what counts.\n";
    }
    text.push('\n');
    text += &table(&results.measurements).render(style);
    for measurement in &results.measurements {
        let shown = matches!(
            measurement.part,
            Part::Launch | Part::Idle | Part::Run | Part::Delay
        );
        if let (true, Some(samples)) = (shown, &measurement.samples) {
            let heading = style.paint(Some(Colour::Bold), &measurement.name);
            text += &format!("\n{heading}\n{}", histogram(samples, style));
        }
    }
    let notes = results.measurements.iter().filter_map(|measurement| {
        let note = measurement.note.as_ref()?;
        Some(format!("{}: {}\n", measurement.name, printable(note)))
    });
    let notes: String = notes.collect();
    if !notes.is_empty() {
        text += &format!("\n{notes}");
    }
    text
}

/// Times are milliseconds; VS is the median against `stockade run`, which does the same as the other tools.
fn table(measurements: &[Measurement]) -> Table<7> {
    let own = measurements
        .iter()
        .find(|measurement| measurement.part == Part::Run)
        .and_then(|measurement| measurement.times);
    let mut table = Table::new([
        "MEASURED", "P50 ms", "P90 ms", "P99 ms", "MAX ms", "RATE", "VS RUN",
    ]);
    for measurement in measurements {
        let times = measurement.times;
        let cell = |value: fn(&Times) -> u64| -> Cell {
            let text = times
                .as_ref()
                .map_or_else(String::new, |times| millis(value(times)));
            text.into()
        };
        let rate = measurement
            .rate
            .map_or_else(String::new, |rate| format!("{:.0} {}", rate.value, rate.unit));
        let ratio = match (measurement.part, own, times) {
            (Part::Peers | Part::Run, Some(own), Some(times)) => ratio(times.p50_us, own.p50_us),
            _ => String::new(),
        };
        table.row([
            measurement.name.as_str().into(),
            cell(|times| times.p50_us),
            cell(|times| times.p90_us),
            cell(|times| times.p99_us),
            cell(|times| times.max_us),
            rate.into(),
            ratio.into(),
        ]);
    }
    table
}

fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn ratio(other: u64, own: u64) -> String {
    // Exact enough: microseconds of hours.
    #[allow(clippy::cast_precision_loss)]
    let ratio = other as f64 / own.max(1) as f64;
    format!("{ratio:.2}")
}

fn histogram(samples: &Samples, style: Style) -> String {
    let buckets = buckets(samples);
    let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(1);
    let mut text = String::new();
    let row = |bucket: &super::histogram::Bucket| {
        let length = (bucket.count * BAR).div_ceil(most);
        let bar = style.paint(Some(Colour::Cyan), &"█".repeat(length));
        let from = bucket.from.as_secs_f64() * 1e3;
        let line = format!("{from:>9.3} ms {:>7} {bar}", bucket.count);
        format!("{}\n", line.trim_end())
    };
    text.extend(buckets.iter().map(row));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PLAIN: Style = Style {
        colours: false,
        relative_times: false,
    };

    fn measured(part: Part, name: &str, micros: u64) -> Measurement {
        let samples = Samples::new(vec![Duration::from_micros(micros)]).expect("one");
        Measurement::new(part, name).with_times(samples)
    }

    #[test]
    fn peers_are_compared_with_run() {
        let measurements = [
            measured(Part::Launch, "worker", 1500),
            measured(Part::Run, "run", 2000),
            measured(Part::Peers, "other", 5000),
            Measurement::new(Part::Output, "files").with_rate(812.4, "MiB/s"),
        ];
        let text = table(&measurements).render(PLAIN);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[1], ["worker", "1.500", "1.500", "1.500", "1.500", "-", "-"]);
        assert_eq!(rows[3].last(), Some(&"2.50"));
        assert_eq!(rows[4], ["files", "-", "-", "-", "-", "812", "MiB/s", "-"]);
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        let times = [1024, 1024, 1024, 1024, 2048].map(Duration::from_micros);
        let text = histogram(&Samples::new(times.to_vec()).expect("five"), PLAIN);
        let bars: Vec<usize> = text.lines().map(|line| line.matches('█').count()).collect();
        assert_eq!(bars, [BAR, 0, 0, 0, BAR / 4]);
    }
}
