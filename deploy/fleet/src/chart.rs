//! A report as a picture: one panel for each act that has times or counts.

use std::fmt::Write as _;

use crate::report::{Played, Times};

/// Width of the picture and of what is drawn in a panel, and a panel's height.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 40.0;
const PLOT: f64 = 160.0;
const PANEL: f64 = 260.0;
/// Bounds of the axis of times, milliseconds: whole powers of ten.
const SHORTEST: f64 = 1.0;
const DECADES: f64 = 5.0;
/// Told apart by who sees no red and green, too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Draws all acts below each other.
#[must_use]
pub(crate) fn draw(acts: &[Played]) -> String {
    let mut panels = String::new();
    let mut count = 0.0;
    for act in acts {
        if !act.times.is_empty() {
            times(&mut panels, act, PANEL * count);
            count += 1.0;
        }
        if !act.per_second.is_empty() {
            counts(&mut panels, act, PANEL * count);
            count += 1.0;
        }
    }
    let height = PANEL * count;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n{panels}</svg>\n"
    )
}

/// Writing to a string cannot fail.
macro_rules! put {
    ($to:expr, $($text:tt)*) => {{
        let _ = writeln!($to, $($text)*);
    }};
}

fn frame(out: &mut String, top: f64, title: &str) {
    let (title, bottom, right) = (escaped(title), top + TOP + PLOT, WIDTH - RIGHT);
    put!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\" font-size=\"14\">{title}</text>",
        top + 20.0
    );
    put!(
        out,
        "<path d=\"M{LEFT} {} V{bottom} H{right}\" fill=\"none\" stroke=\"#333\"/>",
        top + TOP
    );
}

fn label(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = escaped(text);
    put!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

/// The share of hosts to which it had happened, over a logarithmic axis of time.
fn times(out: &mut String, act: &Played, top: f64) {
    frame(out, top, &format!("{}: share of hosts, by time", act.act));
    let bottom = top + TOP + PLOT;
    let across = WIDTH - LEFT - RIGHT;
    let x = |ms: f64| LEFT + across * ((ms.max(SHORTEST) / SHORTEST).log10() / DECADES).min(1.0);
    for (decade, text) in ["1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s"]
        .into_iter()
        .enumerate()
    {
        let at = LEFT + across * decade as f64 / DECADES;
        put!(out, "<path d=\"M{at:.1} {} V{bottom}\" stroke=\"#ddd\"/>", top + TOP);
        label(out, at, bottom + 16.0, "middle", text);
    }
    for (share, text) in [(0.0, "0"), (0.5, "50 %"), (1.0, "100 %")] {
        label(out, LEFT - 6.0, bottom - PLOT * share + 4.0, "end", text);
    }
    for (number, (name, times)) in act.times.iter().enumerate() {
        let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or("#000");
        put!(
            out,
            "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            curve(times, bottom, x)
        );
        let text = format!(
            "{name}: p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms ({})",
            times.p50_ms, times.p99_ms, times.max_ms, times.count
        );
        let y = top + TOP + 14.0 + 16.0 * number as f64;
        put!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>",
            LEFT + 8.0,
            y - 9.0
        );
        label(out, LEFT + 24.0, y, "start", &text);
    }
}

fn curve(times: &Times, bottom: f64, x: impl Fn(f64) -> f64) -> String {
    let mut path = format!("M{LEFT} {bottom}");
    let mut so_far = 0;
    for (bound, count) in &times.steps {
        let _ = write!(path, " H{:.1}", x(*bound));
        so_far += count;
        let _ = write!(
            path,
            " V{:.1}",
            bottom - PLOT * so_far as f64 / times.count.max(1) as f64
        );
    }
    path
}

/// How often something happened in each second.
fn counts(out: &mut String, act: &Played, top: f64) {
    let names: Vec<&str> = act.per_second.keys().map(String::as_str).collect();
    frame(out, top, &format!("{}: {} per second", act.act, names.join(", ")));
    let bottom = top + TOP + PLOT;
    let most = act.per_second.values().flatten().copied().max().unwrap_or(0).max(1);
    let seconds = act.per_second.values().map(Vec::len).max().unwrap_or(0).max(1);
    let width = (WIDTH - LEFT - RIGHT) / seconds as f64;
    label(out, LEFT - 6.0, bottom + 4.0, "end", "0");
    label(out, LEFT - 6.0, top + TOP + 4.0, "end", &most.to_string());
    label(out, LEFT, bottom + 16.0, "middle", "0 s");
    label(out, WIDTH - RIGHT, bottom + 16.0, "middle", &format!("{seconds} s"));
    for (number, counts) in act.per_second.values().enumerate() {
        let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or("#000");
        for (second, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let height = PLOT * *count as f64 / most as f64;
            put!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
                LEFT + width * second as f64,
                bottom - height,
                (width - 1.0).max(1.0)
            );
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn act() -> Played {
        let mut act = Played {
            act: "outage=5 <&>".into(),
            ..Played::default()
        };
        act.times("notice", (1..=100).map(Duration::from_millis).collect());
        act.per_second.insert("reconnects".into(), vec![0, 4, 2]);
        act
    }

    #[test]
    fn each_act_with_something_to_show_has_its_panels() {
        let drawn = draw(&[act(), Played::default()]);
        assert!(drawn.contains("viewBox=\"0 0 720 520\""), "{drawn}");
        assert!(
            drawn.contains("outage=5 &lt;&amp;&gt;") && drawn.contains("p99 99 ms, max 100 ms (100)"),
            "{drawn}"
        );
        assert_eq!(drawn.matches("height=\"160.0\"").count(), 1, "the tallest bar: {drawn}");
        assert_eq!(drawn.matches("height=\"80.0\"").count(), 1);
        assert_eq!(drawn.matches('<').count(), drawn.matches('>').count(), "{drawn}");
    }

    #[test]
    fn a_curve_ends_at_the_top_where_all_hosts_are() {
        let times = Times::of((1..=100).map(Duration::from_millis).collect()).unwrap();
        let path = curve(&times, 200.0, |ms| ms);
        assert!(path.ends_with("V40.0"), "{path}");
    }
}
