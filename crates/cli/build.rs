//! Packs the `o200k` vocabulary, which would be two thirds of the binary as it is.
//!
//! **Invariant**: what is packed here is what `tokens` unpacks (test `counts_are_those_of_the_crate`).

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// The file that `src/tokens/o200k.rs` includes.
const PACKED: &str = "o200k.deflate";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[expect(clippy::disallowed_methods, reason = "cargo names the folder so")]
    let folder = std::env::var("OUT_DIR")?;
    let file = File::create(Path::new(&folder).join(PACKED))?;
    let mut packed = DeflateEncoder::new(BufWriter::new(file), Compression::default());
    rmp_serde::encode::write(&mut packed, &bpe_openai::o200k_base().bpe)?;
    packed.finish()?.into_inner()?.sync_all()?;
    Ok(())
}
