//! What was measured, as rows: printed as a table, as Markdown, or as JSON with every raw figure.
//! Measures nothing; a verdict here is arithmetic on the row alone.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::stats::Spread;

/// How far the upper quartile of a CPU ratio may stand above its bar.
pub const UPPER_SLACK: f64 = 0.03;

#[derive(Clone, Copy)]
pub struct Bar {
    pub limit: f64,
    /// Also required: the upper quartile within this of the limit.
    pub upper_slack: Option<f64>,
    on_ratio: bool,
    at_least: bool,
}

impl Bar {
    /// On the figure itself.
    pub fn figure(limit: f64) -> Bar {
        Bar { limit, upper_slack: None, on_ratio: false, at_least: false }
    }

    /// On the figure itself, from below.
    pub fn at_least(limit: f64) -> Bar {
        Bar { at_least: true, ..Bar::figure(limit) }
    }

    /// On the median of the ratios.
    pub fn ratio(limit: f64) -> Bar {
        Bar { on_ratio: true, ..Bar::figure(limit) }
    }

    /// On the median of the ratios and on their upper quartile.
    pub fn ratio_and_upper(limit: f64) -> Bar {
        Bar { upper_slack: Some(UPPER_SLACK), ..Bar::ratio(limit) }
    }

    fn holds(self, spread: Spread) -> bool {
        if self.at_least {
            return spread.median >= self.limit;
        }
        spread.median <= self.limit && self.upper_slack.is_none_or(|slack| spread.upper <= self.limit + slack)
    }
}

pub struct Row {
    pub scenario: String,
    pub contender: String,
    pub unit: &'static str,
    pub figure: Option<Spread>,
    /// Ratios to nginx (or to whatever the scenario names) taken within one round each.
    pub ratio: Option<Spread>,
    pub bar: Option<Bar>,
    pub note: String,
}

impl Row {
    pub fn new(scenario: &str, contender: &str, unit: &'static str, figures: &[f64]) -> Row {
        let (scenario, contender) = (scenario.to_string(), contender.to_string());
        Row { scenario, contender, unit, figure: Spread::of(figures), ratio: None, bar: None, note: String::new() }
    }

    pub fn failed(scenario: &str, contender: &str, bar: Option<Bar>, why: &str) -> Row {
        Row { bar, note: why.to_string(), ..Row::new(scenario, contender, "", &[]) }
    }

    fn verdict(&self) -> &'static str {
        let Some(bar) = self.bar else { return "" };
        match if bar.on_ratio { self.ratio } else { self.figure } {
            None => "INVALID",
            Some(spread) if bar.holds(spread) => "PASS",
            Some(_) => "MISS",
        }
    }

    fn cells(&self) -> [String; 7] {
        let bar = self.bar.map(|bar| match bar.upper_slack {
            Some(slack) => format!("<= {:.2} (upper <= {:.2})", bar.limit, bar.limit + slack),
            None => format!("{} {}", if bar.at_least { ">=" } else { "<=" }, bar.limit),
        });
        let figure = self.figure.map(|spread| format!("{} {}", show(spread), self.unit).trim_end().to_string());
        [
            self.scenario.clone(),
            self.contender.clone(),
            figure.unwrap_or_default(),
            self.ratio.map(show).unwrap_or_default(),
            bar.unwrap_or_default(),
            self.verdict().to_string(),
            self.note.clone(),
        ]
    }

    fn json(&self) -> Value {
        let spread = |s: Option<Spread>| s.map(|s| json!({"lower": s.lower, "median": s.median, "upper": s.upper}));
        json!({
            "scenario": self.scenario, "contender": self.contender, "unit": self.unit,
            "figure": spread(self.figure), "ratio": spread(self.ratio),
            "bar": self.bar.map(|bar| bar.limit), "verdict": self.verdict(), "note": self.note,
        })
    }
}

/// Figures that are no comparison: a table of their own below the others.
pub struct Table {
    title: &'static str,
    columns: [&'static str; 3],
    lines: Vec<[String; 3]>,
}

impl Table {
    pub fn new(title: &'static str, columns: [&'static str; 3]) -> Table {
        Table { title, columns, lines: Vec::new() }
    }

    pub fn add(&mut self, line: [String; 3]) {
        self.lines.push(line);
    }

