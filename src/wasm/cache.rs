//! A cache of compiled modules on disk, so that the next start need not compile them again.
//!
//! An entry's name contains everything that it depends on: the module's hash, and what the compiled code is valid for
//! (the engine's version, its settings and the processor). It begins with the hash of the rest, and is written to a
//! temporary file that is then renamed. An entry is therefore complete or not used.

#![allow(unsafe_code)] // wasmtime cannot know where compiled code comes from.

use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// A directory of compiled modules.
pub(super) struct Cache {
    directory: PathBuf,
    /// What compiled code is valid for.
    compatibility: String,
}

/// A type that the cache can store.
pub(super) trait Compiled: Sized {
    const EXTENSION: &'static str;
    fn serialized(&self) -> wasmtime::Result<Vec<u8>>;
    /// # Safety
    ///
    /// The bytes must be the output of [`Compiled::serialized`].
    unsafe fn from_serialized(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;
}

impl Compiled for Module {
    const EXTENSION: &'static str = "module";

    fn serialized(&self) -> wasmtime::Result<Vec<u8>> {
        self.serialize()
    }

    unsafe fn from_serialized(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        // SAFETY: as the caller promises.
        unsafe { Self::deserialize(engine, bytes) }
    }
}

impl Compiled for Component {
    const EXTENSION: &'static str = "component";

    fn serialized(&self) -> wasmtime::Result<Vec<u8>> {
        self.serialize()
    }

    unsafe fn from_serialized(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        // SAFETY: as the caller promises.
        unsafe { Self::deserialize(engine, bytes) }
    }
}

impl Cache {
    pub fn new(directory: &Path, engine: &Engine) -> Self {
        let mut hasher = HashInto(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility = hasher.0.finalize().to_hex()[..16].to_owned();
        Self { directory: directory.to_owned(), compatibility }
    }

    /// Returns the cached compilation of these bytes, or the result of `compile`. An unusable cache only costs time.
    pub fn get<C: Compiled>(
        &self,
        engine: &Engine,
        bytes: &[u8],
        compile: impl FnOnce() -> wasmtime::Result<C>,
    ) -> wasmtime::Result<C> {
        let hash = blake3::hash(bytes).to_hex();
        let path = self.directory.join(format!("{hash}-{}.{}", self.compatibility, C::EXTENSION));
        if let Some(serialized) = self.read(&path) {
            // SAFETY: the file belongs to this user and nobody else may write it or its directory; its hash proves that
            // it is what `put` wrote, and its name for which engine.
            if let Ok(compiled) = unsafe { C::from_serialized(engine, &serialized) } {
                return Ok(compiled);
            }
        }
        let compiled = compile()?;
        if let Ok(serialized) = compiled.serialized() {
            let _ = self.put(&path, &serialized);
        }
        Ok(compiled)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        io::Write::write_all(&mut file, blake3::hash(bytes).as_bytes())?;
        io::Write::write_all(&mut file, bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Reads an entry if it is complete. It is not mapped: truncating a mapped file kills its readers.
    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        if !self.is_our_own(path) {
            return None;
        }
        let mut bytes = fs::read(path).ok()?;
        let hash: [u8; blake3::OUT_LEN] = *bytes.first_chunk()?;
        bytes.drain(..hash.len());
        (blake3::hash(&bytes) == hash).then_some(bytes)
    }

    /// Whether only this user can have written the file. Compiled code from another user could do anything.
    fn is_our_own(&self, path: &Path) -> bool {
        let me = rustix::process::geteuid().as_raw();
        [path, &self.directory]
            .into_iter()
            .all(|path| fs::metadata(path).is_ok_and(|found| found.uid() == me && found.mode() & 0o022 == 0))
    }
}

/// Lets BLAKE3 hash what can only be hashed by a [`Hasher`].
struct HashInto(blake3::Hasher);

impl Hasher for HashInto {
    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
