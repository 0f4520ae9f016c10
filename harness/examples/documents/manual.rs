//! The man pages and completions of both programs, for packages.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Error;

/// Writes `man/*.1`, a page for each command, and `completions/SHELL/`. The date is that of
/// the pages.
pub fn write(directory: &Path, date: &str) -> Result<(), Error> {
    let pages = directory.join("man");
    fs::create_dir_all(&pages)?;
    for (name, command) in [
        ("advisor", advisor::cli::Cli::command()),
        ("harness", harness::cli::command()),
    ] {
        let mut built = command.clone().disable_help_subcommand(true);
        built.build();
        write_pages(&built, &pages, date)?;
        // Completions name hidden commands, too.
        let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
        let mut complete = Command::new(name)
            .version(env!("CARGO_PKG_VERSION"))
            .subcommands(shown.cloned());
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let directory = directory.join("completions").join(shell.to_string());
            fs::create_dir_all(&directory)?;
            clap_complete::generate_to(shell, &mut complete, name, &directory)?;
        }
    }
    Ok(())
}

fn write_pages(command: &Command, directory: &Path, date: &str) -> Result<(), Error> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut page = Vec::new();
    Man::new(command.clone())
        .title(name.to_uppercase())
        .date(date)
        .source(concat!("lastbyte ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    let page = String::from_utf8(page)?
        // Two breaks around an empty line say the same as the line.
        .replace(".br\n\n.br\n", "\n")
        .replace(".SH EXTRA\nExit status:", ".SH EXIT STATUS\n")
        .replace(".SH EXIT STATUS\n\n", ".SH EXIT STATUS\n")
        .replace(".SH EXIT STATUS\n ", ".SH EXIT STATUS\n");
    fs::write(directory.join(format!("{name}.1")), page)?;
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
    shown
        .into_iter()
        .try_for_each(|one| write_pages(one, directory, date))
}
