//! TLS at both doors: whose certificates are accepted, how connections end, and how a certificate is replaced while
//! connections are open.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use caxton_router::serve::{Doors, NewToken};
use caxton_router::{Config, Router};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::common::{PATIENCE, bounded, start_with};

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).expect("it is a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Signs a certificate for this name, with some changes.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).expect("it is a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

impl Identity {
    /// Writes both files into a directory.
    fn write(&self, directory: &Path) {
        std::fs::write(directory.join("cert.pem"), &self.certificate).expect("it can be written");
        std::fs::write(directory.join("key.pem"), &self.key).expect("it can be written");
    }
}

/// What a client trusts and shows.
#[derive(Clone, Copy)]
struct Trust<'a> {
    authority: &'a Authority,
    identity: Option<&'a Identity>,
    version: &'static SupportedProtocolVersion,
}

impl<'a> Trust<'a> {
    fn of(authority: &'a Authority) -> Self {
        Self { authority, identity: None, version: &rustls::version::TLS13 }
    }

    fn config(self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.0.der().clone()).expect("it is a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[self.version])
            .expect("there is a version")
            .with_root_certificates(roots);
        Arc::new(match self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("it is one");
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("it is one");
                config.with_client_auth_cert(vec![certificate], key).expect("they fit")
            }
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Door {
    Http,
    Nats,
}

/// A client at one of the doors.
struct Client {
    door: Door,
    stream: StreamOwned<ClientConnection, TcpStream>,
    token: String,
}

impl Client {
    fn open(door: Door, address: SocketAddr, trust: Trust<'_>, host: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time is legal");
        if door == Door::Nats {
            let info = line(&mut stream).expect("it says who it is");
            assert!(info.contains("\"tls_required\":true"), "{info}");
        }
        let name = ServerName::try_from(host.to_owned()).expect("it is a name");
        let connection = ClientConnection::new(trust.config(), name).expect("it begins");
        Self { door, stream: StreamOwned::new(connection, stream), token: String::new() }
    }

    /// Asks something, and returns the beginning of the response.
    fn ask(&mut self) -> io::Result<String> {
        let token = &self.token;
        let question = match self.door {
            Door::Http => {
                format!("GET /v1/agents HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
            }
            Door::Nats => format!("CONNECT {{\"verbose\":false,\"auth_token\":\"{token}\"}}\r\nPING\r\n"),
        };
        // A server that refuses may have closed the connection already. The reason is read below.
        let _ = self.stream.write_all(question.as_bytes());
        let first = line(&mut self.stream)?;
        if self.door == Door::Http {
            let mut length = 0;
            loop {
                let header = line(&mut self.stream)?.to_ascii_lowercase();
                if header.is_empty() {
                    break;
                }
                if let Some(digits) = header.strip_prefix("content-length: ") {
                    length = digits.parse().expect("a number");
                }
            }
            self.stream.read_exact(&mut vec![0; length])?;
        }
        Ok(first)
    }

    fn is_served(&mut self) {
        let expected = if self.door == Door::Http { "HTTP/1.1 200 OK" } else { "PONG" };
        assert_eq!(self.ask().expect("it is served"), expected);
    }

    /// Expects that the other side refuses with this alert.
    #[track_caller]
    fn is_refused(&mut self, alert: AlertDescription) {
        assert_eq!(tls_error(&self.ask().expect_err("it is refused")), Error::AlertReceived(alert), "{:?}", self.door);
    }

    /// Expects that the other side has ended the connection as TLS wants it, after it has said all.
    #[track_caller]
    fn has_ended(&mut self) -> String {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).unwrap_or_else(|error| panic!("{:?}: {error}", self.door));
        rest
    }
}

fn tls_error(error: &io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.unwrap_or_else(|| panic!("no error of TLS: {error}")).clone()
}

/// Reads a line without reading beyond it.
fn line(stream: &mut impl io::Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// A router with both doors, and the certificate of this identity.
struct Served {
    router: Router,
    doors: Doors,
    _directory: tempfile::TempDir,
}

impl Served {
    fn start(identity: &Identity, change: impl FnOnce(&mut Config, &Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        identity.write(directory.path());
        let router = start_with(1, |config| {
            for (key, value) in [("http.listen", "127.0.0.1:0"), ("nats.listen", "127.0.0.1:0")] {
                config.set(key, value, "the test").expect("it is an address");
            }
            config.doors.certificate = directory.path().join("cert.pem").into();
            config.doors.key = directory.path().join("key.pem").into();
            change(config, directory.path());
        });
        let doors = Doors::open(&router).expect("the doors open");
        Self { router, doors, _directory: directory }
    }

    fn doors(&self) -> [(Door, SocketAddr); 2] {
        let address = |address: Option<SocketAddr>| address.expect("it listens");
        [(Door::Http, address(self.doors.http_address())), (Door::Nats, address(self.doors.nats_address()))]
    }

    fn stop(self) {
        self.doors.close();
        self.router.shutdown(PATIENCE).expect("it stops");
    }
}

#[test]
fn a_client_shows_a_certificate_of_the_authority_that_the_settings_name() {
    bounded(|| {
        let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
        let served = Served::start(&authority.sign("localhost", |_| {}), |config, directory| {
            let path = directory.join("clients.pem");
            std::fs::write(&path, authority.0.pem()).expect("it can be written");
            config.doors.client_certificates = path.into();
        });
        let good = authority.sign("billing", |_| {});
        let expired = authority.sign("billing", |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        });
        let foreign = stranger.sign("billing", |_| {});
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for (door, address) in served.doors() {
                let client = |identity| {
                    let trust = Trust { identity, version, ..Trust::of(&authority) };
                    Client::open(door, address, trust, "localhost")
                };
                client(Some(&good)).is_served();
                client(None).is_refused(AlertDescription::CertificateRequired);
                client(Some(&expired)).is_refused(AlertDescription::CertificateExpired);
                client(Some(&foreign)).is_refused(AlertDescription::UnknownCA);
                client(Some(&good)).is_served();
            }
        }
        served.stop();
    });
}

#[test]
fn clients_that_trust_somebody_else_are_no_trouble() {
    bounded(|| {
        let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
        let served = Served::start(&authority.sign("localhost", |_| {}), |_, _| {});
        for (door, address) in served.doors() {
            let open = |authority, host| Client::open(door, address, Trust::of(authority), host);
            for mut client in [open(&stranger, "localhost"), open(&authority, "elsewhere")] {
                let error = tls_error(&client.ask().expect_err("it does not trust the door"));
                assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
            }
            // A client that knows nothing of TLS.
            let mut plain = TcpStream::connect(address).expect("it accepts");
            plain.set_read_timeout(Some(PATIENCE)).expect("a time is legal");
            let _ = plain.write_all(b"CONNECT {}\r\nPING\r\nPING\r\n");
            let mut heard = Vec::new();
            let _ = plain.read_to_end(&mut heard);
            let heard = String::from_utf8_lossy(&heard);
            assert!(!heard.contains("PONG") && !heard.contains("HTTP/1.1"), "{heard}");
            open(&authority, "localhost").is_served();
        }
        served.stop();
    });
}

#[test]
fn tokens_are_shown_over_tls() {
    bounded(|| {
        let authority = Authority::new("authority");
        let token = NewToken::random().expect("there are random bytes");
        let entry = format!("[[token]]\nname = 'ann'\nhash = '{}'\noperations = ['observe']\n", token.hash);
        let served = Served::start(&authority.sign("localhost", |_| {}), |config, directory| {
            let path = directory.join("tokens.toml");
            std::fs::write(&path, entry).expect("it can be written");
            config.doors.tokens = path.into();
        });
        for (door, address) in served.doors() {
            let client = |token: &str| {
                let client = Client::open(door, address, Trust::of(&authority), "localhost");
                Client { token: token.to_owned(), ..client }
            };
            client(&token.secret).is_served();
            let refused = client("cxt_00").ask().expect("it is told");
            let expected =
                if door == Door::Http { "HTTP/1.1 401 Unauthorized" } else { "-ERR 'Authorization Violation'" };
            assert_eq!(refused, expected);
        }
        served.stop();
    });
}

#[test]
fn a_connection_that_a_door_closes_ends_as_tls_wants_it() {
    bounded(|| {
        let authority = Authority::new("authority");
        let served = Served::start(&authority.sign("localhost", |_| {}), |config, _| {
            config.set("doors.idle_ms", "1000", "the test").expect("it is legal");
        });
        let clients =
            || served.doors().map(|(door, address)| Client::open(door, address, Trust::of(&authority), "localhost"));
        for mut client in clients() {
            // What it says is not understood.
            client.stream.write_all(b"hello\r\n\r\n").expect("it is read");
            let said = client.has_ended();
            let expected =
                if client.door == Door::Http { "HTTP/1.1 400 " } else { "-ERR 'Unknown Protocol Operation'" };
            assert!(said.starts_with(expected), "{said}");
        }
        for mut client in clients() {
            // It is served, and then says nothing.
            client.is_served();
            client.has_ended();
        }
        let mut open = clients();
        open.iter_mut().for_each(Client::is_served);
        served.stop();
        for mut client in open {
            client.has_ended();
        }
    });
}

#[test]
#[cfg(feature = "cli")]
fn a_certificate_is_replaced_while_connections_are_open() {
    use rustix::process::Signal;

    use crate::cli_serve::Daemon;

    let (former, latter) = (Authority::new("former"), Authority::new("latter"));
    let directory = tempfile::tempdir().expect("a directory");
    former.sign("localhost", |_| {}).write(directory.path());
    let mut arguments = ["--http", "0", "--nats", "0"].map(str::to_owned).to_vec();
    for (key, file) in [("certificate", "cert.pem"), ("key", "key.pem")] {
        arguments.extend(["--set".to_owned(), format!("doors.{key}={}", directory.path().join(file).display())]);
    }
    let audit = directory.path().join("data.audit");
    arguments.extend(["--set".to_owned(), format!("doors.audit={}", audit.display())]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(&directory.path().join("data"), &arguments);
    let address = |text: String| text.trim_end_matches('/').parse::<SocketAddr>().expect("an address");
    let http = address(daemon.line("http: https://"));
    let nats = address(daemon.line("nats: tls://"));
    let clients = |authority| {
        [(Door::Http, http), (Door::Nats, nats)]
            .map(|(door, to)| Client::open(door, to, Trust::of(authority), "localhost"))
    };
    let mut open = clients(&former);
    open.iter_mut().for_each(Client::is_served);

    std::fs::write(directory.path().join("key.pem"), "no key").expect("it can be written");
    daemon.send(Signal::HUP);
    daemon.line("SIGHUP: nothing was changed: ");
    clients(&former).iter_mut().for_each(Client::is_served);

    latter.sign("localhost", |_| {}).write(directory.path());
    std::fs::remove_file(&audit).expect("it is there");
    daemon.send(Signal::HUP);
    daemon.line("SIGHUP: tokens and certificates were read again");
    assert_eq!(daemon.line("audit: "), format!("{} was opened again", audit.display()));
    assert!(audit.exists());
    open.iter_mut().for_each(Client::is_served);
    clients(&latter).iter_mut().for_each(Client::is_served);
    for mut client in clients(&former) {
        let error = tls_error(&client.ask().expect_err("the certificate is another one"));
        assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
    }
    daemon.send(Signal::TERM);
    assert!(daemon.end().0.success());
    for mut client in open {
        client.has_ended();
    }
}
