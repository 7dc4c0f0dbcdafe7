//! `wasi:random`: from the same seeded generator as the world's own `random`, so that a run can be repeated. Not for
//! keys: the numbers follow from the seed.

use super::bindings::wasi::random::{insecure, insecure_seed, random};
use crate::wasm::host::{Excess, Host};

/// Maximum number of bytes returned by one call.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Number of bytes that count as one more host call.
const RANDOM_BYTES_PER_CALL: u64 = 1 << 10;

impl Host {
    fn random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        self.count_call()?;
        let count = match usize::try_from(count) {
            Ok(bytes) if count <= RANDOM_BYTES_MAX => bytes,
            _ => return Err(Excess::RandomBytes { bytes: count, limit: RANDOM_BYTES_MAX }.into()),
        };
        for _ in 0..count as u64 / RANDOM_BYTES_PER_CALL {
            self.count_call()?;
        }
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.random().to_le_bytes());
        }
        bytes.truncate(count);
        Ok(bytes)
    }

    fn random_number(&mut self) -> wasmtime::Result<u64> {
        self.count_call()?;
        Ok(self.random())
    }
}

impl random::Host for Host {
    fn get_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(count)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_number()
    }
}

impl insecure::Host for Host {
    fn get_insecure_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(count)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_number()
    }
}

impl insecure_seed::Host for Host {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random_number()?, self.random()))
    }
}
