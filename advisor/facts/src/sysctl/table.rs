//! The settings of the network that files name: what the kernel takes for each,
//! since when and until when it exists, whose it is, and what it is at boot.
//!
//! The rows are made from the kernel's source (the `ctl_table`s of
//! net/ipv4/sysctl_net_ipv4.c, net/core/sysctl_net_core.c,
//! net/netfilter/nf_conntrack_standalone.c and net/mptcp/ctrl.c, of Debian's
//! 5.10, 6.1, 6.12, 7.2 and 7.3) and from Documentation/networking/ip-sysctl.rst
//! and Documentation/admin-guide/sysctl/net.rst. `ci/settings` holds them
//! against running kernels, and what it saw there is kept in tests/settings.

mod core;
mod gone;
mod ip;
mod mptcp;
mod netfilter;
mod tcp;

use crate::release::Release;

/// The oldest and the newest release whose list of settings is known in full,
/// for the directories of [`FAMILIES`].
pub const COVERED: (Release, Release) = (linux(5, 10), linux(7, 3));

/// What the names of the settings begin with that this table lists in full.
/// Directories of devices and routes below them (`net.ipv4.conf`) are not
/// among them.
pub const FAMILIES: [&str; 4] = [
    "net.ipv4.",
    "net.core.",
    "net.netfilter.nf_conntrack_",
    "net.mptcp.",
];

/// A setting, by what the kernel's source says of it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The dotted name.
    pub name: &'static str,
    /// What the kernel takes, now.
    form: Form,
    /// What it took before a release, oldest release last.
    formerly: &'static [(Release, Form)],
    /// What the number counts.
    pub unit: Unit,
    /// The first release that has it; 0.0 where it is older than 2.6.32.
    pub since: Release,
    /// The first release that does not have it any more.
    pub until: Option<Release>,
    /// Older lines of releases that got it later, in a stable release.
    pub backported: &'static [Release],
    /// Whose it is, now.
    scope: Scope,
    /// What it is at boot, now.
    default: Default,
    /// What it was at boot before a release, oldest release last.
    default_formerly: &'static [(Release, Default)],
    /// What to use in place of one that is gone, or what there is to know.
    pub instead: &'static str,
}

/// The form of a setting's value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// Numbers, separated by blanks.
    Numbers(Numbers),
    /// Ports and ranges of ports, separated by commas, without blanks.
    Ports,
    /// A word, without blanks; the kernel may know only some.
    Word,
    /// A text.
    Text,
    /// It can be read and not be written.
    ReadOnly,
}

/// Numbers, and what the kernel refuses with EINVAL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Numbers {
    /// How many there are.
    pub count: usize,
    /// The kernel's type.
    pub width: Width,
    /// The least that it takes.
    pub least: i128,
    /// The greatest that it takes.
    pub greatest: i128,
    /// What must hold between the numbers, or with another setting.
    pub relation: Relation,
}

/// The kernel's type of a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Width {
    /// `int`, or `unsigned int` that is read as one: it can be negative.
    Int,
    /// `int` in seconds that is kept in ticks (CONFIG_HZ): the greatest is
    /// `INT_MAX` / HZ.
    Seconds,
    /// `int` in milliseconds that is kept in ticks.
    Milliseconds,
    /// `unsigned int`.
    Unsigned,
    /// `unsigned long`.
    UnsignedLong,
    /// `u8`.
    Byte,
}

/// What must hold between the numbers of a setting, or with another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relation {
    /// Nothing.
    None,
    /// The first is not above the second, and not below
    /// `net.ipv4.ip_unprivileged_port_start`.
    PortRange,
    /// It is not above the first of `net.ipv4.ip_local_port_range`.
    BelowPortRange,
    /// It is not above `net.ipv4.tcp_max_reordering`.
    BelowMaxReordering,
    /// Something else, so that the kernel may refuse more, or round.
    Other,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// A number of things, or a mode.
    None,
    /// Bytes.
    Bytes,
    /// Pages of memory.
    Pages,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
    /// Percent.
    Percent,
}

/// Whose a setting is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// The whole kernel's: only the initial network namespace has it.
    Kernel,
    /// The whole kernel's: other network namespaces can read it and not write
    /// it, since a release; before, only the initial one has it.
    KernelReadable(Release),
    /// Each network namespace's own, since a release; before, the whole kernel's.
    Namespace(Release),
}