    fn text(&self) -> String {
        let all = || std::iter::once(self.columns.map(str::to_string)).chain(self.lines.iter().cloned());
        let widths: [usize; 3] = std::array::from_fn(|at| all().map(|line| line[at].chars().count()).max().unwrap_or(0));
        let mut text = format!("\n{}\n\n", self.title);
        for line in all() {
            let line = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect::<String>();
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("\n{}:\n\n| {} |\n|{}\n", self.title, self.columns.join(" | "), " --- |".repeat(3));
        self.lines.iter().for_each(|line| _ = writeln!(text, "| {} |", line.join(" | ")));
        text
    }

    fn json(&self) -> Value {
        let line =
            |line: &[String; 3]| self.columns.iter().zip(line).map(|(name, cell)| (name.to_string(), json!(cell))).collect();
        json!({"title": self.title, "lines": self.lines.iter().map(line).collect::<Vec<Map<String, Value>>>()})
    }
}

const TITLES: [&str; 7] = ["scenario", "contender", "median [quartiles]", "ratio [quartiles]", "bar", "verdict", "note"];

/// A figure alone where there is no spread, else with its quartiles.
pub fn show(spread: Spread) -> String {
    let digits = match spread.median.abs() {
        0.0 => 0,
        0.0..10.0 => 3,
        10.0..1000.0 => 1,
        _ => 0,
    };
    let Spread { lower, median, upper } = spread;
    if lower == upper { format!("{median:.digits$}") } else { format!("{median:.digits$} [{lower:.digits$}..{upper:.digits$}]") }
}

#[derive(Default)]
pub struct Report {
    pub environment: Vec<(String, String)>,
    pub notes: Vec<String>,
    rows: Vec<Row>,
    tables: Vec<Table>,
    raw: Map<String, Value>,
    configs: Map<String, Value>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub fn add_table(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub fn add_raw(&mut self, scenario: &str, raw: Value) {
        self.raw.insert(scenario.to_string(), raw);
    }

    /// Keeps the configuration that a contender ran with. Long tables of routes are cut: their generator is the source.
    pub fn add_config(&mut self, name: &str, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        let mut kept = lines[..lines.len().min(80)].join("\n");
        if lines.len() > 80 {
            let _ = write!(kept, "\n# … {} more lines", lines.len() - 80);
        }
        self.configs.insert(name.to_string(), Value::String(kept));
    }

    /// Whether any bar was missed, or could not be judged.
    pub fn missed(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.verdict(), "MISS" | "INVALID"))
    }

    pub fn json(&self) -> Value {
        let environment: Map<String, Value> = self.environment.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let tables: Vec<Value> = self.tables.iter().map(Table::json).collect();
        json!({
            "environment": environment, "notes": self.notes, "rows": rows, "tables": tables, "raw": self.raw, "configs": self.configs,
        })
    }

    pub fn text(&self) -> String {
        let mut table: Vec<[String; 7]> = vec![TITLES.map(str::to_string)];
        table.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        let mut text = String::new();
        for (key, value) in &self.environment {
            let _ = writeln!(text, "{key}: {value}");
        }
        text.push('\n');
        for row in &table {
            let line = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect::<String>();
            let _ = writeln!(text, "{}", line.trim_end());
        }
        self.tables.iter().for_each(|table| text.push_str(&table.text()));
        self.notes.iter().for_each(|note| _ = writeln!(text, "note: {note}"));
        text
    }

    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.environment {
            let _ = writeln!(text, "- {key}: {value}");
        }
        let _ = writeln!(text, "\n| {} |\n|{}", TITLES.join(" | "), " --- |".repeat(TITLES.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.cells().map(|cell| cell.replace('|', "\\|")).join(" | "));
        }
        self.tables.iter().for_each(|table| text.push_str(&table.markdown()));
        self.notes.iter().for_each(|note| _ = writeln!(text, "\nNote: {note}."));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bar: Bar, ratios: &[f64]) -> &'static str {
        Row { bar: Some(bar), ratio: Spread::of(ratios), ..Row::new("s", "c", "", &[5.0]) }.verdict()
    }

    #[test]
    fn a_bar_needs_its_median_and_where_asked_its_upper_quartile() {
        assert_eq!(verdict(Bar::ratio_and_upper(0.70), &[0.68, 0.70, 0.72]), "PASS");
        assert_eq!(verdict(Bar::ratio_and_upper(0.70), &[0.60, 0.70, 0.90]), "MISS");
        assert_eq!(verdict(Bar::ratio(0.70), &[0.60, 0.70, 0.90]), "PASS");
        assert_eq!(verdict(Bar::ratio(0.70), &[0.71]), "MISS");
        assert_eq!(verdict(Bar::figure(5.0), &[9.0]), "PASS");
        assert_eq!(verdict(Bar::figure(4.9), &[0.1]), "MISS");
        assert_eq!(verdict(Bar::at_least(5.0), &[0.1]), "PASS");
        assert_eq!(verdict(Bar::at_least(5.1), &[0.1]), "MISS");
    }

    #[test]
    fn a_bar_without_figures_is_not_passed() {
        assert_eq!(verdict(Bar::ratio(1.0), &[]), "INVALID");
    }

    #[test]
    fn a_spread_shows_its_quartiles_only_where_it_spreads() {
        assert_eq!(show(Spread { lower: 1.0, median: 1.0, upper: 1.0 }), "1.000");
        assert_eq!(show(Spread { lower: 10.0, median: 20.0, upper: 30.0 }), "20.0 [10.0..30.0]");
    }
}
