//! The sockets that the webhook listens on, for IPv4, IPv6 or both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// The number of connections that may wait to be accepted. The kernel caps it at its own limit.
const BACKLOG: i32 = 1024;

/// Listens on `address`.
///
/// `[::]` takes connections over IPv4 as well, whatever the system's default is
/// (`net.ipv6.bindv6only`). On a node without IPv6 it takes connections over IPv4 alone.
///
/// # Errors
/// The port is in use, or the address is not one of this machine.
pub(crate) fn on(address: SocketAddr) -> Result<TcpListener> {
    listening(address)
        .or_else(|error| match without_ipv6(address, &error) {
            Some(address) => listening(address),
            None => Err(error),
        })
        .with_context(|| format!("failed to listen on {address}"))
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // As the standard library does: a port whose last connections are still ending can be taken.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Returns the same port of every IPv4 address, where `error` says that the kernel has no IPv6.
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let every = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    // A kernel without IPv6 knows no such socket. One with IPv6 switched off has no such address.
    let missing =
        matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
            || error.raw_os_error() == Some(NO_SUCH_FAMILY);
    (every && missing).then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
}

/// `EAFNOSUPPORT` of Linux.
const NO_SUCH_FAMILY: i32 = 97;

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn unspecified_address_takes_connections_over_ipv4() {
        for address in ["[::]:0", "0.0.0.0:0"] {
            let listener = on(address.parse().unwrap()).unwrap();
            let port = listener.local_addr().unwrap().port();
            let (connected, accepted) =
                tokio::join!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)), listener.accept());
            assert!(connected.is_ok() && accepted.is_ok(), "{address}");
        }
    }

    #[tokio::test]
    async fn node_without_ipv6_is_listened_on_over_ipv4() {
        let every: SocketAddr = "[::]:9443".parse().unwrap();
        let ipv4: SocketAddr = "0.0.0.0:9443".parse().unwrap();
        for error in [
            io::Error::from_raw_os_error(NO_SUCH_FAMILY),
            io::Error::from(io::ErrorKind::AddrNotAvailable),
        ] {
            assert_eq!(without_ipv6(every, &error), Some(ipv4), "{error}");
            assert_eq!(without_ipv6("[::1]:9443".parse().unwrap(), &error), None);
        }
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(without_ipv6(every, &taken), None);
    }

    #[tokio::test]
    async fn port_in_use_is_named() {
        let first = on("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = format!("{:#}", on(address).unwrap_err());
        assert!(error.starts_with(&format!("failed to listen on {address}: ")), "{error}");
    }
}