/// What a setting is at boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Default {
    /// This, as the kernel prints it, with single blanks.
    Value(&'static str),
    /// The kernel computes it, or it is chosen when the kernel is built: how.
    Computed(&'static str),
    /// The kernel computes it, and this is what most hosts have; how.
    Typical(&'static str, &'static str),
}

const INT_MAX: i128 = i32::MAX as i128;
const INT_MIN: i128 = i32::MIN as i128;
const UINT_MAX: i128 = u32::MAX as i128;
const ULONG_MAX: i128 = u64::MAX as i128;
/// `INT_MAX` / HZ with the least HZ there is, 100: what is more, every kernel refuses.
const SECONDS_MAX: i128 = INT_MAX / 100;

/// Bounds of a byte instead of an int: 5.13, and the stable releases of 5.10.
const BYTES_SINCE: Release = linux(5, 10);

const fn linux(major: u32, minor: u32) -> Release {
    Release::new(major, minor)
}

const fn numbers(width: Width, least: i128, greatest: i128) -> Form {
    Form::Numbers(Numbers {
        count: 1,
        width,
        least,
        greatest,
        relation: Relation::None,
    })
}

/// An int without bounds.
const INT: Form = numbers(Width::Int, INT_MIN, INT_MAX);
/// What became a byte and was an int without bounds.
const INT_BEFORE_BYTE: &[(Release, Form)] = &[(BYTES_SINCE, INT)];
/// What became a byte and was an int, 0 or 1.
const FLAG_BEFORE_BYTE: &[(Release, Form)] = &[(BYTES_SINCE, numbers(Width::Int, 0, 1))];

/// A row: an int of any value, of each network namespace, without a unit.
const fn setting(name: &'static str, form: Form, default: &'static str) -> Setting {
    Setting {
        name,
        form,
        formerly: &[],
        unit: Unit::None,
        since: linux(0, 0),
        until: None,
        backported: &[],
        scope: Scope::Namespace(linux(0, 0)),
        default: Default::Value(default),
        default_formerly: &[],
        instead: "",
    }
}

/// An int between two bounds.
const fn int(name: &'static str, least: i128, greatest: i128, default: &'static str) -> Setting {
    setting(name, numbers(Width::Int, least, greatest), default)
}

/// An int of any value.
const fn any_int(name: &'static str, default: &'static str) -> Setting {
    setting(name, INT, default)
}

/// A byte between two bounds, which was an int without bounds.
const fn byte(name: &'static str, least: i128, greatest: i128, default: &'static str) -> Setting {
    setting(name, numbers(Width::Byte, least, greatest), default).formerly(INT_BEFORE_BYTE)
}

/// A byte of any value, which was an int without bounds.
const fn any_byte(name: &'static str, default: &'static str) -> Setting {
    byte(name, 0, 255, default)
}

/// 0 or 1.
const fn flag(name: &'static str, default: &'static str) -> Setting {
    setting(name, numbers(Width::Byte, 0, 1), default).formerly(FLAG_BEFORE_BYTE)
}

/// Seconds that the kernel keeps in ticks.
const fn seconds(name: &'static str, default: &'static str) -> Setting {
    let form = numbers(Width::Seconds, -SECONDS_MAX, SECONDS_MAX);
    setting(name, form, default).unit(Unit::Seconds)
}

/// Milliseconds that the kernel keeps in ticks. What it does with a number that
/// is none of an int depends on the release.
const fn milliseconds(name: &'static str, default: &'static str) -> Setting {
    let form = numbers(Width::Milliseconds, -ULONG_MAX, ULONG_MAX);
    setting(name, form, default).unit(Unit::Milliseconds)
}

/// An unsigned int between two bounds.
const fn unsigned(
    name: &'static str,
    least: i128,
    greatest: i128,
    default: &'static str,
) -> Setting {
    setting(name, numbers(Width::Unsigned, least, greatest), default)
}

/// What can only be read.
const fn read_only(name: &'static str) -> Setting {
    setting(name, Form::ReadOnly, "").computed("what the kernel has")
}

/// A word.
const fn word(name: &'static str, default: Default) -> Setting {
    let mut setting = text(name, default);
    setting.form = Form::Word;
    setting
}

/// A text.
const fn text(name: &'static str, default: Default) -> Setting {
    let mut setting = setting(name, Form::Text, "");
    setting.default = default;
    setting
}

impl Setting {
    /// Its numbers come `count` at a time.
    const fn times(mut self, count: usize) -> Self {
        if let Form::Numbers(mut numbers) = self.form {
            numbers.count = count;
            self.form = Form::Numbers(numbers);
        }
        self
    }

    const fn relation(mut self, relation: Relation) -> Self {
        if let Form::Numbers(mut numbers) = self.form {
            numbers.relation = relation;
            self.form = Form::Numbers(numbers);
        }
        self
    }

    const fn formerly(mut self, formerly: &'static [(Release, Form)]) -> Self {
        self.formerly = formerly;
        self
    }

    const fn unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    const fn since(mut self, major: u32, minor: u32) -> Self {
        self.since = linux(major, minor);
        self
    }

    const fn until(mut self, major: u32, minor: u32) -> Self {
        self.until = Some(linux(major, minor));
        self
    }

    const fn backported(mut self, lines: &'static [Release]) -> Self {
        self.backported = lines;
        self
    }

    /// The whole kernel's, and only the initial network namespace has it.
    const fn kernel(mut self) -> Self {
        self.scope = Scope::Kernel;
        self
    }

    /// The whole kernel's, which others can read since a release.
    const fn kernel_readable(mut self, major: u32, minor: u32) -> Self {
        self.scope = Scope::KernelReadable(linux(major, minor));
        self
    }

    /// Each network namespace's own since a release.
    const fn namespaced(mut self, major: u32, minor: u32) -> Self {
        self.scope = Scope::Namespace(linux(major, minor));
        self
    }

    const fn computed(mut self, how: &'static str) -> Self {
        self.default = Default::Computed(how);
        self
    }

    const fn typical(mut self, value: &'static str, how: &'static str) -> Self {
        self.default = Default::Typical(value, how);
        self
    }

    const fn default_formerly(mut self, formerly: &'static [(Release, Default)]) -> Self {
        self.default_formerly = formerly;
        self
    }

    const fn instead(mut self, instead: &'static str) -> Self {
        self.instead = instead;
        self
    }

    /// What the kernel of a release takes; of the newest, where none is known.
    pub fn form(&self, release: Option<Release>) -> Form {
        at(self.form, self.formerly, release)
    }

    /// What it is at boot on a release; on the newest, where none is known.
    pub fn default(&self, release: Option<Release>) -> Default {
        at(self.default, self.default_formerly, release)
    }

    /// The value at boot that every host of a release has, or most of them.
    pub fn default_value(&self, release: Option<Release>) -> Option<&'static str> {
        match self.default(release) {
            Default::Value(value) | Default::Typical(value, _) => Some(value),
            Default::Computed(_) => None,
        }
    }

    /// Whose it is on a release; on the newest, where none is known.
    pub fn scope(&self, release: Option<Release>) -> Scope {
        match (self.scope, release) {
            (Scope::Namespace(since) | Scope::KernelReadable(since), Some(release))
                if release < since =>
            {
                Scope::Kernel
            }
            (scope, _) => scope,
        }
    }

    /// Whether it acts on the whole kernel, whoever may read it.
    pub fn is_of_the_kernel(&self, release: Option<Release>) -> bool {
        !matches!(self.scope(release), Scope::Namespace(_))
    }

    /// Whether a release has it. A line that got it in a stable release has it.
    pub fn exists(&self, release: Release) -> bool {
        self.until.is_none_or(|until| release < until)
            && (release >= self.since || self.backported.contains(&release))
    }
}

/// What holds at a release: the oldest of the former values whose end is after
/// it, or the present one.
fn at<T: Copy>(now: T, formerly: &[(Release, T)], release: Option<Release>) -> T {
    release
        .and_then(|release| {
            let before = formerly.iter().filter(|(end, _)| release < *end);
            before.min_by_key(|(end, _)| *end)
        })
        .map_or(now, |(_, value)| *value)
}

/// Every setting, in no order.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    [
        tcp::SETTINGS,
        core::SETTINGS,
        ip::SETTINGS,
        netfilter::SETTINGS,
        mptcp::SETTINGS,
        gone::SETTINGS,
    ]
    .into_iter()
    .flatten()
}

/// The setting of a dotted name.
pub fn find(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.name == name)
}

/// Whether every setting whose name begins like this one is in the table.
pub fn is_covered(name: &str) -> bool {
    FAMILIES.iter().any(|family| {
        name.strip_prefix(family)
            .is_some_and(|rest| !rest.is_empty() && !rest.contains(['.', '/']))
    })
}
