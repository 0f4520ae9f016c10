//! The kernel's settings under /proc/sys.

pub mod table;
pub mod write;

use std::path::{Path, PathBuf};

use crate::read::{FactError, read_text};

/// Reads a setting by its dotted name, `net.ipv4.tcp_mem`, under `root` (`/`
/// on a live host). The value is as the kernel prints it, without the newline.
/// `None`: this kernel, or this network namespace, does not have the setting.
pub fn read(root: &Path, name: &str) -> Result<Option<String>, FactError> {
    let text = read_text(&root.join(path(name)?))?;
    Ok(text.map(|text| text.trim_end_matches('\n').to_owned()))
}

/// Where a setting is, relative to the root: `proc/sys/net/ipv4/tcp_mem`.
///
/// As for sysctl(8), a slash in the dotted name stands for a dot in a
/// directory's name: `net.ipv4.conf.eth0/1.rp_filter`.
pub fn path(name: &str) -> Result<PathBuf, FactError> {
    let mut path = PathBuf::from("proc/sys");
    for component in name.split('.') {
        let component = component.replace('/', ".");
        if matches!(component.as_str(), "" | "." | "..") || component.contains('\0') {
            return Err(FactError::SysctlName {
                name: name.to_owned(),
            });
        }
        path.push(component);
    }
    Ok(path)
}

/// Three numbers, as `net.ipv4.tcp_mem` and `net.ipv4.tcp_rmem` have them.
/// `None` where the value has another form.
pub fn triple(value: &str) -> Option<[u64; 3]> {
    let mut numbers = value.split_whitespace().map(str::parse);
    let triple = [
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
    ];
    numbers.next().is_none().then_some(triple)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_name_is_a_path() {
        assert_eq!(
            path("net.ipv4.tcp_mem").unwrap(),
            Path::new("proc/sys/net/ipv4/tcp_mem")
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/1.rp_filter").unwrap(),
            Path::new("proc/sys/net/ipv4/conf/eth0.1/rp_filter")
        );
    }

    #[test]
    fn a_name_cannot_leave_the_directory() {
        for name in [
            "",
            ".",
            "net..tcp_mem",
            "net.//.//.passwd",
            "net./.x",
            "a\0b",
        ] {
            assert!(path(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn this_kernel_has_some_and_not_others() {
        let root = Path::new("/");
        let fin_timeout = read(root, "net.ipv4.tcp_fin_timeout").unwrap().unwrap();
        assert!(fin_timeout.parse::<u32>().is_ok(), "{fin_timeout:?}");
        assert_eq!(read(root, "net.ipv4.tcp_no_such_setting").unwrap(), None);
    }

    #[test]
    fn a_triple_is_three_numbers() {
        assert_eq!(triple("18477\t24638\t36954"), Some([18477, 24638, 36954]));
        for value in ["", "1 2", "1 2 3 4", "1 2 x", "-1 2 3"] {
            assert_eq!(triple(value), None, "{value:?}");
        }
    }
}
