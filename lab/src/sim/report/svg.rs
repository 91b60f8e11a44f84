//! Drawings as SVG text: lines over a scale, and bars side by side.
//!
//! Owns shapes, scales and colours; what is drawn is `charts`'. The colours stay apart for people who see
//! no red or green (Okabe and Ito), and every line also ends in its name.

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#a6761d"];

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Its name.
    pub(crate) name: String,
    /// Points, in order of x.
    pub(crate) points: Vec<(f64, f64)>,
    /// Drawn as steps and not from point to point.
    pub(crate) steps: bool,
}

/// Lines over a scale.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chart {
    /// What it shows.
    pub(crate) title: String,
    /// What is across, with its unit.
    pub(crate) across: String,
    /// What is up, with its unit.
    pub(crate) up: String,
    /// The lines.
    pub(crate) lines: Vec<Line>,
    /// Places across with a name each, at equal distances, in place of a scale.
    pub(crate) places: Vec<String>,
    /// The scale up; from the lines where there is none.
    pub(crate) range: Option<(f64, f64)>,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn head(out: &mut String, title: &str, height: f64) {
    out.push_str(&format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"16\" font-weight=\"bold\" fill=\"#222222\">{}</text>",
        escaped(title)
    ));
}

fn text(out: &mut String, at: (f64, f64), anchor: &str, words: &str, fill: &str) {
    let (x, y) = at;
    out.push_str(&format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{}</text>",
        escaped(words)
    ));
}

/// Where a scale begins: at zero, unless all that is drawn is far from it.
fn from_zero((low, high): (f64, f64)) -> f64 {
    if low > 0.0 && low < 0.5 * high { 0.0 } else { low }
}

/// Round numbers from `low` to `high`, about five of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low).max(1e-12) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough).unwrap_or(power);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

fn number(value: f64) -> String {
    let value = if value.abs() < 1e-9 { 0.0 } else { value };
    if value.abs() >= 100.0 || value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}").trim_end_matches('0').to_owned()
    }
}

impl Chart {
    /// The drawing.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let (mut x0, mut x1) = points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
        let fitted = points().fold((f64::MAX, f64::MIN), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
        let (mut y0, mut y1) = self.range.unwrap_or((from_zero(fitted), fitted.1 + 0.05 * (fitted.1 - fitted.0)));
        if points().next().is_none() {
            (x0, x1, y0, y1) = (0.0, 1.0, 0.0, 1.0);
        }
        if !self.places.is_empty() {
            (x0, x1) = (0.0, self.places.len().saturating_sub(1).max(1) as f64);
        }
        if x1 <= x0 {
            x1 = x0 + 1.0;
        }
        if y1 <= y0 {
            y1 = y0 + 1.0;
        }
        let px = |x: f64| LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
        let py = |y: f64| HEIGHT - BOTTOM - (y.clamp(y0, y1) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
        let mut out = String::new();
        head(&mut out, &self.title, HEIGHT);
        for y in ticks(y0, y1) {
            out.push_str(&format!("<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#dddddd\"/>", py(y), WIDTH - RIGHT));
            text(&mut out, (LEFT - 8.0, py(y) + 4.0), "end", &number(y), "#444444");
        }
        if self.places.is_empty() {
            for x in ticks(x0, x1) {
                text(&mut out, (px(x), HEIGHT - BOTTOM + 18.0), "middle", &number(x), "#444444");
            }
        }
        for (i, place) in self.places.iter().enumerate() {
            text(&mut out, (px(i as f64), HEIGHT - BOTTOM + 18.0), "middle", place, "#444444");
        }
        text(&mut out, ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14.0), "middle", &self.across, "#222222");
        out.push_str(&format!(
            "<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"#222222\">{}</text>",
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            escaped(&self.up)
        ));
        self.draw_lines(&mut out, &px, &py);
        out.push_str("</svg>");
        out
    }

    fn draw_lines(&self, out: &mut String, px: &dyn Fn(f64) -> f64, py: &dyn Fn(f64) -> f64) {
        let mut names: Vec<(f64, usize)> = Vec::new();
        for (i, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let mut path = String::new();
            let mut before = None;
            for (x, y) in line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
                match before {
                    None => path.push_str(&format!("M{:.1} {:.1}", px(*x), py(*y))),
                    Some(_) if line.steps => path.push_str(&format!("H{:.1}V{:.1}", px(*x), py(*y))),
                    Some(_) => path.push_str(&format!("L{:.1} {:.1}", px(*x), py(*y))),
                }
                before = Some((*x, *y));
            }
            out.push_str(&format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>"));
            if line.points.len() <= 12 {
                for (x, y) in line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
                    out.push_str(&format!(
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                        px(*x),
                        py(*y)
                    ));
                }
            }
            names.push((before.map_or(TOP, |(_, y)| py(y)), i));
        }
        // Names beside the ends of their lines, pushed apart where they would lie on each other.
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut last = TOP - 15.0;
        for (y, i) in names {
            let y = y.max(last + 15.0);
            last = y;
            text(out, (WIDTH - RIGHT + 8.0, y + 4.0), "start", &self.lines[i].name, COLOURS[i % COLOURS.len()]);
        }
    }
}

/// One bar each, from zero; `(name, value, interval, marked)`.
pub(crate) fn bars(title: &str, unit: &str, range: (f64, f64), bars: &[(String, f64, (f64, f64), bool)]) -> String {
    const ROW: f64 = 24.0;
    const NAMES: f64 = 190.0;
    let height = TOP + ROW * bars.len() as f64 + BOTTOM;
    let px = |x: f64| NAMES + (x.clamp(range.0, range.1) - range.0) / (range.1 - range.0) * (WIDTH - NAMES - 90.0);
    let mut out = String::new();
    head(&mut out, title, height);
    for x in ticks(range.0, range.1) {
        out.push_str(&format!("<path d=\"M{0:.1} {TOP}V{1:.1}\" stroke=\"#dddddd\"/>", px(x), height - BOTTOM));
        text(&mut out, (px(x), height - BOTTOM + 18.0), "middle", &number(x), "#444444");
    }
    text(&mut out, (f64::midpoint(NAMES, WIDTH - 90.0), height - 14.0), "middle", unit, "#222222");
    for (i, (name, value, (low, high), marked)) in bars.iter().enumerate() {
        let y = TOP + ROW * i as f64;
        let (from, until) = (px(value.min(0.0)), px(value.max(0.0)));
        let colour = if *marked { COLOURS[2] } else { COLOURS[0] };
        text(&mut out, (NAMES - 8.0, y + 16.0), "end", name, "#222222");
        out.push_str(&format!(
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>",
            y + 4.0,
            (until - from).max(0.5),
        ));
        out.push_str(&format!("<path d=\"M{:.1} {:.1}H{:.1}\" stroke=\"#222222\"/>", px(*low), y + 12.0, px(*high)));
        let shown = if *value < range.0 { format!("{value:.0} (off the scale)") } else { format!("{value:.1}") };
        text(&mut out, (px(value.max(0.0).max(*high)) + 6.0, y + 16.0), "start", &shown, "#222222");
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_names_are_escaped() {
        assert_eq!(ticks(0.0, 1.0), vec![0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(number(0.6000000000000001), "0.6");
        let line =
            Line { name: "a<b & c".to_owned(), points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)], steps: true };
        let svg = Chart { lines: vec![line], ..Chart::default() }.svg();
        assert!(svg.contains("a&lt;b &amp; c") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_an_empty_chart() {
        assert!(!Chart::default().svg().contains("NaN"));
        assert!(!bars("t", "u", (0.0, 1.0), &[]).contains("NaN"));
    }
}
