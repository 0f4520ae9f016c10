//! Lists the calibrations of `advisor/kernels`: a kernel is a directory there.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let kernels = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../kernels");
    println!("cargo::rerun-if-changed={}", kernels.display());
    let mut calibrations = Vec::new();
    for entry in kernels.read_dir()? {
        let line = entry?.file_name().to_string_lossy().into_owned();
        let file = kernels.join(&line).join("calibration.json");
        if file.is_file() {
            let numbers = line.split('.').map(str::parse::<u32>);
            calibrations.push((numbers.collect::<Result<Vec<_>, _>>()?, line, file));
        }
    }
    // Oldest first.
    calibrations.sort();
    let mut text = "&[\n".to_owned();
    for (_, line, file) in calibrations {
        writeln!(text, "    ({line:?}, include_str!({file:?})),")?;
    }
    let list = Path::new(&env::var("OUT_DIR")?).join("calibrations.rs");
    Ok(fs::write(list, text + "]\n")?)
}
