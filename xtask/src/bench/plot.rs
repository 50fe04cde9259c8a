//! Plots of the ratios: how much more than longwire the others take.
//!
//! Each is two files, for a light and a dark page, and narrow enough for a phone. The axis is logarithmic: twice as
//! much and half as much are equally far from the line at 1.

use std::{error::Error, fmt::Write};

use plotters::{
    prelude::{
        ChartBuilder, Color, IntoDrawingArea, IntoFont, IntoLogRange, PathElement, RGBColor, Rectangle,
        SVGBackend, Text, TextStyle,
    },
    style::{
        FontStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    broadcast, cells::Cell, data::Data, deflate, idle, report::Part, servers::Server, table::Results,
};

/// The names of all plots.
pub(crate) const NAMES: [&str; 5] = ["small", "large", "broadcast", "memory", "compression"];

/// The background that a plot is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// Returns the name of a plot's file.
pub(crate) fn file(name: &str, scheme: Scheme) -> String {
    match scheme {
        Scheme::Light => format!("{name}-light.svg"),
        Scheme::Dark => format!("{name}-dark.svg"),
    }
}

/// Returns the HTML that shows a plot; `directory` is the place of the files, seen from the page.
pub(crate) fn picture(name: &str, directory: &str) -> String {
    let (light, dark) = (file(name, Scheme::Light), file(name, Scheme::Dark));
    let text = description(name);
    format!(
        "<picture>\n  <source media=\"(prefers-color-scheme: dark)\" srcset=\"{directory}/{dark}\">\n  \
         <img src=\"{directory}/{light}\" alt=\"{text}\" width=\"{WIDTH}\">\n</picture>\n"
    )
}

fn description(name: &str) -> &'static str {
    match name {
        "small" => "CPU time for echoes of up to 1 KiB, divided by longwire's, for each server",
        "large" => "CPU time for echoes from 16 KiB on, divided by longwire's, for each server",
        "broadcast" => "CPU time for each delivery of a broadcast, divided by longwire's, for each server",
        "memory" => "Memory of an idle connection, divided by longwire's, for each server",
        _ => "CPU time for compressed echoes, divided by longwire's, for each server",
    }
}

/// Returns all plots whose figures are there: the names of their files, and their texts.
pub(crate) fn all(parts: &[(Part, Data)]) -> Vec<(String, String)> {
    let of = |wanted| parts.iter().find(|(part, _)| *part == wanted).map(|(_, data)| data);
    let plots = [
        (
            "small",
            of(Part::Echo).map(|data| echoes(data, "Echo, up to 1 KiB: CPU time", |cell| cell.size <= 1024)),
        ),
        (
            "large",
            of(Part::Echo).map(|data| echoes(data, "Echo, from 16 KiB: CPU time", |cell| cell.size > 1024)),
        ),
        ("broadcast", of(Part::Broadcast).map(broadcasts)),
        ("memory", of(Part::Memory).map(memory)),
        ("compression", of(Part::Deflate).map(compression)),
    ];
    let mut files = Vec::new();
    for (name, plot) in plots {
        let Some(plot) = plot.filter(|plot| !plot.groups.is_empty()) else { continue };
        for scheme in [Scheme::Light, Scheme::Dark] {
            files.push((file(name, scheme), plot.draw(scheme)));
        }
    }
    files
}

/// A plot: bars in groups.
struct Plot {
    title: &'static str,
    groups: Vec<Group>,
}

struct Group {
    heading: String,
    bars: Vec<Bar>,
}

/// A server's figure, divided by longwire's.
struct Bar {
    server: String,
    ratio: f64,
    /// The text at its end.
    label: String,
}

impl Bar {
    fn new(server: &str, ratio: Option<f64>) -> Option<Self> {
        let ratio = ratio.filter(|ratio| ratio.is_finite() && *ratio > 0.0)?;
        Some(Self { server: server.to_owned(), ratio, label: format!("{ratio:.2}") })
    }
}

impl Group {
    fn new(heading: impl Into<String>, bars: impl Iterator<Item = Bar>) -> Option<Self> {
        let bars: Vec<_> = bars.collect();
        (!bars.is_empty()).then(|| Self { heading: heading.into(), bars })
    }
}

fn echoes(data: &Data, title: &'static str, belongs: fn(&Cell) -> bool) -> Plot {
    let results = Results::new(data);
    let group = |(heading, depth)| {
        let bars =
            results.servers().iter().filter(|&&server| server != Server::Longwire).filter_map(|&server| {
                let ratio = results.mean_ratio(server, |cell| cell.depth == depth && belongs(&cell));
                Bar::new(server.name(), ratio)
            });
        Group::new(heading, bars)
    };
    let groups =
        [("1 message in flight on each connection", 1), ("16 messages in flight on each connection", 16)];
    Plot { title, groups: groups.into_iter().filter_map(group).collect() }
}

