//! A topology made real: namespaces, veth pairs, impaired links, sysctls.

pub mod impairment;
