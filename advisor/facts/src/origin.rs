//! What facts were read from, where that tells less than a host does.

/// What facts were read from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Origin {
    /// A host, a record of one, or a capture of this version.
    #[default]
    Host,
    /// An archive of sosreport.
    Sosreport,
    /// What `sysctl -a` printed.
    SysctlDump,
    /// A capture of another schema, read as far as it is understood.
    OtherSchema(u32),
}

impl Origin {
    /// Its name for people; `None` of a host.
    pub fn name(self) -> Option<String> {
        match self {
            Self::Host => None,
            Self::Sosreport => Some("a sosreport".to_owned()),
            Self::SysctlDump => Some("a dump of settings".to_owned()),
            Self::OtherSchema(schema) => Some(format!("a capture of schema {schema}")),
        }
    }
}
