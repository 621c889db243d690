//! Medians, quartiles and a histogram of latencies. Pure arithmetic: no clock, no I/O.

/// The middle of a set of figures and how far its halves spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub lower: f64,
    pub median: f64,
    pub upper: f64,
}

impl Spread {
    /// `None` for no figures at all. Quartiles are interpolated between neighbours (Hyndman and Fan's type 7,
    /// what R and NumPy do unless told otherwise).
    pub fn of(figures: &[f64]) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Spread { lower: quantile(&sorted, 0.25)?, median: quantile(&sorted, 0.5)?, upper: quantile(&sorted, 0.75)? })
    }
}

/// Between the two values that the place falls among; `None` for no figures at all.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// Linear steps within each power of two: no value is off by more than 1/512.
const STEPS: usize = 1024;
const STEPS_LOG: u32 = STEPS.trailing_zeros();
/// 2^40 ns are 18 minutes; a run is bounded far below.
const POWERS: usize = 31;

/// Latencies in nanoseconds, in constant space.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; STEPS * POWERS], total: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, value: u64) {
        let place = Histogram::place(value).min(self.counts.len() - 1);
        self.counts[place] += 1;
        self.total += 1;
    }

    /// The least recorded step that at least `share` of the values do not exceed; 0 when nothing was recorded.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Histogram::value(place);
            }
        }
        0
    }

    fn place(value: u64) -> usize {
        let power = (u64::BITS - value.leading_zeros()).saturating_sub(STEPS_LOG);
        if power == 0 {
            return value as usize;
        }
        // The top bit is implied by the power, so that each power above the first fills half its steps' range.
        power as usize * STEPS + (value >> power) as usize
    }

    fn value(place: usize) -> u64 {
        let (power, step) = (place / STEPS, place % STEPS);
        (step as u64) << power
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(figures: &[f64], lower: f64, median: f64, upper: f64) {
        assert_eq!(Spread::of(figures), Some(Spread { lower, median, upper }));
    }

    #[test]
    fn quartiles_are_those_of_numpy() {
        check(&[7.0], 7.0, 7.0, 7.0);
        check(&[2.0, 1.0], 1.25, 1.5, 1.75);
        check(&[9.0, 1.0, 5.0, 3.0, 7.0], 3.0, 5.0, 7.0);
        check(&[4.0, 1.0, 3.0, 2.0], 1.75, 2.5, 3.25);
        check(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 3.0, 5.0, 7.0);
    }

    #[test]
    fn no_figures_have_no_spread() {
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_histogram_is_off_by_less_than_a_percent() {
        for value in [0, 1, 255, 256, 257, 1000, 65_537, 1_000_000, 123_456_789, 60_000_000_000] {
            let mut histogram = Histogram::default();
            histogram.record(value);
            let read = histogram.quantile(0.99);
            assert!(read <= value && value - read <= value / 100, "{value} was read as {read}");
        }
    }

    #[test]
    fn quantiles_of_a_ramp_are_its_shares() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|value| histogram.record(value));
        for (share, wanted) in [(0.5, 5_000.0), (0.99, 9_900.0), (0.999, 9_990.0)] {
            let read = histogram.quantile(share) as f64;
            assert!((read / wanted - 1.0).abs() < 0.01, "{share}: {read}");
        }
    }

    #[test]
    fn values_beyond_the_range_count_as_its_end() {
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert!(histogram.quantile(0.5) > 1 << 39);
    }
}
