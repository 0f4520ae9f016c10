//! Reads the files that are to be judged.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use advisor_facts::sysctl_files::{
    DIRECTORIES, FILE_LIMIT_BYTES, SYSCTL_CONF, SysctlFile, SysctlFiles, parse,
};
use advisor_facts::{Facts, Unseen};

use super::ignore::{self, Ignore};
use super::{Problem, lint};

/// The path that stands for standard input.
const STDIN: &str = "-";
/// What standard input is called in the answer.
const STDIN_NAME: &str = "<stdin>";

/// Why there is nothing to judge.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// A file or a directory cannot be read.
    #[error("{}: cannot read it: {source}", path.display())]
    Read {
        /// The file or the directory.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// A pipe, a device or standard input holds nothing.
    #[error("{}: it is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A directory has no file of settings.
    #[error("{}: there is no file of settings in it (*.conf, or the sysctl.d of a host)", path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
    /// A comment for this program makes no sense.
    #[error("{}:{line}:{column}: {why}", path.display())]
    Comment {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        why: String,
    },
}

impl LintError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Nothing { .. } => {
                "lint takes files, - for standard input, directories of .conf files, or the / of \
                 a host"
            }
            Self::Empty { .. } => "see that what writes to it works",
            Self::Comment { .. } => {
                "write `# lastbyte: ignore LB410: why`; `advisor rules` lists the codes"
            }
        }
    }
}

/// Files that apply together.
pub struct FileSet {
    /// The files, by their paths on the host.
    files: SysctlFiles,
    /// What was read of each, by its path on the host.
    sources: Vec<Source>,
}

/// What was read of a file.
struct Source {
    /// Its path on the host.
    path: PathBuf,
    /// Its path here.
    here: PathBuf,
    bytes: Vec<u8>,
    ignored: Vec<Ignore>,
}

/// A file, as it was read here.
pub struct Text<'a> {
    /// Its path here.
    pub path: &'a Path,
    /// What it holds.
    pub bytes: &'a [u8],
}

impl FileSet {
    /// What is wrong with them, by their paths here. What a comment leaves out is marked.
    pub fn lint(&self, base: &Facts) -> Vec<Problem> {
        let mut problems = lint(&self.files, base);
        for problem in &mut problems {
            let Some(source) = self
                .sources
                .iter()
                .find(|source| source.path == problem.path)
            else {
                continue;
            };
            problem.path.clone_from(&source.here);
            let ignore = source
                .ignored
                .iter()
                .find(|ignore| ignore.line == problem.line && ignore.code == problem.code);
            problem.ignored = ignore.map(|ignore| match ignore.reason.as_str() {
                "" => "by a comment".to_owned(),
                reason => format!("by a comment: {reason}"),
            });
        }
        problems
    }

    /// The files by their paths here.
    pub fn texts(&self) -> impl Iterator<Item = Text<'_>> {
        self.sources.iter().map(|source| Text {
            path: &source.here,
            bytes: &source.bytes,
        })
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

/// Reads what is to be judged. A directory with sysctl.d directories in it
/// stands for `/` of a host; one without is a sysctl.d itself. All files and
/// directories of the latter kind apply together, by their names.
pub fn read(paths: &[PathBuf]) -> Result<Vec<FileSet>, LintError> {
    let mut sets = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        if path == Path::new(STDIN) {
            files.push(path.clone());
            continue;
        }
        let error = |source| LintError::Read {
            path: path.clone(),
            source,
        };
        if !std::fs::metadata(path).map_err(error)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let nothing = || LintError::Nothing { path: path.clone() };
        if is_root(path) {
            let set = read_root(path)?;
            if set.is_empty() {
                return Err(nothing());
            }
            sets.push(set);
            continue;
        }
        let mut is_empty = true;
        for entry in std::fs::read_dir(path).map_err(error)? {
            let entry = entry.map_err(error)?.path();
            if entry
                .extension()
                .is_some_and(|extension| extension == "conf")
            {
                is_empty = false;
                // A link to /dev/null hides files of its name in other directories, and a
                // pipe would wait for ever. One that leads nowhere is an error.
                if entry.is_file() || !entry.exists() {
                    files.push(entry);
                }
            }
        }
        if is_empty {
            return Err(nothing());
        }
    }
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    if !files.is_empty() {
        sets.push(read_together(files)?);
    }
    Ok(sets)
}

/// Whether a directory stands for `/` of a host.
fn is_root(path: &Path) -> bool {
    DIRECTORIES
        .iter()
        .chain([&SYSCTL_CONF])
        .any(|part| path.join(part).exists())
}

fn read_root(root: &Path) -> Result<FileSet, LintError> {
    let mut unseen: Vec<Unseen> = Vec::new();
    let mut files = SysctlFiles::read_tree(root, &mut unseen);
    if let Some(Unseen { what, why }) = unseen.pop() {
        return Err(LintError::Read {
            path: root.join(what.trim_start_matches('/')),
            source: io::Error::other(why),
        });
    }
    // Both programs are asked; this one's winner is named first.
    files.systemd = true;
    let sources = files
        .distinct()
        .map(|file| {
            let inside = file.path.strip_prefix("/").unwrap_or(&file.path);
            let here = root.join(inside);
            // A link in a recorded host must not lead into this one.
            let leads_away = root != Path::new("/") && here.is_symlink();
            let bytes = if leads_away || file.lines.is_empty() {
                Vec::new()
            } else {
                read_file(&here)?
            };
            Source::new(file.path.clone(), here, bytes)
        })
        .collect::<Result<_, _>>()?;
    Ok(FileSet { files, sources })
}

fn read_together(paths: Vec<PathBuf>) -> Result<FileSet, LintError> {
    let mut set = FileSet {
        files: SysctlFiles {
            systemd: true,
            ..SysctlFiles::default()
        },
        sources: Vec::new(),
    };
    for path in paths {
        let bytes = read_file(&path)?;
        if bytes.is_empty() && !path.is_file() {
            return Err(LintError::Empty { path });
        }
        let path = if path == Path::new(STDIN) {
            PathBuf::from(STDIN_NAME)
        } else {
            path
        };
        set.files.files.push(SysctlFile {
            lines: parse(&bytes),
            links_to_conf: false,
            path: path.clone(),
        });
        set.sources.push(Source::new(path.clone(), path, bytes)?);
    }
    Ok(set)
}

impl Source {
    fn new(path: PathBuf, here: PathBuf, bytes: Vec<u8>) -> Result<Self, LintError> {
        let ignored = ignore::parse(&here, &bytes)?;
        Ok(Self {
            path,
            here,
            bytes,
            ignored,
        })
    }
}

/// All that a file, a pipe or standard input holds.
fn read_file(path: &Path) -> Result<Vec<u8>, LintError> {
    let read = || {
        let mut bytes = Vec::new();
        if path == Path::new(STDIN) {
            io::stdin()
                .lock()
                .take(FILE_LIMIT_BYTES + 1)
                .read_to_end(&mut bytes)?;
        } else {
            File::open(path)?
                .take(FILE_LIMIT_BYTES + 1)
                .read_to_end(&mut bytes)?;
        }
        if bytes.len() as u64 > FILE_LIMIT_BYTES {
            return Err(io::Error::other(format!(
                "larger than {FILE_LIMIT_BYTES} bytes, which no file of settings is"
            )));
        }
        Ok(bytes)
    };
    read().map_err(|source| LintError::Read {
        path: path.to_owned(),
        source,
    })
}
