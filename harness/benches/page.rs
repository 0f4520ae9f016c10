//! Measures the report of a large catalogue: how long each of its files takes to write, and
//! how large it is. Its results are those of a report that is given, over and over, each
//! time under another scenario's name, until there are as many as asked for.
//!
//! `cargo bench --bench page -- REPORT [RESULTS [DIRECTORY]]`; `ci/browser` opens the page.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use advisor_report::{Report, report};
use harness::report::{FORMATS, assemble};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().filter(|word| word != "--bench").collect();
    let Some(given) = words.get(1) else {
        eprintln!("error: no report\nhint: page REPORT [RESULTS [DIRECTORY]]");
        return ExitCode::from(2);
    };
    let results = words.get(2).and_then(|word| word.parse().ok());
    let directory = words.get(3).map_or("target/page", String::as_str);
    match measure(
        Path::new(given),
        results.unwrap_or(900),
        Path::new(directory),
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(given: &Path, results: usize, directory: &Path) -> Result<(), Box<dyn Error>> {
    let known = report::read(given)?;
    if known.scenarios.is_empty() {
        return Err(format!("{}: it has no results", given.display()).into());
    }
    let mut scenarios = Vec::new();
    while scenarios.len() < results {
        let place = scenarios.len();
        let mut one = known.scenarios[place % known.scenarios.len()].clone();
        let round = place / known.scenarios.len();
        if round > 0 {
            one.id = format!("{}-{round}", one.id);
        }
        scenarios.push(one);
    }
    let begun = Instant::now();
    let report: Report = assemble(scenarios, known.pinned_sysctls, known.origin);
    println!(
        "{} results of {}: {} ms to assemble",
        results,
        known.scenarios.len(),
        begun.elapsed().as_millis()
    );
    fs::create_dir_all(directory)?;
    for format in FORMATS {
        let begun = Instant::now();
        let text = format.render(&report)?;
        let file = directory.join(format.file());
        fs::write(&file, &text)?;
        #[expect(clippy::cast_precision_loss, reason = "a size for people")]
        let size = text.len() as f64 / 1e6;
        println!(
            "  {:<12} {:>6} ms  {size:>6.2} MB",
            format.file(),
            begun.elapsed().as_millis()
        );
    }
    println!("in {}", directory.display());
    Ok(())
}
