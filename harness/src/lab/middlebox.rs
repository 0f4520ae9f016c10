//! The router as a middlebox: it gives what it forwards its own address, and forgets
//! connections that are idle.

use super::nftables::{self, Hook, Rule};
use super::{LabError, Middlebox, OnUnknown, sysctl};

/// Starts it in the calling thread's network namespace.
pub fn start(middlebox: &Middlebox) -> Result<(), LabError> {
    let mut rules = vec![(Hook::Postrouting, Rule::Masquerade)];
    match middlebox.on_unknown {
        OnUnknown::Forward => {}
        OnUnknown::Reset => rules.push((Hook::Forward, Rule::ResetInvalid)),
        // What is for its own address belongs to a connection as well.
        OnUnknown::Drop => rules.extend([
            (Hook::Forward, Rule::DropInvalid),
            (Hook::Input, Rule::DropInvalid),
        ]),
    }
    nftables::install("middlebox", &rules).map_err(|error| {
        let hint = "the kernel needs nf_tables, nft_ct, nft_masq, nft_reject_inet and nf_nat";
        LabError::new("router", "change addresses", error, hint)
    })?;
    // A packet in the middle of a connection is of no new one.
    sysctl::set("router", "net.netfilter.nf_conntrack_tcp_loose", "0")?;
    if let Some(seconds) = middlebox.idle_limit_seconds {
        let name = "net.netfilter.nf_conntrack_tcp_timeout_established";
        sysctl::set("router", name, &seconds.to_string())?;
    }
    Ok(())
}
