//! `maitred_fuzz::aws_authorization` for cargo-fuzz; see fuzz/README.md.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| maitred_fuzz::aws_authorization(data));