fn broadcasts(data: &Data) -> Plot {
    let group = |row: &str| {
        let bars = others(data, broadcast::RATE).filter_map(|server| {
            Bar::new(server, data.ratio((broadcast::RATE, row, server), OURS, "cpu_us"))
        });
        Group::new(row, bars)
    };
    Plot {
        title: "Broadcast: CPU time for a delivery",
        groups: data.rows(broadcast::RATE).into_iter().filter_map(group).collect(),
    }
}

fn memory(data: &Data) -> Plot {
    let headings = ["fresh", "after an echo of 1 KiB", "after an echo of 64 KiB"];
    let group = |(heading, (state, _)): (&str, (&str, _))| {
        let figure = |server| data.median((idle::TABLE, idle::ROW, server), state);
        let ours = figure(OURS)?;
        let bars =
            others(data, idle::TABLE).filter(|server| Server::named(server).is_some()).filter_map(|server| {
                let bytes = figure(server)?;
                let bar = Bar::new(server, Some(bytes / ours))?;
                Some(Bar { label: kilobytes(bytes), ..bar })
            });
        Group::new(format!("{heading} (longwire: {})", kilobytes(ours)), bars)
    };
    Plot {
        title: "Memory of an idle connection",
        groups: headings.into_iter().zip(idle::STATES).filter_map(group).collect(),
    }
}

fn kilobytes(bytes: f64) -> String {
    let digits = usize::from(bytes < 99_500.0);
    format!("{:.digits$} kB", bytes / 1000.0)
}

fn compression(data: &Data) -> Plot {
    let group = |(heading, mark): (&str, &str)| {
        let bars = others(data, deflate::ECHO).filter_map(|server| {
            let ratio = data.mean_ratio(deflate::ECHO, server, OURS, "cpu_us", |row| row.contains(mark));
            Bar::new(server, ratio)
        });
        Group::new(heading, bars)
    };
    let groups = [("with context takeover", ", takeover"), ("without context takeover", ", no takeover")];
    Plot { title: "Compressed echo: CPU time", groups: groups.into_iter().filter_map(group).collect() }
}

fn others<'a>(data: &'a Data, table: &'a str) -> impl Iterator<Item = &'a str> {
    data.servers(table).into_iter().filter(|&server| server != OURS)
}

const OURS: &str = "longwire";

struct Palette {
    text: RGBColor,
    faint: RGBColor,
    grid: RGBColor,
    more: RGBColor,
    less: RGBColor,
    yardstick: RGBColor,
}

impl Scheme {
    fn palette(self) -> Palette {
        let color = |hex: u32| {
            let [_, red, green, blue] = hex.to_be_bytes();
            RGBColor(red, green, blue)
        };
        let [text, faint, grid, more, less, yardstick] = match self {
            Self::Light => [0x1f_23_28, 0x59_63_6e, 0xd1_d9_e0, 0x09_69_da, 0xbc_4c_00, 0x81_8b_98],
            Self::Dark => [0xf0_f6_fc, 0x91_98_a1, 0x3d_44_4d, 0x44_93_f8, 0xdb_6d_28, 0x65_6c_76],
        }
        .map(color);
        Palette { text, faint, grid, more, less, yardstick }
    }
}

impl Plot {
    /// Returns the plot as SVG.
    fn draw(&self, scheme: Scheme) -> String {
        let mut svg = String::new();
        self.draw_into(&mut svg, scheme).expect("drawing into a string cannot fail");
        // The repository's text files end with one line break.
        let mut out = svg.trim_end().to_owned();
        let _ = writeln!(out);
        out
    }

