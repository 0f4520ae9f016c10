//! No circle between the top-level modules of any package of the workspace.
//!
//! What a module uses is found by its text: every path that begins with `crate`
//! or `super`, in code, in `use` and inside of macros. What the root of a package
//! re-exports counts as the module that has it. Tests may use what they like.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Uses that are known to close a circle: the package, the module that uses, and
/// the one that is used. None may be added; one that closes no circle any more is
/// to be taken out.
const KNOWN: &[(&str, &str, &str)] = &[];

/// What the root of a package is called, where it has code itself.
const ROOT: &str = "(root)";

/// A file of a package: its path for people, the module that it is, its text.
struct Source {
    shown: String,
    module: Vec<String>,
    tokens: TokenStream,
}

impl Source {
    /// `path` is relative to `src`; `None` for the root of a program, which is
    /// another crate.
    fn new(shown: &str, path: &Path, text: &str) -> Option<Self> {
        let mut module: Vec<String> = path
            .with_extension("")
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect();
        match module.last().unwrap().as_str() {
            "main" if module.len() == 1 => return None,
            "lib" if module.len() == 1 => module.clear(),
            "mod" => {
                module.pop();
            }
            _ => {}
        }
        let tokens = text
            .parse()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        Some(Self {
            shown: shown.to_owned(),
            module,
            tokens,
        })
    }
}

/// A path in a text that leads to another module of the same package.
struct Use {
    /// The module that has the path in it.
    from: Vec<String>,
    /// The path from the root of the package on.
    to: Vec<String>,
    /// `FILE:LINE: PATH`, for people.
    shown: String,
}

/// Everything that is found in the files of a package.
#[derive(Default)]
struct Found {
    uses: Vec<Use>,
    /// Modules that only tests have.
    tests: BTreeSet<Vec<String>>,
    /// What the root has by another module's name: the name, and the module.
    exported: BTreeMap<String, String>,
    /// What the root declares itself.
    root_items: BTreeSet<String>,
}

/// Which top-level module uses which, and where.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

fn is(token: Option<&TokenTree>, text: &str) -> bool {
    token.is_some_and(|token| match token {
        TokenTree::Ident(ident) => ident == text,
        TokenTree::Punct(punct) => text.len() == 1 && text.starts_with(punct.as_char()),
        _ => false,
    })
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is(tokens.get(at), ":") && is(tokens.get(at + 1), ":")
}

/// A path of a text, and the name that `as` gives it.
type Named = (Vec<String>, Option<String>);

/// The paths that begin at a token, several where it ends in a group of `use`,
/// and how many tokens they take.
fn paths(tokens: &[TokenTree], start: usize) -> (Vec<Named>, usize) {
    let mut at = start;
    let mut path = Vec::new();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
            Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => path.push("*".to_owned()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut all = Vec::new();
                let mut next = 0;
                while next < inner.len() {
                    let (paths, taken) = paths(&inner, next);
                    for (end, name) in paths {
                        all.push(([path.clone(), end].concat(), name));
                    }
                    // And the comma.
                    next += taken + 1;
                }
                return (all, at + 1 - start);
            }
            _ => return (vec![(path, None)], at - start),
        }
        at += 1;
        if is(tokens.get(at), "as")
            && let Some(TokenTree::Ident(name)) = tokens.get(at + 1)
        {
            return (vec![(path, Some(name.to_string()))], at + 2 - start);
        }
        if !is_separator(tokens, at) {
            return (vec![(path, None)], at - start);
        }
        at += 2;
    }
}

/// Whether an attribute leaves what follows to tests.
fn is_for_tests(attribute: &TokenTree) -> bool {
    let TokenTree::Group(group) = attribute else {
        return false;
    };
    let text: String = group.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test")
}

/// The token behind an item that begins here: behind its body, or its semicolon.
fn behind_item(tokens: &[TokenTree], start: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let length = tokens[start..].iter().position(ends);
    length.map_or(tokens.len(), |length| start + length + 1)
}

impl Found {
    fn search(&mut self, source: &Source) {
        self.walk(source, &source.module, source.tokens.clone());
    }

