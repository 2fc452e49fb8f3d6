//! Line plots as SVG. Nothing but lines and text in colours that are read on white and on black alike.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
const GREY: &str = "#808080";
const COLOURS: [&str; 10] = [
    "#2f7ed8", "#d9822b", "#3a9a5c", "#c0507a", "#8a63c9", "#a08b1e", "#3b9fb0", "#b5553f", "#6f8f2e",
    "#9a7a5a",
];

#[derive(Debug)]
pub(crate) struct Plot {
    title: String,
    x: Axis,
    y: Axis,
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) logarithmic: bool,
}

#[derive(Debug)]
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// From a value to where it is in the picture.
#[derive(Debug)]
struct Scale {
    logarithmic: bool,
    least: f64,
    most: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn new(axis: &Axis, values: &[f64], start: f64, end: f64) -> Self {
        let fold = |pick: fn(f64, f64) -> f64, first| values.iter().copied().fold(first, pick);
        let most = fold(f64::max, f64::MIN_POSITIVE) * if axis.logarithmic { 1.0 } else { 1.05 };
        let least = if axis.logarithmic {
            fold(f64::min, f64::MAX)
        } else {
            0.0
        };
        Self {
            logarithmic: axis.logarithmic,
            least,
            most: most.max(least * 1.001),
            start,
            end,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let of = |value: f64| {
            if self.logarithmic {
                value.max(f64::MIN_POSITIVE).ln()
            } else {
                value
            }
        };
        let share = (of(value) - of(self.least)) / (of(self.most) - of(self.least));
        self.start + share.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Round values within the range.
    fn marks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades =
                (-3_i32..=12).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
            let within: Vec<f64> = decades
                .filter(|mark| (self.least..=self.most).contains(mark))
                .collect();
            if within.len() <= 9 {
                return within;
            }
            let is_decade = |mark: &f64| (mark.log10() - mark.log10().round()).abs() < 1e-9;
            return within.into_iter().filter(is_decade).collect();
        }
        let raw = self.most / 5.0;
        let power = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|digit| digit * power)
            .into_iter()
            .find(|step| *step >= raw);
        let step = step.unwrap_or(raw);
        (0..=6)
            .map(|count| f64::from(count) * step)
            .filter(|mark| *mark <= self.most)
            .collect()
    }
}

impl Plot {
    pub(crate) fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self {
            title: title.into(),
            x,
            y,
            lines: Vec::new(),
        }
    }

    pub(crate) fn line(&mut self, name: impl Into<String>, points: Vec<(f64, f64)>) {
        if !points.is_empty() {
            self.lines.push(Line {
                name: name.into(),
                points,
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(crate) fn svg(&self) -> String {
        let of = |pick: fn(&(f64, f64)) -> f64| -> Vec<f64> {
            self.lines
                .iter()
                .flat_map(|line| line.points.iter().map(pick))
                .collect()
        };
        let x = Scale::new(&self.x, &of(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Scale::new(&self.y, &of(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"{GREY}\">\n<title>{0}</title>\n<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{0}</text>\n",
            escaped(&self.title)
        );
        self.draw_axes(&mut svg, &x, &y);
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            draw_line(&mut svg, line, colour, &x, &y);
        }
        self.draw_names(&mut svg, &y);
        svg += "</svg>\n";
        svg
    }

    // Writing to a String cannot fail.
    fn draw_axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let _ = writeln!(svg, "<g stroke=\"{GREY}\" stroke-opacity=\"0.3\">");
        for mark in y.marks() {
            let at = y.place(mark);
            let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\"/>");
        }
        for mark in x.marks() {
            let at = x.place(mark);
            let _ = writeln!(svg, "<path d=\"M{at:.1} {TOP}V{bottom}\"/>");
        }
        let _ = writeln!(svg, "</g>\n<g text-anchor=\"end\">");
        for mark in y.marks() {
            let at = y.place(mark) + 4.0;
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{at:.1}\">{}</text>",
                LEFT - 6.0,
                number(mark)
            );
        }
        let _ = writeln!(svg, "</g>\n<g text-anchor=\"middle\">");
        for mark in x.marks() {
            let at = x.place(mark);
            let _ = writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{}\">{}</text>",
                bottom + 16.0,
                number(mark)
            );
        }
        let middle = f64::midpoint(LEFT, right);
        let _ = writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{}\">{}</text>",
            HEIGHT - 10.0,
            self.x.label
        );
        let middle = f64::midpoint(TOP, bottom);
        let turned = format!("transform=\"translate(14 {middle}) rotate(-90)\"");
        let _ = writeln!(svg, "<text {turned}>{}</text>\n</g>", self.y.label);
    }

    /// At the ends of the lines, moved apart where they would lie on each other.
    fn draw_names(&self, svg: &mut String, y: &Scale) {
        let mut names: Vec<(f64, &str, &str)> = self
            .lines
            .iter()
            .zip(COLOURS.iter().cycle())
            .filter_map(|(line, colour)| Some((y.place(line.points.last()?.1), line.name.as_str(), *colour)))
            .collect();
        names.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut free = TOP + 4.0;
        for (at, name, colour) in names {
            let at = (at + 4.0).max(free);
            free = at + 15.0;
            let x = WIDTH - RIGHT + 8.0;
            let _ = writeln!(
                svg,
                "<text x=\"{x}\" y=\"{at:.1}\" fill=\"{colour}\">{}</text>",
                escaped(name)
            );
        }
    }
}

fn draw_line(svg: &mut String, line: &Line, colour: &str, x: &Scale, y: &Scale) {
    let place = |(at, value): &(f64, f64)| format!("{:.1} {:.1}", x.place(*at), y.place(*value));
    let points: Vec<String> = line.points.iter().map(place).collect();
    let _ = writeln!(
        svg,
        "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"/>",
        points.join("L")
    );
    if points.len() <= 20 {
        for point in &points {
            if let Some((x, y)) = point.split_once(' ') {
                let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"2.6\" fill=\"{colour}\"/>");
            }
        }
    }
}

fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e3 {
        format!("{}k", value / 1e3)
    } else {
        format!("{}", (value * 1e6).round() / 1e6)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
