//! `maitred_fuzz::event_stream` for cargo-fuzz; see fuzz/README.md.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| maitred_fuzz::event_stream(data));
