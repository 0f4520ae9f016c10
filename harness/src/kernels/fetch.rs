//! Fetches kernels through apt's verified download, and lists what the archives have.
//! Nothing is installed, and apt's own state stays as it is.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::KernelError;
use super::apt::{self, Mirror};
use super::cache::{Cache, Stored};
use super::catalogue::{ArchiveKind, Line, LineRelease, Offer};

/// Replaces the mirror of this machine's apt configuration.
#[derive(Clone, Debug, Default)]
pub struct MirrorOptions {
    /// URL of Debian's main archive; the security archive is taken to be beside
    /// it.
    pub mirror: Option<String>,
    /// The keys that sign it.
    pub keyring: Option<PathBuf>,
}

/// The progress of a fetch.
#[derive(Clone, Debug, PartialEq)]
pub enum FetchProgress {
    /// Reading what a suite offers.
    Index(&'static str),
    /// Getting the packages of a release.
    Download(String),
    /// How much of it is done, in percent.
    Percent(f64),
    /// Unpacking them.
    Unpack,
}

/// apt's configuration for this one use. Lists are cleared because a setting
/// only adds to them; the sandbox's user could not enter a private directory.
const CONFIGURATION: &str = r#"
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Periodic;
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures { "amd64"; };
APT::Get::List-Cleanup "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Dir::Etc::sourceparts "/dev/null";
"#;

/// What the archives offer of some lines, read once.
pub struct Archives {
    apt: Apt,
    /// The suites that could be read, each with its lines for apt.
    suites: Vec<(&'static str, String)>,
    /// What they have of each line, by its name.
    offers: Vec<(&'static str, Vec<Offer>)>,
    /// The error of a suite that could not be read: mirrors drop suites.
    refused: Option<KernelError>,
    /// apt's files, removed when this is dropped.
    _workshop: TempDir,
}

impl Archives {
    /// Reads what the suites of `lines` offer. A suite that cannot be read is left out
    /// if another can.
    pub fn read(
        lines: &[&'static Line],
        cache: &Cache,
        options: &MirrorOptions,
        progress: &mut dyn FnMut(FetchProgress),
    ) -> Result<Self, KernelError> {
        let workshop = cache.workshop()?;
        let names: Vec<&str> = lines.iter().map(|line| line.name).collect();
        let apt = Apt::new(names.join(", "), workshop.path().to_owned())?;
        let mut suites: Vec<(&'static str, String)> = Vec::new();
        let mut refused = None;
        for (kind, suite) in lines.iter().flat_map(|line| line.suites) {
            if suites.iter().any(|(known, _)| known == suite) {
                continue;
            }
            progress(FetchProgress::Index(suite));
            let stanza = apt::stanza(&mirror(&apt.subject, *kind, options)?, suite);
            match apt.update(&stanza, progress) {
                Ok(()) => suites.push((suite, stanza)),
                Err(error) => refused = Some(error),
            }
        }
        if let (true, Some(error)) = (suites.is_empty(), &refused) {
            return Err(error.clone());
        }
        let mut archives = Self {
            apt,
            suites,
            offers: Vec::new(),
            refused,
            _workshop: workshop,
        };
        for line in lines {
            archives.choose(line)?;
            let offers = archives.apt.offers(line)?;
            archives.offers.push((line.name, offers));
        }
        Ok(archives)
    }

    /// Has apt read the suites of one line: others can have packages of its kernels that
    /// were built for another release of Debian.
    fn choose(&self, line: &Line) -> Result<(), KernelError> {
        let is_of_line = |suite: &str| line.suites.iter().any(|(_, own)| *own == suite);
        let stanzas = self.suites.iter().filter(|(suite, _)| is_of_line(suite));
        let stanzas: String = stanzas.map(|(_, stanza)| stanza.as_str()).collect();
        self.apt.write_sources(&stanzas)
    }

    fn images(&self, line: &Line) -> Vec<&Offer> {
        let offers = self.offers.iter().find(|(name, _)| *name == line.name);
        offers.map_or_else(Vec::new, |(_, offers)| line.images(offers))
    }

    /// The releases of a line that they have, oldest first, each with the version of its
    /// image.
    pub fn releases(&self, line: &'static Line) -> Vec<(LineRelease, &str)> {
        self.images(line)
            .into_iter()
            .filter_map(|image| {
                let release = line.release_in(&image.package)?.to_owned();
                let named = LineRelease {
                    line,
                    release: Some(release),
                };
                Some((named, image.version.as_str()))
            })
            .collect()
    }

    /// Fetches a kernel into the cache; of a line without a release the newest.
    pub fn fetch(
        &self,
        wanted: &LineRelease,
        cache: &Cache,
        progress: &mut dyn FnMut(FetchProgress),
    ) -> Result<Stored, KernelError> {
        let line = wanted.line;
        let images = self.images(line);
        let image = match &wanted.release {
            None => images.last(),
            Some(release) => images
                .iter()
                .find(|image| line.release_in(&image.package) == Some(release)),
        };
        // A suite that could not be read may have it.
        let Some(image) = image else {
            return Err(self
                .refused
                .clone()
                .unwrap_or_else(|| gone(wanted, &images)));
        };
        progress(FetchProgress::Download(image.package.clone()));
        self.choose(line)?;
        let packages = self.apt.packages(line, image)?;
        let unpacked = self.apt.download(&packages, progress)?;
        progress(FetchProgress::Unpack);
        let (vmlinuz, modules) = find_kernel(&unpacked).ok_or_else(|| {
            KernelError::environment(
                &wanted.to_string(),
                "find the kernel in its packages",
                NO_KERNEL,
                "the packages have changed; a newer harness may know them",
            )
        })?;
        let stored = cache.store(&wanted.to_string(), &packages, None, &vmlinuz, &modules)?;
        if let Some(changelog) = find_changelog(&unpacked) {
            // It only tells what changed; without it the kernel is whole.
            let _ = fs::copy(changelog, stored.changelog());
        }
        Ok(stored)
    }
}

const NO_KERNEL: &str = "there is no vmlinuz or no directory of modules";

fn gone(wanted: &LineRelease, images: &[&Offer]) -> KernelError {
    let suites: Vec<&str> = wanted.line.suites.iter().map(|(_, suite)| *suite).collect();
    let releases = images
        .iter()
        .filter_map(|image| wanted.line.release_in(&image.package));
    let hint = match releases.collect::<Vec<_>>().as_slice() {
        [] => "try another mirror (--mirror), or another kernel".to_owned(),
        releases => format!("it has {}", releases.join(", ")),
    };
    KernelError::environment(
        &wanted.to_string(),
        "fetch it",
        &format!("the mirror does not offer it in {}", suites.join(", ")),
        &hint,
    )
}

fn mirror(
    subject: &str,
    kind: ArchiveKind,
    options: &MirrorOptions,
) -> Result<Mirror, KernelError> {
    let keyring = options
        .keyring
        .as_ref()
        .map(|path| path.display().to_string());
    let mut mirror = match &options.mirror {
        Some(uri) => {
            let main = Mirror {
                uri: uri.clone(),
                signed_by: None,
            };
            match kind {
                ArchiveKind::Main => main,
                ArchiveKind::Security => main.security(),
            }
        }
        None => apt::mirror(&apt::sources(), kind).ok_or_else(|| {
            KernelError::environment(
                subject,
                "fetch it",
                "apt's configuration on this machine names no mirror of Debian",
                "name one: --mirror URL --keyring FILE (of the package debian-archive-keyring)",
            )
        })?,
    };
    if keyring.is_some() {
        mirror.signed_by = keyring;
    }
    Ok(mirror)
}

/// apt with its state in a directory of its own.
struct Apt {
    /// What it is used for, in errors: the names of the kernels.
    subject: String,
    directory: PathBuf,
}

impl Apt {
    fn new(subject: String, directory: PathBuf) -> Result<Self, KernelError> {
        let apt = Self { subject, directory };
        let path = apt
            .directory
            .to_str()
            .filter(|path| !path.contains('"'))
            .ok_or_else(|| {
                apt.error(
                    "set apt up",
                    "the cache's path can't be written down for apt",
                    "",
                )
            })?;
        let configuration = format!(
            "{CONFIGURATION}\
             Dir::Etc::sourcelist \"{path}/debian.sources\";\n\
             Dir::State \"{path}/state\";\n\
             Dir::State::status \"{path}/status\";\n\
             Dir::Cache \"{path}/cache\";\n"
        );
        [
            "state/lists/partial",
            "cache/archives/partial",
            "packages",
            "unpacked",
        ]
        .iter()
        .try_for_each(|part| fs::create_dir_all(apt.directory.join(part)))
        .and_then(|()| fs::write(apt.directory.join("status"), ""))
        .and_then(|()| fs::write(apt.directory.join("apt.conf"), configuration))
        .map_err(|error| apt.error("set apt up", &error.to_string(), ""))?;
        Ok(apt)
    }

    fn error(&self, action: &str, words: &str, hint: &str) -> KernelError {
        KernelError::environment(&self.subject, action, words, hint)
    }

    fn write_sources(&self, stanzas: &str) -> Result<(), KernelError> {
        fs::write(self.directory.join("debian.sources"), stanzas)
            .map_err(|error| self.error("write apt's sources", &error.to_string(), ""))
    }

    /// Runs a program of apt's and returns its output.
    fn run(
        &self,
        program: &str,
        arguments: &[&OsStr],
        progress: &mut dyn FnMut(FetchProgress),
    ) -> Result<String, KernelError> {
        let action = format!("run {program}");
        let started = Command::new(program)
            .args(arguments)
            .env("APT_CONFIG", self.directory.join("apt.conf"))
            .env("LC_ALL", "C")
            .current_dir(self.directory.join("packages"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = started.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "install the packages apt and dpkg",
                _ => "",
            };
            self.error(&action, &error.to_string(), hint)
        })?;
        // Its errors are short: they fit into the pipe while its output is
        // read.
        let mut printed = String::new();
        let output = child.stdout.take().map(BufReader::new);
        for text in output.into_iter().flat_map(BufRead::lines) {
            let text = text.map_err(|error| self.error(&action, &error.to_string(), ""))?;
            if let Some(done) = percent(&text) {
                progress(FetchProgress::Percent(done));
            } else {
                printed += &text;
                printed.push('\n');
            }
        }
        let output = child
            .wait_with_output()
            .map_err(|error| self.error(&action, &error.to_string(), ""))?;
        let complaints = complaints(&String::from_utf8_lossy(&output.stderr));
        if output.status.success() && complaints.is_empty() {
            return Ok(printed);
        }
        let words = if complaints.is_empty() {
            output.status.to_string()
        } else {
            complaints.join("; ")
        };
        Err(self.error(
            "fetch it",
            &format!("{program}: {words}"),
            "is the mirror reachable, and is there room on the disk?",
        ))
    }

    fn update(
        &self,
        stanza: &str,
        progress: &mut dyn FnMut(FetchProgress),
    ) -> Result<(), KernelError> {
        self.write_sources(stanza)?;
        let arguments = ["update", "-q", "-o", "APT::Status-Fd=1"].map(OsStr::new);
        self.run("apt-get", &arguments, progress).map(|_| ())
    }

    /// The images that the suites offer.
    fn offers(&self, line: &Line) -> Result<Vec<Offer>, KernelError> {
        let Some(prefix) = line.packages.first() else {
            return Ok(Vec::new());
        };
        let names = ["pkgnames", prefix].map(OsStr::new);
        let names = self.run("apt-cache", &names, &mut |_| ())?;
        self.show(names.lines().filter(|name| line.is_image(name)))
    }

    /// All packages of a kernel, each in its newest version.
    fn packages(&self, line: &Line, image: &Offer) -> Result<Vec<Offer>, KernelError> {
        let names = line.packages_of(&image.package);
        let offers = self.show(names.iter().map(String::as_str))?;
        match names
            .iter()
            .find(|name| !offers.iter().any(|offer| offer.package == **name))
        {
            None => Ok(offers),
            Some(missing) => Err(self.error(
                "fetch it",
                &format!("the mirror has {} and not {missing}", image.package),
                "try again later: a mirror may be halfway through an update",
            )),
        }
    }

    fn show<'b>(&self, names: impl Iterator<Item = &'b str>) -> Result<Vec<Offer>, KernelError> {
        let mut arguments = vec![OsStr::new("show"), OsStr::new("--no-all-versions")];
        arguments.extend(names.map(OsStr::new));
        if arguments.len() == 2 {
            return Ok(Vec::new());
        }
        let shown = self.run("apt-cache", &arguments, &mut |_| ())?;
        Ok(parse_offers(&shown))
    }

    /// Downloads and unpacks packages; returns the directory with their
    /// content.
    fn download(
        &self,
        packages: &[Offer],
        progress: &mut dyn FnMut(FetchProgress),
    ) -> Result<PathBuf, KernelError> {
        let wanted: Vec<String> = packages
            .iter()
            .map(|offer| format!("{}={}", offer.package, offer.version))
            .collect();
        self.forget_packages()?;
        let mut arguments = ["download", "-q", "-o", "APT::Status-Fd=1"]
            .map(OsStr::new)
            .to_vec();
        arguments.extend(wanted.iter().map(OsStr::new));
        self.run("apt-get", &arguments, progress)?;
        let downloaded = fs::read_dir(self.directory.join("packages"))
            .map_err(|error| self.error("unpack it", &error.to_string(), ""))?;
        let files: Vec<PathBuf> = downloaded.flatten().map(|file| file.path()).collect();
        self.unpack(&files)
    }

    /// Unpacks packages into one directory, in place of what was unpacked before.
    fn unpack(&self, packages: &[PathBuf]) -> Result<PathBuf, KernelError> {
        let unpacked = self.directory.join("unpacked");
        fs::remove_dir_all(&unpacked)
            .and_then(|()| fs::create_dir(&unpacked))
            .map_err(|error| self.error("unpack it", &error.to_string(), ""))?;
        for file in packages {
            let arguments = [OsStr::new("-x"), file.as_os_str(), unpacked.as_os_str()];
            self.run("dpkg-deb", &arguments, &mut |_| ())?;
        }
        Ok(unpacked)
    }

    /// Removes the packages that were downloaded for another kernel.
    fn forget_packages(&self) -> Result<(), KernelError> {
        let packages = self.directory.join("packages");
        fs::remove_dir_all(&packages)
            .and_then(|()| fs::create_dir(&packages))
            .map_err(|error| self.error("fetch it", &error.to_string(), ""))
    }
}

/// Unpacks packages below a directory; the one that has their content.
pub(super) fn unpack(packages: &[PathBuf], below: &Path) -> Result<PathBuf, KernelError> {
    let subject = packages.iter().map(|file| file.display().to_string());
    let subject = subject.collect::<Vec<_>>().join(", ");
    let packages: Vec<PathBuf> = packages
        .iter()
        .map(|file| file.canonicalize().unwrap_or_else(|_| file.clone()))
        .collect();
    Apt::new(subject, below.to_owned())?.unpack(&packages)
}

/// `dlstatus:1:23.5:Retrieving file ...`, as APT::Status-Fd has it.
fn percent(text: &str) -> Option<f64> {
    let (_, rest) = text.strip_prefix("dlstatus:")?.split_once(':')?;
    rest.split(':').next()?.parse().ok()
}

/// apt's errors, without its warnings.
fn complaints(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|text| {
            text.strip_prefix("E: ")
                .or_else(|| text.strip_prefix("W: Failed to fetch "))
                .or_else(|| text.strip_prefix("W: GPG error: "))
                .or_else(|| text.strip_prefix("dpkg-deb: error: "))
        })
        .map(str::to_owned)
        .collect()
}

/// The packages of `apt-cache show`.
fn parse_offers(text: &str) -> Vec<Offer> {
    text.split("\n\n")
        .filter_map(|stanza| {
            let value = |key: &str| {
                stanza
                    .lines()
                    .find_map(|text| text.strip_prefix(key))
                    .map(|value| value.trim().to_owned())
            };
            Some(Offer {
                package: value("Package:")?,
                version: value("Version:")?,
            })
        })
        .collect()
}

/// The vmlinuz and the directory of modules below a directory.
pub(super) fn find_kernel(unpacked: &Path) -> Option<(PathBuf, PathBuf)> {
    let entries = |directory: PathBuf| {
        fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
    };
    let modules = ["lib/modules", "usr/lib/modules"]
        .iter()
        .flat_map(|directory| entries(unpacked.join(directory)))
        .find(|release| release.join("kernel").is_dir())?;
    let vmlinuz = entries(unpacked.join("boot"))
        .chain([modules.join("vmlinuz")])
        .find(|file| {
            file.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
                && file.is_file()
        })?;
    Some((vmlinuz, modules))
}

/// The changelog in a kernel's packages.
fn find_changelog(unpacked: &Path) -> Option<PathBuf> {
    fs::read_dir(unpacked.join("usr/share/doc"))
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|package| {
            ["changelog.gz", "changelog.Debian.gz"].map(|name| package.path().join(name))
        })
        .filter(|file| file.symlink_metadata().is_ok_and(|of| of.is_file()))
        .max_by_key(|file| file.metadata().map_or(0, |of| of.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_prints_is_understood() {
        assert_eq!(
            percent("dlstatus:1:42.5:Retrieving file 1 of 2"),
            Some(42.5)
        );
        assert_eq!(percent("Get:1 http://mirror.example bookworm"), None);
        let said = "W: Download is performed unsandboxed\n\
                    E: The repository 'x' does not have a Release file.\n\
                    W: Failed to fetch http://mirror.example/x  Could not resolve\n\
                    W: Some index files failed to download.\n";
        assert_eq!(
            complaints(said),
            [
                "The repository 'x' does not have a Release file.",
                "http://mirror.example/x  Could not resolve"
            ]
        );
        let offers = parse_offers(
            "Package: a\nSource: linux\nVersion: 6.1.2-1\nDescription: x\n\nPackage: b\n\n",
        );
        let only = Offer {
            package: "a".to_owned(),
            version: "6.1.2-1".to_owned(),
        };
        assert_eq!(offers, [only]);
    }

    #[test]
    fn the_kernel_is_found_in_either_layout() {
        for (modules, vmlinuz) in [
            ("lib/modules/6.1.0", "boot/vmlinuz-6.1.0"),
            ("usr/lib/modules/7.3.4", "usr/lib/modules/7.3.4/vmlinuz"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path();
            fs::create_dir_all(root.join(modules).join("kernel")).unwrap();
            fs::create_dir_all(root.join("boot")).unwrap();
            fs::write(root.join("boot/config-6.1.0"), "").unwrap();
            assert_eq!(find_kernel(root), None);
            fs::write(root.join(vmlinuz), "").unwrap();
            assert_eq!(
                find_kernel(root),
                Some((root.join(vmlinuz), root.join(modules)))
            );
        }
    }

    #[test]
    fn a_mirror_that_is_given_takes_the_place_of_the_machines() {
        let options = MirrorOptions {
            mirror: Some("http://mirror.example/debian/".to_owned()),
            keyring: Some("/keys.gpg".into()),
        };
        let security = mirror("debian-6.1", ArchiveKind::Security, &options).unwrap();
        assert_eq!(security.uri, "http://mirror.example/debian-security");
        assert_eq!(security.signed_by.as_deref(), Some("/keys.gpg"));
    }
}
