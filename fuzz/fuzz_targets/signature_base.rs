//! `maitred_fuzz::signature_base` for cargo-fuzz; see fuzz/README.md.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| maitred_fuzz::signature_base(data));
