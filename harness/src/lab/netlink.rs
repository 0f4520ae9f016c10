//! The bridge to rtnetlink, whose requests are futures: the only place that knows
//! tokio's runtime.

use std::future::Future;
use std::io;

use rtnetlink::Handle;
use tokio::runtime::Runtime;

use super::LabError;

/// Runs requests, and the connections that they go over, on the calling thread.
pub(super) struct Netlink(Runtime);

impl Netlink {
    /// Starts without a connection.
    pub(super) fn start(host: &str) -> Result<Self, LabError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map(Self)
            .map_err(|error| LabError::new(host, "start a runtime for netlink", error, ""))
    }

    /// A connection to the namespace that the calling thread is in.
    pub(super) fn connect(&self, host: &str) -> Result<Handle, LabError> {
        let _entered = self.0.enter();
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| LabError::new(host, "open a netlink socket", error, ""))?;
        self.0.spawn(connection);
        Ok(handle)
    }

    /// Waits for a request; its error is the kernel's errno where there is one.
    pub(super) fn wait<T>(
        &self,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> io::Result<T> {
        self.0.block_on(request).map_err(|error| match error {
            rtnetlink::Error::NetlinkError(message) => {
                io::Error::from_raw_os_error(message.raw_code().abs())
            }
            other => io::Error::other(other),
        })
    }
}
