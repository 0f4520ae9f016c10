//! By what name people find a process: the script or the program, the unit and the
//! container.

use std::fmt;

use super::Process;

/// The options of an interpreter that say what it runs.
struct Interpreter {
    /// What its file name begins with; digits, dots and dashes may follow.
    name: &'static str,
    /// Options that take the next argument for their value.
    valued: &'static [&'static str],
    /// Options after which the next argument names what is run.
    named: &'static [&'static str],
    /// Options after which a program text follows: no name is to be had.
    text: &'static [&'static str],
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        name: "python",
        valued: &["-W", "-X", "--check-hash-based-pycs"],
        named: &["-m"],
        text: &["-c"],
    },
    Interpreter {
        name: "pypy",
        valued: &["-W", "-X"],
        named: &["-m"],
        text: &["-c"],
    },
    Interpreter {
        name: "node",
        valued: &[
            "-r",
            "--require",
            "--import",
            "--loader",
            "-C",
            "--conditions",
        ],
        named: &[],
        text: &["-e", "--eval", "-p", "--print"],
    },
    Interpreter {
        name: "nodejs",
        valued: &["-r", "--require", "--import"],
        named: &[],
        text: &["-e", "--eval", "-p", "--print"],
    },
    Interpreter {
        name: "java",
        valued: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--add-modules",
            "--add-opens",
            "--add-exports",
            "--add-reads",
        ],
        named: &["-jar", "-m", "--module"],
        text: &[],
    },
    Interpreter {
        name: "ruby",
        valued: &["-I", "-r", "-C", "-E"],
        named: &[],
        text: &["-e"],
    },
    Interpreter {
        name: "perl",
        valued: &["-I"],
        named: &[],
        text: &["-e", "-E"],
    },
    Interpreter {
        name: "php",
        valued: &["-c", "-d", "-z", "-S", "-t"],
        named: &["-f"],
        text: &["-r"],
    },
    Interpreter {
        name: "dotnet",
        valued: &["--additionalprobingpath", "--depsfile", "--runtimeconfig"],
        named: &["exec"],
        text: &[],
    },
    Interpreter {
        name: "lua",
        valued: &["-l"],
        named: &[],
        text: &["-e"],
    },
    Interpreter {
        name: "bash",
        valued: &["-o", "-O", "--rcfile", "--init-file"],
        named: &[],
        text: &["-c"],
    },
    Interpreter {
        name: "sh",
        valued: &["-o"],
        named: &[],
        text: &["-c"],
    },
    Interpreter {
        name: "dash",
        valued: &["-o"],
        named: &[],
        text: &["-c"],
    },
];

/// What an interpreter was told to run: the name of a script or an archive without
/// its directory, a module, a class. `None` of any other program, and where the
/// text of the program stands in the command line.
pub(super) fn script(program: Option<&str>, arguments: &[impl AsRef<str>]) -> Option<String> {
    let mut arguments = arguments.iter().map(AsRef::as_ref);
    let first = arguments.next()?;
    let interpreter = [program, of_file(first).as_deref()]
        .into_iter()
        .flatten()
        .find_map(interpreter)?;
    while let Some(argument) = arguments.next() {
        if interpreter.text.contains(&argument) {
            return None;
        }
        if interpreter.named.contains(&argument) {
            return arguments.next().and_then(of_file);
        }
        if interpreter.valued.contains(&argument) {
            arguments.next()?;
        } else if !argument.starts_with('-') && !argument.is_empty() {
            return of_file(argument);
        }
    }
    None
}

fn interpreter(program: &str) -> Option<&'static Interpreter> {
    INTERPRETERS.iter().find(|interpreter| {
        program
            .strip_prefix(interpreter.name)
            .is_some_and(|version| {
                let mut rest = version.chars();
                rest.all(|c| c.is_ascii_digit() || matches!(c, '.' | '-'))
            })
    })
}

/// The name of a file without its directory, and without what the kernel adds to
/// one that was deleted. `None` of a file in memory that says nothing.
pub(super) fn of_file(path: &str) -> Option<String> {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let name = path.rsplit('/').next()?;
    (!says_nothing(name)).then(|| name.to_owned())
}

/// Whether a name is the kernel's or a library's stopgap: of a program that was run
/// by descriptor or by /proc/self/exe, or of a thread.
fn says_nothing(name: &str) -> bool {
    matches!(name, "exe" | "MainThread" | "main") || name.bytes().all(|byte| byte.is_ascii_digit())
}

impl Process {
    /// Its systemd unit, by its cgroup; within a container that of its own systemd.
    pub fn unit(&self) -> Option<&str> {
        // What a container's runtime made is the container, and what stands above it
        // is the runtime.
        let components = self.cgroup.as_deref()?.rsplit('/');
        let mut inner = components.take_while(|name| super::container(name).is_none());
        inner
            .clone()
            .find(|name| name.strip_suffix(".service").is_some())
            .or_else(|| inner.find(|name| name.strip_suffix(".scope").is_some()))
    }

    /// Its names without its number: `server.py, container docker:0123456789ab`.
    pub(crate) fn names(&self) -> String {
        self.to_string()
            .replacen(&format!(" ({}", self.pid), "", 1)
            .trim_end_matches(')')
            .to_owned()
    }

    /// Whether its name as the kernel keeps it tells the script: the kernel cuts
    /// that after 15 bytes.
    pub(crate) fn name_tells_script(&self) -> bool {
        self.script
            .as_deref()
            .is_some_and(|script| !self.name.is_empty() && script.starts_with(&self.name))
    }
}