    fn walk(&mut self, source: &Source, module: &[String], tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let name = |at: usize| match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
            _ => None,
        };
        let mut at = 0;
        while at < tokens.len() {
            if is(tokens.get(at), "#") && tokens.get(at + 1).is_some_and(is_for_tests) {
                let end = behind_item(&tokens, at + 2);
                let declared = (at..end).find(|at| is(tokens.get(*at), "mod"));
                if let Some(name) = declared.and_then(|at| name(at + 1)) {
                    self.tests.insert([module, &[name]].concat());
                }
                at = end;
                continue;
            }
            if is(tokens.get(at), "mod")
                && let (Some(inner), Some(TokenTree::Group(body))) =
                    (name(at + 1), tokens.get(at + 2))
            {
                self.walk(source, &[module, &[inner]].concat(), body.stream());
                at += 3;
                continue;
            }
            if module.is_empty() {
                if is(tokens.get(at), "pub") && is(tokens.get(at + 1), "use") {
                    self.export(&tokens, at + 2);
                    at = behind_item(&tokens, at + 2);
                    continue;
                }
                let items = ["fn", "struct", "enum", "trait", "type", "const", "static"];
                if items.iter().any(|item| is(tokens.get(at), item)) {
                    self.root_items.extend(name(at + 1));
                }
            }
            let begins = ["crate", "super", "self"]
                .iter()
                .any(|start| is(tokens.get(at), start));
            if begins && is_separator(&tokens, at + 1) {
                let line = tokens[at].span().start().line;
                let (found, taken) = paths(&tokens, at);
                for (path, _) in found {
                    self.add(source, module, &path, line);
                }
                at += taken;
                continue;
            }
            if let TokenTree::Group(group) = &tokens[at] {
                self.walk(source, module, group.stream());
            }
            at += 1;
        }
    }

    /// What the root exports under its own name.
    fn export(&mut self, tokens: &[TokenTree], start: usize) {
        for (path, alias) in paths(tokens, start).0 {
            let mut path = path
                .into_iter()
                .filter(|part| part != "self" && part != "crate");
            if let Some(module) = path.next() {
                let name = alias
                    .or_else(|| path.last())
                    .unwrap_or_else(|| module.clone());
                self.exported.insert(name, module);
            }
        }
    }

    /// Notes a path where it leads out of the top-level module.
    fn add(&mut self, source: &Source, module: &[String], path: &[String], line: usize) {
        let mut base = module.to_vec();
        let mut rest = path;
        while let Some((first, behind)) = rest.split_first() {
            match first.as_str() {
                "crate" => base.clear(),
                "super" => {
                    base.pop();
                }
                "self" => {}
                _ => break,
            }
            rest = behind;
        }
        if base.is_empty() && !rest.is_empty() {
            self.uses.push(Use {
                from: module.to_vec(),
                to: rest.to_vec(),
                shown: format!("{}:{line}: {}", source.shown, path.join("::")),
            });
        }
    }
}

/// The graph of a package's files.
fn graph(sources: &[Source]) -> Graph {
    let mut found = Found::default();
    for source in sources {
        found.search(source);
    }
    let is_test =
        |module: &[String]| (0..=module.len()).any(|end| found.tests.contains(&module[..end]));
    let modules: BTreeSet<&String> = sources
        .iter()
        .filter_map(|source| source.module.first())
        .collect();
    let mut graph: Graph = modules
        .iter()
        .map(|module| ((*module).clone(), BTreeMap::new()))
        .collect();
    for one in found.uses.iter().filter(|one| !is_test(&one.from)) {
        let name = &one.to[0];
        let to = if modules.contains(name) {
            name.clone()
        } else if let Some(module) = found.exported.get(name) {
            module.clone()
        } else if found.root_items.contains(name) {
            ROOT.to_owned()
        } else {
            panic!(
                "{}: no module, and the root neither has nor exports it",
                one.shown
            );
        };
        let from = one.from.first().map_or(ROOT, String::as_str).to_owned();
        if from != to {
            let uses = graph.entry(from).or_default();
            uses.entry(to).or_insert_with(|| one.shown.clone());
        }
    }
    graph
}

/// The shortest way from one module to another along what each uses.
fn way(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![from.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way.last()?;
        if last == to {
            return Some(way);
        }
        if seen.insert(last.clone()) {
            for next in graph.get(last).into_iter().flat_map(BTreeMap::keys) {
                ways.push_back([way.clone(), vec![next.clone()]].concat());
            }
        }
    }
    None
}

/// The shortest circle, a line for each module on it; `None` without any.
fn circle(graph: &Graph) -> Option<String> {
    let edges = graph
        .iter()
        .flat_map(|(from, uses)| uses.keys().map(move |to| (from, to)));
    let shortest = edges
        .filter_map(|(from, to)| Some([vec![from.clone()], way(graph, to, from)?].concat()))
        .min_by_key(Vec::len)?;
    let mut text = String::new();
    for step in shortest.windows(2) {
        let shown = &graph[&step[0]][&step[1]];
        let _ = writeln!(text, "  {} uses {}: {shown}", step[0], step[1]);
    }
    Some(text)
}