    fn draw_into(&self, svg: &mut String, scheme: Scheme) -> Result<(), Box<dyn Error>> {
        let palette = scheme.palette();
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let rows: usize = self.groups.iter().map(|group| group.bars.len() + 1).sum();
        let rows = u32::try_from(rows)?;
        let area = SVGBackend::with_string(svg, (WIDTH, TOP + rows * ROW + BOTTOM)).into_drawing_area();
        let bold = |size| style(size, FontStyle::Bold, &palette.text, HPos::Left);
        let plain = |size, color, horizontal| style(size, FontStyle::Normal, color, horizontal);
        area.draw(&Text::new(self.title, (MARGIN, 14), bold(15.0)))?;
        let line = "divided by longwire's; to the right of the line, longwire takes less";
        area.draw(&Text::new(line, (MARGIN, 34), plain(11.0, &palette.faint, HPos::Left)))?;

        let least = bars().map(|bar| bar.ratio).fold(0.8, f64::min) / 1.05;
        let most = bars().map(|bar| bar.ratio).fold(2.0, f64::max) * 1.05;
        let mut chart = ChartBuilder::on(&area)
            .margin_top(TOP)
            .margin_bottom(BOTTOM)
            .margin_left(LEFT)
            .margin_right(RIGHT)
            .build_cartesian_2d((least..most).log_scale().base(2.0), 0.0..f64::from(rows))?;
        // From the top to the bottom.
        let middle = |row: u32| f64::from(rows) - f64::from(row) - 0.5;

        let mut ticks: Vec<_> = (-3..=12).map(|power: i32| 2.0_f64.powi(power)).collect();
        ticks.retain(|tick| (least..=most).contains(tick));
        for &tick in &ticks {
            let color = if (tick - 1.0).abs() < 0.01 { palette.text } else { palette.grid };
            // Not through the headings.
            let mut top = f64::from(rows);
            for group in &self.groups {
                let bottom = top - 1.0 - f64::from(u32::try_from(group.bars.len())?);
                let line = PathElement::new([(tick, bottom), (tick, top - 1.0)], color.stroke_width(1));
                chart.draw_series([line])?;
                top = bottom;
            }
            let (x, y) = chart.plotting_area().map_coordinate(&(tick, 0.0));
            area.draw(&Text::new(
                format!("{tick}×"),
                (x, y + 12),
                plain(11.0, &palette.faint, HPos::Center),
            ))?;
        }
        let mut row = 0;
        for group in &self.groups {
            let (_, y) = chart.plotting_area().map_coordinate(&(1.0, middle(row)));
            area.draw(&Text::new(&*group.heading, (MARGIN, y + 2), bold(12.0)))?;
            row += 1;
            for bar in &group.bars {
                let color = if bar.server == Server::Floor.name() {
                    palette.yardstick
                } else if bar.ratio < 1.0 {
                    palette.less
                } else {
                    palette.more
                };
                let y = middle(row);
                chart.draw_series([Rectangle::new(
                    [(1.0, y + 0.33), (bar.ratio, y - 0.33)],
                    color.filled(),
                )])?;
                let (x, y) = chart.plotting_area().map_coordinate(&(bar.ratio.max(1.0), y));
                area.draw(&Text::new(&*bar.label, (x + 4, y), plain(12.0, &palette.text, HPos::Left)))?;
                area.draw(&Text::new(&*bar.server, (MARGIN, y), plain(12.0, &palette.text, HPos::Left)))?;
                row += 1;
            }
        }
        area.present()?;
        Ok(())
    }
}

fn style(size: f64, font: FontStyle, color: &RGBColor, horizontal: HPos) -> TextStyle<'_> {
    // plotters draws text by this factor smaller than asked for.
    let font = ("sans-serif", size * 1.24).into_font().style(font);
    TextStyle::from(font).color(color).pos(Pos::new(horizontal, VPos::Center))
}

const WIDTH: u32 = 400;
const ROW: u32 = 22;
const TOP: u32 = 48;
const BOTTOM: u32 = 24;
/// The room for names, and for the text after the longest bar.
const LEFT: u32 = 124;
const RIGHT: u32 = 56;
const MARGIN: i32 = 4;

#[cfg(test)]
mod tests {
    use super::{
        super::{data::tests::empty, table::ECHO},
        *,
    };

    fn parts() -> Vec<(Part, Data)> {
        let mut data = empty();
        for (depth, ratio) in [(1, 0.9), (16, 7.3)] {
            let cell = Cell { size: 16, conns: 64, depth }.to_string();
            data.add((ECHO, &cell, "longwire"), 0, [("cpu_us", 2.0)]);
            data.add((ECHO, &cell, "yawc"), 0, [("cpu_us", 2.0 * ratio)]);
        }
        vec![(Part::Echo, data)]
    }

    #[test]
    fn a_plot_shows_each_ratio_in_both_schemes() {
        let files = all(&parts());
        let names: Vec<_> = files.iter().map(|(name, _)| &**name).collect();
        // There are no large messages, and no other parts.
        assert_eq!(names, ["small-light.svg", "small-dark.svg"]);
        for (name, svg) in &files {
            for text in ["0.90", "7.30", "yawc", "4×", "Echo, up to 1 KiB"] {
                assert!(svg.contains(text), "{name} has no {text}: {svg}");
            }
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{name}");
        }
        assert!(files[0].1.contains("#0969DA") && files[0].1.contains("#BC4C00"), "a bar on each side");
        assert!(files[1].1.contains("#4493F8") && !files[1].1.contains("#0969DA"));
        assert_eq!(all(&parts()), files);
    }

    #[test]
    fn bytes_are_shown_with_few_digits() {
        for (bytes, expected) in [(1836.0, "1.8 kB"), (82_238.0, "82.2 kB"), (139_376.0, "139 kB")] {
            assert_eq!(kilobytes(bytes), expected);
        }
    }
}