/// For people: `server.py (812, python3, unit shop.service, container
/// docker:0123456789ab)`.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.as_deref();
        let name = match (self.script.as_deref(), program) {
            (Some(script), _) => script,
            (None, Some(program)) if says_nothing(&self.name) => program,
            (None, _) => &self.name,
        };
        write!(f, "{name} ({}", self.pid)?;
        if let Some(program) = program.filter(|program| !is_one_name(name, program)) {
            write!(f, ", {program}")?;
        } else if program.is_none() && self.script.is_some() && !self.name_tells_script() {
            write!(f, ", {}", self.name)?;
        }
        if let Some(unit) = self.unit() {
            write!(f, ", unit {unit}")?;
        }
        if let Some(container) = &self.container {
            write!(f, ", container {container}")?;
        }
        f.write_str(")")
    }
}

/// Whether two names are one to people: the kernel cuts the one after 15 bytes.
fn is_one_name(name: &str, program: &str) -> bool {
    program.starts_with(name) || name.starts_with(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_found_behind_the_options_of_its_interpreter() {
        for (program, arguments, script) in [
            (
                "python3.11",
                "python3 /srv/shop/server.py --token=x",
                Some("server.py"),
            ),
            (
                "python3.11",
                "python3 -u -W ignore server.py",
                Some("server.py"),
            ),
            (
                "python3.11",
                "python3 -m http.server 8000",
                Some("http.server"),
            ),
            ("python3.11", "python3 -c import-secrets", None),
            ("python3.11", "gunicorn:-master", None),
            (
                "python3.11",
                "/usr/bin/python3 /usr/bin/gunicorn app",
                Some("gunicorn"),
            ),
            (
                "node",
                "node --max-old-space-size=9 -r dotenv app.js",
                Some("app.js"),
            ),
            (
                "java",
                "java -Xmx1g -cp /a.jar:/b.jar org.example.Main x",
                Some("org.example.Main"),
            ),
            ("java", "java -jar /opt/shop.jar", Some("shop.jar")),
            ("dotnet", "dotnet /app/Shop.dll", Some("Shop.dll")),
            ("bash", "bash -c curl-secret", None),
            ("bash", "-bash", None),
            ("nginx", "nginx -c /etc/nginx.conf", None),
            ("pythonista", "pythonista server.py", None),
            ("php-fpm8.2", "php-fpm: pool www", None),
        ] {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            assert_eq!(
                super::script(Some(program), &arguments).as_deref(),
                script,
                "{arguments:?}"
            );
        }
        // Without the link exe, by the first argument.
        assert_eq!(
            super::script(None, &["/usr/bin/python3", "a.py"]).as_deref(),
            Some("a.py")
        );
        assert_eq!(super::script(None, &[] as &[&str]), None);
    }

    #[test]
    fn a_process_has_the_names_by_which_it_is_found() {
        let id = "0123456789abcdef".repeat(4);
        let process = |name: &str, program: Option<&str>, script: Option<&str>, cgroup: &str| {
            Process {
                pid: 812,
                name: name.to_owned(),
                program: program.map(str::to_owned),
                script: script.map(str::to_owned),
                container: super::super::container(cgroup),
                cgroup: Some(cgroup.to_owned()),
                command: None,
                ..Process::default()
            }
            .to_string()
        };
        let shop = "/system.slice/shop.service";
        let docker = format!("/system.slice/docker-{id}.scope");
        let pod =
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}");
        for (name, program, script, cgroup, words) in [
            (
                "python3",
                Some("python3.11"),
                Some("server.py"),
                shop,
                "server.py (812, python3.11, unit shop.service)",
            ),
            (
                "server.py",
                Some("python3.11"),
                Some("server.py"),
                "/",
                "server.py (812, python3.11)",
            ),
            ("server.py", None, Some("server.py"), "/", "server.py (812)"),
            (
                "python3",
                None,
                Some("server.py"),
                "/",
                "server.py (812, python3)",
            ),
            ("nginx", Some("nginx"), None, "/", "nginx (812)"),
            ("exe", Some("dockerd"), None, "/", "dockerd (812)"),
            ("exe", None, None, "/", "exe (812)"),
            ("6", Some("runc"), None, "/", "runc (812)"),
            (
                "MainThread",
                Some("node"),
                Some("app.js"),
                &docker,
                "app.js (812, node, container docker:0123456789ab)",
            ),
            (
                "java",
                Some("java"),
                None,
                &pod,
                "java (812, container cri-containerd:0123456789ab)",
            ),
            (
                "nginx",
                Some("nginx"),
                None,
                &format!("{docker}/system.slice/nginx.service"),
                "nginx (812, unit nginx.service, container docker:0123456789ab)",
            ),
            ("httpd", Some("busybox"), None, "/", "httpd (812, busybox)"),
            (
                "nc",
                Some("nc"),
                None,
                "/user.slice/user-0.slice/session-3.scope",
                "nc (812, unit session-3.scope)",
            ),
            (
                "a-very-long-nam",
                Some("a-very-long-name"),
                None,
                "/",
                "a-very-long-nam (812)",
            ),
        ] {
            assert_eq!(process(name, program, script, cgroup), words);
        }
    }

    #[test]
    fn the_name_of_a_file_says_which() {
        assert_eq!(
            of_file("/usr/bin/nginx (deleted)").as_deref(),
            Some("nginx")
        );
        assert_eq!(of_file("/memfd:runc_cloned:/proc/self/exe (deleted)"), None);
        assert_eq!(of_file("/proc/self/fd/6"), None);
        assert_eq!(of_file(""), None);
    }
}