/// The packages of the workspace: the name and the directory of each.
fn packages() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    members
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|member| (member.to_owned(), root.join(member)))
        .collect()
}

/// The files of a package's `src`.
fn sources(name: &str, src: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut directories = vec![src.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(src).unwrap();
                let shown = format!("{name}/src/{}", relative.display());
                let text = fs::read_to_string(&path).unwrap();
                sources.extend(Source::new(&shown, relative, &text));
            }
        }
    }
    sources.sort_by(|one, other| one.module.cmp(&other.module));
    sources
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let mut known: BTreeSet<_> = KNOWN.iter().collect();
    assert_eq!(known.len(), KNOWN.len(), "each once");
    let mut circles = String::new();
    for (package, directory) in packages() {
        let sources = sources(&package, &directory.join("src"));
        assert!(!sources.is_empty(), "{package} has no sources");
        let mut graph = graph(&sources);
        let whole = graph.clone();
        known.retain(|(of, from, to)| {
            if *of != package {
                return true;
            }
            assert!(
                graph
                    .get_mut(*from)
                    .is_some_and(|uses| uses.remove(*to).is_some())
                    && way(&whole, to, from).is_some(),
                "{package}: {from} -> {to} closes no circle any more: take it out of KNOWN"
            );
            false
        });
        if let Some(circle) = circle(&graph) {
            let _ = write!(
                circles,
                "{package}: modules use each other in a circle:\n{circle}"
            );
        }
    }
    assert!(circles.is_empty(), "{circles}");
    assert!(known.is_empty(), "no such package: {known:?}");
}

/// The circle in a package of these files.
fn circle_in(files: &[(&str, &str)]) -> Option<String> {
    let sources: Vec<Source> = files
        .iter()
        .filter_map(|(path, text)| Source::new(path, Path::new(path), text))
        .collect();
    circle(&graph(&sources))
}

#[test]
fn each_way_to_use_a_module_closes_a_circle() {
    for uses in [
        "use crate::b::B;",
        "use super::b::B;",
        "use crate::{a, b::{B, C}};",
        "pub use crate::b::B;",
        "use crate::Exported;",
        "use crate::Renamed;",
        "fn f() { crate::b::f() }",
        "fn f() { println!(\"{}\", super::b::f()) }",
        "mod inner { use super::super::b::B; }",
        "mod inner { fn f() { vec![crate::b::B] } }",
        "macro_rules! m { () => { $crate::b::f() } }",
        "#[cfg(test)] mod tests; use crate::b;",
    ] {
        let files = [
            (
                "lib.rs",
                "mod a; mod b; pub use b::{Exported, Other as Renamed};",
            ),
            ("a.rs", uses),
            ("b.rs", "use crate::a::A;"),
        ];
        let circle = circle_in(&files).unwrap_or_else(|| panic!("no circle by {uses}"));
        assert!(circle.contains("a uses b: a.rs:1: "), "{circle}");
        assert!(
            circle.ends_with("b uses a: b.rs:1: crate::a::A\n"),
            "{circle}"
        );
    }
}

#[test]
fn a_longer_circle_is_told_module_by_module() {
    let circle = circle_in(&[
        ("lib.rs", "pub struct Top; mod a;"),
        ("a.rs", "mod inner;"),
        ("a/inner.rs", "\nuse crate::b::B;"),
        ("b/mod.rs", "use crate::c::C;"),
        ("c.rs", "use crate::a::A; use crate::Top;"),
    ]);
    assert_eq!(
        circle.unwrap(),
        "  a uses b: a/inner.rs:2: crate::b::B\n  b uses c: b/mod.rs:1: crate::c::C\n  \
         c uses a: c.rs:1: crate::a::A\n"
    );
}

#[test]
fn what_tests_and_inner_modules_use_closes_none() {
    for uses in [
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] #[expect(x)] mod tests { use crate::b::B; } fn f() {}",
        "#[cfg(test)] mod tests;",
        "mod b { pub use super::inner::B; } fn f() { self::b::f() }",
        "/// [`crate::b::B`]\npub(crate) fn f() {}",
        "const TEXT: &str = \"crate::b::B\";",
        "use b::of_another_crate;",
    ] {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", uses),
            ("a/tests.rs", "use crate::b::B;"),
            ("b.rs", "use crate::a::A;"),
        ];
        let files = if uses.contains("tests;") {
            &files[..]
        } else {
            &[files[0], files[1], files[3]]
        };
        assert_eq!(circle_in(files), None, "{uses}");
    }
}
