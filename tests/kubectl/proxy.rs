//! Proxies that lead every connection to one server, whatever it is called.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::server::{Log, head, listen};

/// The way of a proxy.
#[derive(Clone)]
pub(crate) enum Manner {
    /// CONNECT, and absolute addresses for plain HTTP.
    Http,
    /// The same behind TLS.
    Https(Arc<ServerConfig>),
    /// SOCKS 5, with the user and password that it asks for.
    Socks(Option<(&'static str, &'static str)>),
    /// HTTP that lets no connection through.
    Closed,
}

/// Starts a proxy, called `name` in the log, in front of the server at `to`.
pub(crate) fn start(name: &'static str, manner: Manner, to: SocketAddr, log: Log) -> SocketAddr {
    listen(move |stream| match &manner {
        Manner::Http => http(name, stream, Some(to), &log),
        Manner::Closed => http(name, stream, None, &log),
        Manner::Https(tls) => {
            let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
            encrypted(name, StreamOwned::new(connection, stream), to, &log);
        }
        Manner::Socks(login) => {
            socks(name, stream, *login, to, &log);
        }
    })
}

fn http(name: &str, mut stream: TcpStream, to: Option<SocketAddr>, log: &Log) {
    let Some((first, headers)) = head(&mut stream) else { return };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = target.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let login = headers.iter().find(|(name, _)| name == "proxy-authorization");
    let login = login.map_or(String::new(), |(_, value)| format!(" {value}"));
    log.lock().unwrap().push(format!("{name} {host}{login}"));
    let Some(to) = to else {
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").ok();
        return;
    };
    let Ok(mut server) = TcpStream::connect(to) else { return };
    if method == "CONNECT" {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    } else {
        let path = target.trim_start_matches("http://").trim_start_matches(host);
        let kept = headers.iter().filter(|(name, _)| !name.starts_with("proxy-"));
        let kept: Vec<_> = kept.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let kept = kept.concat();
        let request = format!("{method} {path} HTTP/1.1\r\n{kept}\r\n");
        server.write_all(request.as_bytes()).unwrap();
    }
    pass(stream, server);
}

/// Copies both ways until both ends are closed.
fn pass(client: TcpStream, server: TcpStream) {
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let forth = std::thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(std::net::Shutdown::Write).ok();
    });
    let (mut from, mut to) = (server, client);
    std::io::copy(&mut from, &mut to).ok();
    to.shutdown(std::net::Shutdown::Write).ok();
    forth.join().ok();
}

/// Serves CONNECT behind TLS: one thread for both ways, since a TLS stream cannot be split.
fn encrypted(
    name: &str,
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    to: SocketAddr,
    log: &Log,
) {
    let Some((first, _)) = head(&mut stream) else { return };
    let host = first.split(' ').nth(1).unwrap_or_default();
    log.lock().unwrap().push(format!("{name} {host}"));
    let Ok(mut server) = TcpStream::connect(to) else { return };
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let pause = Some(std::time::Duration::from_millis(5));
    stream.sock.set_read_timeout(pause).unwrap();
    server.set_read_timeout(pause).unwrap();
    let (mut open, mut bytes) = ([true, true], [0; 8192]);
    while open == [true, true] {
        open[0] = copied(&mut stream, &mut server, &mut bytes);
        open[1] = copied(&mut server, &mut stream, &mut bytes);
    }
}

/// Copies what is there. Returns whether more may come.
fn copied(from: &mut impl Read, to: &mut impl Write, bytes: &mut [u8]) -> bool {
    match from.read(bytes) {
        Ok(0) => false,
        Ok(read) => to.write_all(&bytes[..read]).and_then(|()| to.flush()).is_ok(),
        Err(error) => {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        }
    }
}

/// Serves SOCKS 5 (RFC 1928, RFC 1929).
fn socks(
    name: &str,
    mut stream: TcpStream,
    login: Option<(&str, &str)>,
    to: SocketAddr,
    log: &Log,
) -> Option<()> {
    let mut read = |count: usize| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    let methods = usize::from(read(2)?[1]);
    let offered = read(methods)?;
    let wanted = if login.is_some() { 2 } else { 0 };
    let mut said = String::new();
    let accepted = offered.contains(&wanted);
    if !accepted {
        // Kept before the answer goes out: the client may be gone with it, and the next one run.
        log.lock().unwrap().push(format!("{name} without login"));
    }
    stream.write_all(&[5, if accepted { wanted } else { 0xff }]).ok()?;
    if !accepted {
        return None;
    }
    let mut read = |count: usize| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    if let Some((user, password)) = login {
        let length = usize::from(read(2)?[1]);
        let given_user = read(length)?;
        let length = usize::from(read(1)?[0]);
        let given_password = read(length)?;
        let right = given_user == user.as_bytes() && given_password == password.as_bytes();
        said = if right { " logged in".to_owned() } else { " wrong login".to_owned() };
        stream.write_all(&[1, u8::from(!right)]).ok()?;
    }
    let mut read = |count: usize| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    let host = match read(4)?[3] {
        1 => read(4)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        3 => {
            let length = usize::from(read(1)?[0]);
            String::from_utf8_lossy(&read(length)?).into_owned()
        }
        _ => {
            read(16)?;
            "an IPv6 address".to_owned()
        }
    };
    let port = read(2)?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    log.lock().unwrap().push(format!("{name} {host}:{port}{said}"));
    let server = TcpStream::connect(to).ok()?;
    stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).ok()?;
    pass(stream, server);
    Some(())
}
