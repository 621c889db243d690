//! What all workers know of one upstream together. It outlives reloads, known by the upstream's name; limits are no part of it, so
//! that a reload may change them without forgetting what is counted.

#[derive(Debug, Default)]
pub struct UpstreamShared {}
