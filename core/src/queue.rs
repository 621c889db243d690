//! What keeps an upstream from drowning: so many requests are in flight at once, the rest wait in line, higher priorities first and by
//! ticket within one. Pure: takes `now`, wakes by `Waker`, knows no tokio and no HTTP. Which endpoint a request goes to is not decided
//! here.

mod adaptive;
mod gate;
mod knee;
mod line;
mod pace;
#[cfg(test)]
mod tests;

pub use gate::{Entered, Gate, GateView, Place, Refusal, Waiting};
pub use line::{Reason, Tally};

/// Priorities are 0 to 15; who is above that counts as 15.
pub const LANES: usize = 16;
