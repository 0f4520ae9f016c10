//! The top-level modules of a package import each other in one direction only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Packages whose modules are checked, by the directory of their sources.
const PACKAGES: &[&str] = &["harness/src"];

/// Imports that make a circle and are still to be removed.
const KNOWN: &[(&str, &str)] = &[("suite", "actor")];

type Imports = BTreeMap<String, BTreeSet<String>>;

fn source_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end].lines();
    let lines = lines.map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The identifiers at the start of a path's rest: one, or each of a group.
fn heads(rest: &str) -> Vec<String> {
    let head = |text: &str| -> String {
        let name = text.trim_start().chars();
        name.take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![head(rest)];
    };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(head(&group[start..at]));
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// What a file imports by `crate::` or by as many `super::` as lead to the root.
fn imported(text: &str, depth: usize) -> BTreeSet<String> {
    let code = code(text);
    let to_root = "super::".repeat(depth);
    let mut names = BTreeSet::new();
    for prefix in ["crate::", &to_root] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            let is_inside = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
            if !before.is_some_and(is_inside) {
                names.extend(heads(&code[at + prefix.len()..]));
            }
        }
    }
    names
}

/// By top-level module, the others that it imports.
fn imports(sources: &Path) -> Imports {
    let mut files = Vec::new();
    source_files(sources, &mut files);
    let modules: BTreeSet<String> = files
        .iter()
        .filter_map(|file| module_of(file, sources))
        .collect();
    let mut imports = Imports::new();
    for file in &files {
        let Some(module) = module_of(file, sources) else {
            continue;
        };
        let depth = file.strip_prefix(sources).unwrap().components().count();
        let names = imported(&fs::read_to_string(file).unwrap(), depth);
        let others = names
            .into_iter()
            .filter(|name| *name != module && modules.contains(name));
        imports.entry(module.clone()).or_default().extend(others);
    }
    imports
}

/// The top-level module of a file; `None` for the roots of the package.
fn module_of(file: &Path, sources: &Path) -> Option<String> {
    let first = file.strip_prefix(sources).unwrap().components().next()?;
    let name = first.as_os_str().to_str()?.trim_end_matches(".rs");
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

/// A circle among the imports, if there is one.
fn circle(imports: &Imports) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    let mut path = Vec::new();
    imports
        .keys()
        .find_map(|module| circle_from(module, imports, &mut path, &mut done))
}

fn circle_from<'a>(
    module: &'a str,
    imports: &'a Imports,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|known| *known == module) {
        let circle = path[start..].iter().chain([&module]);
        return Some(circle.map(ToString::to_string).collect());
    }
    if done.contains(module) {
        return None;
    }
    path.push(module);
    let mut others = imports[module].iter();
    let found = others.find_map(|other| circle_from(other, imports, path, done));
    path.pop();
    done.insert(module);
    found
}

#[test]
fn no_top_level_modules_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for package in PACKAGES {
        let mut imports = imports(&root.join(package));
        assert!(imports.len() > 5, "{imports:?}");
        for (module, other) in KNOWN {
            let removed = imports
                .get_mut(*module)
                .is_some_and(|all| all.remove(*other));
            assert!(
                removed,
                "{module} no longer imports {other}: take it off KNOWN"
            );
        }
        assert_eq!(circle(&imports), None, "in {package}: {imports:#?}");
    }
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    assert_eq!(
        imported(
            "use crate::{lab::{Lab, run}, suite};\n// crate::no\nfn f() { crate::report::x() }",
            1
        ),
        ["lab", "report", "suite"].map(str::to_owned).into()
    );
    assert_eq!(
        imported(
            "use super::super::lab;\nuse super::own;\n#[cfg(test)]\nmod tests { use crate::cli; }",
            2
        ),
        ["lab".to_owned()].into()
    );
    let imports = |pairs: &[(&str, &[&str])]| -> Imports {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let pairs = pairs.iter();
        pairs
            .map(|(name, others)| ((*name).to_owned(), owned(others)))
            .collect()
    };
    let straight = imports(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]);
    assert_eq!(circle(&straight), None);
    let round = imports(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]);
    assert_eq!(circle(&round).unwrap(), ["b", "c", "b"]);
}
