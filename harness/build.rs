//! Lists the files of `suites/proof` with their text for `prove::templates`: an
//! installed harness has no suites beside it.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../suites/proof");
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut files: Vec<PathBuf> = directory
        .read_dir()
        .expect("suites/proof is a directory")
        .map(|entry| entry.expect("an entry of suites/proof").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort_unstable();
    let entries: Vec<String> = files
        .iter()
        .map(|path| {
            let name = path.file_stem().and_then(|name| name.to_str());
            let (name, path) = name.zip(path.to_str()).expect("a path in UTF-8");
            format!("({name:?}, include_str!({path:?}))")
        })
        .collect();
    let list = format!("[{}]\n", entries.join(",\n"));
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("proof_suites.rs"), list).expect("OUT_DIR is written");
}
