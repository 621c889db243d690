//! Smooth weighted round robin: exact shares, evenly spread.

/// The longest cycle of turns; weights beyond it are scaled down.
pub const WHEEL_MAX: u64 = 8192;

/// Smooth weighted round robin, a whole cycle of it: of weights 5, 1, 1 it makes a a b a c a a.
pub fn wheel(weights: &[u32]) -> Vec<u16> {
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if sum == 0 {
        return Vec::new();
    }
    let divisor = weights.iter().filter(|&&weight| weight > 0).fold(0, |a, &b| gcd(a, u64::from(b)));
    let scale = (sum / divisor).div_ceil(WHEEL_MAX);
    let weights: Vec<i64> =
        weights.iter().map(|&weight| if weight == 0 { 0 } else { (u64::from(weight) / divisor / scale).max(1) as i64 }).collect();
    if weights.iter().all(|&weight| weight <= 1) {
        // In their order. The long way takes as many steps as there are endpoints, for each of them.
        return (0..weights.len() as u16).filter(|&index| weights[usize::from(index)] > 0).collect();
    }
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            let mut best = None;
            for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
                credit[index] += weight;
                if best.is_none_or(|best: usize| credit[index] > credit[best]) {
                    best = Some(index);
                }
            }
            let best = best.unwrap_or(0);
            credit[best] -= total;
            best as u16
        })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_evenly_spread() {
        assert_eq!(wheel(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(wheel(&[1, 1]), [0, 1]);
        assert_eq!(wheel(&[10, 20]), [1, 0, 1]);
        assert_eq!(wheel(&[3, 0]), [0, 0, 0][..1], "common factors are taken out, and weight 0 has no turn");
        assert!(wheel(&[]).is_empty());
        assert_eq!(wheel(&[0, 7, 0, 7]), [1, 3]);
        let many = wheel(&[1; 65_535]);
        assert!(many.len() == 65_535 && many.iter().enumerate().all(|(at, &index)| usize::from(index) == at));
        let large = wheel(&[1_000_000, 1, 1_000_000]);
        assert!(large.len() as u64 <= WHEEL_MAX + 2 && large.contains(&1));
    }
}
